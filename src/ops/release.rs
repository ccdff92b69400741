//! Release: the owner of a lease no longer uses it. The address waits for it, idle.

use crate::deadline::Deadline;
use crate::model::{Lease, LeaseState, MacAddress, Network, NetworkName, Origin, OwnerId, Result};
use crate::registry::{Registry, Transaction};

use super::Context;

/// Which leases are meant.
#[derive(Debug, Clone)]
pub struct Which {
    /// Whose. A lease that has another owner by now is left alone.
    pub owner: OwnerId,
    /// Which NICs.
    pub macs: Vec<MacAddress>,
    /// Only this generation: a release that comes late never frees a newer claim.
    pub generation: Option<u64>,
}

/// What a release did.
#[derive(Debug)]
pub struct Released {
    /// The network.
    pub network: Network,
    /// The leases that became idle, as they stand now.
    pub idle: Vec<Lease>,
    /// The leases that were forgotten, as they were. A reserved one is a reservation for its host name again.
    pub forgotten: Vec<Lease>,
}

/// Makes leases idle, or with `forget` frees their addresses at once. What is no longer the owner's is left alone.
pub fn release(
    context: &Context,
    name: &NetworkName,
    which: &Which,
    forget: bool,
    deadline: Deadline,
) -> Result<Released> {
    let registry = Registry::of(&context.places, name);
    registry.change(deadline, |network, leases| {
        let mut released = Released { network: network.clone(), idle: Vec::new(), forgotten: Vec::new() };
        for mac in &which.macs {
            let Some(lease) = leases.of_mac(*mac)? else { continue };
            let generation_fits = which.generation.is_none_or(|g| g == lease.generation);
            if !lease.is_owned_by(&which.owner) || !generation_fits {
                continue;
            }
            if forget && !lease.reserved {
                leases.take(lease.address)?;
                released.forgotten.push(lease);
            } else if forget && let Some(reservation) = lease.reservation(context.now()) {
                leases.put(reservation)?;
                released.forgotten.push(lease);
            } else {
                released.idle.push(idle(context, leases, lease)?);
            }
        }
        Ok(released)
    })
}

/// Makes every lease idle that a domain holds on a network, whichever NIC it is for: those that became so. All
/// leases are read for that, so it is for when the NICs can't be told.
pub fn release_all(
    context: &Context,
    name: &NetworkName,
    owner: &OwnerId,
    deadline: Deadline,
) -> Result<Vec<Lease>> {
    let leases = Registry::of(&context.places, name).read()?;
    let of_domain = |l: &Lease| l.is_owned_by(owner) && l.origin() == Some(Origin::Domain);
    let macs: Vec<MacAddress> = leases.into_iter().filter(of_domain).filter_map(|l| l.mac).collect();
    if macs.is_empty() {
        return Ok(Vec::new());
    }
    let which = Which { owner: owner.clone(), macs, generation: None };
    Ok(release(context, name, &which, false, deadline)?.idle)
}

/// Makes one lease idle; what it asked of Docker is no longer wanted.
fn idle(context: &Context, leases: &mut Transaction, mut lease: Lease) -> Result<Lease> {
    if lease.state == LeaseState::Active || lease.running || lease.tap.is_some() {
        lease.changed = context.now();
        lease.state = LeaseState::Idle;
        lease.boot = None;
        lease.running = false;
        lease.tap = None;
        leases.put(lease.clone())?;
    }
    Ok(lease)
}
