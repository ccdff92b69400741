//! Domains in XML: read NICs and our metadata; rewrite with every other byte kept.

pub mod port;
pub use port::Port;
