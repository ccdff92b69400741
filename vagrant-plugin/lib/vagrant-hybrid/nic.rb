# frozen_string_literal: true

require_relative 'host'
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
          raise Errors::NotReady, message: Host.absent(wish.name, wish.docker) unless snapshot

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

      # The block of addresses that the machine has beside its own, as a subnet.
      # @param uuid [String] the machine's domain
      # @param nics [Array<String>] the MACs of its NICs: their addresses are none of the block's
      # @return [String, nil] such as "10.0.1.136/29"; nil where none is wanted or not all are there
      def block(uuid, nics)
        size = attributes['block']&.to_i
        return unless size

        leases = Snapshot.read(network)&.leases || []
        addresses = leases.select { |lease| lease['owner'] == uuid && !nics.include?(lease['mac']) }
                          .map { |lease| IPAddr.new(lease['address']) }.sort
        return if addresses.size != size

        bits = addresses.first.ipv4? ? 32 : 128
        subnet = addresses.first.mask(bits - Math.log2(size).to_i)
        "#{subnet}/#{subnet.prefix}" if addresses == subnet.to_range.to_a
      end

      # As vagrant-libvirt's `config.vm.network :public_network` wants it.
      # @return [Hash]
      def network_options
        { id: "hybrid-#{network}", dev: bridge, type: 'bridge', mode: 'bridge', mac: mac }
      end
    end
  end
end
