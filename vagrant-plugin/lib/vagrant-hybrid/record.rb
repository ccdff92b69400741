# frozen_string_literal: true

require 'json'

module VagrantPlugins
  module Hybrid
    # What the plugin has done to a machine, in the machine's data folder, which Vagrant removes
    # when the machine is destroyed.
    class Record
      # MACs of the NICs that we added, also those of which the domain knows nothing any more.
      attr_accessor :macs
      # What the guest was last set up for; nil: never, or not to its end.
      attr_accessor :guest

      def initialize(machine)
        @path = machine.data_dir&.join('hybrid.json')
        data = read
        @macs = Array(data['macs']).grep(String)
        @guest = data['guest']
      end

      def save
        return unless @path

        aside = @path.sub_ext('.json.new')
        aside.write(JSON.pretty_generate('macs' => macs, 'guest' => guest))
        aside.rename(@path)
      end

      private

      # One that can't be read is as good as none: the domain tells the rest.
      def read
        data = @path&.file? ? JSON.parse(@path.read(encoding: 'UTF-8')) : {}
        data.is_a?(Hash) ? data : {}
      rescue SystemCallError, JSON::ParserError, EncodingError
        {}
      end
    end
  end
end
