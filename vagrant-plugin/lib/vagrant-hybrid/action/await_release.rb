# frozen_string_literal: true

require_relative '../domain'
require_relative '../snapshot'

module VagrantPlugins
  module Hybrid
    module Action
      # Around DestroyDomain: hybrid-hook's service frees the addresses when libvirt tells it that
      # the domain is no more. We wait a moment to see it done, and say so if it isn't.
      class AwaitRelease
        PATIENCE = 5

        def initialize(app, _env)
          @app = app
        end

        def call(env)
          domain = Domain.of(env[:machine])
          networks = domain ? domain.entries.filter_map { |entry| entry['name'] }.uniq : []
          return @app.call(env) if networks.empty?

          uuid = domain.uuid
          @app.call(env)
          left = await(networks, uuid)
          left.each do |network, address|
            env[:ui].warn(Hybrid.t('actions.not_released', network: network, address: address))
          end
        end

        private

        def await(networks, uuid)
          give_up = Process.clock_gettime(Process::CLOCK_MONOTONIC) + PATIENCE
          loop do
            left = held(networks, uuid)
            return left if left.empty? || Process.clock_gettime(Process::CLOCK_MONOTONIC) > give_up

            sleep 0.1
          end
        end

        # What the domain still holds. An address that a person reserved or claimed for it stays.
        # @return [Array<Array(String, String)>] networks and addresses
        def held(networks, uuid)
          networks.flat_map do |network|
            snapshot = Snapshot.read(network)
            leases = snapshot ? snapshot.leases : []
            leases.select { |lease| lease['owner'] == uuid && lease['origin'] == 'domain' && !lease['reserved'] }
                  .map { |lease| [network, lease['address']] }
          rescue Snapshot::Unusable
            []
          end
        end
      end
    end
  end
end
