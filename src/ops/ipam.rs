//! What Docker asks of our IPAM driver. It needs neither Docker nor libvirt, takes no lock but the
//! registry's, and holds that across nothing: Docker asks while we wait for Docker.
//!
//! Docker says which address or none, with the endpoint's MAC, and never for which container. So a lease
//! has a stand-in for its owner ([`OwnerId::of_endpoint`]) until the container is seen to run
//! ([`census`](crate::model::census)); Docker's release ends it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::deadline::Deadline;
use crate::model::{
    ClaimRequest, Family, Fault, Ipam, Kind, Lease, LeaseState, LeaseView, MacAddress, Network, NetworkName,
    Origin, Owner, OwnerId, Result,
};
use crate::registry::{Registry, networks};

use super::{Context, claim, wake};

/// Which addresses of which network: what Docker calls a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The network.
    pub network: NetworkName,
    /// One of its subnets.
    pub subnet: IpNet,
}

/// The pool that Docker asks for: a network's subnet. None named: the one of that family.
///
/// # Errors
/// Missing: the network, or a subnet of that family. Refused: another subnet than the network's; a network
/// whose containers get their addresses from Docker.
pub fn pool(context: &Context, name: &NetworkName, subnet: Option<IpNet>, ipv6: bool) -> Result<Pool> {
    let network = ours(context, name)?;
    if let Some(subnet) = subnet {
        family(&network, subnet)?;
        return Ok(Pool { network: name.clone(), subnet });
    }
    let family = if ipv6 { &network.ipv6 } else { &network.ipv4 };
    let family = family.as_ref().ok_or_else(|| {
        Fault::missing(format!("network {name} has no IPv{} subnet", if ipv6 { 6 } else { 4 }))
    })?;
    Ok(Pool { network: name.clone(), subnet: family.subnet })
}

/// The gateway, which is nobody's to lease.
///
/// # Errors
/// Refused: another one than the network's.
pub fn gateway(context: &Context, pool: &Pool, wanted: Option<IpAddr>) -> Result<IpAddr> {
    let network = ours(context, &pool.network)?;
    let gateway = family(&network, pool.subnet)?.gateway;
    match wanted.filter(|w| *w != gateway) {
        None => Ok(gateway),
        Some(other) => {
            Err(Fault::refused(format!("the gateway of network {} is {gateway}, not {other}", network.name)))
        }
    }
}

/// An address for an endpoint: the one wanted, else one of the container pool. The same MAC that asks
/// again is answered the same again. A VM's address, running or stopped, is never given.
///
/// # Errors
/// Refused: the address is another's or can't be a guest's, the pool is full, the MAC is another's. Failed:
/// the registry can't be read or is locked for too long.
pub fn request(
    context: &Context,
    pool: &Pool,
    mac: MacAddress,
    wanted: Option<IpAddr>,
    deadline: Deadline,
) -> Result<IpAddr> {
    let network = ours(context, &pool.network)?;
    let key = is_key(&network, pool.subnet)?;
    if !key {
        return companion(context, &network, mac, wanted, deadline);
    }
    let owner = Owner { id: OwnerId::of_endpoint(mac), origin: Origin::Container, name: None };
    let request = ClaimRequest {
        ip: wanted,
        // Hosts that no registry knows are on somebody else's bridge. On ours it would only cost time, at
        // every start of every container.
        probe: network.adopt,
        ..ClaimRequest::of(owner, mac)
    };
    Ok(claim::claim(context, &network.name, request, deadline)?.lease.address)
}

/// Takes a container's address back. Of anybody else's, and where the network is gone, there is nothing to
/// take.
///
/// It is not free at once. What a container asked for, and was seen with, waits for it until it is removed.
/// Another stays for half a minute, given to a container only when no other is left: Docker lists a container
/// as running for a moment after it gave its address back, and the [`census`](crate::model::census) must not
/// believe it; nor must a release that Docker sends a second time, because we were killed, hit a new owner.
///
/// # Errors
/// Failed: the registry can't be read or is locked for too long.
pub fn release(context: &Context, pool: &Pool, address: IpAddr, deadline: Deadline) -> Result<()> {
    let network = match networks::load(&context.places, &pool.network) {
        Ok(network) => network,
        Err(fault) if fault.kind() == Kind::Missing => return Ok(()),
        Err(fault) => return Err(fault),
    };
    // A second family's address goes with the first's.
    if network.may_lease(address).is_err() {
        return Ok(());
    }
    let named = Registry::of(&context.places, &network.name).change(deadline, |_, leases| {
        let Some(lease) = leases.at(address)?.filter(|l| l.origin() == Some(Origin::Container)) else {
            return Ok(false);
        };
        if lease.state != LeaseState::Active {
            return Ok(false);
        }
        leases.put(given_back(&lease, context.now()))?;
        Ok(lease.hostname.is_some())
    })?;
    if named {
        // Its name goes too. Without a service it had none.
        wake::nudge(&context.places);
    }
    Ok(())
}

/// A lease that Docker gave back.
fn given_back(lease: &Lease, now: u64) -> Lease {
    let mut lease = Lease { boot: None, running: false, changed: now, ..lease.clone() };
    lease.state = LeaseState::Idle;
    if lease.is_provisional() && lease.reserved {
        // As it was before Docker asked.
        (lease.state, lease.owner) = (LeaseState::Reserved, None);
    } else if lease.is_provisional() {
        // Its container never came, and can't come back for it.
        lease.fixed = false;
    }
    lease
}

/// The second family's address of an endpoint: it follows the first's, which Docker asks for before.
fn companion(
    context: &Context,
    network: &Network,
    mac: MacAddress,
    wanted: Option<IpAddr>,
    deadline: Deadline,
) -> Result<IpAddr> {
    let registry = Registry::of(&context.places, &network.name);
    let lease = registry.change(deadline, |_, leases| leases.of_mac(mac))?;
    let lease = lease.filter(|l| l.origin() == Some(Origin::Container)).ok_or_else(|| {
        Fault::refused(format!("{mac} has no IPv4 address on network {}, which comes first", network.name))
    })?;
    let address = network.companion(lease.address).map(IpAddr::V6).ok_or_else(|| {
        Fault::failed(format!("network {} has no IPv6 address beside {}", network.name, lease.address))
    })?;
    match wanted.filter(|w| *w != address) {
        None => Ok(address),
        Some(other) => Err(Fault::refused(format!(
            "{other} is not the IPv6 address that goes with {}, which is {address}",
            lease.address
        ))
        .hint("ask for that one, or for none")),
    }
}

/// The network, if Docker is to ask us for its addresses.
fn ours(context: &Context, name: &NetworkName) -> Result<Network> {
    let network = networks::load(&context.places, name)?;
    match network.ipam {
        Ipam::Hybrid => Ok(network),
        Ipam::Range => Err(Fault::refused(format!("network {name} leaves containers' addresses to Docker"))
            .hint(format!("write ipam = \"hybrid\" into its file, then run: hybrid-hook apply {name}"))),
    }
}

fn family(network: &Network, subnet: IpNet) -> Result<&Family> {
    network.families().find(|f| f.subnet == subnet).ok_or_else(|| {
        let own: Vec<_> = network.families().map(|f| f.subnet.to_string()).collect();
        Fault::refused(format!(
            "the subnet of network {} is {}, not {subnet}",
            network.name,
            own.join(" and ")
        ))
    })
}

/// Whether a subnet's addresses are what leases are known by.
fn is_key(network: &Network, subnet: IpNet) -> Result<bool> {
    let family = family(network, subnet)?;
    Ok(network.key_family() == Some(family))
}

#[cfg(test)]
mod tests;
