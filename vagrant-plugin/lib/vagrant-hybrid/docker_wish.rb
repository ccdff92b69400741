# frozen_string_literal: true

require_relative 'wish'

module VagrantPlugins
  module Hybrid
    # A Docker network that a machine wants to be on, such as a Compose project's: as a network of
    # hybrid-hook's that follows it.
    class DockerWish < Wish
      # @return [String] the Docker network's name
      attr_reader :docker

      def initialize(docker, options)
        @docker = docker
        super(self.class.network(docker), options)
      end

      # The network that follows a Docker network, as hybrid-hook names it where nobody said otherwise.
      # @return [Object] what is no Docker network's name as it is: {#problems} complains
      def self.network(docker)
        return docker if Checks.docker_network(docker)

        label = Checks.to_label(docker)
        label ? Checks.cut(label, Checks::NETWORK_LENGTH) : docker
      end

      def problems
        why = Checks.docker_network(docker)
        return [Hybrid.t('config.docker_name', name: Checks.show(docker), why: why)] if why

        super
      end

      def say(text)
        Hybrid.t('config.docker_network', name: docker, text: text)
      end

      def attributes(*)
        attributes = super
        { 'name' => attributes.delete('name'), 'docker' => docker, **attributes }
      end

      private

      # Who is on a project's network is the project's to say.
      def problem(key, value)
        key == :containers ? Hybrid.t('config.docker_containers') : super
      end
    end
  end
end
