//! Resolve: who would answer a name, from which source, by which way, and whether the way works now.

mod way;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::deadline::Deadline;
use crate::host::dns::{self, Answer, Kind};
use crate::model::naming::{self, Clash, OF_THE_HOST};
use crate::model::{
    BootId, DnsLabel, DockerName, Fault, Lease, LeaseState, Network, NetworkName, Origin, Result,
    lease_record, reverse,
};
use crate::registry::{Registry, networks};

use super::{Context, surroundings};

/// How long our resolver may take. It answers from memory.
const OURS: Duration = Duration::from_secs(2);

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// The host.
    Host,
    /// A VM, by its name.
    Vm(String),
    /// A container, by its name or id.
    Container(DockerName),
}

impl FromStr for Who {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "host" => Ok(Self::Host),
            Some(("vm", name)) if !name.is_empty() => Ok(Self::Vm(name.to_owned())),
            Some(("container", name)) => {
                Ok(Self::Container(name.parse().map_err(|e: crate::model::Invalid| e.to_string())?))
            }
            _ => Err("it is host, vm:NAME or container:NAME".to_owned()),
        }
    }
}

impl Who {
    /// Whether a lease is of this one.
    fn is(&self, lease: &Lease) -> bool {
        let of_container = lease.origin() == Some(Origin::Container);
        let named = |name: &str| lease.owner.as_ref().is_some_and(|o| o.name.as_deref() == Some(name));
        match self {
            Self::Host => false,
            Self::Vm(name) => {
                !of_container && (named(name) || lease.hostname.as_ref().is_some_and(|h| h.as_str() == name))
            }
            Self::Container(name) => {
                let name = name.as_str();
                // By its name or the beginning of its id, as Docker takes it.
                let id = || {
                    name.len() >= 4 && lease.owner.as_ref().is_some_and(|o| o.id.as_str().starts_with(name))
                };
                of_container && (named(name) || id())
            }
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Vm(name) => write!(f, "vm:{name}"),
            Self::Container(name) => write!(f, "container:{name}"),
        }
    }
}

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A lease of the registry.
    Registry,
    /// A name of the host's: `host`, `gateway`.
    Host,
    /// The host's own resolvers: the name is none of the zone's.
    Upstream,
    /// There is no such name.
    Nobody,
}

/// One part of the way from who asks to who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Hop {
    /// Which part.
    pub what: String,
    /// Whether it works now; `null` where that can't be tried from here.
    pub works: Option<bool>,
    /// What was seen, or why it does not work.
    pub detail: String,
}

/// A name, as it is resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Resolution {
    /// The version of this format: 1. Fields are only ever added within a version.
    pub format: u32,
    /// What was asked for.
    pub asked: String,
    /// The full name, or the address.
    pub name: String,
    /// On which network.
    pub network: NetworkName,
    /// By whom.
    pub asker: String,
    /// What our resolver answers now: addresses, or names for an address.
    pub answers: Vec<String>,
    /// Where that comes from.
    pub source: Source,
    /// The source in words.
    pub detail: String,
    /// The way, from who asks to who answers.
    pub path: Vec<Hop>,
    /// Whether every part of it works, as far as it could be tried.
    pub works: bool,
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Wish {
    /// A bare name, a full name, or an address.
    pub name: String,
    /// Who asks.
    pub who: Who,
    /// On which network; without it, the one whose zone or subnet it is, else that of who asks, else the one where
    /// somebody has the name, else the first that is up.
    pub network: Option<NetworkName>,
}

/// Asks, and tells how it went. Changes nothing.
///
/// # Errors
/// `Usage`: no name. `Missing`: no network is up, or the one who is to ask is not there.
pub fn resolve(context: &Context, wish: &Wish, deadline: Deadline) -> Result<Resolution> {
    let network = choose(context, wish)?;
    let leases = Registry::of(&context.places, &network.name).read()?;
    let target = Target::of(&network, &wish.name)?;
    let (source, detail) = source(context, &network, &target, &leases);
    let mut heard = ask_ours(&network, &target, source, deadline);
    let answers = heard.records();
    let asking = way::Asking {
        context,
        network: &network,
        target: &target,
        source,
        typed: &wish.name,
        answers: &answers,
    };
    let mut path = asking.way(&wish.who, &leases, deadline)?;
    let (source, detail) = match heard.nobody_outside(source, &target) {
        Some(why) => (Source::Nobody, why),
        None => (source, detail),
    };
    path.append(&mut heard.hops);
    Ok(Resolution {
        format: 1,
        asked: wish.name.clone(),
        name: target.to_string(),
        asker: wish.who.to_string(),
        works: !answers.is_empty() && path.iter().all(|hop| hop.works != Some(false)),
        network: network.name,
        answers,
        source,
        detail,
        path,
    })
}

