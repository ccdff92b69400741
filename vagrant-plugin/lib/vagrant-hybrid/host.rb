# frozen_string_literal: true

require 'socket'
require 'uri'
require 'vagrant/util/which'
require_relative 'snapshot'

module VagrantPlugins
  module Hybrid
    # What only this host can tell: is hybrid-hook there, are the networks, does an address fit?
    module Host
      class << self
        # @return [Array<String>] why these machines could not be put on their networks, one line each
        def problems(machine, wishes)
          [provider(machine.provider_config)].compact + wishes.flat_map { |wish| network(wish) }
        end

        # @return [String, nil] the path of hybrid-hook
        def executable
          Vagrant::Util::Which.which('hybrid-hook', original_path: true) ||
            %w[/usr/bin/hybrid-hook /usr/sbin/hybrid-hook].find { |path| File.executable?(path) }
        end

        # @return [String] why the network +name+ is not published, which is to follow +docker+, if that is given
        def absent(name, docker = nil)
          return other_name(docker) || Hybrid.t('host.not_followed', docker: docker) if docker
          return Hybrid.t('host.down', network: name) if file?(name)

          near = DidYouMean::SpellChecker.new(dictionary: Snapshot.networks).correct(name).first
          near ? Hybrid.t('host.near', network: name, near: near) : Hybrid.t('host.absent', network: name)
        end

        # @return [String, nil] why no machine can be on the network +name+ now, which is to follow
        #   +docker+, if that is given
        def network_problem(name, docker = nil)
          return Hybrid.t('host.not_installed') unless executable

          snapshot = Snapshot.read(name)
          if snapshot.nil?
            absent(name, docker)
          elsif docker && snapshot.docker_network != docker
            other_name(docker) ||
              Hybrid.t('host.follows_other', network: name, docker: Checks.show(snapshot.docker_network))
          elsif !snapshot.up?
            Hybrid.t('host.down', network: name)
          elsif !File.exist?("/sys/class/net/#{snapshot.bridge}")
            Hybrid.t('host.no_bridge', network: name, bridge: snapshot.bridge)
          end
        rescue Snapshot::Unusable => e
          e.message
        end

        # @return [String, nil] why machines of this provider's settings can't be on any network
        def provider(config)
          # hybrid-hook's files, its hook and its bridge are this host's, and root's.
          if config.qemu_use_session then Hybrid.t('host.session')
          elsif remote?(config) then Hybrid.t('host.remote', uri: Checks.show(config.uri.to_s))
          elsif !config.mgmt_attach && !config.qemu_use_agent then Hybrid.t('host.management')
          end
        end

        private

        def network(wish)
          problem = network_problem(wish.name, wish.docker)
          problem ||= address(wish) if wish.ip
          problem ? [wish.say(problem)] : []
        end

        def address(wish)
          why = Snapshot.read(wish.name).unfit(wish.ip)
          why && Hybrid.t('config.option', option: :ip, value: wish.ip, why: why)
        end

        # The network's file is there before it is first up.
        def file?(name)
          folder = ENV.fetch('HYBRID_CONFIG_DIR', '')
          folder = '/etc/hybrid-hook' if folder.empty?
          File.exist?(File.join(folder, 'networks', "#{name}.toml"))
        end

        # Ours, or one that follows Docker's under a name of somebody's choice: both are asked for by their own name.
        def other_name(docker)
          network = Snapshot.on_docker(docker)
          network && Hybrid.t('host.other_name', network: network)
        end

        def remote?(config)
          config.connect_via_ssh || !['', nil, 'localhost', '127.0.0.1', '::1'].include?(URI(config.uri.to_s).host)
        rescue URI::Error
          false
        end
      end
    end
  end
end
