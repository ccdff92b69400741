# frozen_string_literal: true

module VagrantPlugins
  module Hybrid
    module Action
      # Says that only libvirt's machines can be on a hybrid network.
      class WarnProvider
        def initialize(app, _env)
          @app = app
        end

        def call(env)
          machine = env[:machine]
          if machine.config.hybrid.any? && machine.provider_name != :libvirt
            env[:ui].warn(Hybrid.t('actions.other_provider', provider: machine.provider_name))
          end
          @app.call(env)
        end
      end
    end
  end
end
