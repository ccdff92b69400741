//! Looks at everything and changes nothing. Docker, libvirt, systemd and nft are each asked on a thread of
//! their own: one that hangs costs its own answer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use super::ask::{Question, ask};
use super::record::{HookRecord, HookState, NameClashRecord, NamesRecord};
use crate::deadline::Deadline;
use crate::host::bridge::{self, BridgeState, PortBrief};
use crate::host::dns::{self, DnsState};
use crate::host::docker::{Docker, DockerNetwork, Version, plugin};
use crate::host::firewall::{self, TableState};
use crate::host::libvirt::{Libvirt, LibvirtNetwork, VersionNumber};
use crate::host::resolver;
use crate::host::sysctl::{self, Reading};
use crate::model::{
    Fault, InterfaceName, Lease, LeaseRecord, LeaseState, MacAddress, Network, NetworkName, Result,
};
use crate::ops::follow::{self, Stranded};
use crate::ops::install::state::HookStanding;
use crate::ops::install::{self, Installation};
use crate::ops::{Context, names, surroundings};
use crate::places;
use crate::registry::lock::Lock;
use crate::registry::{Registry, networks, snapshot, status};

/// How long a daemon or program is waited for.
pub(in crate::ops) const ASK: Duration = Duration::from_secs(3);
/// The kernel and our own files: answered at once.
const LOCAL: Duration = Duration::from_secs(2);

/// Everything that was seen.
#[derive(Debug)]
pub(in crate::ops) struct Facts {
    /// Whether we may see everything.
    pub(in crate::ops) root: bool,
    pub(in crate::ops) networks: Vec<NetworkFacts>,
    /// Networks whose files can't be read.
    pub(in crate::ops) unreadable: Vec<Fault>,
    /// Our table, against all networks that are up.
    pub(in crate::ops) nat: Result<TableState>,
    pub(in crate::ops) docker: Result<DockerFacts>,
    pub(in crate::ops) libvirt: Result<LibvirtFacts>,
    pub(in crate::ops) installation: Result<Installation>,
    /// Our hooks, with where they lead.
    pub(in crate::ops) hooks: Vec<HookRecord>,
    /// The process that is the service.
    pub(in crate::ops) service: Option<u32>,
}

/// What the kernel and our own files say of a network.
#[derive(Debug)]
pub(in crate::ops) struct NetworkFacts {
    pub(in crate::ops) network: Network,
    pub(in crate::ops) file: PathBuf,
    /// Whether it is to be up.
    pub(in crate::ops) up: bool,
    /// What the file says since it was last applied, if that is something else.
    pub(in crate::ops) edited: Option<Result<Network>>,
    /// The bridge that was made for it, should the file name another since; of one without a copy of its file.
    pub(in crate::ops) former_bridge: Option<InterfaceName>,
    pub(in crate::ops) leases: Result<Vec<LeaseRecord>>,
    pub(in crate::ops) bridge: Result<Option<BridgeState>>,
    /// The MAC at the other end of each port that is a veth; `None`: only root can see it.
    pub(in crate::ops) inside: Option<BTreeMap<String, MacAddress>>,
    /// Taps of active leases that are not on the bridge, and what became of them.
    pub(in crate::ops) lost_taps: Vec<(LeaseRecord, Option<PortBrief>)>,
    pub(in crate::ops) dns: Result<DnsState>,
    /// Files that are not as the registry says; `None`: only root can know.
    pub(in crate::ops) stale_files: Option<Vec<PathBuf>>,
    pub(in crate::ops) settings: Result<Vec<Reading>>,
    /// How the host's own resolvers were told; `None` where they are to be told nothing.
    pub(in crate::ops) resolver: Result<Option<resolver::State>>,
    /// Whether Docker finds our address driver, where the network wants it.
    pub(in crate::ops) driver: Result<()>,
    /// Who can resolve its names and who goes without one; `None` while it is down or was not looked at.
    pub(in crate::ops) names: Option<NamesRecord>,
}

#[derive(Debug)]
pub(in crate::ops) struct DockerFacts {
    pub(in crate::ops) version: Version,
    pub(in crate::ops) networks: BTreeMap<NetworkName, Result<DockerView>>,
    /// Every Docker network's subnets.
    pub(in crate::ops) subnets: Result<Vec<(String, IpNet)>>,
}

/// The Docker network of one of ours.
#[derive(Debug)]
pub(in crate::ops) struct DockerView {
    pub(in crate::ops) there: Option<DockerNetwork>,
    /// In what it is not as it should be; a fault: what is there can't be made so.
    pub(in crate::ops) differences: Result<Vec<String>>,
}

