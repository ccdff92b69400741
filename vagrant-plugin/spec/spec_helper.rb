# frozen_string_literal: true

# Plugins are those that are required here, whatever the host has installed.
ENV['VAGRANT_DISABLE_PLUGIN_INIT'] = '1'

require 'json'
require 'tmpdir'
require 'vagrant'
require 'vagrant-libvirt'
require 'vagrant-libvirt/action'

$LOAD_PATH.unshift(File.expand_path('../lib', __dir__))
require 'vagrant-hybrid'
require 'vagrant-hybrid/action'
require 'vagrant-hybrid/config'
require 'vagrant-hybrid/host'

Dir[File.expand_path('support/*.rb', __dir__)].each { |file| require file }

RSpec.configure do |config|
  config.disable_monkey_patching!
  config.order = :random
  config.expect_with(:rspec) { |expectations| expectations.syntax = :expect }
  config.mock_with(:rspec) { |mocks| mocks.verify_partial_doubles = true }

  # Each example has a host of its own: no file of the real one is read.
  config.around do |example|
    before = ENV.to_h
    Dir.mktmpdir('vagrant-hybrid') do |folder|
      ENV.update('HYBRID_RUN_DIR' => "#{folder}/run", 'HYBRID_CONFIG_DIR' => "#{folder}/etc",
                 'PATH' => "#{folder}/bin:#{ENV.fetch('PATH')}")
      example.run
    end
  ensure
    ENV.replace(before)
  end
  config.include FakeHost
  config.include FakeMachine
end
