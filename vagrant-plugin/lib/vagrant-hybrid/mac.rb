# frozen_string_literal: true

module VagrantPlugins
  module Hybrid
    # The MAC of a NIC that we add.
    module Mac
      FNV_OFFSET = 0x811c9dc5
      FNV_PRIME = 0x01000193

      # In QEMU's range (52:54:00), then three bytes of FNV-1a over "NETWORK/IDENTITY", as
      # hybrid-hook itself does. Small and the same for ever; not for secrets.
      def self.of(network, identity)
        [0x52, 0x54, 0x00, *[fnv1a("#{network}/#{identity}")].pack('N').bytes.last(3)]
          .map { |byte| format('%02x', byte) }.join(':')
      end

      # What makes a machine the same machine: the folder of its Vagrantfile, links resolved, and
      # its name there. So it keeps its MAC, and with it its address, when it is destroyed and made
      # again; and a second checkout, which is another folder, gets another MAC. A machine that
      # exists keeps the MAC in its domain, also when the folder is renamed.
      def self.identity(machine)
        root = machine.env.root_path || machine.env.cwd
        "#{File.realpath(root.to_s)}/#{machine.name}"
      end

      def self.fnv1a(text)
        text.each_byte.reduce(FNV_OFFSET) { |hash, byte| ((hash ^ byte) * FNV_PRIME) & 0xffffffff }
      end
      private_class_method :fnv1a
    end
  end
end
