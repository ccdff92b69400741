# frozen_string_literal: true

require 'did_you_mean'
require_relative 'checks'

module VagrantPlugins
  module Hybrid
    # One network that a machine wants to be on, with its options as the Vagrantfile has them.
    class Wish
      # Every option that there is, in the order in which the metadata has them.
      OPTIONS = %i[mac ip hostname aliases groups containers block].freeze

      attr_reader :name, :options

      def initialize(name, options)
        @name = name
        @options = options
      end

      # @return [Array<String>] what is wrong with it, one line each
      def problems
        named = Checks.network(name)
        return [Hybrid.t('config.name', name: Checks.show(name), why: named)] if named

        options.flat_map { |key, value| problem(key, value) }.compact.map { |text| say(text) }
      end

      # @return [String] what is wrong with it, as a line that says with what
      def say(text)
        Hybrid.t('config.network', name: name, text: text)
      end

      # @return [String, nil] the Docker network that it follows
      def docker
        nil
      end

      # The MAC that the Vagrantfile fixes.
      # @return [String, nil] in lower case with colons
      def mac
        options[:mac] && Checks.mac_digits(options[:mac]).scan(/../).join(':')
      end

      # @return [IPAddr, nil] the address that the Vagrantfile fixes
      def ip
        options[:ip] && Checks.ip(options[:ip])
      end

      # The attributes of our element in the metadata, for a NIC with +mac+. A machine that has no
      # name of its own here goes by its host name; failing that, the hook makes one of the domain's.
      # @return [Hash{String => String}]
      def attributes(mac, machine_hostname = nil)
        hostname = options[:hostname] || (machine_hostname && Checks.to_label(machine_hostname[/\A[^.]*/]))
        {
          'name' => name, 'mac' => mac, 'ip' => ip&.to_s, 'hostname' => hostname,
          'aliases' => list(:aliases), 'groups' => list(:groups), 'containers' => selector,
          'block' => options[:block]&.to_s
        }.compact
      end

      private

      def problem(key, value)
        case key
        when :mac then one(key, value, Checks.mac(value))
        when :ip then one(key, value, Checks.address(value))
        when :hostname then hostname_problem(value)
        when :aliases, :groups then list_problems(key, value) { |item| Checks.label(item) }
        when :block then one(key, value, Checks.block(value))
        when :containers then containers_problems(value)
        else Hybrid.t('config.unknown', option: Checks.show(key.to_s), near: nearest(key.to_s))
        end
      end

      def one(key, value, why)
        why && Hybrid.t('config.option', option: key, value: Checks.show(value), why: why)
      end

      def hostname_problem(value)
        why = Checks.label(value)
        label = why && value.is_a?(String) && Checks.to_label(value)
        why = Hybrid.t('checks.did_you_mean', why: why, label: label) if label
        one(:hostname, value, why)
      end

      # Each item for itself, and then all of them, which go as one text.
      def containers_problems(value)
        problems = Array(list_problems(:containers, value) { |item| Checks.selector(item) }).compact
        problems.empty? ? [one(:containers, value, Checks.selector(selector))] : problems
      end

      # A list may be written as one string, with what the metadata allows between: spaces or commas.
      def list_problems(key, value, &check)
        unless value.is_a?(Array)
          # What is no text can't be taken apart.
          value = key == :containers || Checks.string(value) ? [value] : words(value)
        end
        return one(key, value, Hybrid.t('checks.empty_list')) if value.empty?

        value.map { |item| one(key, item, check.call(item)) }
      end

      # The option that was probably meant: near in spelling, else the one with most in common.
      def nearest(option)
        known = OPTIONS.map(&:to_s)
        DidYouMean::SpellChecker.new(dictionary: known).correct(option).first ||
          known.find { |name| name.start_with?(option) || option.start_with?(name) } ||
          known.min_by { |name| DidYouMean::Levenshtein.distance(name, option[0, 40]) }
      end

      def list(key)
        value = options[key]
        value && (value.is_a?(Array) ? value : words(value)).uniq.join(' ')
      end

      # White space is "or"; as one blank each it comes through XML as it went in.
      def selector
        options[:containers] && Array(options[:containers]).flat_map(&:split).join(' ')
      end

      def words(text)
        text.split(/[\s,]+/).reject(&:empty?)
      end
    end
  end
end
