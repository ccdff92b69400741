# frozen_string_literal: true

module VagrantPlugins
  module Hybrid
    # The one useful line in libvirt's error when our hook said no.
    #
    # libvirt wraps it: "Hook script execution failed: internal error: Child process (LC_ALL=C …
    # /etc/libvirt/hooks/qemu.d/50-hybrid-hook … prepare begin -) unexpected exit status 1:
    # hybrid-hook: 10.0.1.200 is held by vm "db"; hint: hybrid-hook leases …". The words around ours are in
    # the daemon's language.
    class Refusal
      OURS = /(?:^|[\s:：])hybrid-hook: (?<message>.*?)(?:; hint: (?<hint>.*))?$/

      attr_reader :message, :hint

      # @return [Refusal, nil] nil where the error is something else's
      def self.in(text)
        match = OURS.match(text.to_s.scrub('?'))
        match && new(match[:message].strip, match[:hint]&.strip)
      end

      def initialize(message, hint)
        @message = message
        @hint = hint
      end

      # The error that takes the place of libvirt's.
      def error(machine)
        hint = @hint ? Hybrid.t('errors.hint', hint: @hint) : ''
        Errors::Refused.new(machine: machine.name, message: @message, hint: hint)
      end
    end
  end
end
