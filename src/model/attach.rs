//! Which containers belong on a network, and what to do so that they are: decided here, done elsewhere.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{BootId, DnsLabel, Ipam, Lease, LeaseState, Network, NetworkName, Origin, OwnerId};

/// The label that asks for a network.
pub const NETWORK_LABEL: &str = "hybrid.network";
/// The label that asks for an address on it.
pub const IP_LABEL: &str = "hybrid.ip";
/// The label that gives the name in the zone.
pub const HOSTNAME_LABEL: &str = "hybrid.hostname";
/// The label that gives more names, with commas or spaces between.
pub const ALIASES_LABEL: &str = "hybrid.aliases";
/// The label by which Compose says which service a container is of.
pub const SERVICE_LABEL: &str = "com.docker.compose.service";
/// Whether Compose started it by `run`, beside the service's replicas: `True` or `False`.
pub const ONE_OFF_LABEL: &str = "com.docker.compose.oneoff";
/// The label that gives groups, with commas or spaces between.
pub const GROUPS_LABEL: &str = "hybrid.groups";
/// How many names or groups one label gives at most: each is in the registry and in the names' file.
const MOST_WORDS: usize = 64;

/// A container as the decision sees it. All text in it is from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerView {
    /// Its id.
    pub id: OwnerId,
    /// Its name, without Docker's leading slash.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it runs.
    pub running: bool,
    /// Whether it can be connected: it has a network namespace of its own.
    pub connectable: bool,
    /// The Docker networks that it is on, by name.
    pub on: BTreeMap<String, On>,
}

/// A container's place on a Docker network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct On {
    /// The endpoint's id; `None` while the container does not run.
    pub endpoint_id: Option<String>,
    /// Whether it bears our mark.
    pub ours: bool,
}

/// What a container asks of a network by its labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerRequest {
    /// A fixed address; none: Docker takes one from the container pool.
    pub ip: Option<IpAddr>,
    /// Its name in the zone: the label's, else made from the container's own.
    pub hostname: Option<DnsLabel>,
    /// More names.
    pub aliases: Vec<DnsLabel>,
    /// Groups that policies name.
    pub groups: Vec<DnsLabel>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachStep {
    /// Connect a container.
    Connect {
        /// Which.
        container: OwnerId,
        /// Its name, for messages.
        name: String,
        /// What it asks.
        request: ContainerRequest,
    },
    /// Take off an endpoint that we made and nobody needs any more.
    Disconnect {
        /// Whose.
        container: OwnerId,
        /// Its name, for messages.
        name: String,
        /// Which endpoint.
        endpoint_id: String,
    },
}

/// What to do, in order, and what a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttachPlan {
    /// The steps: those that let go before those that connect.
    pub steps: Vec<AttachStep>,
    /// One line for each label that can't be followed.
    pub notes: Vec<String>,
}

/// Decides what must happen so that just the containers that belong on `network` are on it, and those that somebody
/// else put there stay. A container belongs there while it runs and its label names the network, or the selector
/// of a lease whose guest runs (in this boot) selects it.
#[must_use]
pub fn plan_attachments(
    network: &Network,
    leases: &[Lease],
    containers: &[ContainerView],
    boot: &BootId,
) -> AttachPlan {
    let mut plan = AttachPlan::default();
    let mut connects = Vec::new();
    let place = network.docker_network.as_str();
    let selectors: Vec<_> = leases
        .iter()
        .filter(|l| l.running && l.state_now(boot) == LeaseState::Active)
        .filter_map(|l| l.containers.as_ref())
        .collect();
    for container in containers.iter().filter(|c| c.running) {
        let label = |key: &str| container.labels.get(key).map(String::as_str);
        let named = label(NETWORK_LABEL) == Some(network.name.as_str());
        if let Some(Err(invalid)) = label(NETWORK_LABEL).map(str::parse::<NetworkName>) {
            plan.notes.push(format!("container {:?}: label {NETWORK_LABEL}: {invalid}", container.name));
        }
        let wanted = named || selectors.iter().any(|s| s.matches(&container.name, label));
        match (wanted, container.on.get(place)) {
            (true, Some(_)) | (false, None) => {}
            (true, None) if !container.connectable => plan.notes.push(format!(
                "container {:?} belongs on network {}, but it has no network namespace of its own \
                 (network mode host, none or another container's)",
                container.name, network.name
            )),
            (true, None) => match request(network, container, leases, boot, &mut plan.notes) {
                Ok(request) => connects.push(AttachStep::Connect {
                    container: container.id.clone(),
                    name: container.name.clone(),
                    request,
                }),
                Err(note) => plan.notes.push(note),
            },
            (false, Some(on)) => {
                if let Some(endpoint_id) = &on.endpoint_id
                    && on.ours
                {
                    plan.steps.push(AttachStep::Disconnect {
                        container: container.id.clone(),
                        name: container.name.clone(),
                        endpoint_id: endpoint_id.clone(),
                    });
                }
            }
        }
    }
    plan.steps.extend(connects);
    plan
}

