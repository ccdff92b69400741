# frozen_string_literal: true

begin
  require 'vagrant'
rescue LoadError
  raise 'vagrant-hybrid is a plugin: Vagrant loads it'
end

require 'pathname'
require_relative 'vagrant-hybrid/version'
require_relative 'vagrant-hybrid/plugin'

module VagrantPlugins
  # Puts libvirt machines on hybrid-hook networks. It passes the Vagrantfile's wishes on, in the
  # domain's metadata; hybrid-hook's libvirt hook, which runs as root, decides and claims.
  module Hybrid
    # The gem's folder.
    def self.source_root
      @source_root ||= Pathname.new(File.expand_path('..', __dir__))
    end

    # A text of ours from the locale file.
    def self.t(key, **values)
      I18n.t("vagrant_hybrid.#{key}", **values)
    end
  end
end
