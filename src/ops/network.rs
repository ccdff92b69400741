//! Networks: created, brought up and down, deleted. All or nothing.

use crate::deadline::Deadline;
use crate::host::docker::{Docker, plugin};
use crate::host::libvirt::Libvirt;
use crate::host::{bridge, dns, firewall};
use crate::model::difference::differences;
use crate::model::network_file::NetworkFile;
use crate::model::overlap::{self, Taken};
use crate::model::{DockerName, Fault, InterfaceName, Network, NetworkName, Result};
use crate::registry::lock::Lock;
use crate::registry::{Registry, networks, snapshot, status};

use super::surroundings::{self, Extent, Report};
use super::{Context, edited, in_use};

/// What `create` did.
#[derive(Debug)]
pub struct Created {
    /// The network.
    pub network: Network,
    /// It was there already, just so.
    pub existed: bool,
    /// What was made outside; none when only the file was written.
    pub report: Option<Report>,
}

/// Takes the lock under which a network's surroundings are changed. No hook takes it, so it may be
/// held while libvirt and Docker are asked.
pub(super) fn operation(context: &Context, name: &NetworkName, deadline: Deadline) -> Result<Lock> {
    crate::registry::durable::make_folder(&context.places.run, 0o755)?;
    Lock::take(&context.places.operation_lock(name), &format!("network {name}"), deadline)
}

/// Creates a network: writes its file, and unless `offline` brings it up. The same network again
/// changes nothing; another of the same name is refused.
pub fn create(
    context: &Context,
    name: &NetworkName,
    file: &NetworkFile,
    offline: bool,
    deadline: Deadline,
) -> Result<Created> {
    let wanted = file.network(name)?;
    // Only one network is written at a time, or two could overlap each other unseen.
    let guard = networks_lock(context, deadline)?;
    let existing = networks::names(&context.places)?.contains(name);
    if existing {
        let network = networks::as_written(&context.places, name)?.network;
        if network != wanted {
            return Err(differs(&network, &wanted));
        }
        drop(guard);
        let was_up = status::load(&context.places, name)?.up;
        if offline || was_up {
            return Ok(Created { network, existed: true, report: None });
        }
        let report = up(context, name, deadline)?;
        return Ok(Created { network, existed: true, report: Some(report) });
    }
    let mut taken = ours(context, &wanted)?;
    if !offline {
        // Before anything is written, and with the way out for those who have lost the file.
        edited::refuse_misfits(context, &wanted).map_err(|fault| {
            fault.hint(
                "they are of an earlier network of that name, whose file is gone: create it as it was, or with \
                 --offline, and network up says how to free them",
            )
        })?;
        taken.extend(others(&wanted, &wanted.bridge, deadline)?);
    }
    refuse_overlap(&wanted, &taken)?;
    let earlier = context.places.network_state(name).exists();
    if !offline && let Some(before) = networks::applied(&context.places, name)?.filter(|n| *n != wanted) {
        // Its guests are on it as it was.
        let shown = differences(&before, &wanted).join("; ");
        return Err(Fault::refused(format!("a network {name} whose file is gone is there, and {shown}"))
            .hint(format!("create it as it was; then edit its file and run hybrid-hook apply {name}")));
    }
    if !networks::create(&context.places, name, file)? {
        return Err(Fault::refused(format!("network {name} was created by somebody else just now")));
    }
    drop(guard);
    if offline {
        return Ok(Created { network: wanted, existed: false, report: None });
    }
    match up(context, name, deadline) {
        Ok(report) => Ok(Created { network: wanted, existed: false, report: Some(report) }),
        Err(fault) => {
            // What an earlier network of that name has left, its leases above all, is not ours to take.
            let undone = match earlier {
                true => networks::withdraw(&context.places, name),
                false => networks::delete(&context.places, name)
                    .and_then(|()| Registry::of(&context.places, name).remove_all(deadline))
                    .and_then(|()| dns::forget(name, &context.places)),
            };
            Err(match undone {
                Ok(()) => fault,
                Err(other) => fault.and(other),
            })
        }
    }
}

