//! systemd: units of ours, started and stopped.
