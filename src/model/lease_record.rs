//! A lease as it is shown: the promised JSON of `claim`, `leases` and the published snapshot.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{
    BootId, DnsLabel, InterfaceName, Lease, LeaseState, MacAddress, Network, NetworkName, Origin, OwnerId,
    Selector, naming,
};

/// One lease for people and programs. Absent fields are `null`; fields are only ever added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LeaseRecord {
    /// The network.
    pub network: NetworkName,
    /// The address, without a prefix length.
    pub address: IpAddr,
    /// The IPv6 address beside it, on a network of both families.
    pub address6: Option<Ipv6Addr>,
    /// The NIC.
    pub mac: Option<MacAddress>,
    /// The domain's UUID or the container's id.
    pub owner: Option<OwnerId>,
    /// The owner's name.
    pub owner_name: Option<String>,
    /// What the owner is.
    pub origin: Option<Origin>,
    /// `active`, `idle` or `reserved`, as of now.
    pub state: LeaseState,
    /// Counts changes of owner and of address.
    pub generation: u64,
    /// The address was asked for, not taken from the pool.
    pub fixed: bool,
    /// A person reserved it.
    pub reserved: bool,
    /// The guest's name in the zone.
    pub hostname: Option<DnsLabel>,
    /// Its full name.
    pub fqdn: Option<String>,
    /// More names.
    pub aliases: Vec<DnsLabel>,
    /// Groups that policies name.
    pub groups: Vec<DnsLabel>,
    /// Which containers it wants beside it.
    pub containers: Option<Selector>,
    /// Its tap, while it runs.
    pub tap: Option<InterfaceName>,
    /// When this owner got it (RFC 3339, UTC).
    pub since: String,
    /// When its state changed last (RFC 3339, UTC).
    pub changed: String,
}

impl LeaseRecord {
    /// All of a network's leases. One whose host name is another's by the rule of [`naming`] has no name in the zone.
    #[must_use]
    pub fn all(network: &Network, leases: &[Lease], now: &BootId) -> Vec<Self> {
        let (_, clashes) = naming::settle(leases.to_vec(), now);
        let mut records: Vec<_> = leases.iter().map(|l| Self::of(network, l, now)).collect();
        let lost: HashSet<_> = clashes.iter().map(|c| (c.asker, &c.name)).collect();
        for record in &mut records {
            if record.hostname.as_ref().is_some_and(|name| lost.contains(&(record.address, name))) {
                record.fqdn = None;
            }
        }
        records
    }

    /// A lease as it stands in the boot `now`.
    #[must_use]
    pub fn of(network: &Network, lease: &Lease, now: &BootId) -> Self {
        let state = lease.state_now(now);
        Self {
            network: network.name.clone(),
            address: lease.address,
            address6: lease.ipv6(network),
            mac: lease.mac,
            owner: lease.owner.as_ref().map(|o| o.id.clone()),
            owner_name: lease.owner.as_ref().and_then(|o| o.name.clone()),
            origin: lease.owner.as_ref().map(|o| o.origin),
            state,
            generation: lease.generation,
            fixed: lease.fixed,
            reserved: lease.reserved,
            hostname: lease.hostname.clone(),
            fqdn: lease.hostname.as_ref().map(|h| network.fqdn(h)),
            aliases: lease.aliases.clone(),
            groups: lease.groups.clone(),
            containers: lease.containers.clone(),
            tap: lease.tap.clone().filter(|_| state == LeaseState::Active),
            since: timestamp(lease.since),
            changed: timestamp(lease.changed),
        }
    }
}

/// Seconds since 1970 as RFC 3339 in UTC.
#[must_use]
pub fn timestamp(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |t| t.to_string())
}

impl schemars::JsonSchema for Selector {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Selector".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}
