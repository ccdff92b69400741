//! Containers beside VMs: those that belong on a network are connected, those that we connected and
//! nobody wants any more are let go. Docker itself keeps which ones are ours: our mark is on the endpoint.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::host::bridge;
use crate::host::docker::{Container, Docker, Listing, Want};
use crate::model::attach::{self, AttachPlan, AttachStep, ContainerRequest, ContainerView};
use crate::model::census::{self, Resident};
use crate::model::{
    ClaimRequest, DnsLabel, Fault, InterfaceName, Ipam, Kind, Lease, MacAddress, Network, Origin, Owner,
    OwnerId, Result,
};
use crate::registry::Registry;
use crate::registry::lock::Lock;

use super::release::Which;
use super::{Context, claim, release, surroundings};

/// What is left of a round's time when it stops to connect containers, to write down what it did. The rest is
/// for the next round.
const RECORD: Duration = Duration::from_secs(3);

/// Brings the containers of a network in line with its leases and their labels. Where all was done: what their labels
/// ask for in vain, and what of them could not be read.
pub(super) fn attach(
    context: &Context,
    network: &Network,
    docker: &Docker,
    deadline: Deadline,
) -> Result<Vec<Fault>> {
    // Two at once would connect one container twice. No hook takes this lock.
    let _one = Lock::take(
        &context.places.containers_lock(&network.name),
        &format!("the containers of network {}", network.name),
        deadline,
    )?;
    let listing = docker.containers_on(network, deadline)?;
    let views: Vec<ContainerView> = listing.containers.iter().map(Container::view).collect();
    let leases = Registry::of(&context.places, &network.name).read()?;
    let plan = if network.follows.is_some() {
        // Who is on somebody else's network is not ours to say: a project could not be taken down.
        AttachPlan::default()
    } else {
        attach::plan_attachments(network, &leases, &views, &context.boot)
    };
    let mut notes = plan.notes;
    let mut faults = Vec::new();
    // Names first: each connection takes Docker some 50 ms, and there may be hundreds.
    let mut clashes = record(context, network, &listing, &coming(&plan.steps), deadline)?;
    let left = deadline.left();
    let until = deadline.at_most(left - RECORD.min(left / 4));
    let (mut tried, mut done_some) = (0, false);
    let mut steps = plan.steps.into_iter();
    let mut listing = listing;
    while (tried == 0 || !until.passed())
        && let Some(step) = steps.next()
    {
        tried += 1;
        let done = match step {
            AttachStep::Connect { container, name, request } => {
                connect(context, network, docker, &container, &name, &request, deadline)
            }
            AttachStep::Disconnect { container, name, endpoint_id } => {
                disconnect(context, network, docker, &container, &name, &endpoint_id, deadline)
            }
        };
        done_some |= done.is_ok();
        faults.extend(done.err());
    }
    if tried > 0 {
        listing = docker.containers_on(network, deadline)?;
        clashes = record(context, network, &listing, &coming(steps.as_slice()), deadline)?;
    }
    faults.extend(clashes);
    for note in vain(network, &listing).into_iter().chain(listing.notes.iter().cloned()) {
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    let notes: Vec<Fault> = notes.into_iter().map(Fault::failed).collect();
    if steps.len() > 0 {
        log::info!("network {}: {} more containers to connect or let go", network.name, steps.len());
        // Where nothing can be done, the minute's round tries again.
        if done_some {
            super::wake::wake(&context.places);
        }
        return told(faults, notes);
    }
    // Docker before 28 moves a container's default route at each of its restarts.
    for container in listing.containers.iter().filter(|c| c.running) {
        if container.networks.get(network.docker_network.as_str()).is_some_and(|on| on.ours) {
            faults.extend(unless_gone(docker.keep_route(network, &container.id, deadline)).err());
        }
    }
    told(faults, notes)
}

/// The notes, or all of it as one fault.
fn told(faults: Vec<Fault>, notes: Vec<Fault>) -> Result<Vec<Fault>> {
    if faults.is_empty() {
        return Ok(notes);
    }
    faults.into_iter().chain(notes).reduce(Fault::and).map_or(Ok(Vec::new()), Err)
}

/// What the labels of those who are on the network ask for in vain, a line for each.
fn vain(network: &Network, listing: &Listing) -> Vec<String> {
    let mut notes = Vec::new();
    for container in listing.containers.iter().filter(|c| c.running) {
        let Some(resident) = resident(network, container) else { continue };
        let (request, mut more) = attach::read_labels(network, &container.view());
        // One that names no network may mean another's address.
        if !container.labels.contains_key(attach::NETWORK_LABEL) {
            let of_address = format!("container {:?}: label {}: ", container.name, attach::IP_LABEL);
            more.retain(|note| !note.starts_with(&of_address));
        }
        notes.extend(more);
        let has = [Some(resident.address), resident.address6.map(IpAddr::from)];
        if let Some(ip) = request.ip.filter(|ip| !has.contains(&Some(*ip))) {
            notes.push(format!(
                "container {:?}: label {}: it came on network {} with {}, not {ip}; the label counts where we connect \
                 it, and docker run --ip where it is started there",
                container.name,
                attach::IP_LABEL,
                network.name,
                resident.address
            ));
        }
    }
    notes
}

/// The containers that Docker knows; where it could not be read of all, those of the leases as well.
fn existing(listing: &Listing, leases: &[Lease]) -> HashSet<OwnerId> {
    listing.ids().unwrap_or_else(|| {
        let owners = leases.iter().filter_map(|l| l.owner.as_ref()).map(|o| o.id.clone());
        owners.chain(listing.containers.iter().map(|c| c.id.clone())).collect()
    })
}

/// Who is to be connected by these steps.
fn coming(steps: &[AttachStep]) -> HashSet<OwnerId> {
    let connects = steps.iter().filter_map(|step| match step {
        AttachStep::Connect { container, .. } => Some(container.clone()),
        AttachStep::Disconnect { .. } => None,
    });
    connects.collect()
}

/// A container that is gone since it was listed is no trouble.
fn unless_gone<T>(done: Result<T>) -> Result<()> {
    done.map(drop).or_else(|fault| if fault.kind() == Kind::Missing { Ok(()) } else { Err(fault) })
}

/// Writes down which container has which address, so that no VM gets it, and its names. What those have who are
/// `coming` waits for them.
fn record(
    context: &Context,
    network: &Network,
    listing: &Listing,
    coming: &HashSet<OwnerId>,
    deadline: Deadline,
) -> Result<Vec<Fault>> {
    let residents: Vec<Resident> =
        listing.containers.iter().filter(|c| c.running).filter_map(|c| resident(network, c)).collect();
    let registry = Registry::of(&context.places, &network.name);
    let look = |leases: &[Lease]| {
        let exists = existing(listing, leases);
        let mut census = census::take(network, leases, &residents, &exists, &context.boot, context.now());
        census.leave(leases, coming);
        census
    };
    // Without a lock first: most of the time there is nothing to write.
    let census = look(&registry.read()?);
    if !census.is_settled() {
        registry.change(deadline, |_, leases| {
            let census = look(&leases.all()?);
            for address in census.take {
                leases.take(address)?;
            }
            for lease in census.put {
                leases.put(lease)?;
            }
            Ok(())
        })?;
        surroundings::write_names(context, network, deadline)?;
        super::network::publish(context, network, true)?;
    }
    Ok(census
        .clashes
        .into_iter()
        .map(|clash| {
            Fault::refused(format!(
                "container {:?} on network {} has {}, which is held by {}",
                clash.container, network.name, clash.address, clash.holder
            ))
            .hint("give the container another address: docker network disconnect, then connect with another --ip")
        })
        .collect())
}

fn resident(network: &Network, container: &Container) -> Option<Resident> {
    let on = container.networks.get(network.docker_network.as_str())?;
    if network.follows.as_ref().is_some_and(|id| id.as_str() != on.network_id) {
        return None;
    }
    let key = if network.ipv4.is_some() { on.ipv4 } else { on.ipv6 };
    let address6 = match on.ipv6 {
        Some(IpAddr::V6(address)) if network.ipv4.is_some() => Some(address),
        _ => None,
    };
    let (request, _) = attach::read_labels(network, &container.view());
    let mut aliases = request.aliases;
    // Those of an endpoint that we made are the names it had when we made it, and are in its labels besides.
    let others = on.aliases.iter().flatten().filter(|_| !on.ours);
    for alias in others.filter_map(|a| DnsLabel::from_any(a)) {
        if !aliases.contains(&alias) && Some(&alias) != request.hostname.as_ref() {
            aliases.push(alias);
        }
    }
    Some(Resident {
        id: container.id.clone(),
        name: container.name.clone(),
        address: key?,
        address6,
        asked: request.ip,
        mac: on.mac?,
        hostname: request.hostname,
        aliases,
        aliases_known: on.aliases.is_some(),
        groups: request.groups,
    })
}

fn connect(
    context: &Context,
    network: &Network,
    docker: &Docker,
    container: &OwnerId,
    name: &str,
    request: &ContainerRequest,
    deadline: Deadline,
) -> Result<()> {
    let mac = match request.ip {
        // Docker asks the registry itself, with a MAC of its own.
        _ if network.ipam == Ipam::Hybrid => None,
        Some(IpAddr::V4(ip)) => Some(MacAddress::of_endpoint(ip)),
        _ => None,
    };
    let mut claimed = None;
    if let (Some(ip), Some(mac)) = (request.ip, mac) {
        let owner = Owner { id: container.clone(), origin: Origin::Container, name: Some(name.to_owned()) };
        let wish = ClaimRequest {
            owner,
            mac,
            ip: Some(ip),
            hostname: request.hostname.clone(),
            aliases: request.aliases.clone(),
            groups: request.groups.clone(),
            containers: None,
            sole_nic: false,
            avoid: Vec::new(),
            probe: true,
        };
        claimed = Some(claim::claim(context, &network.name, wish, deadline)?);
    }
    // Not the name that Docker itself knows: an alias would stay behind when the container is renamed.
    let hostname = request.hostname.iter().filter(|h| h.as_str() != name);
    let aliases = hostname.chain(&request.aliases).cloned().collect();
    let want = Want { ip: request.ip, mac, aliases };
    match docker.connect_container(network, container, &want, deadline) {
        Ok(made) => {
            let address = made.ipv4.map(|a| a.to_string()).unwrap_or_default();
            log::info!("container {name:?} is on network {} with {address}", network.name);
            Ok(())
        }
        Err(fault) => {
            if claimed.is_some() {
                forget(context, network, container, deadline.at_least(super::UNDO))?;
            }
            unless_gone::<()>(Err(fault))
        }
    }
}

fn disconnect(
    context: &Context,
    network: &Network,
    docker: &Docker,
    container: &OwnerId,
    name: &str,
    endpoint_id: &str,
    deadline: Deadline,
) -> Result<()> {
    docker.disconnect_container(network, container, endpoint_id, deadline)?;
    log::info!("container {name:?} is off network {}", network.name);
    forget(context, network, container, deadline)
}

/// Frees the addresses that were claimed for a container.
fn forget(context: &Context, network: &Network, container: &OwnerId, deadline: Deadline) -> Result<()> {
    let leases = Registry::of(&context.places, &network.name).read()?;
    let macs: Vec<_> = leases.iter().filter(|l| l.is_owned_by(container)).filter_map(|l| l.mac).collect();
    if macs.is_empty() {
        return Ok(());
    }
    let which = Which { owner: container.clone(), macs, generation: None };
    release::release(context, &network.name, &which, true, deadline).map(drop)
}

/// The host's side of each container's veth on a network.
pub(super) fn host_ports(
    network: &Network,
    docker: &Docker,
    deadline: Deadline,
) -> Result<Vec<InterfaceName>> {
    let mut ports = Vec::new();
    for container in docker.containers(deadline)?.containers.iter().filter(|c| c.running) {
        let Some(mac) = container.networks.get(network.docker_network.as_str()).and_then(|on| on.mac) else {
            continue;
        };
        if let Some(pid) = docker.pid(&container.id, deadline)? {
            // Gone since it was listed: there is no port to put back.
            ports.extend(bridge::host_veth_of(pid, mac, deadline).ok().flatten());
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::docker::{Attachment, NetworkMode};
    use crate::model::network_file::NetworkFile;

    type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

    fn network() -> Result<Network> {
        Ok(NetworkFile::parse("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?
            .network(&"hybrid".parse()?)?)
    }

    fn on(address: &str, labels: &[(&str, &str)]) -> Result<Container> {
        let here = Attachment {
            endpoint_id: Some("e".to_owned()),
            ipv4: Some(address.parse()?),
            mac: Some("02:42:0a:00:01:40".parse()?),
            ..Attachment::default()
        };
        Ok(Container {
            id: "ab".repeat(32).parse()?,
            name: "web".to_owned(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            running: true,
            mode: NetworkMode::Own,
            created_on: "hybrid-net".to_owned(),
            networks: [("hybrid-net".to_owned(), here)].into(),
        })
    }

    #[test]
    fn labels_of_who_is_on_it_already_are_followed_or_told_of() -> Result {
        let told = |address: &str, labels: &[(&str, &str)]| -> Result<Vec<String>> {
            let listing = Listing { containers: vec![on(address, labels)?], ..Listing::default() };
            Ok(vain(&network()?, &listing))
        };
        assert!(told("10.0.1.64", &[])?.is_empty());
        assert!(told("10.0.1.30", &[("hybrid.ip", "10.0.1.30")])?.is_empty());
        let other = told("10.0.1.64", &[("hybrid.ip", "10.0.1.30")])?;
        assert!(
            matches!(other.as_slice(), [one] if one.contains("with 10.0.1.64, not 10.0.1.30")),
            "{other:?}"
        );
        let odd = [("hybrid.network", "hybrid"), ("hybrid.ip", "nowhere"), ("hybrid.hostname", "--")];
        assert_eq!(told("10.0.1.64", &odd)?.len(), 2);
        assert!(told("10.0.1.64", &[("hybrid.ip", "10.0.2.30")])?.is_empty());
        // What another network is asked for is not ours to follow.
        assert!(told("10.0.1.64", &[("hybrid.network", "lab"), ("hybrid.ip", "10.0.1.30")])?.is_empty());
        Ok(())
    }

    #[test]
    fn who_could_not_be_read_exists() -> Result {
        let lease: Lease = toml_edit::de::from_str(&format!(
            "address = \"10.0.1.30\"\nstate = \"idle\"\nfixed = true\ngeneration = 1\nsince = 0\nchanged = 0\n\
             [owner]\nid = \"{}\"\norigin = \"container\"\n",
            "cd".repeat(32)
        ))?;
        let mut listing = Listing { containers: vec![on("10.0.1.64", &[])?], ..Listing::default() };
        assert_eq!(existing(&listing, std::slice::from_ref(&lease)).len(), 1);
        listing.running_only = true;
        assert_eq!(existing(&listing, &[lease]).len(), 2);
        Ok(())
    }
}
