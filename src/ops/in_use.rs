//! Who is on a network that is to go or to change.

use crate::deadline::Deadline;
use crate::host::bridge;
use crate::host::docker::Docker;
use crate::model::{Fault, Lease, LeaseState, Network, Origin, OwnerId, Result};
use crate::registry::Registry;

use super::Context;

/// Refuses when somebody is on the network, and names who.
pub(super) fn refuse(context: &Context, network: &Network, deadline: Deadline) -> Result<()> {
    let mut leases = Registry::of(&context.places, &network.name).read()?;
    leases.retain(|l| l.state_now(&context.boot) == LeaseState::Active);
    let of_a_container = |l: &Lease| l.origin() == Some(Origin::Container);
    let mut endpoints = Vec::new();
    if network.follows.is_some() {
        // Its containers are on Docker's own bridge, and stay there.
        leases.retain(|l| !of_a_container(l));
    } else if let Ok(there) = Docker::connect(deadline.at_most(super::ASK))
        .and_then(|docker| docker.read_network(&network.docker_network, deadline.at_most(super::ASK)))
    {
        // Docker knows its own: of one that went a moment ago the registry is yet to hear. Where Docker is
        // absent or hung the registry's word counts, and containers show as ports of the bridge.
        endpoints = there.map(|network| network.endpoints).unwrap_or_default();
        let there =
            |l: &Lease| endpoints.iter().any(|e| e.container.as_ref().is_some_and(|id| l.is_owned_by(id)));
        let now = context.now();
        leases.retain(|l| !of_a_container(l) || there(l) || l.is_starting(&context.boot, now));
    }
    let mut guests: Vec<String> = leases.iter().map(|l| format!("{} ({})", l.holder(), l.address)).collect();
    let listed = |id: &OwnerId| leases.iter().any(|l| l.is_owned_by(id));
    let others = endpoints.iter().filter(|e| !e.container.as_ref().is_some_and(listed));
    guests.extend(others.map(|e| format!("container {:?}", e.container_name)));
    if guests.is_empty()
        && !network.adopt
        && let Some(state) = bridge::read(&network.bridge, deadline)?
    {
        guests.extend(state.ports.iter().map(|p| format!("port {}", p.name)));
    }
    if guests.is_empty() {
        return Ok(());
    }
    let (count, more) = (guests.len(), guests.len().saturating_sub(10));
    guests.truncate(10);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(Fault::refused(format!(
        "network {} is in use by {count} {}: {}{more}",
        network.name,
        if count == 1 { "guest" } else { "guests" },
        guests.join(", ")
    ))
    .hint("stop or detach them first, or use --force to take it away under them"))
}
