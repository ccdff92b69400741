# frozen_string_literal: true

require_relative 'checks'
require_relative 'snapshot'

module VagrantPlugins
  module Hybrid
    # What a guest has to know for names of our zones to resolve: one line a NIC,
    # "MAC RESOLVER ZONE REVERSE…". See share/hybrid-resolver, which reads it in the guest.
    module ResolverLines
      # These go into a root shell in the guest: nothing but these characters ever does.
      LINE = /\A[0-9a-z:. -]+\z/

      # @return [Array<String>]
      def self.of(nics)
        nics.filter_map do |nic|
          snapshot = Snapshot.read(nic.network)
          next unless snapshot&.resolver

          line = [nic.mac, snapshot.resolver, snapshot.zone, *snapshot.families.map { |f| reverse(f.subnet) }].join(' ')
          line if line.match?(LINE)
        rescue Snapshot::Unusable
          nil
        end
      end

      # The zone of a subnet's addresses, widened to the next dot of the name (RFC 1035, section
      # 3.5; RFC 3596, section 2.5).
      def self.reverse(subnet)
        parts = subnet.ipv4? ? 4 : 32
        bits = subnet.ipv4? ? 8 : 4
        subnet.reverse.split('.').drop(parts - (subnet.prefix / bits)).join('.')
      end
      private_class_method :reverse
    end
  end
end
