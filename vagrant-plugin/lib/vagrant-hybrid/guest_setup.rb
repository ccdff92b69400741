# frozen_string_literal: true

require_relative 'domain'
require_relative 'record'
require_relative 'resolver_lines'

module VagrantPlugins
  module Hybrid
    # Sets up the guest of a machine that has started: its NICs, by Vagrant's own guest
    # capabilities, and the names of the zones.
    class GuestSetup
      include ProviderLibvirt::Util::NetworkUtil
      include Vagrant::Util::ScopedHashOverride

      def initialize(machine, reporter)
        @machine = machine
        @ui = reporter
        @logger = Log4r::Logger.new('vagrant_hybrid::guest_setup')
      end

      # For a new machine, whose NICs vagrant-libvirt has set up.
      def finish(nics)
        return unless guest?

        record = Record.new(@machine)
        names(nics)
        tell_blocks([], blocks(nics))
        note(record, nics)
      end

      # For a machine that was there before: only what changed since the guest was last set up.
      def run(nics)
        return unless guest?

        record = Record.new(@machine)
        return if record.guest == wanted(nics)

        if macs(record.guest) != macs(wanted(nics))
          interfaces(nics)
          record.macs = nics.map(&:mac)
        end
        names(nics)
        tell_blocks(record.guest&.fetch('blocks', nil), blocks(nics))
        note(record, nics)
      end

      private

      # Asked for once: Vagrant looks by a command over SSH, each time, whether the guest is ready.
      def guest
        @guest ||= @machine.guest
      end

      def domain
        @domain ||= Domain.of(@machine)
      end

      # Without a box nobody knows how to reach the guest; vagrant-libvirt leaves it alone, too.
      def guest?
        !@machine.config.vm.box.nil?
      end

      def wanted(nics)
        { 'macs' => nics.map(&:mac).sort, 'names' => ResolverLines.of(nics), 'blocks' => blocks(nics) }
      end

      def macs(guest)
        guest.is_a?(Hash) ? guest['macs'] : nil
      end

      def note(record, nics)
        record.guest = wanted(nics)
        record.save
      end

      def names(nics)
        lines = ResolverLines.of(nics)
        if guest.capability?(:hybrid_resolver)
          guest.capability(:hybrid_resolver, lines)
        elsif !lines.empty?
          @ui.warn(Hybrid.t('guest.no_resolver'))
        end
      end

      # One line a NIC that has a block: "MAC SUBNET GATEWAY BLOCK".
      # @return [Array<String>]
      def blocks(nics)
        @blocks ||= nics.filter_map do |nic|
          next unless nic.attributes['block']

          block = nic.block(@machine.id, domain.macs)
          family = Snapshot.read(nic.network)&.families&.first
          next "#{nic.mac} #{family.subnet}/#{family.subnet.prefix} #{family.gateway} #{block}" if block && family

          @ui.warn(Hybrid.t('guest.no_block', network: nic.network))
          nil
        end
      end

      # What is done with a block is the guest's affair; it is told which it is.
      def tell_blocks(before, lines)
        return if before.to_a == lines

        if guest.capability?(:hybrid_blocks)
          guest.capability(:hybrid_blocks, lines)
        else
          @ui.warn(Hybrid.t('guest.no_blocks'))
        end
      end

      def interfaces(nics)
        unless %i[configure_networks hybrid_interfaces network_interfaces].all? { |name| guest.capability?(name) }
          @ui.warn(Hybrid.t('guest.no_interfaces'))
          return
        end

        @ui.info(I18n.t('vagrant.actions.vm.network.configuring'))
        guest.capability(:configure_networks, networks(nics))
      end

      # Every NIC but the first, which Vagrant itself comes by, be it a management NIC or not: the guest's
      # capability writes all that it is told, and takes away what it is not told.
      # @return [Array<Hash>] as vagrant-libvirt gives it to the capability
      def networks(nics)
        devices = guest.capability(:hybrid_interfaces)
        order = guest.capability(:network_interfaces)
        first = domain.macs.first
        pairs(nics).reject { |_, mac| mac == first }.filter_map do |options, mac|
          index = mac && order.index(devices[mac])
          network(options, index, mac) if index && options[:auto_config] != false
        end
      end

      # Which NIC belongs to which network: ours by their MACs, the others by their order.
      def pairs(nics)
        ours = nics.map(&:mac)
        others = slots.reject { |options| ours.include?(options[:mac].to_s.downcase) }
        others.zip(domain.macs - ours) + nics.map { |nic| [nic.network_options, nic.mac] }
      end

      # vagrant-libvirt's own list. Before 0.12 it wants the action's environment, since then the machine.
      def configured
        wants = method(:configured_networks).parameters.first.last
        configured_networks(wants == :env ? { machine: @machine } : @machine, @logger)
      end

      # The networks of the Vagrantfile in the order of their NICs.
      def slots
        configured.reject { |options| options[:iface_type] == :forwarded_port }
                  .each_with_object([]) do |options, slots|
          slot = options[:adapter] ? options[:adapter].to_i : slots.index(nil) || slots.size
          slots[slot] = options
        end.compact
      end

      def network(options, index, mac)
        common = { interface: index, mac_address: mac,
                   use_dhcp_assigned_default_route: options[:use_dhcp_assigned_default_route] }
        return common.merge(type: :dhcp) unless options[:ip]

        common.merge(type: IPAddr.new(options[:ip]).ipv6? ? :static6 : :static,
                     **options.slice(:ip, :netmask, :gateway, :route))
      end
    end
  end
end
