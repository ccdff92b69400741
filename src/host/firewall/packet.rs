//! What a packet filter does with a packet, as far as its rules can be understood. Pure.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// A packet to ask about.
#[derive(Debug, Clone)]
pub(super) struct Packet<'a> {
    /// The interface that it comes by; `None`: one that no rule names.
    pub(super) from: Option<&'a str>,
    /// The interface that it leaves by; `None`: one that no rule names, or the host itself.
    pub(super) to: Option<&'a str>,
    /// `udp`, `tcp`.
    pub(super) protocol: &'a str,
    /// The destination's port; `None`: any.
    pub(super) port: Option<u16>,
    /// The sender, where it is known.
    pub(super) source: Option<IpAddr>,
    /// It answers one that went the other way; else it is the first of its connection.
    pub(super) answer: bool,
}

/// Something that a rule asks of a packet.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub(super) on: On,
    pub(super) negated: bool,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(super) enum On {
    /// The interface that it comes by is one of these; a name may end in `+` or `*`.
    From(Vec<String>),
    /// The interface that it leaves by is one of these.
    To(Vec<String>),
    /// Its protocol is one of these.
    Protocol(Vec<String>),
    /// Its destination port is in one of these ranges.
    Port(Vec<(u16, u16)>),
    /// Its sender is in one of these.
    Source(Vec<IpNet>),
    /// Its connection's state is one of these, in lower case.
    State(Vec<String>),
    /// Something that is not understood here.
    Unknown,
}

/// What a rule does with a packet that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Accept,
    Drop,
    Return,
    /// On in another chain, and back.
    Jump(String),
    /// On in another chain, not back.
    Goto(String),
    /// Nothing that ends its way (a counter, a log).
    Continue,
}

/// A rule.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) conditions: Vec<Condition>,
    pub(super) target: Target,
}

/// A chain: its rules, and whether a packet that none of them ends is dropped.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    pub(super) steps: Vec<Step>,
    pub(super) drops: bool,
}

/// The chains of one table.
pub(super) type Chains = HashMap<String, Chain>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Yes,
    No,
    Maybe,
}

impl Condition {
    fn fits(&self, packet: &Packet<'_>) -> Fit {
        let known = match &self.on {
            On::From(names) => Some(named(names, packet.from)),
            On::To(names) => Some(named(names, packet.to)),
            On::Protocol(names) => Some(names.iter().any(|n| n == packet.protocol || n == "all")),
            On::Port(ranges) => packet.port.map(|p| ranges.iter().any(|(a, b)| (a..=b).contains(&&p))),
            On::Source(nets) => packet.source.map(|s| nets.iter().any(|n| n.contains(&s))),
            On::State(names) => {
                let state = if packet.answer { "established" } else { "new" };
                Some(names.iter().any(|n| n == state))
            }
            On::Unknown => None,
        };
        match known {
            None => Fit::Maybe,
            Some(fits) if fits != self.negated => Fit::Yes,
            Some(_) => Fit::No,
        }
    }
}

fn named(names: &[String], interface: Option<&str>) -> bool {
    names.iter().any(|name| match name.strip_suffix(['+', '*']) {
        Some("") => true,
        Some(start) => interface.is_some_and(|i| i.starts_with(start)),
        None => interface == Some(name),
    })
}

impl Step {
    fn fits(&self, packet: &Packet<'_>) -> Fit {
        let mut fit = Fit::Yes;
        for condition in &self.conditions {
            match condition.fits(packet) {
                Fit::No => return Fit::No,
                Fit::Maybe => fit = Fit::Maybe,
                Fit::Yes => {}
            }
        }
        fit
    }
}

/// Whether a base chain lets a packet through. A rule that may or may not fit is passed over: what we
/// say is that nothing we understand lets it through.
pub(super) fn passes(chains: &Chains, base: &str, packet: &Packet<'_>) -> bool {
    match walk(chains, base, packet, 0) {
        Some(accepted) => accepted,
        None => chains.get(base).is_none_or(|chain| !chain.drops),
    }
}

/// `None`: to its end without a verdict.
fn walk(chains: &Chains, name: &str, packet: &Packet<'_>, depth: u32) -> Option<bool> {
    // The kernel allows 16 jumps; what is read from a program's output may say anything.
    if depth > 16 {
        return None;
    }
    for step in &chains.get(name)?.steps {
        if step.fits(packet) != Fit::Yes {
            continue;
        }
        match &step.target {
            Target::Accept => return Some(true),
            Target::Drop => return Some(false),
            Target::Return => return None,
            Target::Goto(chain) => return walk(chains, chain, packet, depth + 1),
            Target::Jump(chain) => {
                if let Some(verdict) = walk(chains, chain, packet, depth + 1) {
                    return Some(verdict);
                }
            }
            Target::Continue => {}
        }
    }
    None
}
