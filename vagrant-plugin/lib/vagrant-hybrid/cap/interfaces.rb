# frozen_string_literal: true

module VagrantPlugins
  module Hybrid
    module Cap
      # Which interface of a Linux guest has which MAC: their order in the domain need not be theirs
      # in the guest once one was taken out.
      module Interfaces
        COMMAND = 'for dev in /sys/class/net/*; do ' \
                  '[ ! -e "$dev/device" ] || echo "$(cat "$dev/address") ${dev##*/}"; done'

        # @return [Hash{String => String}] the interface's name by its MAC
        def self.hybrid_interfaces(machine)
          text = +''
          machine.communicate.execute(COMMAND) { |type, data| text << data if type == :stdout }
          text.lines.to_h(&:split)
        end
      end
    end
  end
end
