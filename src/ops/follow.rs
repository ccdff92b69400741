//! Follow: a network of ours on a Docker network that somebody else made, such as a Compose project's. It
//! comes with the first VM that is to be there, and goes with Docker's network or with the last VM. While a
//! domain still asks for it, it comes back with a Docker network of the same name.

use std::collections::BTreeSet;

use crate::deadline::Deadline;
use crate::domain_xml::Domain;
use crate::host::docker::Docker;
use crate::host::libvirt::Libvirt;
use crate::model::{DockerName, Fault, Kind, Network, NetworkName, Result, follow};
use crate::registry::{networks, waiting};

use super::network::{self, Created};
use super::surroundings::Report;
use super::{Context, containers};

/// The network of ours that follows a Docker network, made if it isn't there. `name` is what it is to be
/// called; by default a label of Docker's name.
///
/// # Errors
/// Missing: Docker, or its network. Refused: VMs can't be on it, or its name is another network's with us.
pub fn follow(
    context: &Context,
    docker_network: &DockerName,
    name: Option<&NetworkName>,
    deadline: Deadline,
) -> Result<Created> {
    let docker = Docker::connect(deadline.at_most(super::ASK))?;
    let followed = docker.to_follow(docker_network, deadline)?;
    let existing = of(context, docker_network)?;
    if let Some(there) = &existing
        && there.follows.as_ref() != Some(&followed.id)
    {
        // Docker's network was made anew, and nobody looked meanwhile.
        retire_if_gone(context, &there.name, deadline)?;
    } else if let Some(there) = existing {
        if let Some(other) = name.filter(|n| **n != there.name) {
            return Err(Fault::refused(format!(
                "Docker network {docker_network} is followed by network {}, not {other}",
                there.name
            ))
            .hint(format!(
                "leave --name out, or delete that one: hybrid-hook network delete {}",
                there.name
            )));
        }
        let report = network::up(context, &there.name, deadline)?;
        return Ok(Created { network: there, existed: true, report: Some(report) });
    }
    let name = match name {
        Some(name) => name.clone(),
        None => follow::network_name(docker_network)?,
    };
    if let Ok(other) = networks::load(&context.places, &name) {
        return Err(Fault::refused(format!(
            "network {name} is there already, and it is not on Docker network {docker_network} but on {}",
            other.docker_network
        ))
        .hint(format!(
            "give it another name: hybrid-hook network follow {docker_network} --name OTHER, then attach again"
        )));
    }
    let file = followed.file()?;
    forget_former(&file.network(&name)?, deadline);
    let created = network::create(context, &name, &file, false, deadline)?;
    // Who is there must be known before the first VM gets an address. What their labels ask for in vain is the service's
    // to say.
    let _notes = containers::attach(context, &created.network, &docker, deadline)?;
    waiting::forget(&context.places, &name)?;
    Ok(created)
}

/// Removes a libvirt network of ours that is on another bridge: libvirt was not there to be told when that one
/// went. If it isn't there now either, `network::create` says so.
fn forget_former(wanted: &Network, deadline: Deadline) {
    let Ok(libvirt) = Libvirt::find() else { return };
    let Ok(networks) = libvirt.networks(deadline.at_most(super::ASK)) else { return };
    let former = networks.iter().find(|n| n.uuid == wanted.libvirt_uuid());
    if former.is_some_and(|n| n.bridge.as_deref() != Some(wanted.bridge.as_str()))
        && let Err(fault) = libvirt.remove_network(wanted, true, deadline.at_most(super::ASK))
    {
        log::warn!("{fault}");
    }
}

/// The network that follows a Docker network of this name, its id being right or not.
///
/// # Errors
/// The networks' files can't be listed.
pub fn of(context: &Context, docker_network: &DockerName) -> Result<Option<Network>> {
    let (all, _) = networks::load_all(&context.places)?;
    Ok(all.into_iter().find(|n| n.follows.is_some() && n.docker_network == *docker_network))
}

/// The name of the network that follows a Docker network, also where that is gone: then the one that it had
/// or would have.
///
/// # Errors
/// The networks' files can't be listed; nothing is left of the name.
pub fn name_of(context: &Context, docker_network: &DockerName) -> Result<NetworkName> {
    if let Some(network) = of(context, docker_network)? {
        return Ok(network.name);
    }
    match waiting::all(&context.places)?.into_iter().find(|(_, docker)| docker == docker_network) {
        Some((name, _)) => Ok(name),
        None => Ok(follow::network_name(docker_network)?),
    }
}

/// Takes a network away whose Docker network is gone. The operation lock must be held. `None` where Docker's
/// network is there, or nobody can tell.
pub(super) fn retire(context: &Context, network: &Network, deadline: Deadline) -> Result<Option<Report>> {
    let Some(id) = &network.follows else { return Ok(None) };
    let Ok(docker) = Docker::connect(deadline.at_most(super::ASK)) else { return Ok(None) };
    if docker.has_network(id, deadline.at_most(super::ASK))? {
        return Ok(None);
    }
    waiting::note(&context.places, &network.name, &network.docker_network)?;
    let report = network::remove(context, network, deadline)?;
    log::warn!(
        "network {} is gone with the Docker network {} that it followed: its leases are freed, and VMs that were \
         on it have a NIC without a network",
        network.name,
        network.docker_network
    );
    Ok(Some(report))
}

