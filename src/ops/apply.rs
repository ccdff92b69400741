//! Apply: everything as the registry and the networks' files say.

use crate::deadline::Deadline;
use crate::model::{Fault, Kind, Network, NetworkName, Result};
use crate::registry::{networks, status};

use super::surroundings::{self, Extent, Report};
use super::{Context, edited, follow, network};

/// Applies one network or all. A network that can't be applied does not keep the others from it.
pub fn apply(
    context: &Context,
    only: Option<&NetworkName>,
    extent: Extent,
    deadline: Deadline,
) -> Result<(Vec<Report>, Vec<Fault>)> {
    let names = match only {
        Some(name) => vec![name.clone()],
        None => networks::names(&context.places)?,
    };
    let (mut reports, mut faults) = (Vec::new(), Vec::new());
    for name in &names {
        match one(context, name, extent, deadline) {
            Ok(Some(report)) => reports.push(report),
            Ok(None) if only.is_some() => {
                faults.push(
                    Fault::missing(format!("network {name} is down"))
                        .hint(format!("hybrid-hook network up {name}")),
                );
            }
            Ok(None) => {}
            Err(fault) => faults.push(fault),
        }
    }
    Ok((reports, faults))
}

/// Applies one network; `None` where it is to be down.
fn one(context: &Context, name: &NetworkName, extent: Extent, deadline: Deadline) -> Result<Option<Report>> {
    let guard = network::operation(context, name, deadline)?;
    let written = match networks::as_written(&context.places, name) {
        Ok(written) => written,
        // Deleted: nothing of it is to come back.
        Err(fault) if fault.kind() == Kind::Missing => return Err(fault),
        Err(fault) => return Err(kept(context, name, extent, fault, deadline)),
    };
    // A copy that can't be read is written again below.
    let in_force = networks::load(&context.places, name).unwrap_or_else(|_| written.network.clone());
    if extent == Extent::Whole
        && let Some(report) = follow::retire(context, &in_force, deadline)?
    {
        return Ok(Some(report));
    }
    if !status::load(&context.places, name)?.up {
        return Ok(None);
    }
    let network = &written.network;
    if extent == Extent::Boot && in_force != *network {
        // Docker and libvirt can't be asked: an edit waits for the next whole `apply`.
        let report = surroundings::raise(context, &in_force, extent, false, deadline);
        network::publish(context, &in_force, true)?;
        return Ok(Some(report));
    }
    let subnets = |n: &Network| n.families().map(|f| f.subnet).collect::<Vec<_>>();
    let moves = subnets(network) != subnets(&in_force);
    let taken = edited::refuse_newcomer(context, network)
        .and_then(|()| edited::refuse_misfits(context, network))
        .and_then(|()| match moves {
            true => network::refuse_taken(context, network, &in_force.bridge, deadline),
            false => Ok(()),
        })
        .and_then(|()| edited::put_in_force(context, &written, deadline));
    if let Err(fault) = taken {
        return Err(kept(context, name, extent, fault, deadline));
    }
    let report = surroundings::raise(context, network, extent, false, deadline);
    network::publish(context, network, true)?;
    drop(guard);
    Ok(Some(report))
}

/// A file that can't be applied: what is in force is kept in order all the same, after a boot as well. The fault, with
/// those of that.
fn kept(context: &Context, name: &NetworkName, extent: Extent, fault: Fault, deadline: Deadline) -> Fault {
    let up = status::load(&context.places, name).is_ok_and(|status| status.up);
    let Ok(Some(in_force)) = networks::applied(&context.places, name) else { return fault };
    if !up {
        return fault;
    }
    let kept = surroundings::raise(context, &in_force, extent, false, deadline).into_result();
    match kept.and_then(|_| network::publish(context, &in_force, true)) {
        Ok(()) => fault,
        Err(other) => fault.and(other),
    }
}
