# frozen_string_literal: true

require_relative '../domain'
require_relative '../guest_setup'
require_relative '../nic'
require_relative '../record'
require_relative '../refusal'
require_relative '../report'

module VagrantPlugins
  module Hybrid
    module Action
      # Around StartDomain, so before every cold start: makes the domain what the Vagrantfile says,
      # its metadata always and its NICs where the machine is no new one, and sets up the guest after.
      class DefineDomain
        def initialize(app, _env)
          @app = app
          @logger = Log4r::Logger.new('vagrant_hybrid::action::define_domain')
        end

        def call(env)
          machine = env[:machine]
          domain = Domain.of(machine)
          return @app.call(env) unless domain && concerned?(machine, domain)

          nics = define(env, domain)
          # As if the Vagrantfile had them: vagrant-libvirt compares their number with the domain's,
          # and Vagrant's capabilities for Red Hat's guests look them up.
          nics.each { |nic| machine.config.vm.network(:public_network, **nic.network_options) }
          start(env)
          return if env[:hybrid_new] || env[:interrupted]

          GuestSetup.new(machine, env[:ui]).run(nics)
          Report.new(machine, env[:ui]).nics(nics)
        end

        private

        def concerned?(machine, domain)
          machine.config.hybrid.any? || !Known.macs(machine, domain).empty?
        end

        # @return [Array<Nic>] the NICs that the machine starts with
        def define(env, domain)
          machine = env[:machine]
          nics = Nic.all(machine, domain.entries)
          known = Known.macs(machine, domain)
          change = domain.change(nics, known)
          if change.any? && domain.saved?
            env[:ui].warn(Hybrid.t('actions.pending'))
            return nics
          end

          remember(machine, known | nics.map(&:mac), change.nics?)
          env[:ui].info(Hybrid.t('actions.changing')) if change.nics? && !env[:hybrid_new]
          domain.apply(change)
          nics
        rescue ::Libvirt::Error => e
          raise Errors::DomainChange, machine: env[:machine].name, message: e.message
        end

        # Before the domain is changed: what was added must be found again whatever comes between. A guest whose
        # NICs change is to be set up, though it was before: a snapshot may have taken that back.
        def remember(machine, macs, changes)
          record = Record.new(machine)
          return if record.macs == macs && !changes

          record.macs = macs
          record.guest = record.guest.merge('macs' => nil) if changes && record.guest.is_a?(Hash)
          record.save
        end

        # libvirt's own error, or vagrant-libvirt's around it: both hold our hook's words.
        def start(env)
          @app.call(env)
        rescue ::Libvirt::Error, ProviderLibvirt::Errors::VagrantLibvirtError => e
          refusal = Refusal.in(e.message)
          raise unless refusal

          @logger.info("the hook refused: #{e.message}")
          raise refusal.error(env[:machine])
        end
      end
    end
  end
end
