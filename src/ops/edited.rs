//! A network's file that was edited: what stands against it, and how it comes into force.

use crate::deadline::Deadline;
use crate::host::bridge;
use crate::model::{Fault, Lease, LeaseState, Network, NetworkName, Origin, Result};
use crate::registry::networks::{self, Written};
use crate::registry::status::{self, Status};
use crate::registry::{Registry, lock};

use super::{Context, in_use, network, surroundings};

/// How many commands a hint has.
const SHOWN: usize = 3;

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
        // Before the old one goes: what has the new name may be somebody else's.
        bridge::deviations(network, bridge::read(&network.bridge, deadline)?.as_ref())?;
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
    let wait = deadline.at_most(lock::patience());
    Registry::of(places, &network.name).while_still(wait, |leases| {
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

/// An edited file must leave everybody where they are: those who would not fit are named. So must one that was edited
/// while its network was down: else it comes up, and no `apply` takes it any more.
pub(super) fn refuse_misfits(context: &Context, network: &Network) -> Result<()> {
    misfits(context, network, &Registry::of(&context.places, &network.name).read()?)
}

fn misfits(context: &Context, network: &Network, leases: &[Lease]) -> Result<()> {
    let runs = |l: &Lease| l.state_now(&context.boot) == LeaseState::Active;
    let in_the_way: Vec<(&Lease, String)> = leases
        .iter()
        .filter(|l| l.fixed || l.reserved || runs(l))
        .filter_map(|l| {
            let unfit = match l.origin() {
                Some(Origin::Domain) => network.may_lease_to_vm(l.address),
                _ => network.may_lease(l.address),
            }
            .err()?;
            Some((l, format!("{} ({unfit})", l.holder())))
        })
        .collect();
    if in_the_way.is_empty() {
        return Ok(());
    }
    let shown: Vec<&str> = in_the_way.iter().map(|(_, shown)| shown.as_str()).collect();
    let fault = Fault::refused(format!(
        "the file of network {} can't be applied: {} would lose their addresses: {}",
        network.name,
        shown.len(),
        shown.join(", ")
    ));
    let anybody_runs = in_the_way.iter().any(|(l, _)| runs(l));
    let mut commands: Vec<String> = in_the_way.iter().flat_map(|(l, _)| freed_by(&network.name, l)).collect();
    let more = commands.len() > SHOWN;
    commands.truncate(SHOWN);
    let mut ways = Vec::new();
    if anybody_runs {
        ways.push("stop those that run".to_owned());
    }
    if !commands.is_empty() {
        let more = if more {
            format!("; and so on (hybrid-hook leases --network {})", network.name)
        } else {
            String::new()
        };
        ways.push(format!("free the addresses that are kept: {}{more}", commands.join("; ")));
    }
    Err(fault.hint(format!("{}; or edit the file back", ways.join("; "))))
}

/// The commands that free an address which is kept for somebody, also while nobody runs. A dynamic lease needs none.
fn freed_by(network: &NetworkName, lease: &Lease) -> Vec<String> {
    let mut commands = Vec::new();
    if lease.reserved {
        commands.push(format!("hybrid-hook reserve --network {network} --ip {} --remove", lease.address));
    }
    if lease.fixed
        && let (Some(owner), Some(mac)) = (&lease.owner, lease.mac)
    {
        commands.push(format!(
            "hybrid-hook release --network {network} --owner {} --mac {mac} --forget",
            owner.id
        ));
    }
    commands
}

#[cfg(test)]
mod tests;