/// Brings a network up. When a step fails, the others are undone, unless it was up before.
pub fn up(context: &Context, name: &NetworkName, deadline: Deadline) -> Result<Report> {
    let guard = operation(context, name, deadline)?;
    let written = networks::as_written(&context.places, name)?;
    let network = &written.network;
    let was_up = status::load(&context.places, name)?.up;
    plugin::check_there(network)?;
    edited::refuse_misfits(context, network)?;
    if was_up {
        edited::refuse_newcomer(context, network)?;
    } else {
        refuse_taken(context, network, &network.bridge, deadline)?;
    }
    edited::put_in_force(context, &written, deadline)?;
    let report = surroundings::raise(context, network, Extent::Whole, !was_up, deadline);
    publish(context, network, true)?;
    let reached = report.reached();
    match report.into_result() {
        Ok(report) => {
            drop(guard);
            surroundings::tell_others(context, name, deadline);
            super::wake::wake(&context.places);
            Ok(report)
        }
        Err(fault) if was_up => Err(fault),
        Err(fault) => {
            let undone = take_down(context, network, deadline.at_least(super::UNDO));
            drop(guard);
            Err(match undone {
                // Who was not there before either has nothing of ours.
                Ok(report) => {
                    let left = report.left_of(|what| reached.contains(what));
                    left.into_iter().map(Fault::failed).fold(fault, Fault::and)
                }
                Err(other) => fault.and(other),
            })
        }
    }
}

/// Takes a network down: everything outside the registry goes, the leases stay. Refused while guests
/// are on it, unless `force`.
pub fn down(context: &Context, name: &NetworkName, force: bool, deadline: Deadline) -> Result<Report> {
    let report = down_alone(context, name, force, deadline)?;
    surroundings::tell_others(context, name, deadline);
    Ok(report)
}

fn down_alone(context: &Context, name: &NetworkName, force: bool, deadline: Deadline) -> Result<Report> {
    let guard = operation(context, name, deadline)?;
    let network = networks::load(&context.places, name)?;
    if !force {
        in_use::refuse(context, &network, deadline)?;
    }
    let report = take_down(context, &network, deadline)?;
    drop(guard);
    Ok(report)
}

/// Takes every network down. None is touched when guests are on any, unless `force`.
pub fn all_down(context: &Context, force: bool, deadline: Deadline) -> Result<Vec<Report>> {
    let (standing, faults) = surroundings::networks_that(context, |name| may_stand(context, name))?;
    if !force {
        if let Some(fault) = faults.into_iter().next() {
            return Err(fault);
        }
        for network in &standing {
            in_use::refuse(context, network, deadline)?;
        }
    }
    standing.iter().map(|network| down_alone(context, &network.name, force, deadline)).collect()
}

/// Whether a network is up, or was not taken down to the end.
fn may_stand(context: &Context, name: &NetworkName) -> Result<bool> {
    Ok(status::load(&context.places, name)?.up || networks::is_in_force(&context.places, name))
}

/// Deletes a network and all its leases. Refused while guests are on it, unless `force`. What was done outside, where
/// something of it may have stood.
pub fn delete(
    context: &Context,
    name: &NetworkName,
    force: bool,
    deadline: Deadline,
) -> Result<Option<Report>> {
    let guard = operation(context, name, deadline)?;
    let network = match networks::load(&context.places, name) {
        Ok(network) => Some(network),
        // A file that can't be read must not be undeletable.
        Err(fault) if force && fault.kind() == crate::model::Kind::Failed => None,
        Err(fault) => return Err(fault),
    };
    let mut report = None;
    if let Some(network) = &network {
        if !force {
            in_use::refuse(context, network, deadline)?;
        }
        if may_stand(context, name)? {
            report = Some(take_down(context, network, deadline)?);
        }
    }
    forget(context, name, deadline)?;
    drop(guard);
    if report.is_some() {
        surroundings::tell_others(context, name, deadline);
    }
    Ok(report)
}

/// What is left of a network that is down. The file first: without it no hook can claim, and the rest is
/// nobody's.
fn forget(context: &Context, name: &NetworkName, deadline: Deadline) -> Result<()> {
    networks::delete(&context.places, name)?;
    Registry::of(&context.places, name).remove_all(deadline)?;
    snapshot::withdraw(&context.places, name)?;
    dns::forget(name, &context.places)
}

/// Takes a network down and deletes it, whoever is on it. The operation lock must be held.
pub(super) fn remove(context: &Context, network: &Network, deadline: Deadline) -> Result<Report> {
    let mut status = status::load(&context.places, &network.name)?;
    status.up = false;
    status::store(&context.places, &network.name, &status)?;
    let report = surroundings::lower(context, network, deadline);
    forget(context, &network.name, deadline)?;
    Ok(report)
}

