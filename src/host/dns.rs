//! dnsmasq: its files and its process.
