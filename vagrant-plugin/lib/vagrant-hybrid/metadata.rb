# frozen_string_literal: true

require 'nokogiri'

module VagrantPlugins
  module Hybrid
    # Our element in a domain's metadata, `<hybrid:networks>`. Built node by node: whatever is in a
    # value stays a value.
    #
    # Entries that the plugin didn't write (somebody called `hybrid-hook attach`) stay as they are,
    # and so do the notes on the element.
    class Metadata
      NAMESPACE = 'urn:hybrid-hook:domain:1'
      PREFIX = 'hybrid'

      # @return [Array<Hash{String => String}>] the attributes of each entry
      attr_reader :entries

      # @param element [Nokogiri::XML::Element, nil] as it is in the domain
      def initialize(element = nil)
        @notes = element ? attributes(element) : {}
        @entries = element ? element.xpath('h:network', 'h' => NAMESPACE).map { |entry| attributes(entry) } : []
      end

      # Whether an entry is of one of +macs+ or, where it has none, of one of these networks.
      def self.of?(entry, macs, names)
        mac = entry['mac'].to_s.downcase
        mac.empty? ? names.include?(entry['name']) : macs.include?(mac)
      end

      # Replaces the entries with one of +macs+, and those of the same networks that have none, by +wanted+.
      # @param wanted [Array<Hash{String => String}>]
      # @return [String, nil] the element as libvirt takes it, which puts it into the namespace
      #   itself and takes no other; nil where nothing is left to say
      def replace(macs, wanted)
        names = wanted.map { |entry| entry['name'] }
        left = entries.reject { |entry| self.class.of?(entry, macs, names) }
        # Ours first: the first of a network is taken for the machine's own.
        left = wanted + left
        return if left.empty?

        document = Nokogiri::XML::Builder.new do |xml|
          xml.networks(@notes) { left.each { |entry| xml.network(entry) } }
        end.doc
        document.root.to_xml(save_with: Nokogiri::XML::Node::SaveOptions::AS_XML)
      end

      private

      def attributes(element)
        element.attribute_nodes.reject(&:namespace).to_h { |attribute| [attribute.node_name, attribute.value] }
      end
    end
  end
end
