//! Reserve: a person fixes an address for a MAC or for a host name, before anybody claims it.

use std::net::IpAddr;

use crate::deadline::Deadline;
use crate::model::claim::LeaseView;
use crate::model::{DnsLabel, Fault, Lease, LeaseState, MacAddress, Network, NetworkName, Result};
use crate::registry::Registry;

use super::Context;

/// For whom an address is reserved.
#[derive(Debug, Clone)]
pub enum For {
    /// The NIC with this MAC.
    Mac(MacAddress),
    /// The first guest of this host name.
    Hostname(DnsLabel),
}

/// Reserves `address`. The same reservation again changes nothing.
pub fn reserve(
    context: &Context,
    name: &NetworkName,
    address: IpAddr,
    whom: &For,
    deadline: Deadline,
) -> Result<(Network, Lease)> {
    let registry = Registry::of(&context.places, name);
    registry.change(deadline, |network, leases| {
        network.may_lease_to_vm(address).map_err(|unfit| super::claim::refused(name, &unfit.into()))?;
        let there = leases.at(address)?;
        let fits = |lease: &Lease| match whom {
            For::Mac(mac) => lease.mac == Some(*mac),
            For::Hostname(hostname) => lease.hostname.as_ref() == Some(hostname),
        };
        let (mac, hostname) = match whom {
            For::Mac(mac) => (Some(*mac), None),
            For::Hostname(hostname) => (None, Some(hostname.clone())),
        };
        // A lease that is just this guest's is marked; anybody else's is in the way.
        if let Some(mut lease) = there {
            if !fits(&lease) {
                return Err(Fault::refused(format!("{address} is held by {}", lease.holder()))
                    .hint(format!("hybrid-hook leases --network {name} shows all")));
            }
            if !lease.reserved {
                lease.reserved = true;
                lease.reserved_for = hostname;
                lease.fixed = true;
                lease.changed = context.now();
                leases.put(lease.clone())?;
            }
            return Ok((network.clone(), lease));
        }
        let other = match whom {
            For::Mac(mac) => leases.of_mac(*mac)?,
            For::Hostname(hostname) => leases.reserved_for(hostname)?,
        };
        // An idle lease of the same NIC elsewhere is what the person wants to change.
        let mut moved_from = None;
        let mut generation = 1;
        if let Some(other) = other {
            if other.state_now(&context.boot) == LeaseState::Active || other.reserved {
                return Err(Fault::refused(format!("{} has {} already", other.holder(), other.address))
                    .hint("release it first"));
            }
            moved_from = Some(other.address);
            generation = other.generation + 1;
        }
        let lease = Lease::reserved(address, mac, hostname, generation, context.now());
        leases.put(lease.clone())?;
        if let Some(address) = moved_from {
            leases.take(address)?;
        }
        Ok((network.clone(), lease))
    })
}

/// Takes a reservation back. A lease that is in use stays, no longer reserved.
pub fn unreserve(
    context: &Context,
    name: &NetworkName,
    address: IpAddr,
    deadline: Deadline,
) -> Result<(Network, Lease)> {
    let registry = Registry::of(&context.places, name);
    registry.change(deadline, |network, leases| match leases.at(address)? {
        Some(mut lease) if lease.reserved => {
            if lease.state == LeaseState::Reserved {
                leases.take(address)?;
            } else {
                lease.reserved = false;
                lease.reserved_for = None;
                lease.changed = context.now();
                leases.put(lease.clone())?;
            }
            Ok((network.clone(), lease))
        }
        _ => Err(Fault::missing(format!("{address} on network {name} is not reserved"))),
    })
}
