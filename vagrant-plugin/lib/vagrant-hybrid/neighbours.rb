# frozen_string_literal: true

module VagrantPlugins
  module Hybrid
    # The other machines of the same Vagrantfile: no two of them may fix one address or one MAC.
    module Neighbours
      @claims = ObjectSpace::WeakMap.new
      @lock = Mutex.new

      class << self
        # @return [Array<String>] the addresses and MACs that another machine of the Vagrantfile fixes, too
        def problems(machine, wishes)
          wishes.flat_map do |wish|
            fixed(wish).filter_map do |option, key|
              other = claims(machine)[key]&.find { |name| name != machine.name }
              next unless other

              why = Hybrid.t('config.twice', machine: other)
              wish.say(Hybrid.t('config.option', option: option, value: key.last, why: why))
            end
          end
        end

        private

        # What no other machine may have: an address of its network, a MAC anywhere.
        # @return [Hash{Symbol => Array}] for each option that is set, what is to be unique
        def fixed(wish)
          { ip: wish.ip && [wish.name, wish.ip], mac: wish.mac && [:mac, wish.mac] }.compact
        end

        # Who fixes what. Each machine's part of the Vagrantfile has to be run for it, so it is
        # done once, and only where something is fixed at all.
        # @return [Hash{Array => Array<Symbol>}]
        def claims(machine)
          @lock.synchronize do
            @claims[machine.env] ||= machine.env.machine_names.each_with_object({}) do |name, all|
              wishes(machine, name).flat_map { |wish| fixed(wish).values }.each { |key| (all[key] ||= []) << name }
            end
          end
        end

        def wishes(machine, name)
          env = machine.env
          config = env.vagrantfile.machine_config(name, machine.provider_name, env.boxes)[:config]
          config.hybrid.wishes.select { |wish| wish.problems.empty? }
        rescue Vagrant::Errors::VagrantError
          # Whatever is wrong with that machine is said when it is its turn.
          []
        end
      end
    end
  end
end
