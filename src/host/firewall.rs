//! nftables: our own table.
