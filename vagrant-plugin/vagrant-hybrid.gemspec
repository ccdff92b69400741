# frozen_string_literal: true

require_relative 'lib/vagrant-hybrid/version'

Gem::Specification.new do |spec|
  spec.name = 'vagrant-hybrid'
  spec.version = VagrantPlugins::Hybrid::VERSION
  spec.summary = 'Vagrant machines beside Docker containers on one bridge'
  spec.description = 'Puts libvirt machines on a hybrid-hook network: config.hybrid in a Vagrantfile, ' \
                     'an address that stays, names both ways.'
  spec.authors = ['The hybrid-hook authors']
  spec.licenses = %w[MIT Apache-2.0]
  spec.required_ruby_version = '>= 3.0'
  spec.files = Dir.chdir(__dir__) { Dir['lib/**/*.rb', 'locales/*.yml', 'share/*', 'README.md'] }
  spec.require_paths = ['lib']
  # No dependency: Vagrant brings REXML and I18n, vagrant-libvirt brings Nokogiri and ruby-libvirt.
  # Were they named, an offline `vagrant plugin install` would look for them in the gem index.
  spec.metadata['rubygems_mfa_required'] = 'true'
end