/// The operation lock must be held. That the network is to be down is written first: killed in
/// between, the next `apply` does not bring it up again, and `down` once more finishes.
fn take_down(context: &Context, network: &Network, deadline: Deadline) -> Result<Report> {
    let mut status = status::load(&context.places, &network.name)?;
    status.up = false;
    status::store(&context.places, &network.name, &status)?;
    let report = surroundings::lower(context, network, deadline);
    snapshot::withdraw(&context.places, &network.name)?;
    let report = report.into_result()?;
    // Not before: what is still to go is found by what was in force.
    networks::forget_applied(&context.places, &network.name)?;
    Ok(report)
}

/// Publishes the leases of a network for everybody to read.
pub(super) fn publish(context: &Context, network: &Network, up: bool) -> Result<()> {
    let leases = Registry::of(&context.places, &network.name).read()?;
    snapshot::publish(&context.places, &snapshot::Snapshot::of(network, up, &leases, &context.boot))
}

/// Only one network at a time is added to those that are.
fn networks_lock(context: &Context, deadline: Deadline) -> Result<Lock> {
    crate::registry::durable::make_folder(&context.places.state, 0o700)?;
    Lock::take(&context.places.state.join("networks.lock"), "the list of networks", deadline)
}

fn differs(is: &Network, wanted: &Network) -> Fault {
    let shown = differences(is, wanted).join("; ");
    Fault::refused(format!("network {} exists and {shown}", is.name)).hint(format!(
        "edit its file and run hybrid-hook apply, or delete it first: hybrid-hook network delete {}",
        is.name
    ))
}

/// Nobody else on this host may have its subnet. What is on `bridge` is its own by now.
pub(super) fn refuse_taken(
    context: &Context,
    network: &Network,
    bridge: &InterfaceName,
    deadline: Deadline,
) -> Result<()> {
    let mut taken = ours(context, network)?;
    taken.extend(others(network, bridge, deadline)?);
    refuse_overlap(network, &taken)
}

/// What our other networks take, beside their names.
fn ours(context: &Context, wanted: &Network) -> Result<Vec<Taken>> {
    let (all, broken) = networks::load_all(&context.places)?;
    if let Some(fault) = broken.into_iter().next() {
        return Err(fault);
    }
    refuse_same(&all, wanted)?;
    let others = all.iter().filter(|n| n.name != wanted.name);
    Ok(others
        .flat_map(|other| {
            let who = format!("network {}", other.name);
            other.families().map(move |f| Taken { subnet: f.subnet, who: who.clone() })
        })
        .collect())
}

/// Whether a network has a thing that must be its own and another of `all` has too.
pub(super) fn refuse_same(all: &[Network], wanted: &Network) -> Result<()> {
    for other in all.iter().filter(|n| n.name != wanted.name) {
        let same = |what: &str| {
            Err(Fault::refused(format!(
                "network {} can't have {what}: network {} has it",
                wanted.name, other.name
            ))
            .hint("choose another"))
        };
        if other.bridge == wanted.bridge {
            return same(&format!("the bridge {}", other.bridge));
        }
        if other.docker_network == wanted.docker_network {
            return same(&format!("the Docker network {}", other.docker_network));
        }
        if other.libvirt_network == wanted.libvirt_network {
            return same(&format!("the libvirt network {}", other.libvirt_network));
        }
        if other.zone == wanted.zone {
            return same(&format!("the zone {}", other.zone));
        }
    }
    Ok(())
}

/// What the host's routes, Docker and libvirt take.
fn others(wanted: &Network, own_bridge: &InterfaceName, deadline: Deadline) -> Result<Vec<Taken>> {
    let mut taken = Vec::new();
    let own = |name: &DockerName, is: &str| name.as_str() == is;
    let ask = deadline.at_most(super::ASK);
    if let Ok(subnets) = Docker::connect(ask).and_then(|d| d.all_subnets(ask)) {
        let others = subnets.into_iter().filter(|(name, _)| !own(&wanted.docker_network, name));
        taken.extend(others.map(|(name, subnet)| Taken { subnet, who: format!("Docker network {name:?}") }));
    }
    if let Ok(networks) = Libvirt::find().and_then(|l| l.networks(ask)) {
        for network in networks.into_iter().filter(|n| !own(&wanted.libvirt_network, &n.name)) {
            let who = format!("libvirt network {:?}", network.name);
            taken.extend(network.subnets.into_iter().map(|subnet| Taken { subnet, who: who.clone() }));
        }
    }
    // Last: what is both a network's and a link's is named by its network.
    taken.extend(bridge::taken(own_bridge, deadline)?);
    Ok(taken)
}

