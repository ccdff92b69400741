# frozen_string_literal: true

require 'ipaddr'

module VagrantPlugins
  module Hybrid
    # What a value of the Vagrantfile must look like. Each check returns nil, or why not.
    #
    # The rules are hybrid-hook's own (docs/reference says them); they are repeated here only so
    # that `vagrant validate` can tell before anything is created. The hook checks again.
    module Checks
      LABEL_LENGTH = 63
      NETWORK_LENGTH = 32
      # In bytes.
      SELECTOR_LENGTH = 1024
      CONTROL = /[^\s\u0020-\u007E\u00A0-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/
      # A block is a subnet of its own, so that one route or rule can name it.
      BLOCKS = [2, 4, 8, 16, 32, 64].freeze

      DOCKER_LENGTH = 128

      class << self
        # @return [String, nil] why +value+ is no text
        def string(value)
          if value.nil?
            Hybrid.t('checks.nil')
          elsif !value.is_a?(String)
            Hybrid.t('checks.string', type: value.class)
          elsif !value.ascii_only? && !(value.encoding == Encoding::UTF_8 && value.valid_encoding?)
            Hybrid.t('checks.encoding')
          elsif value.strip.empty?
            Hybrid.t('checks.empty')
          end
        end

        # @return [String, nil] why +text+ is no Docker network's name
        def docker_network(text)
          string(text) || if text.length > DOCKER_LENGTH
                            Hybrid.t('checks.long', longest: DOCKER_LENGTH)
                          elsif !text.match?(/\A[a-zA-Z0-9][a-zA-Z0-9_.-]*\z/)
                            Hybrid.t('checks.docker_network')
                          end
        end

        # @return [String, nil] why +text+ is no network name
        def network(text)
          string(text) || word(text, NETWORK_LENGTH)
        end

        # @return [String, nil] why +text+ is no DNS label
        def label(text)
          string(text) || word(text, LABEL_LENGTH)
        end

        # @return [String, nil] why +text+ is no host's address
        def address(text)
          string(text) || unless ip(text)
                            text.include?('/') ? Hybrid.t('checks.prefix') : Hybrid.t('checks.address')
                          end
        end

        # @return [String, nil] why +text+ is no MAC address of one interface
        def mac(text)
          why = string(text)
          return why if why

          digits = mac_digits(text)
          return Hybrid.t('checks.mac') unless digits

          Hybrid.t('checks.group_mac') if digits[0, 2].hex.odd? || digits.delete('0').empty?
        end

        # @return [String, nil] why +text+ selects no containers
        def selector(text)
          string(text) || begin
            # What XML can't carry, a label can't be selected by.
            if text.bytesize > SELECTOR_LENGTH || text.match?(CONTROL)
              Hybrid.t('checks.selector_text')
            elsif text.scan(/[^[:space:]]+/).flat_map { |all| all.split(',', -1) }.any? { |term| !term?(term) }
              Hybrid.t('checks.selector')
            end
          end
        end

        # @return [String, nil] why +number+ is no size of a block of addresses
        def block(number)
          Hybrid.t('checks.block', sizes: BLOCKS.join(', ')) unless number.is_a?(Integer) && BLOCKS.include?(number)
        end

        # @return [IPAddr, nil] a single address, never a subnet
        def ip(text)
          IPAddr.new(text) if text.match?(/\A[0-9a-fA-F:.]+\z/)
        rescue IPAddr::Error
          nil
        end

        # @return [String, nil] the twelve digits of a MAC
        def mac_digits(text)
          text.match?(/\A(\h{2}[:-]){5}\h{2}\z|\A\h{12}\z/) ? text.delete(':-').downcase : nil
        end

        # The label that hybrid-hook would make of any name.
        # @return [String, nil] nil where nothing is left of it
        def to_label(text)
          text = utf8(text, '-').downcase
          label = cut(text.gsub(/[^a-z0-9]*[^a-z0-9-][^a-z0-9]*/, '-').sub(/\A-+/, ''), LABEL_LENGTH)
          label.empty? ? nil : label
        end

        # No longer than +longest+, and no dash at the end.
        def cut(label, longest)
          label[0, longest].sub(/-+\z/, '')
        end

        # A text of whatever encoding, with +mark+ for what is no character.
        def utf8(text, mark)
          text.encode('UTF-8', invalid: :replace, undef: :replace, replace: mark).scrub(mark)
        rescue Encoding::ConverterNotFoundError
          utf8(text.b, mark)
        end

        # A value as a message shows it: on one line and not too long.
        def show(value)
          text = value.is_a?(String) ? utf8(value, '?').inspect : value.inspect.scrub('?')
          text.length > 80 ? "#{text[0, 79]}…" : text
        end

        private

        def word(text, longest)
          if text.length > longest
            Hybrid.t('checks.long', longest: longest)
          elsif !text.match?(/\A[a-z0-9-]+\z/)
            Hybrid.t('checks.characters')
          elsif text.start_with?('-') || text.end_with?('-')
            Hybrid.t('checks.ends')
          end
        end

        def term?(term)
          kind, rest = term.split('=', 2)
          case kind
          when 'label' then !rest.to_s.split('=', 2).first.to_s.empty?
          when 'name' then !rest.to_s.empty?
          else false
          end
        end
      end
    end
  end
end
