//! Containers in the registry: what Docker gave out is written down, what it took back is struck out.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use super::{BootId, DnsLabel, Ipam, Lease, LeaseState, MacAddress, Network, Origin, Owner, OwnerId};

/// What Docker gave back so lately, in seconds, stands against what Docker listed: the list may be older, and
/// it calls a container running for a moment longer than its address is its own.
const GIVEN_BACK: u64 = 30;

/// A running container that has an address on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// Its id.
    pub id: OwnerId,
    /// Its name, from outside.
    pub name: String,
    /// The address that Docker gave it.
    pub address: IpAddr,
    /// The IPv6 address beside it, on a network of both families.
    pub address6: Option<Ipv6Addr>,
    /// The address that its labels ask for.
    pub asked: Option<IpAddr>,
    /// Its MAC.
    pub mac: MacAddress,
    /// Its name in the zone.
    pub hostname: Option<DnsLabel>,
    /// More names.
    pub aliases: Vec<DnsLabel>,
    /// Whether these are all: Docker could be asked for those of the endpoint. Else what is written stays.
    pub aliases_known: bool,
    /// Groups that policies name.
    pub groups: Vec<DnsLabel>,
}

/// What is to be written so that the registry agrees with Docker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Leases to write.
    pub put: Vec<Lease>,
    /// Addresses to free.
    pub take: Vec<IpAddr>,
    /// Addresses that Docker gave a container although another holds them.
    pub clashes: Vec<AddressClash>,
}

/// Two guests with one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressClash {
    /// The address.
    pub address: IpAddr,
    /// The container's name.
    pub container: String,
    /// Who holds it, in words.
    pub holder: String,
}

impl Census {
    /// Leaves alone what is written of those who are to be connected in a moment.
    pub fn leave(&mut self, leases: &[Lease], coming: &HashSet<OwnerId>) {
        let waits = |l: &Lease| l.owner.as_ref().is_some_and(|o| coming.contains(&o.id));
        self.take.retain(|address| !leases.iter().any(|l| l.address == *address && waits(l)));
        self.put.retain(|l| l.state == LeaseState::Active || !waits(l));
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.put.is_empty() && self.take.is_empty()
    }
}

/// Compares the registry with Docker. `exists` are the containers that Docker knows, running or not:
/// one that is stopped keeps an address that it asked for.
#[must_use]
pub fn take(
    network: &Network,
    leases: &[Lease],
    residents: &[Resident],
    exists: &HashSet<OwnerId>,
    boot: &BootId,
    now: u64,
) -> Census {
    let mut census = Census::default();
    let mut current: HashSet<IpAddr> = HashSet::new();
    for resident in residents.iter().filter(|r| network.may_lease(r.address).is_ok()) {
        let there = leases.iter().find(|l| l.address == resident.address);
        // What Docker asked for and did not say for whom is known by the MAC.
        let is_own =
            |l: &&Lease| l.is_owned_by(&resident.id) || (l.is_provisional() && l.mac == Some(resident.mac));
        let own = there.filter(is_own);
        if let Some(other) = there.filter(|l| !is_own(l)) {
            // Given to another since Docker was asked what runs: what it said is older.
            if other.is_starting(boot, now) || was_given_back(network, other, now) {
                continue;
            }
            let container = other.owner.as_ref().is_some_and(|o| o.origin == Origin::Container);
            let waits = other.state_now(boot) == LeaseState::Idle && !other.fixed && !other.reserved;
            // A container's entry is never older than Docker's word; a VM's in use is.
            if !container && !waits {
                let holder = other.holder();
                let clash = AddressClash { address: other.address, container: resident.name.clone(), holder };
                census.clashes.push(clash);
                continue;
            }
        }
        if own.is_some_and(|l| was_given_back(network, l, now)) {
            continue;
        }
        current.insert(resident.address);
        // It is written down all the same: Docker has given it.
        census.clashes.extend(clash_by_ipv6(network, leases, resident, boot));
        let lease = Lease {
            address: resident.address,
            mac: Some(resident.mac),
            owner: Some(Owner {
                id: resident.id.clone(),
                origin: Origin::Container,
                name: Some(resident.name.chars().take(200).collect()),
            }),
            state: LeaseState::Active,
            boot: Some(boot.clone()),
            // Where nothing was claimed before (an IPv6 address can't be), it is told from here.
            fixed: own.is_some_and(|l| l.fixed) || resident.asked == Some(resident.address),
            reserved: own.is_some_and(|l| l.reserved),
            reserved_for: own.and_then(|l| l.reserved_for.clone()),
            generation: own.map_or_else(|| there.map_or(1, |l| l.generation + 1), |l| l.generation),
            since: own.map_or(now, |l| l.since),
            changed: own.filter(|l| l.state_now(boot) == LeaseState::Active).map_or(now, |l| l.changed),
            unprobed: false,
            hostname: resident.hostname.clone(),
            aliases: match own.filter(|_| !resident.aliases_known) {
                Some(before) => before.aliases.clone(),
                None => resident.aliases.clone(),
            },
            groups: resident.groups.clone(),
            containers: None,
            running: true,
            sole_nic: false,
            tap: None,
            handover: None,
            address6: resident.address6,
        };
        if own != Some(&lease) {
            census.put.push(lease);
        }
    }
    for lease in leases {
        let Some(owner) = lease.owner.as_ref().filter(|o| o.origin == Origin::Container) else { continue };
        // A container that is removed is listed nowhere any more.
        let may_be_listed = lease.is_provisional() || exists.contains(&owner.id);
        let fresh = may_be_listed && was_given_back(network, lease, now);
        if current.contains(&lease.address) || lease.is_starting(boot, now) || fresh {
            continue;
        }
        if (lease.fixed && exists.contains(&owner.id)) || lease.reserved {
            if lease.state == LeaseState::Active {
                let mut idle = lease.clone();
                idle.state = LeaseState::Idle;
                idle.boot = None;
                idle.running = false;
                idle.changed = now;
                census.put.push(idle);
            }
        } else {
            census.take.push(lease.address);
        }
    }
    census
}

/// On a network of both families: whether the IPv6 address is a VM's or a reservation's.
fn clash_by_ipv6(
    network: &Network,
    leases: &[Lease],
    resident: &Resident,
    boot: &BootId,
) -> Option<AddressClash> {
    let address = resident.address6?;
    let other = leases.iter().find(|l| {
        let held = l.fixed || l.reserved || l.state_now(boot) == LeaseState::Active;
        held && l.origin() != Some(Origin::Container) && l.ipv6(network) == Some(address)
    })?;
    let (container, holder) = (resident.name.clone(), other.holder());
    (other.address != resident.address).then_some(AddressClash { address: address.into(), container, holder })
}

/// Whether our IPAM driver took the address back a moment ago. A container that starts again asks it first.
fn was_given_back(network: &Network, lease: &Lease, now: u64) -> bool {
    network.ipam == Ipam::Hybrid
        && lease.origin() == Some(Origin::Container)
        && lease.state == LeaseState::Idle
        && now.saturating_sub(lease.changed) < GIVEN_BACK
}

#[cfg(test)]
mod tests;
