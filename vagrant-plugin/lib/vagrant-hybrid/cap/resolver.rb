# frozen_string_literal: true

module VagrantPlugins
  module Hybrid
    module Cap
      # Has a Linux guest ask our resolver for names of our zones, whichever resolver it has
      # already; undone where no network is left.
      module Resolver
        SCRIPT = File.expand_path('../../../share/hybrid-resolver', __dir__)
        PATH = '/usr/local/sbin/hybrid-resolver'

        # @param lines [Array<String>] see {ResolverLines}
        def self.hybrid_resolver(machine, lines)
          # Not the login shell that Vagrant would start: that reads profiles, slow where the guest is emulated.
          machine.communicate.sudo(lines.empty? ? undo : setup(lines), shell: 'sh')
        end

        # One command, so one round trip. The script is ours, the lines are checked: nothing in
        # them ends the here-documents.
        def self.setup(lines)
          <<~COMMAND
            [ -d '#{File.dirname(PATH)}' ] || mkdir -p '#{File.dirname(PATH)}'
            cat >'#{PATH}' <<'HYBRID-RESOLVER-END'
            #{File.read(SCRIPT).chomp}
            HYBRID-RESOLVER-END
            chmod 755 '#{PATH}'
            '#{PATH}' set <<'HYBRID-RESOLVER-END'
            #{lines.join("\n")}
            HYBRID-RESOLVER-END
          COMMAND
        end
        private_class_method :setup

        def self.undo
          "[ ! -x '#{PATH}' ] || '#{PATH}' remove"
        end
        private_class_method :undo
      end
    end
  end
end
