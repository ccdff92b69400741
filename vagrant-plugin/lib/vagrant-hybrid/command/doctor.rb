# frozen_string_literal: true

require 'optparse'
require_relative '../errors'
require_relative '../host'
require_relative '../nic'

module VagrantPlugins
  module Hybrid
    module Command
      # `vagrant hybrid doctor`: hybrid-hook's own checks, then those of the plugin.
      class Doctor < Vagrant.plugin('2', :command)
        def execute
          names = parse_options(OptionParser.new do |o|
            o.banner = 'Usage: vagrant hybrid doctor [name...]'
          end)
          return unless names

          @bad = false
          code = hybrid_hook
          @env.ui.info(Hybrid.t('doctor.heading', version: VERSION), prefix: false)
          machines(names)
          code.zero? && @bad ? 1 : code
        end

        private

        # Its output and its exit code are its own.
        def hybrid_hook
          path = Host.executable
          unless path
            check(:hook, Hybrid.t('errors.no_hybrid_hook'))
            return 0
          end

          $stdout.flush
          pid = Process.spawn(path, 'doctor', in: File::NULL)
          Process.wait2(pid).last.exitstatus || 1
        rescue SystemCallError => e
          check(:hook, e.message)
          0
        end

        def machines(names)
          unless Plugin.libvirt?
            check(:provider, Hybrid.t('doctor.provider_missing'))
            return
          end

          check(:provider)
          found = []
          with_target_vms(names) { |machine| found << machine if machine.provider_name == :libvirt }
          found = found.select { |machine| machine.config.hybrid.any? }
          return if found.empty?

          libvirt(found.first)
          found.each { |machine| machine(machine) }
          macs(found)
        end

        def libvirt(machine)
          uri = machine.provider_config.uri.to_s
          machine.provider.driver.connection.client.version
          check(:libvirt, uri: uri)
        rescue StandardError => e
          check(:libvirt, Hybrid.t('doctor.libvirt_dead', why: e.message.lines.first.to_s.chomp), uri: uri)
        ensure
          check(:uri, Host.provider(machine.provider_config))
        end

        def machine(machine)
          machine.config.hybrid.ask_host = false
          problems = machine.config.hybrid.validate(machine).values.flatten
          check(:config, problems.empty? ? nil : problems.join('; '), machine: machine.name)
          machine.config.hybrid.wishes.each do |wish|
            next if Checks.network(wish.name)

            check(:network, Host.network_problem(wish.name, wish.docker), network: wish.name, machine: machine.name)
          end
        end

        # 24 bits of a hash: with dozens of machines two of them alike are next to impossible, and
        # would be next to impossible to find.
        def macs(machines)
          pairs = machines.flat_map do |machine|
            machine.config.hybrid.wishes.filter_map do |wish|
              next unless wish.problems.empty?

              [[wish.name, wish.mac || Mac.of(wish.name, Mac.identity(machine))], machine.name]
            end
          end
          pairs.group_by(&:first).each do |(network, mac), all|
            next if all.size < 2

            check(:mac, Hybrid.t('doctor.mac_twice', machines: all.map(&:last).join(', ')), network: network, mac: mac)
          end
        end

        def check(what, problem = nil, **values)
          line = Hybrid.t("doctor.#{what}", **values)
          if problem
            @bad = true
            @env.ui.error("#{Hybrid.t('doctor.bad')}  #{line}: #{problem}", prefix: false)
          else
            @env.ui.info("#{Hybrid.t('doctor.ok')}   #{line}", prefix: false)
          end
        end
      end
    end
  end
end
