//! The bridge, its ports, sysctls and ARP probes on the real kernel. Each test runs this program
//! again in a network namespace of its own, so nothing of the machine's is touched; without root it
//! says "skipped".

mod bridge;
mod ports;
mod probe;
mod support;
mod sysctl;