fn refuse_overlap(wanted: &Network, taken: &[Taken]) -> Result<()> {
    let Some(other) = overlap::first_overlap(wanted, taken) else { return Ok(()) };
    let mine = wanted.overlapping(&other.subnet).unwrap_or(other.subnet);
    let fault = Fault::refused(format!("subnet {mine} overlaps {} of {}", other.subnet, other.who));
    Err(match overlap::free_subnet(&mine, taken) {
        Some(free) => fault.hint(format!("{free} is free: --subnet {free}")),
        None => fault,
    })
}

/// A subnet for a network that names none: 10.0.1.0/24 for the default network, else the next free one.
pub fn choose_subnet(
    context: &Context,
    name: &NetworkName,
    offline: bool,
    deadline: Deadline,
) -> Result<ipnet::IpNet> {
    let usual = ipnet::IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 0, 1, 0), 24));
    if name.as_str() == NetworkName::DEFAULT {
        return Ok(usual);
    }
    let (all, _) = networks::load_all(&context.places)?;
    let existing = networks::as_written(&context.places, name).ok();
    if let Some(existing) = existing.as_ref().and_then(|e| e.network.key_family()) {
        return Ok(existing.subnet);
    }
    let mut taken: Vec<Taken> = all
        .iter()
        .flat_map(|n| n.families().map(|f| Taken { subnet: f.subnet, who: n.name.to_string() }))
        .collect();
    // The default network may come later; its place is kept.
    taken.push(Taken { subnet: usual, who: "the default network".to_owned() });
    if !offline {
        let ask = deadline.at_most(super::ASK);
        taken.extend(bridge::taken(&name.default_bridge(), ask)?);
        if let Ok(subnets) = Docker::connect(ask).and_then(|d| d.all_subnets(ask)) {
            taken.extend(subnets.into_iter().map(|(who, subnet)| Taken { subnet, who }));
        }
        if let Ok(networks) = Libvirt::find().and_then(|l| l.networks(ask)) {
            let subnets = networks.into_iter().flat_map(|n| n.subnets);
            taken.extend(subnets.map(|subnet| Taken { subnet, who: String::new() }));
        }
    }
    overlap::free_subnet(&usual, &taken)
        .ok_or_else(|| Fault::refused("no free subnet was found").hint("give one with --subnet"))
}

/// The subnet of a bridge that is to be adopted: that of its first address.
pub fn adopted_subnet(bridge: &InterfaceName, deadline: Deadline) -> Result<ipnet::IpNet> {
    let state = bridge::read(bridge, deadline)?.ok_or_else(|| {
        Fault::missing(format!("there is no bridge {bridge} to adopt")).hint("name it with --bridge")
    })?;
    let usable = state.addresses.iter().map(|a| a.net).find(|net| match net.addr() {
        std::net::IpAddr::V4(a) => !a.is_link_local(),
        std::net::IpAddr::V6(a) => !a.is_unicast_link_local(),
    });
    usable.map(|net| net.trunc()).ok_or_else(|| {
        Fault::usage(format!("bridge {bridge} has no address that tells its subnet"))
            .hint("give --subnet and --gateway")
    })
}

/// Fills in what an adopted bridge says itself: its own address in each subnet, and that as the
/// gateway where the subnet's usual one is nobody's word.
pub fn adopt_addresses(name: &NetworkName, file: &mut NetworkFile, deadline: Deadline) -> Result<()> {
    let bridge = file.bridge.clone().unwrap_or_else(|| name.default_bridge());
    let Some(state) = bridge::read(&bridge, deadline)? else { return Ok(()) };
    for family in [&mut file.ipv4, &mut file.ipv6].into_iter().flatten() {
        let own = state.addresses.iter().map(|a| a.net.addr()).find(|a| family.subnet.contains(a));
        family.address = family.address.or(own);
        family.gateway = family.gateway.or(own);
    }
    Ok(())
}

/// What on this host would stop the network's traffic, each with the command that opens it. Only
/// looked at, never changed; what can't be looked at is passed over.
#[must_use]
pub fn obstacles(network: &Network, deadline: Deadline) -> Vec<firewall::Obstacle> {
    firewall::obstacles(network, deadline).unwrap_or_default()
}
