# frozen_string_literal: true

require_relative 'tell_pending'

module VagrantPlugins
  module Hybrid
    module Action
      # Around SnapshotRestore: the machine has the NICs that it had then.
      class TellRestored < TellPending
        def call(env)
          start(env)
          nics = tell(env)
          Report.new(env[:machine], env[:ui]).nics(nics) if env[:machine].state.id == :running
        end
      end
    end
  end
end