/// Follows again what was followed before, is there again under its name, and is still asked for by a domain.
/// What nobody asks for any more is forgotten.
#[must_use]
pub fn again(context: &Context, deadline: Deadline) -> Vec<Fault> {
    let notes = match waiting::all(&context.places) {
        Ok(notes) if notes.is_empty() => return Vec::new(),
        Ok(notes) => notes,
        Err(fault) => return vec![fault],
    };
    // Either absent or hung: there is a next time, and what matters of it is said elsewhere.
    let Ok(docker) = Docker::connect(deadline.at_most(super::ASK)) else { return Vec::new() };
    let mut faults = Vec::new();
    for (name, docker_network) in notes {
        let done = (|| {
            if !is_asked_for(&name, deadline)? {
                return waiting::forget(&context.places, &name);
            }
            if docker.read_network(&docker_network, deadline)?.is_none() {
                return Ok(());
            }
            let there = follow(context, &docker_network, Some(&name), deadline)?;
            log::info!(
                "network {name} follows Docker network {docker_network} again, on bridge {}: VMs that ask for it \
                 are on it from their next start",
                there.network.bridge
            );
            waiting::forget(&context.places, &name)
        })();
        faults.extend(done.err());
    }
    faults
}

/// Whether a domain's metadata names a network.
fn is_asked_for(name: &NetworkName, deadline: Deadline) -> Result<bool> {
    let asks = |text: &str| {
        Domain::read(text.as_bytes())
            .is_ok_and(|domain| domain.requests.iter().flatten().any(|r| r.network == *name))
    };
    Ok(Libvirt::find()?.domains(true, deadline)?.iter().any(|d| d.xml.as_deref().is_some_and(asks)))
}

fn retire_if_gone(context: &Context, name: &NetworkName, deadline: Deadline) -> Result<()> {
    let _guard = network::operation(context, name, deadline)?;
    let network = networks::load(&context.places, name)?;
    match retire(context, &network, deadline)? {
        Some(report) => report.into_result().map(drop),
        None => Err(Fault::refused(format!(
            "network {name} follows another Docker network {}, which is still there",
            network.docker_network
        ))
        .hint("remove one of the two: docker network ls --no-trunc shows their ids")),
    }
}

/// Takes a network away that follows Docker's, once no domain asks for it any more. Whether it did.
///
/// # Errors
/// libvirt can't be asked; a step fails.
pub fn remove_if_unused(context: &Context, name: &NetworkName, deadline: Deadline) -> Result<bool> {
    let guard = network::operation(context, name, deadline)?;
    let network = match networks::load(&context.places, name) {
        Ok(network) => network,
        // It went with Docker's network meanwhile.
        Err(fault) if fault.kind() == Kind::Missing => return Ok(true),
        Err(fault) => return Err(fault),
    };
    if network.follows.is_none() || !users(&network, deadline)?.is_empty() {
        return Ok(false);
    }
    network::remove(context, &network, deadline)?.into_result()?;
    drop(guard);
    Ok(true)
}

/// The names of the domains that ask for a network, or have a NIC on it.
fn users(network: &Network, deadline: Deadline) -> Result<BTreeSet<String>> {
    let domains = Libvirt::find()?.domains(true, deadline)?;
    let asks = |text: &str| {
        Domain::read(text.as_bytes()).is_ok_and(|domain| {
            domain.nics.iter().any(|nic| nic.is_on(network))
                || domain.requests.iter().flatten().any(|r| r.network == network.name)
        })
    };
    let using = domains.into_iter().filter(|d| d.xml.as_deref().is_some_and(asks));
    Ok(using.map(|d| d.name).collect())
}

/// A domain that asks for a Docker network which nobody follows any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranded {
    /// The domain's name.
    pub domain: String,
    /// Whether it runs, with a NIC on nothing.
    pub running: bool,
    /// The Docker network.
    pub docker_network: DockerName,
}

/// The domains that ask for a Docker network which none of `networks` follows.
pub(super) fn stranded(networks: &[NetworkName], deadline: Deadline) -> Result<Vec<Stranded>> {
    let mut found = Vec::new();
    for domain in Libvirt::find()?.domains(true, deadline)? {
        // Most are none of ours, and reading them costs more than looking.
        let Some(xml) = domain.xml.as_deref().filter(|x| x.contains(crate::domain_xml::NAMESPACE)) else {
            continue;
        };
        let Ok(read) = Domain::read(xml.as_bytes()) else { continue };
        for request in read.requests.iter().flatten() {
            if let Some(docker) = request.docker.clone().filter(|_| !networks.contains(&request.network)) {
                let (domain, running) = (domain.name.clone(), domain.running);
                found.push(Stranded { domain, running, docker_network: docker });
            }
        }
    }
    Ok(found)
}
