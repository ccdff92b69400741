# frozen_string_literal: true

require_relative '../guest_setup'
require_relative '../nic'
require_relative '../report'

module VagrantPlugins
  module Hybrid
    module Action
      # Around CreateNetworkInterfaces, so for a new machine only: adds our networks to those of the
      # Vagrantfile, last, and lets vagrant-libvirt make the NICs and set them up in the guest.
      class AddNetworks
        def initialize(app, _env)
          @app = app
        end

        def call(env)
          machine = env[:machine]
          return @app.call(env) unless machine.config.hybrid.any?

          nics = Nic.all(machine)
          nics.each { |nic| machine.config.vm.network(:public_network, **nic.network_options) }
          # DefineDomain, further in, leaves the rest to us: vagrant-libvirt sets up the guest's NICs
          # on the way back, between there and here.
          env[:hybrid_new] = true
          @app.call(env)
          return if env[:interrupted]

          GuestSetup.new(machine, env[:ui]).finish(nics)
          Report.new(machine, env[:ui]).nics(nics)
        end
      end
    end
  end
end
