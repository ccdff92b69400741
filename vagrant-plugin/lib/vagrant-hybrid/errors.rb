# frozen_string_literal: true

module VagrantPlugins
  module Hybrid
    # What ends an action, in words for a person.
    module Errors
      # Their common part.
      class HybridError < Vagrant::Errors::VagrantError
        error_namespace('vagrant_hybrid.errors')
      end

      # The hook refused: the machine would have had an address that it can't have.
      class Refused < HybridError
        error_key(:refused)
      end

      # The domain could not be changed.
      class DomainChange < HybridError
        error_key(:domain_change)
      end

      # What was validated is gone since.
      class NotReady < HybridError
        error_key(:not_ready)
      end

      # A command was called in a way that it doesn't know.
      class NoHybridHook < HybridError
        error_key(:no_hybrid_hook)
      end
    end
  end
end