#[derive(Debug)]
pub(in crate::ops) struct LibvirtFacts {
    pub(in crate::ops) daemon: VersionNumber,
    pub(in crate::ops) networks: Result<Vec<LibvirtNetwork>>,
    /// Domains that ask for a Docker network which nobody follows any more.
    pub(in crate::ops) stranded: Vec<Stranded>,
}

/// Looks at one network, or at all.
pub(in crate::ops) fn look(context: &Context, only: Option<&NetworkName>) -> Result<Facts> {
    let root = places::is_root();
    let only_all = only.is_none();
    let (chosen, unreadable) = match only {
        Some(name) => (vec![networks::load(&context.places, name)?], Vec::new()),
        None => networks::load_all(&context.places)?,
    };
    let docker = ask("Docker", ASK, {
        let networks = chosen.clone();
        move |deadline| docker_facts(&networks, deadline)
    });
    let libvirt = ask("libvirt", ASK, {
        let known = networks::names(&context.places)?;
        // Of one network alone nothing is asked about the others.
        move |deadline| libvirt_facts(only_all.then_some(known.as_slice()), deadline)
    });
    let installation = ask("systemd", ASK, |deadline| install::state(Path::new("/"), deadline));
    let nat = nat(context, root);
    let mut networks: Vec<_> = chosen.into_iter().map(|network| local(context, network, root)).collect();
    let docker = docker.answer();
    for of in &mut networks {
        of.names = names_of(context, of, docker.as_ref().ok()).filter(|_| root && of.up);
    }
    let installation = installation.answer();
    Ok(Facts {
        root,
        hooks: installation.as_ref().map(hooks).unwrap_or_default(),
        networks,
        unreadable,
        nat: nat.answer(),
        docker,
        libvirt: libvirt.answer(),
        installation,
        service: Lock::holder(&context.places.run.join("watch.lock")),
    })
}

impl Facts {
    /// Looks once more at what the kernel and our own files say: a claim, a start or a restart may have
    /// been under way.
    pub(in crate::ops) fn look_again(&mut self, context: &Context) {
        let root = self.root;
        for facts in &mut self.networks {
            let names = facts.names.take();
            let network = networks::load(&context.places, &facts.network.name);
            let network = network.unwrap_or_else(|_| facts.network.clone());
            *facts = NetworkFacts { names, ..local(context, network, root) };
        }
        self.service = Lock::holder(&context.places.run.join("watch.lock"));
    }
}

/// Our hooks. A link to another copy of us than the one that looks is in order, as long as it is there.
fn hooks(installation: &Installation) -> Vec<HookRecord> {
    let record = |hook: &install::state::HookState| {
        let target = std::fs::read_link(&hook.path).ok();
        let state = match hook.state {
            HookStanding::Absent => HookState::Absent,
            HookStanding::Other => HookState::Other,
            HookStanding::Ours | HookStanding::Moved if hook.path.exists() => HookState::Ours,
            HookStanding::Ours | HookStanding::Moved => HookState::Dangling,
        };
        HookRecord { kind: hook.kind.clone(), path: hook.path.clone(), target, state }
    };
    installation.hooks.iter().map(record).collect()
}

/// What only root can see, and whether it is there to be looked at.
pub(in crate::ops) fn root_only() -> Fault {
    Fault::failed("only root can look at it")
}

fn nat(context: &Context, root: bool) -> Question<TableState> {
    let context = context.clone();
    ask("nft", ASK, move |deadline| {
        if !root {
            return Err(root_only());
        }
        let (up, unreadable) = surroundings::up_networks(&context)?;
        match firewall::state(&up, deadline)? {
            TableState::Stale if !unreadable.is_empty() => Err(Fault::failed(
                "the file of another network, whose rules are in the same table, can't be read",
            )),
            state => Ok(state),
        }
    })
}

/// Who resolves a network's names, by what was seen of the host's resolver and of Docker.
fn names_of(context: &Context, of: &NetworkFacts, docker: Option<&DockerFacts>) -> Option<NamesRecord> {
    let state = of.resolver.as_ref().ok()?.as_ref();
    let engine = docker.map(|d| d.version.engine.as_str());
    let reach = names::reach_as_seen(context, &of.network, state, engine).ok()?;
    let clashes = names::clashes(context, &of.network).ok()?;
    Some(NamesRecord { reach, clashes: clashes.into_iter().map(NameClashRecord::from).collect() })
}

