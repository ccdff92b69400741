//! A network's file that was edited: what stands against it, and how it comes into force.

use crate::deadline::Deadline;
use crate::model::{Fault, Lease, LeaseState, Network, NetworkName, Origin, Result};
use crate::registry::Registry;
use crate::registry::networks::{self, Written};
use crate::registry::status::{self, Status};

use super::{Context, in_use, network, surroundings};

/// Puts a file in force, and notes that its network is to be up. The operation lock must be held, and the file be
/// checked. The bridge that the network has by now goes, if the file names another, with nobody on it.
pub(super) fn put_in_force(context: &Context, written: &Written, deadline: Deadline) -> Result<()> {
    let (places, network) = (&context.places, &written.network);
    let status = status::load(places, &network.name)?;
    if let Some(before) = before(context, network, &status).filter(|b| b.bridge != network.bridge) {
        // Where it is to be down, `down` was cut off: that is finished.
        if status.up {
            in_use::refuse(context, &before, deadline)?;
        }
        surroundings::lower(context, &before, deadline).into_result()?;
    }
    // Read again: the kernel's settings that were put back are no longer in it.
    let before = status::load(places, &network.name)?;
    let mut status = before.clone();
    status.up = true;
    status.bridge = Some(network.bridge.clone());
    if status == before && networks::is_applied(places, written)? {
        return Ok(());
    }
    // A claim comes before all of this, and is looked at, or after it, and follows the new file.
    Registry::of(places, &network.name).while_still(deadline, |leases| {
        misfits(context, network, leases)?;
        // The copy last: until it is there, the next `apply` does all of this again.
        status::store(places, &network.name, &status)?;
        networks::put_in_force(places, written)
    })
}

/// The network as it stands in the world, if it does.
fn before(context: &Context, network: &Network, status: &Status) -> Option<Network> {
    // A copy that can't be read is about to be written again.
    let applied = networks::applied(&context.places, &network.name).unwrap_or_default();
    // Versions before there was a copy noted the bridge alone.
    let noted = || {
        let bridge = status.bridge.clone().filter(|_| status.up)?;
        Some(Network { bridge, ..network.clone() })
    };
    applied.or_else(noted)
}

/// An edited file must not take what another network has that is up: as that one is in force, whatever its own file
/// says by now.
pub(super) fn refuse_newcomer(context: &Context, network: &Network) -> Result<()> {
    let places = &context.places;
    let written =
        |name: &NetworkName| std::fs::metadata(places.network_file(name)).and_then(|m| m.modified()).ok();
    // Another's file that can't be read is told where that one is applied.
    let (mut others, _) = networks::load_all(places)?;
    others.retain(|other| {
        // Of one that no `apply` has copied yet nobody knows since when it has what it has: then the file that was
        // written last is refused, so that the other one's guests have what they had.
        let copied = matches!(networks::applied(places, &other.name), Ok(Some(_)));
        (copied || written(&other.name) <= written(&network.name))
            && status::load(places, &other.name).is_ok_and(|s| s.up)
    });
    network::refuse_same(&others, network)
}

/// An edited file must leave everybody where they are: those who would not fit are named.
pub(super) fn refuse_misfits(context: &Context, network: &Network) -> Result<()> {
    misfits(context, network, &Registry::of(&context.places, &network.name).read()?)
}

fn misfits(context: &Context, network: &Network, leases: &[Lease]) -> Result<()> {
    let in_the_way: Vec<String> = leases
        .iter()
        .filter(|l| l.fixed || l.reserved || l.state_now(&context.boot) == LeaseState::Active)
        .filter_map(|l| {
            let unfit = match l.origin() {
                Some(Origin::Domain) => network.may_lease_to_vm(l.address),
                _ => network.may_lease(l.address),
            }
            .err()?;
            Some(format!("{} ({unfit})", l.holder()))
        })
        .collect();
    if in_the_way.is_empty() {
        return Ok(());
    }
    Err(Fault::refused(format!(
        "the file of network {} can't be applied: {} would lose their addresses: {}",
        network.name,
        in_the_way.len(),
        in_the_way.join(", ")
    ))
    .hint(format!(
        "stop them and release their addresses (hybrid-hook leases --network {}), or edit the file back",
        network.name
    )))
}

#[cfg(test)]
mod tests;
