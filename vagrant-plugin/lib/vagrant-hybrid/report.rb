# frozen_string_literal: true

require_relative 'snapshot'

module VagrantPlugins
  module Hybrid
    # What a person sees of a machine that has started.
    class Report
      # The hook publishes the lease before the machine runs; this is for a busy host.
      PATIENCE = 2

      def initialize(machine, reporter)
        @machine = machine
        @ui = reporter
      end

      # One line for each NIC, with its address and its name.
      def nics(nics)
        nics.each do |nic|
          lease = lease(nic)
          if lease
            @ui.info(Hybrid.t('actions.address', network: nic.network, address: self.class.address(lease)))
          else
            @ui.warn(Hybrid.t('actions.no_lease', network: nic.network, mac: nic.mac))
          end
        end
      end

      # "10.0.1.200 (db.hybrid.internal)"
      def self.address(lease)
        addresses = [lease['address'], lease['address6']].compact.join(', ')
        name = lease['fqdn']
        name ? "#{addresses} (#{name})" : addresses
      end

      private

      def lease(nic)
        give_up = Process.clock_gettime(Process::CLOCK_MONOTONIC) + PATIENCE
        loop do
          lease = nic.lease
          return lease if lease || Process.clock_gettime(Process::CLOCK_MONOTONIC) > give_up

          sleep 0.1
        end
      end
    end
  end
end
