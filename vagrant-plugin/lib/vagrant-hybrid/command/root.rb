# frozen_string_literal: true

require 'optparse'
require_relative '../action'

module VagrantPlugins
  module Hybrid
    # What a person types after `vagrant`.
    module Command
      autoload :Status, File.expand_path('status', __dir__)
      autoload :Doctor, File.expand_path('doctor', __dir__)

      # `vagrant hybrid`
      class Root < Vagrant.plugin('2', :command)
        SUBCOMMANDS = { 'status' => :Status, 'doctor' => :Doctor }.freeze

        def self.synopsis
          'machines on hybrid networks: their addresses, and what is wrong'
        end

        def initialize(argv, env)
          super
          @main_args, @name, @rest = split_main_and_subcommand(argv)
        end

        def execute
          if @main_args.intersection(%w[-h --help]).any?
            @env.ui.info(help, prefix: false)
            return 0
          end

          subcommand = SUBCOMMANDS[@name]
          raise Vagrant::Errors::CLIInvalidUsage, help: help unless subcommand

          Command.const_get(subcommand).new(@rest, @env).execute
        end

        private

        def help
          <<~HELP
            Usage: vagrant hybrid <subcommand> [<args>]

            Available subcommands:
                 doctor     checks hybrid-hook, its networks and this Vagrantfile
                 status     shows machines, their networks and addresses

            For help on any individual subcommand run `vagrant hybrid <subcommand> -h`
          HELP
        end
      end
    end
  end
end
