# frozen_string_literal: true

module VagrantPlugins
  module Hybrid
    module Cap
      # Tells a Linux guest which blocks of addresses are its own to hand out.
      module Blocks
        PATH = '/etc/hybrid-block'
        # These go into a root shell in the guest: nothing but these characters ever does.
        LINE = %r{\A[0-9a-f:./ ]+\z}

        # @param lines [Array<String>] "MAC SUBNET GATEWAY BLOCK"
        def self.hybrid_blocks(machine, lines)
          lines = lines.grep(LINE)
          return machine.communicate.sudo("rm -f '#{PATH}'") if lines.empty?

          machine.communicate.sudo("printf '%s\\n' '#{lines.join("' '")}' >'#{PATH}'")
        end
      end
    end
  end
end