/// What the container asks for. What can't be understood is noted and left out; an address that another holds is a
/// reason not to connect (the error).
fn request(
    network: &Network,
    container: &ContainerView,
    leases: &[Lease],
    boot: &BootId,
    notes: &mut Vec<String>,
) -> Result<ContainerRequest, String> {
    let (mut request, more) = read_labels(network, container);
    notes.extend(more);
    if request.ip.is_none() {
        // It had an address here before: the same again.
        request.ip = leases.iter().find(|l| l.is_owned_by(&container.id)).map(|l| l.address);
    }
    let Some(ip) = request.ip else { return Ok(request) };
    // What Docker itself refuses is not asked of it: its "no" leaves something behind, whose removal is an event, and
    // with that the next round.
    let why = if let Some(other) =
        leases.iter().find(|l| l.address == ip && holds(network, l, container, boot))
    {
        let own = other.is_owned_by(&container.id);
        format!("is held by {}", if own { "a reservation".to_owned() } else { other.holder() })
    } else if let Some(out) = [Some(ip), network.companion(ip).map(IpAddr::from)]
        .into_iter()
        .flatten()
        .find(|a| network.docker_leaves_out(*a))
    {
        format!("can't be given by Docker, which leaves {out} out beside the container pool: that is no CIDR")
    } else {
        return Ok(request);
    };
    Err(format!("container {:?} is not connected: {ip}, which it asks for, {why}", container.name))
}

/// Whether a lease keeps its address from a container that asks for it.
fn holds(network: &Network, lease: &Lease, container: &ContainerView, boot: &BootId) -> bool {
    let own = lease.is_owned_by(&container.id);
    match lease.state_now(boot) {
        LeaseState::Active => !own,
        // Docker asks the registry, and never says for whom: a reservation counts against each, and a stopped VM
        // keeps what it had.
        LeaseState::Reserved => network.ipam == Ipam::Hybrid || (lease.address.is_ipv6() && lease.fixed),
        LeaseState::Idle if network.ipam == Ipam::Hybrid => {
            lease.reserved || lease.origin().is_some_and(|o| o != Origin::Container)
        }
        // An IPv6 address can't be claimed for a container: what a claim would refuse is refused here.
        LeaseState::Idle => !own && lease.address.is_ipv6() && lease.fixed,
    }
}

/// Reads a container's labels for `network`, with a line for each that can't be followed. Its address and names
/// count only where the labels don't name another network.
#[must_use]
pub fn read_labels(network: &Network, container: &ContainerView) -> (ContainerRequest, Vec<String>) {
    let mut notes = Vec::new();
    let label = |key: &str| container.labels.get(key).map(|v| v.trim()).filter(|v| !v.is_empty());
    let mut note = |key: &str, why: String| {
        notes.push(format!("container {:?}: label {key}: {why}", container.name));
    };
    let here = label(NETWORK_LABEL).is_none_or(|n| n == network.name.as_str());
    let local = |key: &str| label(key).filter(|_| here);
    let ip = local(IP_LABEL).and_then(|text| match text.parse::<IpAddr>() {
        Ok(ip) => match network.may_lease(ip) {
            Ok(()) => Some(ip),
            Err(unfit) => {
                note(IP_LABEL, format!("{unfit}; it gets an address from the pool"));
                None
            }
        },
        Err(_) => {
            note(IP_LABEL, format!("{} is not an address; it gets one from the pool", shown(text)));
            None
        }
    });
    let hostname = match local(HOSTNAME_LABEL) {
        None => DnsLabel::from_any(&container.name),
        Some(text) => DnsLabel::from_any(text).or_else(|| {
            note(HOSTNAME_LABEL, format!("{} holds no letter or digit", shown(text)));
            DnsLabel::from_any(&container.name)
        }),
    };
    let mut words = |key: &str| {
        let mut list = Vec::new();
        for word in local(key).unwrap_or_default().split([',', ' ', '\t', '\n']).filter(|w| !w.is_empty()) {
            if list.len() == MOST_WORDS {
                note(key, format!("only the first {MOST_WORDS} count"));
                break;
            }
            match DnsLabel::from_any(word) {
                Some(name) if list.contains(&name) => {}
                Some(name) => list.push(name),
                None => note(key, format!("{} holds no letter or digit", shown(word))),
            }
        }
        list
    };
    let (mut aliases, groups) = (words(ALIASES_LABEL), words(GROUPS_LABEL));
    // Every replica of a Compose service answers to the service's name; what `compose run` starts does not.
    let replica = label(ONE_OFF_LABEL).is_none_or(|text| !text.eq_ignore_ascii_case("true"));
    if let Some(service) = label(SERVICE_LABEL).filter(|_| replica).and_then(DnsLabel::from_any)
        && !aliases.contains(&service)
    {
        aliases.push(service);
    }
    (ContainerRequest { ip, hostname, aliases, groups }, notes)
}

/// Text from outside, quoted, escaped and cut.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(60).collect();
    format!("{cut:?}{}", if cut.len() < text.len() { "…" } else { "" })
}

#[cfg(test)]
mod tests;
