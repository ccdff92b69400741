//! ARP probes (RFC 5227): does a live host use an address?
