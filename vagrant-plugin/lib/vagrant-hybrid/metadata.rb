# frozen_string_literal: true

require 'nokogiri'

module VagrantPlugins
  module Hybrid
    # Our element in a domain's metadata, `<hybrid:networks>`. Built node by node: whatever is in a
    # value stays a value.
    #
    # Entries that the plugin didn't write (somebody called `hybrid-hook attach`) stay as they are,
    # and so does everything on the element that we don't know.
    class Metadata
      NAMESPACE = 'urn:hybrid-hook:domain:1'
      PREFIX = 'hybrid'

      # @param element [Nokogiri::XML::Element, nil] as it is in the domain
      def initialize(element = nil)
        @document = Nokogiri::XML::Document.new
        @root = if element
                  @document.root = element.dup
                else
                  root = @document.create_element('networks')
                  @document.root = root
                  root.namespace = root.add_namespace_definition(PREFIX, NAMESPACE)
                  root
                end
      end

      # @return [Array<Hash{String => String}>] the attributes of each entry
      def entries
        elements.map { |element| element.to_h.transform_values(&:to_s) }
      end

      # Replaces the entries with one of +macs+ by +wanted+.
      # @param wanted [Array<Hash{String => String}>]
      # @return [String, nil] the element as XML; nil where nothing is left to say
      def replace(macs, wanted)
        names = wanted.map { |attributes| attributes['name'] }
        elements.each do |element|
          element.unlink if macs.include?(element['mac'].to_s.downcase) || names.include?(element['name'])
        end
        wanted.each { |attributes| append(attributes) }
        @root.xpath('text()').each { |text| text.unlink if text.blank? }
        @root.elements.empty? ? nil : @root.to_xml(save_with: Nokogiri::XML::Node::SaveOptions::AS_XML)
      end

      private

      def elements
        @root.xpath('h:network', 'h' => NAMESPACE)
      end

      def append(attributes)
        element = @document.create_element('network')
        @root.add_child(element)
        element.namespace = @root.namespace
        attributes.each { |name, value| element[name] = value }
      end
    end
  end
end
