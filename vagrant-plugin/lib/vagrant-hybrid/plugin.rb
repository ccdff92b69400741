# frozen_string_literal: true

require 'vagrant/action/builtin/config_validate'

module VagrantPlugins
  module Hybrid
    # What Vagrant is told about us. Everything else is loaded when it is needed, so that a
    # Vagrantfile without our lines pays next to nothing.
    class Plugin < Vagrant.plugin('2')
      name 'hybrid'
      description 'Machines beside Docker containers on one hybrid-hook bridge.'

      config(:hybrid) do
        require_relative 'config'
        Config
      end

      command('hybrid') do
        require_relative 'command/root'
        Command::Root
      end

      guest_capability(:linux, :hybrid_resolver) do
        require_relative 'cap/resolver'
        Cap::Resolver
      end

      guest_capability(:linux, :hybrid_interfaces) do
        require_relative 'cap/interfaces'
        Cap::Interfaces
      end

      guest_capability(:linux, :hybrid_blocks) do
        require_relative 'cap/blocks'
        Cap::Blocks
      end

      # What only this host can answer (is the network there?) is asked before something is
      # created or started, never where something is stopped or destroyed: that must work always.
      %i[machine_action_up machine_action_reload machine_action_config_validate].each do |action|
        action_hook(:hybrid_host, action) do |hook|
          require_relative 'action/ask_host'
          hook.before Vagrant::Action::Builtin::ConfigValidate, Action::AskHost
        end
      end

      action_hook(:hybrid_provider, :machine_action_up) do |hook|
        require_relative 'action/warn_provider'
        hook.prepend Action::WarnProvider
      end

      # No action is named: these places are deep in nested builders, and are reached by up,
      # reload, resume and whatever else starts a machine.
      action_hook(:hybrid_machine) do |hook|
        if libvirt?
          require_relative 'action'
          provider = VagrantPlugins::ProviderLibvirt::Action
          hook.before provider::CreateNetworkInterfaces, Action::AddNetworks
          hook.before provider::StartDomain, Action::DefineDomain
          hook.before provider::ResumeDomain, Action::TellPending
          hook.before provider::SnapshotRestore, Action::TellRestored
          hook.before provider::DestroyDomain, Action::AwaitRelease
        end
      end

      # Whether vagrant-libvirt is there. Plugins are loaded in no set order, so it is asked late.
      def self.libvirt?
        return @libvirt if defined?(@libvirt)

        @libvirt = begin
          require 'vagrant-libvirt'
          require 'vagrant-libvirt/action'
          true
        rescue LoadError
          false
        end
      end

      def self.setup_i18n
        I18n.load_path << File.expand_path('../../locales/en.yml', __dir__)
        I18n.reload!
      end
      setup_i18n
    end
  end
end