/// The kernel and our own files.
fn local(context: &Context, network: Network, root: bool) -> NetworkFacts {
    let deadline = Deadline::after(LOCAL);
    let resolver = ask("the host's resolver", LOCAL, {
        let network = network.clone();
        move |deadline| {
            let told = network.resolvers().next().is_some();
            told.then(|| resolver::state(&network, deadline)).transpose()
        }
    });
    let places = &context.places;
    let (status, registry) = if root {
        (status::load(places, &network.name).ok(), Some(Registry::of(places, &network.name).read()))
    } else {
        (None, None)
    };
    let published = snapshot::read(places, &network.name);
    // What is published is withdrawn when a network goes down.
    let up = status.as_ref().map_or_else(|| matches!(&published, Ok(Some(s)) if s.up), |s| s.up);
    let stale_files = match &registry {
        Some(Ok(leases)) if up => stale(context, &network, leases, &published),
        _ => None,
    };
    let leases = match registry {
        Some(Ok(leases)) => Ok(LeaseRecord::all(&network, &leases, &context.boot)),
        Some(Err(fault)) => Err(fault),
        None => published.map(|p| p.map(|s| s.leases).unwrap_or_default()),
    };
    let bridge = bridge::read(&network.bridge, deadline);
    let ports = bridge.as_ref().ok().and_then(Option::as_ref).map(|b| b.ports.as_slice()).unwrap_or_default();
    let lost_taps = lost_taps(leases.as_deref().unwrap_or_default(), &network, ports, deadline);
    let edited = networks::edited(places, &network).filter(|_| up);
    NetworkFacts {
        file: places.network_file(&network.name),
        up,
        former_bridge: status.and_then(|s| s.bridge).filter(|b| *b != network.bridge && edited.is_none()),
        edited,
        inside: if root { bridge::inside_macs(ports, deadline).ok() } else { None },
        lost_taps,
        dns: dns::state(&network, places),
        stale_files,
        settings: bridge::uplinks(deadline).and_then(|uplinks| sysctl::read(&network, &uplinks)),
        driver: plugin::check_there(&network),
        resolver: resolver.answer(),
        names: None,
        leases,
        bridge,
        network,
    }
}

/// dnsmasq's files and the published snapshot, where they are not as the registry says.
fn stale(
    context: &Context,
    network: &Network,
    leases: &[Lease],
    published: &Result<Option<snapshot::Snapshot>>,
) -> Option<Vec<PathBuf>> {
    let fitting = surroundings::rendered(context, network, leases.to_vec());
    let (together, _) = surroundings::up_networks(context).ok()?;
    let mut stale = dns::stale(network, &together, &context.places, &fitting).ok()?;
    let wanted = snapshot::Snapshot::of(network, true, leases, &context.boot);
    if !matches!(published, Ok(Some(is)) if *is == wanted) {
        stale.push(context.places.snapshot(&network.name));
    }
    Some(stale)
}

fn lost_taps(
    leases: &[LeaseRecord],
    network: &Network,
    ports: &[bridge::Port],
    deadline: Deadline,
) -> Vec<(LeaseRecord, Option<PortBrief>)> {
    let active = leases.iter().filter(|l| l.state == LeaseState::Active);
    active
        .filter_map(|lease| {
            let tap = lease.tap.as_ref()?;
            if ports.iter().any(|p| p.name == tap.as_str()) {
                return None;
            }
            let brief = bridge::port(tap, deadline).ok()?;
            let there = |b: &PortBrief| b.master.as_deref() == Some(network.bridge.as_str());
            (!brief.as_ref().is_some_and(there)).then(|| (lease.clone(), brief))
        })
        .collect()
}

fn docker_facts(networks: &[Network], deadline: Deadline) -> Result<DockerFacts> {
    let docker = Docker::connect(deadline)?;
    let view = |network: &Network| -> Result<DockerView> {
        let there = docker.read_network(&network.docker_network, deadline)?;
        if let Some(id) = &network.follows {
            // Of somebody else's network only one thing can be wrong: that it is another.
            let there = there.filter(|t| t.id == id.as_str());
            return Ok(DockerView { there, differences: Ok(Vec::new()) });
        }
        let differences = there.as_ref().map_or(Ok(Vec::new()), |t| docker.differences(network, t));
        Ok(DockerView { there, differences })
    };
    Ok(DockerFacts {
        networks: networks.iter().map(|n| (n.name.clone(), view(n))).collect(),
        subnets: docker.all_subnets(deadline),
        version: docker.version().clone(),
    })
}

fn libvirt_facts(networks: Option<&[NetworkName]>, deadline: Deadline) -> Result<LibvirtFacts> {
    let libvirt = Libvirt::find()?;
    let version = libvirt.version(deadline)?;
    let Some(daemon) = version.daemon else {
        let why = version.unreachable.unwrap_or_else(|| "libvirt's daemon does not answer".to_owned());
        return Err(Fault::missing(why).hint("systemctl start libvirtd, or virtqemud and virtnetworkd"));
    };
    // An ordinary user may not be let in; then nothing is known of domains.
    let stranded = networks.map(|known| follow::stranded(known, deadline).unwrap_or_default());
    Ok(LibvirtFacts { daemon, networks: libvirt.networks(deadline), stranded: stranded.unwrap_or_default() })
}
