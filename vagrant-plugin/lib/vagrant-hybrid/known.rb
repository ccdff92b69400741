# frozen_string_literal: true

require_relative 'mac'
require_relative 'record'

module VagrantPlugins
  module Hybrid
    # Which NICs of a domain the plugin added.
    module Known
      # Those that were noted, and those whose MAC is the one that we derive, should the notes be
      # lost. A NIC that somebody added with `hybrid-hook attach` is neither, and stays.
      # @return [Array<String>]
      def self.macs(machine, domain)
        identity = Mac.identity(machine)
        derived = domain.entries.filter_map do |entry|
          mac = entry['mac'].to_s.downcase
          mac if entry['name'] && mac == Mac.of(entry['name'], identity)
        end
        Record.new(machine).macs | derived
      end
    end
  end
end
