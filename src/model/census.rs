//! Containers in the registry: what Docker gave out is written down, what it took back is struck out.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use super::{BootId, DnsLabel, Lease, LeaseState, MacAddress, Network, Origin, Owner, OwnerId};

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
    /// Its MAC.
    pub mac: MacAddress,
    /// Its name in the zone.
    pub hostname: Option<DnsLabel>,
    /// More names.
    pub aliases: Vec<DnsLabel>,
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
            if other.is_starting(boot, now) {
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
        current.insert(resident.address);
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
            fixed: own.is_some_and(|l| l.fixed),
            reserved: own.is_some_and(|l| l.reserved),
            generation: own.map_or_else(|| there.map_or(1, |l| l.generation + 1), |l| l.generation),
            since: own.map_or(now, |l| l.since),
            changed: own.filter(|l| l.state_now(boot) == LeaseState::Active).map_or(now, |l| l.changed),
            unprobed: false,
            hostname: resident.hostname.clone(),
            aliases: resident.aliases.clone(),
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
        if current.contains(&lease.address) || lease.is_starting(boot, now) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network_file::NetworkFile;
    use crate::model::{Fault, Result};

    fn network() -> Result<Network> {
        let file =
            NetworkFile::parse("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n").map_err(Fault::failed)?;
        Ok(file.network(&"hybrid".parse()?)?)
    }

    fn resident(n: u8, address: &str) -> Result<Resident> {
        Ok(Resident {
            id: format!("{n:02x}").repeat(32).parse()?,
            name: format!("c{n}"),
            address: address.parse().map_err(|_| Fault::failed("address"))?,
            address6: None,
            mac: format!("02:42:0a:00:01:{n:02x}").parse()?,
            hostname: DnsLabel::from_any(&format!("c{n}")),
            aliases: Vec::new(),
            groups: Vec::new(),
        })
    }

    fn census(leases: &[Lease], residents: &[Resident], exists: &[&Resident]) -> Result<Census> {
        let exists = exists.iter().map(|r| r.id.clone()).collect();
        Ok(take(&network()?, leases, residents, &exists, &BootId("now".into()), 100))
    }

    #[test]
    fn what_docker_gave_is_written_once_and_struck_out_when_it_goes() -> Result<()> {
        let web = resident(7, "10.0.1.70")?;
        let first = census(&[], std::slice::from_ref(&web), &[&web])?;
        assert_eq!((first.put.len(), first.take.len(), first.clashes.len()), (1, 0, 0));
        assert!(census(&first.put, std::slice::from_ref(&web), &[&web])?.is_settled());
        assert_eq!(census(&first.put, &[], &[&web])?.take, [web.address]);
        Ok(())
    }

    #[test]
    fn an_address_asked_for_waits_for_a_stopped_container_but_not_for_a_removed_one() -> Result<()> {
        let web = resident(7, "10.0.1.40")?;
        let mut leases = census(&[], std::slice::from_ref(&web), &[&web])?.put;
        leases.iter_mut().for_each(|l| l.fixed = true);
        let stopped = census(&leases, &[], &[&web])?;
        assert!(stopped.take.is_empty() && stopped.put.iter().all(|l| l.state == LeaseState::Idle));
        assert_eq!(census(&stopped.put, &[], &[])?.take, [web.address]);
        Ok(())
    }

    /// As it stands when Docker has asked for a container's address and not said for whom.
    fn asked_for(resident: &Resident) -> Result<Vec<Lease>> {
        let mut leases = census(&[], std::slice::from_ref(resident), &[])?.put;
        for lease in &mut leases {
            let id = OwnerId::of_endpoint(resident.mac);
            lease.owner = Some(Owner { id, origin: Origin::Container, name: None });
            (lease.hostname, lease.running, lease.fixed) = (None, false, true);
        }
        Ok(leases)
    }

    #[test]
    fn a_container_takes_over_what_docker_asked_for_it_and_waits_until_it_is_seen() -> Result<()> {
        let web = resident(7, "10.0.1.40")?;
        let asked = asked_for(&web)?;
        assert!(census(&asked, &[], &[&web])?.is_settled());
        let seen = census(&asked, std::slice::from_ref(&web), &[&web])?;
        let lease = seen.put.first().ok_or(Fault::failed("nothing to write"))?;
        assert!(lease.is_owned_by(&web.id) && lease.fixed && lease.running && seen.take.is_empty());
        assert_eq!(lease.generation, asked.first().map_or(0, |l| l.generation));
        Ok(())
    }

    #[test]
    fn one_that_never_came_is_struck_out_after_a_while_or_a_reboot() -> Result<()> {
        let web = resident(7, "10.0.1.70")?;
        let asked = asked_for(&web)?;
        let at = |boot: &str, now| -> Result<Census> {
            Ok(take(&network()?, &asked, &[], &HashSet::new(), &BootId(boot.into()), now))
        };
        assert!(at("now", 399)?.is_settled());
        assert_eq!(at("now", 400)?.take, [web.address]);
        assert_eq!(at("later", 100)?.take, [web.address]);
        Ok(())
    }

    #[test]
    fn what_docker_said_before_the_address_went_to_another_is_passed_over() -> Result<()> {
        let (before, after) = (resident(7, "10.0.1.70")?, resident(8, "10.0.1.70")?);
        let asked = asked_for(&after)?;
        assert!(census(&asked, std::slice::from_ref(&before), &[&before])?.is_settled());
        Ok(())
    }

    #[test]
    fn an_address_that_a_vm_holds_is_a_clash_and_stays_the_vms() -> Result<()> {
        let web = resident(7, "10.0.1.200")?;
        let mut vm = census(&[], std::slice::from_ref(&web), &[&web])?.put;
        for lease in &mut vm {
            lease.owner = Some(Owner {
                id: "c7a5fdbd-edaf-9455-926a-d65c16db1809".parse()?,
                origin: Origin::Domain,
                name: Some("db".into()),
            });
        }
        let got = census(&vm, std::slice::from_ref(&web), &[&web])?;
        assert!(got.is_settled() && got.clashes.len() == 1);
        vm.iter_mut().for_each(|l| l.state = LeaseState::Idle);
        assert_eq!(census(&vm, std::slice::from_ref(&web), &[&web])?.put.len(), 1);
        Ok(())
    }
}
