# frozen_string_literal: true

require 'json'
require 'optparse'
require_relative '../nic'
require_relative '../reach'

module VagrantPlugins
  module Hybrid
    module Command
      # `vagrant hybrid status [--json] [NAME…]`
      class Status < Vagrant.plugin('2', :command)
        def execute
          as_json = false
          names = parse_options(OptionParser.new do |o|
            o.banner = 'Usage: vagrant hybrid status [--json] [name...]'
            o.separator ''
            o.on('--json', 'One JSON array: machine, state and networks') { as_json = true }
          end)
          return unless names

          rows = rows(names)
          as_json ? puts(JSON.pretty_generate(rows)) : table(rows)
          0
        end

        private

        def rows(names)
          rows = []
          with_target_vms(names) { |machine| rows << row(machine) if machine.provider_name == :libvirt }
          probe(rows.flat_map { |row| row['networks'] })
          rows
        end

        # What the Vagrantfile wants and, where there is a machine, what it has.
        def row(machine)
          # Not before there is a machine of vagrant-libvirt's: it may not be installed.
          require_relative '../domain'
          state = machine.state.id
          entries = Domain.of(machine)&.entries || []
          wanted = machine.config.hybrid.wishes.map { |wish| wish.name.to_s }
          networks = (wanted | entries.filter_map { |entry| entry['name'] }).map do |name|
            network(name, entries.find { |entry| entry['name'] == name }, state)
          end
          { 'machine' => machine.name.to_s, 'state' => state.to_s, 'networks' => networks }
        end

        def network(name, entry, state)
          snapshot, fault = read(name)
          mac = entry && entry['mac']
          lease = (mac && snapshot&.lease_of(mac)) || {}
          { 'network' => name, 'up' => snapshot ? snapshot.up? : nil, 'mac' => mac,
            'address' => lease['address'], 'address6' => lease['address6'], 'fqdn' => lease['fqdn'],
            'lease' => lease['state'], 'reachable' => state == :running ? false : nil, 'fault' => fault }.compact
        end

        def read(name)
          snapshot = Snapshot.read(name)
          [snapshot, snapshot ? nil : Hybrid.t('status.absent')]
        rescue Snapshot::Unusable => e
          [nil, e.message]
        end

        # All at once: one that doesn't answer takes a second.
        def probe(networks)
          networks.select { |network| network['reachable'] == false && network['address'] }
                  .map { |network| Thread.new { network['reachable'] = Reach.host?(network['address']) } }
                  .each(&:join)
        end

        def table(rows)
          rows = rows.reject { |row| row['networks'].empty? }
          return @env.ui.info(Hybrid.t('status.none')) if rows.empty?

          lines = rows.flat_map do |row|
            row['networks'].map do |network|
              [row['machine'], row['state'].tr('_', ' '), network['network'], network['address'] || '-',
               network['fqdn'] || '-', word(network)]
            end
          end
          print_columns([%w[MACHINE STATE NETWORK ADDRESS NAME REACHABLE]] + lines)
        end

        def word(network)
          if network['fault'] then network['fault']
          elsif !network['up'] then Hybrid.t('status.down')
          elsif network['reachable'].nil? then Hybrid.t('status.idle')
          elsif !network['address'] then Hybrid.t('status.no_lease')
          else
            Hybrid.t(network['reachable'] ? 'status.reachable' : 'status.unreachable')
          end
        end

        def print_columns(lines)
          widths = lines.transpose.map { |column| column.map(&:length).max }
          lines.each do |line|
            @env.ui.info(line.zip(widths).map { |cell, width| cell.ljust(width) }.join('  ').rstrip, prefix: false)
          end
        end
      end
    end
  end
end
