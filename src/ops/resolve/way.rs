//! The way of a question to our resolver, each part tried where that is possible.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use super::{Hop, Source, Target, Who, ask_all, ask_ours, words};
use crate::deadline::Deadline;
use crate::host::dns::Answer;
use crate::host::docker::{self, Docker};
use crate::model::{BootId, DockerName, Fault, Lease, LeaseState, Network, Result};
use crate::ops::names::{self, Asker, Works};
use crate::ops::{ASK, Context, surroundings};
use crate::registry::Registry;

/// How long the host's own resolver may take.
const HOSTS: Duration = Duration::from_secs(5);
/// Docker's resolver, in every container on a network that somebody made.
const DOCKERS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Why a container may ask past the host's resolver, and what mends it.
const OWN_BRIDGE: &str = "it was started on Docker's own network \"bridge\", where Docker asks the host's upstream \
                          resolvers themselves; start it on another network";

/// What is asked, and what our resolver answered.
pub(super) struct Asking<'a> {
    pub(super) context: &'a Context,
    pub(super) network: &'a Network,
    pub(super) target: &'a Target,
    /// Where its answer should come from.
    pub(super) source: Source,
    /// As a person typed it.
    pub(super) typed: &'a str,
    pub(super) answers: &'a [String],
}

impl Asking<'_> {
    /// The parts between who asks and our resolver.
    pub(super) fn way(&self, who: &Who, leases: &[Lease], deadline: Deadline) -> Result<Vec<Hop>> {
        match who {
            Who::Host => Ok(vec![self.reach(Asker::Host, deadline)?, self.by_the_host(deadline)]),
            Who::Vm(name) => self.of_vm(name, leases, deadline),
            Who::Container(name) => self.of_container(name, deadline),
        }
    }

    /// Whether the settings are such that it can work.
    fn reach(&self, asker: Asker, deadline: Deadline) -> Result<Hop> {
        let reach = names::reach(self.context, self.network, deadline)?;
        let Some(reach) = reach.into_iter().find(|r| r.asker == asker) else {
            return Ok(Hop { what: "settings".to_owned(), works: None, detail: "nobody to ask".to_owned() });
        };
        let bare = self.is_bare();
        let works = match reach.works {
            Works::Yes => Some(true),
            Works::FullNames => Some(!bare),
            Works::Maybe => None,
            Works::No => Some(false),
        };
        let mut detail = match reach.works {
            Works::Yes => "bare and full names".to_owned(),
            Works::FullNames => "full names only".to_owned(),
            Works::Maybe => "can't be seen from here".to_owned(),
            Works::No => "no".to_owned(),
        };
        if let Some(mend) = reach.mend {
            detail = format!("{detail}; this mends it: {mend}");
        }
        Ok(Hop { what: reach.path, works, detail })
    }

    /// Whether it is found only by who searches the network's zone.
    fn is_bare(&self) -> bool {
        !self.typed.contains('.') && !matches!(self.target, Target::Address(_))
    }

    /// What the C library answers, as to any program of the host.
    fn by_the_host(&self, deadline: Deadline) -> Hop {
        let what = "the host's C library".to_owned();
        if matches!(self.target, Target::Address(_)) {
            return Hop { what, works: None, detail: "not tried for an address".to_owned() };
        }
        let name = self.typed.to_owned();
        let (sender, receiver) = std::sync::mpsc::channel();
        // It has no deadline of its own.
        std::thread::spawn(move || {
            let found = (name.as_str(), 0).to_socket_addrs().map(|all| all.map(|a| a.ip()).collect());
            let _ = sender.send(found);
        });
        match receiver.recv_timeout(deadline.at_most(HOSTS).left()) {
            Ok(Ok(found)) => self.compared(what, found),
            Ok(Err(error)) => self.compared_none(what, error.to_string()),
            Err(_) => Hop { what, works: Some(false), detail: "it did not answer in time".to_owned() },
        }
    }

    fn compared(&self, what: String, mut found: Vec<IpAddr>) -> Hop {
        found.dedup();
        let words: Vec<String> = found.iter().map(ToString::to_string).collect();
        let same = words.iter().any(|w| self.answers.contains(w));
        let detail = words.join(" ");
        // What is asked outside may be answered differently each time.
        let works = if matches!(self.target, Target::Elsewhere(_)) { !words.is_empty() } else { same };
        Hop { what, works: Some(works), detail }
    }

    fn compared_none(&self, what: String, detail: String) -> Hop {
        Hop { what, works: Some(self.answers.is_empty()), detail }
    }

    fn of_vm(&self, name: &str, leases: &[Lease], deadline: Deadline) -> Result<Vec<Hop>> {
        let (up, _) = surroundings::up_networks(self.context)?;
        let others = up.into_iter().filter(|n| n.name != self.network.name);
        let others: Vec<(Network, Vec<Lease>)> = others
            .map(|n| {
                let leases = Registry::of(&self.context.places, &n.name).read().unwrap_or_default();
                (n, leases)
            })
            .collect();
        let all =
            std::iter::once((self.network, leases)).chain(others.iter().map(|(n, l)| (n, l.as_slice())));
        let boot = &self.context.boot;
        let (on, lease) = nearest(all, &Who::Vm(name.to_owned()), boot).ok_or_else(|| {
            let own = &self.network.name;
            Fault::missing(format!("there is no VM {name:?} on network {own}, nor on another that is up"))
                .hint("hybrid-hook leases shows who is")
        })?;
        let mut hop = by_dhcp(on, lease, boot);
        if on.name == self.network.name {
            return Ok(vec![hop]);
        }
        if self.is_bare() && hop.works == Some(true) {
            hop.works = Some(false);
            hop.detail = format!("{}; from there the full name is needed", hop.detail);
        }
        // That network's resolver asks this one's for its names, and outside itself.
        let mut heard = ask_ours(on, self.target, self.source, deadline);
        if self.source != Source::Upstream {
            for hop in &mut heard.hops {
                hop.what = format!("{}, which asks that of network {}", hop.what, self.network.name);
            }
        }
        Ok(std::iter::once(hop).chain(heard.hops).collect())
    }

    fn of_container(&self, name: &DockerName, deadline: Deadline) -> Result<Vec<Hop>> {
        let docker = Docker::connect(deadline.at_most(ASK))?;
        let id = docker.find_container(name, deadline.at_most(ASK))?;
        let pid = docker.pid(&id, deadline.at_most(ASK))?;
        let what = format!("Docker's resolver in container {:?} ({DOCKERS})", name.as_str());
        let listing = docker.containers(deadline.at_most(ASK))?;
        let own_bridge = listing
            .containers
            .iter()
            .any(|c| c.id == id && matches!(c.created_on.as_str(), "default" | "bridge"));
        let Some(pid) = pid else {
            let detail = "it does not run".to_owned();
            return Ok(vec![Hop { what, works: Some(false), detail }]);
        };
        let target = self.target.clone();
        let asked = docker::inside_namespace(pid, deadline, move || {
            ask_all(SocketAddr::new(DOCKERS.into(), 53), &target, deadline.at_most(HOSTS))
        });
        let hop = match asked {
            Ok(answers) => {
                let found: Vec<&String> = answers.iter().flat_map(Answer::records).collect();
                let detail = words(self.target, &answers);
                // It has names of its own for the containers of each of its networks.
                let works = if matches!(self.target, Target::Address(_)) {
                    found.is_empty() == self.answers.is_empty()
                } else {
                    found.is_empty() == self.answers.is_empty()
                        && (found.is_empty() || found.iter().any(|f| self.answers.contains(*f)))
                };
                let detail = if own_bridge && !works { format!("{detail}; {OWN_BRIDGE}") } else { detail };
                Hop { what, works: Some(works), detail }
            }
            Err(fault) => Hop {
                what,
                works: Some(false),
                detail: if own_bridge { format!("{fault}; {OWN_BRIDGE}") } else { fault.to_string() },
            },
        };
        Ok(vec![hop, self.reach(Asker::Containers, deadline)?])
    }
}

