# frozen_string_literal: true

require 'libvirt'
require 'nokogiri'
require_relative 'metadata'

module VagrantPlugins
  module Hybrid
    # A machine's domain in libvirt, as it will be started next.
    class Domain
      CONFIG = Libvirt::Domain::AFFECT_CONFIG

      # @return [Domain, nil] nil where the machine has none
      def self.of(machine)
        id = machine.id
        id && new(machine.provider.driver.connection.client.lookup_domain_by_uuid(id.to_s))
      rescue Libvirt::RetrieveError
        nil
      end

      def initialize(libvirt_domain)
        @libvirt = libvirt_domain
        @xml = Nokogiri::XML(libvirt_domain.xml_desc(Libvirt::Domain::XML_INACTIVE))
      end

      # @return [String]
      def uuid
        @xml.at_xpath('/domain/uuid').text
      end

      # Whether the next start goes on from a saved memory, which knows the NICs of that time.
      def saved?
        @libvirt.has_managed_save?
      end

      # @return [Array<Hash{String => String}>] the entries of our metadata
      def entries
        metadata.entries
      end

      # @return [Array<String>] the MACs of all NICs, in the domain's order
      def macs
        interfaces.map { |interface| mac_of(interface) }
      end

      # What has to change for +nics+ to be the ones on hybrid networks.
      # @param known [Array<String>] MACs of NICs that the plugin added at some time
      # @return [Change]
      def change(nics, known)
        wanted = nics.map(&:mac)
        ours = known
        # Where it is not known, an entry of the network is taken for ours; else it is somebody's second NIC.
        ours |= entry_macs { |entry| nics.any? { |nic| nic.network == entry['name'] } } if known.empty?
        # A network that moves to another MAC or bridge is a NIC that goes and one that comes.
        stale = nics.reject { |nic| on_bridge?(nic) }
        gone = (ours - wanted) | stale.map(&:mac)
        Change.new(
          nics: nics, macs: ours | wanted, add: stale, metadata: entries_differ?(ours | wanted, nics),
          remove: interfaces.select { |interface| gone.include?(mac_of(interface)) }
        )
      end

      # Does it. Each step leaves something from which the next start goes on: a NIC goes before its
      # entry does, so that one without an entry is never forgotten.
      def apply(change)
        change.remove.each { |interface| @libvirt.detach_device(interface.to_xml, CONFIG) }
        aliases = free_aliases
        change.add.each { |nic| @libvirt.attach_device(interface_xml(nic, aliases.next), CONFIG) }
        return unless change.metadata?

        @libvirt.metadata = [Libvirt::Domain::METADATA_ELEMENT, metadata.replace(change.macs, change.wanted),
                             Metadata::PREFIX, Metadata::NAMESPACE, CONFIG]
      end

      # What is to be done to a domain.
      class Change
        attr_reader :remove, :add, :macs, :wanted

        def initialize(nics:, macs:, add:, remove:, metadata:)
          @wanted = nics.map(&:attributes)
          @macs = macs
          @add = add
          @remove = remove
          @metadata = metadata
        end

        def nics?
          !(@remove.empty? && @add.empty?)
        end

        def metadata?
          @metadata
        end

        def any?
          nics? || metadata?
        end
      end

      private

      def metadata
        # A fresh one each time: it is changed in place.
        Metadata.new(@xml.at_xpath('/domain/metadata/h:networks', 'h' => Metadata::NAMESPACE))
      end

      def entry_macs(&block)
        entries.select(&block).filter_map { |entry| entry['mac']&.downcase }
      end

      # Whether the entries that are ours to write are others than those wanted.
      def entries_differ?(macs, nics)
        present = entries.select { |entry| Metadata.of?(entry, macs, nics.map(&:network)) }
        present.sort_by(&:to_a) != nics.map(&:attributes).sort_by(&:to_a)
      end

      def interfaces
        @xml.xpath('/domain/devices/interface')
      end

      def mac_of(interface)
        interface.at_xpath('mac/@address').to_s.downcase
      end

      def on_bridge?(nic)
        source = interfaces.find { |interface| mac_of(interface) == nic.mac }&.at_xpath('source')
        source && Snapshot.read(nic.network)&.source?(source)
      end

      # vagrant-libvirt numbers its NICs by such aliases; two of one name are refused.
      def free_aliases
        taken = interfaces.map { |interface| interface.at_xpath('alias/@name').to_s }
        (interfaces.size..).lazy.map { |number| "ua-net-#{number}" }.reject { |name| taken.include?(name) }
      end

      # As vagrant-libvirt makes it of a public network.
      def interface_xml(nic, name)
        model = interfaces.first&.at_xpath('model/@type').to_s
        Nokogiri::XML::Builder.new do |xml|
          xml.interface(type: 'bridge') do
            xml.alias(name: name)
            xml.mac(address: nic.mac)
            xml.source(bridge: nic.bridge)
            xml.model(type: model.empty? ? 'virtio' : model)
          end
        end.doc.root.to_xml
      end
    end
  end
end
