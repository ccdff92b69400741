# frozen_string_literal: true

module VagrantPlugins
  module Hybrid
    module Action
      # Has the validation that follows ask this host, too: is hybrid-hook installed, is each
      # network there, does each address fit?
      class AskHost
        def initialize(app, _env)
          @app = app
        end

        def call(env)
          # `vagrant validate --ignore-provider` runs where there is no libvirt at all.
          env[:machine].config.hybrid.ask_host = !env[:ignore_provider]
          @app.call(env)
        end
      end
    end
  end
end
