# frozen_string_literal: true

require_relative 'docker_wish'
require_relative 'wish'

module VagrantPlugins
  module Hybrid
    # `config.hybrid` of a Vagrantfile.
    class Config < Vagrant.plugin('2', :config)
      # Set before what only this host can answer is asked in {#validate} (see {Action::AskHost}).
      attr_writer :ask_host

      def initialize
        super
        @calls = []
        @wishes = []
        @wrong = []
        @ask_host = false
      end

      # Puts the machine on a network.
      #
      #     config.hybrid.network "hybrid", ip: "10.0.1.200", hostname: "db", aliases: ["pg"],
      #                           groups: ["backend"], containers: "label=app=shop"
      #
      # It takes anything and complains in {#validate}: an exception here would be shown with a
      # backtrace, and alone.
      def network(*arguments, **options)
        @calls << [:network, arguments, options]
      end

      # Puts the machine on a Docker network that exists, such as a Compose project's.
      #
      #     config.hybrid.docker_network "shop_default", ip: "172.30.0.200", hostname: "db"
      #
      # It takes the options of {#network} without +containers+.
      def docker_network(*arguments, **options)
        @calls << [:docker_network, arguments, options]
      end

      # @return [Array<Wish>] the networks, each once, in the order in which they were first named
      attr_reader :wishes

      # @return [Boolean] whether the machine wants to be on a network at all
      def any?
        !@wishes.empty?
      end

      # Vagrant merges from the outermost Vagrantfile to the innermost: of one option, the last wins.
      def merge(other)
        super.tap do |result|
          result.instance_variable_set(:@calls, @calls + other.instance_variable_get(:@calls))
        end
      end

      def finalize!
        @wrong = []
        networks = {}
        @calls.each do |kind, arguments, options|
          name, *rest = arguments
          # A hash in braces comes as an argument.
          options = rest.shift.merge(options) if rest.first.is_a?(Hash)
          @wrong << Hybrid.t("config.#{kind}_nameless") if arguments.empty?
          @wrong << Hybrid.t('config.arguments', kind: kind, rest: Checks.show(rest.first)) unless rest.empty?
          next if arguments.empty?

          (networks[[kind, name]] ||= {}).merge!(options.transform_keys { |key| Checks.utf8(key.to_s, '?').to_sym })
        end
        @wishes = networks.map do |(kind, name), options|
          (kind == :docker_network ? DockerWish : Wish).new(name, options)
        end
        @wrong += twice
      end

      # @return [Hash{String => Array<String>}]
      def validate(machine)
        sound, unsound = @wishes.partition { |wish| wish.problems.empty? }
        errors = _detected_errors + @wrong + unsound.flat_map(&:problems) + one_mac(sound)
        { 'hybrid' => errors + host_problems(machine, sound) }
      end

      def to_s
        'hybrid'
      end

      private

      # Vagrant copies configs that it doesn't merge; a list must not be shared by the copies.
      def initialize_copy(original)
        super
        @calls = @calls.dup
      end

      # One network by two names would be two NICs on it.
      def twice
        named = @wishes.reject { |wish| Checks.network(wish.name) }
        named.group_by(&:name).values.select { |same| same.size > 1 }.map do |same|
          same.first.say(Hybrid.t('config.same', other: same.last.say('').delete_suffix(': ')))
        end
      end

      # Two NICs of one machine with one MAC.
      def one_mac(wishes)
        wishes.select(&:mac).group_by(&:mac).values.select { |same| same.size > 1 }.map do |same|
          why = Hybrid.t('config.mac_twice', network: same.first.name)
          same.last.say(Hybrid.t('config.option', option: :mac, value: same.last.mac, why: why))
        end
      end

      # What is wrong with wishes that are right in themselves.
      def host_problems(machine, wishes)
        return [] if wishes.empty? || machine.provider_name != :libvirt

        require_relative 'neighbours'
        require_relative 'host'
        problems = Neighbours.problems(machine, wishes)
        problems += Host.problems(machine, wishes) if @ask_host
        problems
      end
    end
  end
end