/// What is asked for, in full.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// A name of the zone, in full.
    InZone(String),
    /// A name elsewhere.
    Elsewhere(String),
    /// The name of an address.
    Address(IpAddr),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InZone(name) | Self::Elsewhere(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl Target {
    fn of(network: &Network, text: &str) -> Result<Self> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let name = text.trim_end_matches('.').to_ascii_lowercase();
        if name.is_empty() {
            return Err(Fault::usage("there is no name to resolve"));
        }
        Ok(match name.parse::<DnsLabel>() {
            Ok(label) => Self::InZone(network.fqdn(&label)),
            Err(_) if within(&name, network) => Self::InZone(name),
            // One word is searched in the zone, also one that nobody can have there.
            Err(_) if !name.contains('.') => Self::InZone(format!("{name}.{}", network.zone)),
            Err(_) => Self::Elsewhere(name),
        })
    }

    /// The label, of a name directly in the zone.
    fn label(&self, network: &Network) -> Option<DnsLabel> {
        match self {
            Self::InZone(name) => name.strip_suffix(network.zone.as_str())?.strip_suffix('.')?.parse().ok(),
            _ => None,
        }
    }
}

/// Whether a name is of the network's zone.
fn within(name: &str, network: &Network) -> bool {
    name.strip_suffix(network.zone.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn choose(context: &Context, wish: &Wish) -> Result<Network> {
    if let Some(name) = &wish.network {
        return networks::load(&context.places, name);
    }
    let (up, _) = surroundings::up_networks(context)?;
    let leases = |n: &Network| Registry::of(&context.places, &n.name).read().unwrap_or_default();
    let all: Vec<(Network, Vec<Lease>)> = up.into_iter().map(|n| (n.clone(), leases(&n))).collect();
    let place = best(&all, wish, &context.boot);
    all.into_iter()
        .nth(place)
        .map(|(network, _)| network)
        .ok_or_else(|| Fault::missing("no network is up").hint("hybrid-hook network list shows all"))
}

/// The place of the network that a question is about: the one whose zone or subnet it is. Of a name in no zone, where
/// the one who asks is, whose own zone is searched; there, or where that is nowhere, where somebody has the name now,
/// or would if he ran.
fn best(all: &[(Network, Vec<Lease>)], wish: &Wish, boot: &BootId) -> usize {
    let name = wish.name.trim_end_matches('.').to_ascii_lowercase();
    let named = match wish.name.parse::<IpAddr>() {
        Ok(address) => all.iter().position(|(n, _)| n.families().any(|f| f.subnet.contains(&address))),
        // A zone can be within another.
        Err(_) => {
            let zones = all.iter().enumerate().filter(|(_, (n, _))| within(&name, n));
            zones.max_by_key(|(_, (n, _))| n.zone.as_str().len()).map(|(place, _)| place)
        }
    };
    let has = |leases: &[Lease]| leases.iter().any(|l| names(l).any(|n| n.as_str() == name));
    let fit = |(_, (network, leases)): &(usize, &(Network, Vec<Lease>))| {
        let asks = leases.iter().any(|l| l.state_now(boot) == LeaseState::Active && wish.who.is(l));
        let now = has(&naming::settle(leases.clone(), boot).0);
        (!asks, !now, !has(leases), network.name.as_str() != NetworkName::DEFAULT)
    };
    named.or_else(|| all.iter().enumerate().min_by_key(fit).map(|(place, _)| place)).unwrap_or(0)
}

fn names(lease: &Lease) -> impl Iterator<Item = &DnsLabel> {
    lease.hostname.iter().chain(&lease.aliases)
}

/// Why there is no answer from outside on a network that follows an internal one.
const INTERNAL: &str = "the network is internal: nobody outside is asked";

/// Who has the name, or why nobody has.
fn source(context: &Context, network: &Network, target: &Target, leases: &[Lease]) -> (Source, String) {
    let (settled, clashes) = naming::settle(leases.to_vec(), &context.boot);
    let has = |lease: &Lease| format!("{}, since {}", lease.holder(), lease_record::timestamp(lease.since));
    if let Target::Address(address) = target {
        let of = |lease: &&Lease| {
            lease.address == *address || lease.ipv6(network).map(IpAddr::V6) == Some(*address)
        };
        if network.families().any(|f| f.address == Some(*address) || f.gateway == *address) {
            return (Source::Host, "the host's own address on the bridge".to_owned());
        }
        return match settled.iter().find(of) {
            Some(lease) if lease.hostname.is_some() => (Source::Registry, has(lease)),
            Some(lease) if lease.state_now(&context.boot) != LeaseState::Active => {
                (Source::Nobody, format!("{} does not run: only what runs has a name", lease.holder()))
            }
            Some(lease) => (Source::Nobody, format!("{} has no host name of its own", lease.holder())),
            None if network.families().any(|f| f.subnet.contains(address)) => {
                (Source::Nobody, "no lease has that address".to_owned())
            }
            None if network.internal => (Source::Nobody, INTERNAL.to_owned()),
            None => (Source::Upstream, "the host's own resolvers".to_owned()),
        };
    }
    let Some(label) = target.label(network) else {
        return match target {
            Target::InZone(name) => (Source::Nobody, no_name(name, network)),
            _ if network.internal => (Source::Nobody, INTERNAL.to_owned()),
            _ => (Source::Upstream, "the host's own resolvers".to_owned()),
        };
    };
    if OF_THE_HOST.contains(&label.as_str()) {
        return (Source::Host, "a name that every zone has".to_owned());
    }
    let holders: Vec<&Lease> = settled.iter().filter(|l| names(l).any(|n| *n == label)).collect();
    let lost: Vec<&Clash> = clashes.iter().filter(|c| c.name == label).collect();
    if !holders.is_empty() {
        let mut words: Vec<String> = holders.iter().map(|l| has(l)).collect();
        for clash in lost {
            words.push(format!("{} asked for it too and goes without", clash.asker));
        }
        return (Source::Registry, words.join("; "));
    }
    let idle = leases.iter().find(|l| names(l).any(|n| *n == label));
    match idle {
        Some(lease) => {
            (Source::Nobody, format!("{} does not run: only what runs has a name", lease.holder()))
        }
        None => (Source::Nobody, "no guest has that name".to_owned()),
    }
}

/// Why no guest can have a name of the zone.
fn no_name(name: &str, network: &Network) -> String {
    let zone = &network.zone;
    let Some(word) = name.strip_suffix(zone.as_str()).and_then(|rest| rest.strip_suffix('.')) else {
        return format!("the zone {zone} itself has no address");
    };
    if word.contains('.') {
        return format!("the zone {zone} has no names of more than one label");
    }
    match DnsLabel::from_any(word) {
        Some(label) => format!("{word:?} is no name in DNS; a guest called so has the name {label}"),
        None => format!("{word:?} is no name in DNS; a guest called so has none"),
    }
}

/// What our resolver answered, at all of its addresses.
struct Heard {
    answers: Vec<Answer>,
    hops: Vec<Hop>,
}

impl Heard {
    /// Each record once.
    fn records(&self) -> Vec<String> {
        let mut records: Vec<String> = Vec::new();
        for record in self.answers.iter().flat_map(Answer::records) {
            if !records.contains(record) {
                records.push(record.clone());
            }
        }
        records
    }

    /// Why there is no answer from outside, where our resolver does what it should.
    fn nobody_outside(&self, source: Source, target: &Target) -> Option<String> {
        let works = !self.hops.is_empty() && self.hops.iter().all(|hop| hop.works == Some(true));
        if source != Source::Upstream || !works || !self.records().is_empty() {
            return None;
        }
        let why = if matches!(target, Target::Address(_)) {
            "the host's own resolvers know no name of it"
        } else if self.answers.contains(&Answer::NoSuchName) {
            "the host's own resolvers know no such name"
        } else {
            "the name is there, but no address of it comes from the host's own resolvers"
        };
        Some(why.to_owned())
    }
}

/// Asks our resolver, at each of its addresses.
fn ask_ours(network: &Network, target: &Target, source: Source, deadline: Deadline) -> Heard {
    let mut heard = Heard { answers: Vec::new(), hops: Vec::new() };
    for server in network.resolvers() {
        let what = format!("dnsmasq of network {} at {server}", network.name);
        let hop = match ask_all(SocketAddr::new(server, 53), target, deadline.at_most(OURS)) {
            Ok(answers) => {
                let hop =
                    Hop { what, works: Some(is_right(source, &answers)), detail: words(target, &answers) };
                heard.answers.extend(answers);
                hop
            }
            Err(fault) => Hop { what, works: Some(false), detail: fault.to_string() },
        };
        heard.hops.push(hop);
    }
    heard
}

/// Whether our resolver answers as it should. That there is no such name is an answer; for a guest's name it is not
/// the right one.
fn is_right(source: Source, answers: &[Answer]) -> bool {
    let found = answers.iter().any(|a| !a.records().is_empty());
    match source {
        Source::Registry | Source::Host => found,
        Source::Upstream => found || !answers.iter().any(|a| matches!(a, Answer::Error(_))),
        Source::Nobody => true,
    }
}

/// What there is to ask of a target.
fn kinds(target: &Target) -> &'static [Kind] {
    match target {
        Target::Address(_) => &[Kind::Ptr],
        _ => &[Kind::A, Kind::Aaaa],
    }
}

/// Asks a resolver for all that the target can have: an answer for each of [`kinds`].
fn ask_all(server: SocketAddr, target: &Target, deadline: Deadline) -> Result<Vec<Answer>> {
    let name = match target {
        Target::Address(address) => reverse::name_of(*address),
        name => name.to_string(),
    };
    kinds(target).iter().map(|kind| dns::ask(server, &name, *kind, deadline)).collect()
}

/// The answers of [`ask_all`] in words.
fn words(target: &Target, answers: &[Answer]) -> String {
    let said = |answer: &Answer| match answer {
        Answer::Records(records) if records.is_empty() => "no data".to_owned(),
        Answer::Records(records) => records.join(" "),
        Answer::NoSuchName => "no such name".to_owned(),
        Answer::Error(code) => code.clone(),
    };
    let all = kinds(target).iter().zip(answers).map(|(kind, a)| format!("{}: {}", word(*kind), said(a)));
    all.collect::<Vec<_>>().join(", ")
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::A => "A",
        Kind::Aaaa => "AAAA",
        Kind::Ptr => "PTR",
    }
}

#[cfg(test)]
mod tests;
