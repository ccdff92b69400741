# frozen_string_literal: true

require_relative 'errors'

module VagrantPlugins
  module Hybrid
    # The middleware that we hang into Vagrant's and vagrant-libvirt's actions.
    module Action
      autoload :AddNetworks, File.expand_path('action/add_networks', __dir__)
      autoload :AskHost, File.expand_path('action/ask_host', __dir__)
      autoload :AwaitRelease, File.expand_path('action/await_release', __dir__)
      autoload :DefineDomain, File.expand_path('action/define_domain', __dir__)
      autoload :TellPending, File.expand_path('action/tell_pending', __dir__)
      autoload :TellRestored, File.expand_path('action/tell_restored', __dir__)
      autoload :WarnProvider, File.expand_path('action/warn_provider', __dir__)
    end
  end
end
