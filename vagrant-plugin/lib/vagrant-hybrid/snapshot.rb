# frozen_string_literal: true

require 'ipaddr'
require 'json'
require_relative 'checks'

module VagrantPlugins
  module Hybrid
    # What hybrid-hook publishes of a network for everybody: /run/hybrid-hook/leases/NAME.json.
    # It is replaced as a whole, so reading it needs no lock.
    class Snapshot
      # The format that we read. Fields are only ever added within one.
      FORMAT = 1

      # A snapshot that is there but can't be used.
      class Unusable < StandardError; end

      # One family's addressing.
      Family = Struct.new(:subnet, :gateway, :resolver, :container_pool)

      class << self
        # The folder of the snapshots.
        def folder
          File.join(run_dir, 'leases')
        end

        # @return [Snapshot, nil] nil where there is none
        def read(network)
          # A name may come from a domain, where anybody may have written it.
          return if Checks.network(network)

          new(JSON.parse(File.read(File.join(folder, "#{network}.json"), encoding: 'UTF-8')))
        rescue Errno::ENOENT, Errno::ENOTDIR
          nil
        rescue SystemCallError, JSON::ParserError, EncodingError, KeyError, TypeError, NoMethodError,
               IPAddr::Error => e
          raise Unusable, Hybrid.t('host.snapshot', path: "#{folder}/#{network}.json", why: Checks.show(e.message))
        end

        # The networks that are published.
        def networks
          Dir.glob('*.json', base: folder).map { |file| file.delete_suffix('.json') }.sort
        end

        # @return [String, nil] the network that is on a Docker network, whatever its own name
        def on_docker(docker)
          networks.find do |network|
            read(network)&.docker_network == docker
          rescue Unusable
            # That is said where somebody asks for it.
            false
          end
        end

        private

        def run_dir
          dir = ENV.fetch('HYBRID_RUN_DIR', '')
          dir.empty? ? '/run/hybrid-hook' : dir
        end
      end

      attr_reader :network, :bridge, :zone, :docker_network, :families, :leases

      def initialize(data)
        format = data.fetch('format')
        raise Unusable, Hybrid.t('host.format', network: data['network'], version: format) if format != FORMAT

        @network = data.fetch('network')
        @up = data.fetch('up')
        @bridge = data.fetch('bridge')
        @zone = data.fetch('zone')
        @docker_network = data['docker_network']
        @libvirt_network = data['libvirt_network']
        @ipam = data['ipam']
        @families = data.fetch('families').map { |family| family(family) }
        @leases = data.fetch('leases')
      end

      # Whether the network is to be up.
      def up?
        @up == true
      end

      # The lease of the NIC with this MAC, as published.
      # @return [Hash, nil]
      def lease_of(mac)
        @leases.find { |lease| lease['mac'].to_s.casecmp?(mac) }
      end

      # Whether a NIC's source, in a domain, is this network.
      def source?(source)
        source && (source['bridge'] == bridge || (source['network'] && source['network'] == @libvirt_network))
      end

      # The address at which the network's resolver answers guests.
      # @return [String, nil] nil where the bridge is another's and we have none on it: nobody answers there
      def resolver
        families.first&.resolver&.to_s
      end

      # Why an address can't be a machine's on this network.
      # @return [String, nil]
      def unfit(address)
        family = families.find { |candidate| candidate.subnet.ipv4? == address.ipv4? }
        return Hybrid.t('host.family') unless family

        subnet = "#{family.subnet}/#{family.subnet.prefix}"
        return Hybrid.t('host.outside', subnet: subnet) unless family.subnet.include?(address)

        special = special(family, address)
        return Hybrid.t("host.#{special}", subnet: subnet) if special
        return beside(address.to_i - family.subnet.to_i) unless family == families.first

        pooled(family.container_pool, address)
      end

      private

      def family(data)
        own = data['address']
        Family.new(IPAddr.new(data.fetch('subnet')), IPAddr.new(data.fetch('gateway')), own && IPAddr.new(own),
                   pool(data['container_pool']))
      end

      # A pool is written A-B or as a CIDR.
      def pool(text)
        return if text.nil?

        first, last = text.split('-', 2)
        last ? IPAddr.new(first)..IPAddr.new(last) : IPAddr.new(first).to_range
      end

      # With IPAM "hybrid" Docker gives out nothing by itself.
      def pooled(pool, address)
        return if @ipam == 'hybrid' || !pool&.cover?(address)

        Hybrid.t('host.container_pool', pool: "#{pool.begin}-#{pool.end}")
      end

      # On a network of both families a lease is its IPv4 address; the one as far from the start goes with it.
      def beside(distance)
        ipv4 = families.first.subnet
        return Hybrid.t('host.beside', address: ipv4 | distance) if distance < 1 << (32 - ipv4.prefix)

        Hybrid.t('host.beyond', subnet: "#{ipv4}/#{ipv4.prefix}")
      end

      def special(family, address)
        whole = family.subnet.to_range
        if address == family.gateway then :gateway
        elsif address == whole.begin then :network_address
        elsif address.ipv4? && address == whole.end then :broadcast
        end
      end
    end
  end
end
