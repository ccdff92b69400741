//! dnsmasq: its files and its processes, for each network one that answers for names and one that gives
//! addresses ([`Role`]).
//!
//! A network's folder holds everything that its dnsmasq reads and writes:
//!
//! | in the folder | what it is | how dnsmasq learns of a change |
//! |---|---|---|
//! | `dnsmasq.conf`, `dhcp.conf` | the configs for names and for addresses, [`config`] | only at its start |
//! | `dhcp-hosts.d/MAC` | one DHCP reservation, [`reservation`] | a new file at once (inotify); a changed or removed one only at its start |
//! | `hosts.d/DIGIT` | the names of guests, [`hosts`] | at once (inotify) |
//! | `leases` | dnsmasq's own record, [`leases`] | its own |
//! | `dnsmasq-HASH.pid`, `dhcp-HASH.pid` | its process, named by the config that it read | its own |
//! | `reload-needed` | a reservation changed and the one for addresses has not started since | ours |
//!
//! dnsmasq would read changed reservations again on SIGHUP (dnsmasq(8), `--dhcp-hostsdir`), but 2.90 frees
//! a tag of a reservation that has served a guest together with memory that is not its own, and ends with
//! SIGSEGV. So [`reload`] ends it in good order and it is started again: some 10 ms, and its leases are
//! kept.

mod ask;
mod files;
mod leases;
mod process;
mod render;
mod role;

pub use ask::{Answer, Kind, ask};
pub use files::{Written, forget, remove_lease, stale, write_all, write_lease, write_static};
pub use leases::{DhcpLease, leases};
pub use process::{DnsState, DnsmasqState, ensure_running, reload, state, stop};
pub use render::{config, hosts, reservation};
pub use role::Role;

#[cfg(test)]
mod testing {
    //! Networks and leases for the tests of this room.

    use crate::model::network_file::NetworkFile;
    use crate::model::{Lease, LeaseState, Network};

    pub(super) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

    pub(super) fn network(text: &str) -> Result<Network> {
        Ok(NetworkFile::parse(text)?.network(&"hybrid".parse()?)?)
    }

    pub(super) fn lease(address: &str, mac: &str, hostname: Option<&str>) -> Result<Lease> {
        Ok(Lease {
            address: address.parse()?,
            mac: Some(mac.parse()?),
            owner: None,
            state: LeaseState::Active,
            boot: None,
            fixed: false,
            reserved: false,
            reserved_for: None,
            generation: 1,
            since: 0,
            changed: 0,
            unprobed: false,
            hostname: hostname.map(str::parse).transpose()?,
            aliases: Vec::new(),
            groups: Vec::new(),
            containers: None,
            running: false,
            sole_nic: false,
            tap: None,
            handover: None,
            address6: None,
        })
    }
}
