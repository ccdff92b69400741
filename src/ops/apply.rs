//! Apply: everything as the registry and the networks' files say.

use crate::deadline::Deadline;
use crate::model::{Fault, LeaseState, Network, NetworkName, Origin, Result};
use crate::registry::{Registry, networks, status};

use super::surroundings::{self, Extent, Report};
use super::{Context, follow, in_use, network};

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
    let network = networks::load(&context.places, name)?;
    if extent == Extent::Whole
        && let Some(report) = follow::retire(context, &network, deadline)?
    {
        return Ok(Some(report));
    }
    let mut status = status::load(&context.places, name)?;
    if !status.up {
        return Ok(None);
    }
    refuse_newcomer(context, &network)?;
    refuse_misfits(context, &network)?;
    if let Some(bridge) = &status.bridge
        && *bridge != network.bridge
    {
        // The file names another bridge since: the old one goes, with nobody on it.
        let before = Network { bridge: bridge.clone(), ..network.clone() };
        in_use::refuse(context, &before, deadline)?;
        surroundings::lower(context, &before, deadline).into_result()?;
        status.bridge = Some(network.bridge.clone());
        status::store(&context.places, name, &status)?;
    }
    let report = surroundings::raise(context, &network, extent, false, deadline);
    network::publish(context, &network, true)?;
    drop(guard);
    Ok(Some(report))
}

/// An edited file must not take what another network has that is up. Of two such files the one that was written last
/// is refused, so that the other one's guests have what they had.
fn refuse_newcomer(context: &Context, network: &Network) -> Result<()> {
    let written = |name: &NetworkName| {
        std::fs::metadata(context.places.network_file(name)).and_then(|m| m.modified()).ok()
    };
    // Another's file that can't be read is told where that one is applied.
    let (mut others, _) = networks::load_all(&context.places)?;
    others.retain(|other| {
        written(&other.name) <= written(&network.name)
            && status::load(&context.places, &other.name).is_ok_and(|s| s.up)
    });
    network::refuse_same(&others, network)
}

/// An edited file must leave everybody where they are: those who would not fit are named.
fn refuse_misfits(context: &Context, network: &Network) -> Result<()> {
    let leases = Registry::of(&context.places, &network.name).read()?;
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
