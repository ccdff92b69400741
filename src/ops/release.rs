//! Release: the owner of a lease no longer uses it. The address waits for it, idle.

use crate::deadline::Deadline;
use crate::model::{Lease, LeaseState, MacAddress, Network, NetworkName, OwnerId, Result};
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
    /// The leases that were forgotten.
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
            } else {
                released.idle.push(idle(context, leases, lease)?);
            }
        }
        Ok(released)
    })
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
