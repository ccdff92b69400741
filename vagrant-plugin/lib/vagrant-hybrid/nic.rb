# frozen_string_literal: true

require_relative 'mac'
require_relative 'snapshot'

module VagrantPlugins
  module Hybrid
    # A wish made concrete: one NIC of one machine.
    class Nic
      attr_reader :mac, :bridge, :attributes

      # The NICs that a machine is to have.
      # @param present [Array<Hash>] the entries in its domain's metadata
      # @return [Array<Nic>]
      def self.all(machine, present = [])
        machine.config.hybrid.wishes.map do |wish|
          snapshot = Snapshot.read(wish.name)
          raise Errors::NotReady, message: Hybrid.t('host.absent', network: wish.name) unless snapshot

          there = present.find { |entry| entry['name'] == wish.name }
          new(wish, wish.mac || there&.fetch('mac', nil) || Mac.of(wish.name, Mac.identity(machine)), snapshot.bridge,
              machine.config.vm.hostname)
        end
      rescue Snapshot::Unusable => e
        raise Errors::NotReady, message: e.message
      end

      def initialize(wish, mac, bridge, hostname)
        @mac = mac.downcase
        @bridge = bridge
        @attributes = wish.attributes(@mac, hostname)
      end

      # The network's name.
      def network
        attributes['name']
      end

      # What is known of its lease now.
      # @return [Hash, nil]
      def lease
        Snapshot.read(network)&.lease_of(mac)
      rescue Snapshot::Unusable
        nil
      end

      # As vagrant-libvirt's `config.vm.network :public_network` wants it.
      # @return [Hash]
      def network_options
        { id: "hybrid-#{network}", dev: bridge, type: 'bridge', mode: 'bridge', mac: mac }
      end
    end
  end
end
