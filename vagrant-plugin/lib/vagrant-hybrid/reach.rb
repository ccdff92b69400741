# frozen_string_literal: true

require 'socket'
require 'vagrant/util/subprocess'
require 'vagrant/util/which'

module VagrantPlugins
  module Hybrid
    # Whether a host answers.
    module Reach
      SSH = 22
      SECONDS = 1

      # Whoever refuses a connection is there as much as who takes it. One that drops what it
      # doesn't expect may still answer a ping.
      def self.host?(address)
        Socket.tcp(address, SSH, connect_timeout: SECONDS, &:close)
        true
      rescue Errno::ECONNREFUSED
        true
      rescue SystemCallError
        ping?(address)
      end

      def self.ping?(address)
        ping = Vagrant::Util::Which.which('ping', original_path: true)
        return false unless ping

        Vagrant::Util::Subprocess.execute(ping, '-c', '1', '-W', SECONDS.to_s, address).exit_code.zero?
      end
      private_class_method :ping?
    end
  end
end
