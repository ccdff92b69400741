# frozen_string_literal: true

module VagrantPlugins
  module Hybrid
    # The other machines of the same Vagrantfile: no two of them may fix one address.
    module Neighbours
      @claims = ObjectSpace::WeakMap.new
      @lock = Mutex.new

      class << self
        # @return [Array<String>] the addresses that another machine of the Vagrantfile fixes, too
        def problems(machine, wishes)
          wishes.filter_map do |wish|
            next unless wish.ip

            other = claims(machine)[[wish.name, wish.ip]]&.find { |name| name != machine.name }
            next unless other

            why = Hybrid.t('config.twice', machine: other)
            wish.say(Hybrid.t('config.option', option: :ip, value: wish.ip, why: why))
          end
        end

        private

        # Who fixes what. Each machine's part of the Vagrantfile has to be run for it, so it is
        # done once, and only where an address is fixed at all.
        # @return [Hash{Array(String, IPAddr) => Array<Symbol>}]
        def claims(machine)
          @lock.synchronize do
            @claims[machine.env] ||= machine.env.machine_names.each_with_object({}) do |name, all|
              wishes(machine, name).each { |wish| (all[[wish.name, wish.ip]] ||= []) << name if wish.ip }
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