fn runs(lease: &Lease, boot: &BootId) -> bool {
    lease.state_now(boot) == LeaseState::Active
}

/// The lease of the one who asks, and its network: of several NICs, or VMs of other times, one that runs, and of
/// those one of the first network.
pub(super) fn nearest<'a>(
    all: impl Iterator<Item = (&'a Network, &'a [Lease])>,
    who: &Who,
    boot: &BootId,
) -> Option<(&'a Network, &'a Lease)> {
    all.flat_map(|(network, leases)| leases.iter().map(move |l| (network, l)))
        .filter(|(_, l)| who.is(l))
        .min_by_key(|(_, l)| !runs(l, boot))
}

/// Whom a VM asks that has its resolver from a network's DHCP.
pub(super) fn by_dhcp(network: &Network, lease: &Lease, boot: &BootId) -> Hop {
    let (works, detail) = match (runs(lease, boot), lease.sole_nic) {
        (false, _) => (Some(false), "it does not run".to_owned()),
        (true, true) => (
            Some(true),
            format!("DHCP names the resolver of network {}, and {} to search", network.name, network.zone),
        ),
        (true, false) => (
            None,
            "it has another NIC, and asks whom that one's network names, unless the guest is set up otherwise"
                .to_owned(),
        ),
    };
    Hop { what: format!("resolver of {}", lease.holder()), works, detail }
}
