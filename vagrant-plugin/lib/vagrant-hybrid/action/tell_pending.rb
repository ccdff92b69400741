# frozen_string_literal: true

require_relative '../domain'
require_relative '../known'
require_relative '../nic'
require_relative '../refusal'
require_relative '../report'

module VagrantPlugins
  module Hybrid
    module Action
      # Around ResumeDomain: a machine whose memory was kept goes on with the NICs that it has.
      # Changes of the Vagrantfile wait for its next cold start, and that is said.
      class TellPending
        # A suspended machine is resumed to be shut down, too: then there is nothing to say.
        GOES_ON = %i[machine_action_up machine_action_resume].freeze

        def initialize(app, _env)
          @app = app
        end

        def call(env)
          nics = GOES_ON.include?(env[:action_name]) ? tell(env) : []
          start(env)
          Report.new(env[:machine], env[:ui]).nics(nics)
        end

        private

        # @return [Array<Nic>] those that it has and goes on with
        def tell(env)
          machine = env[:machine]
          domain = Domain.of(machine)
          known = domain ? Known.macs(machine, domain) : []
          return [] unless domain && (machine.config.hybrid.any? || !known.empty?)

          nics = Nic.all(machine, domain.entries)
          env[:ui].warn(Hybrid.t('actions.pending')) if domain.change(nics, known).any?
          nics.select { |nic| domain.macs.include?(nic.mac) }
        rescue Errors::NotReady => e
          # It ran there before, and what it runs on may still be there.
          env[:ui].warn(e.message)
          []
        end

        def start(env)
          @app.call(env)
        rescue ::Libvirt::Error, ProviderLibvirt::Errors::VagrantLibvirtError => e
          refusal = Refusal.in(e.message)
          raise refusal ? refusal.error(env[:machine]) : e
        end
      end
    end
  end
end
