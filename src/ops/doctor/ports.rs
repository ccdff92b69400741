//! Who else has the ports that our dnsmasq needs. Pure.

use super::checks::{Finding, NONE_UP, needs_root, up};
use super::look::Beyond;
use super::record::{Check, Status};
use crate::host::dns::Role;
use crate::host::listeners::Listener;
use crate::model::Network;
use crate::ops::inspect::look::{Facts, NetworkFacts};
use crate::ops::inspect::serves;

/// Whether port 53 or the DHCP port is somebody else's, on the bridge's address or on all.
pub(super) fn check(facts: &Facts, beyond: &Beyond) -> Check {
    let mut finding = Finding::new("ports", "ports 53 and 67 on the bridge are dnsmasq's");
    let serving: Vec<_> = up(facts).into_iter().filter(|n| serves(&n.network)).collect();
    if serving.is_empty() {
        let why = if up(facts).is_empty() { NONE_UP } else { "no bridge has an address of its own" };
        return finding.skipped(why, None);
    }
    if !facts.root {
        // Others' sockets have no name then, ours included.
        return needs_root(finding);
    }
    let listeners = match &beyond.listeners {
        Ok(listeners) => listeners,
        Err(fault) => return finding.skipped(fault.to_string(), fault.hint_text().map(str::to_owned)),
    };
    for of in serving {
        let mut said = Vec::new();
        for other in listeners.iter().filter(|l| in_the_way(l, of)) {
            let who = other.process.as_ref().map_or_else(
                || "a process that can't be seen".to_owned(),
                |p| format!("{} (pid {})", p.name, p.pid),
            );
            let place = other.address.map_or_else(|| "every address".to_owned(), |a| a.to_string());
            let detail = format!("{who} has port {} on {place}", other.port);
            if said.contains(&detail) {
                continue;
            }
            said.push(detail.clone());
            // Where ours has its socket as well, only broadcasts may go to the wrong one.
            let role = if other.port == 53 { Role::Names } else { Role::Addresses };
            let own = of.dns.as_ref().ok().map(|d| d.of(role));
            let has = own.and_then(|daemon| daemon.socket);
            let status = if has == Some(true) { Status::Warn } else { Status::Fail };
            let bridge = &of.network.bridge;
            let again = if own.is_some_and(|daemon| daemon.supervised) {
                format!("systemctl restart {}", role.unit(&of.network.name))
            } else {
                "hybrid-hook apply".to_owned()
            };
            finding.note(status, detail, [format!("stop {who}, or keep it off {bridge}; then: {again}")]);
        }
    }
    finding.or("nobody else listens there")
}

/// Whether a socket takes, or shares, what is meant for a network's dnsmasq.
fn in_the_way(listener: &Listener, of: &NetworkFacts) -> bool {
    let network = &of.network;
    let is_own = |pid| of.dns.as_ref().is_ok_and(|d| d.each().iter().any(|(_, own)| own.pid == Some(pid)));
    if listener.process.as_ref().is_some_and(|p| is_own(p.pid)) || !needs(network, listener.port) {
        return false;
    }
    let here = listener.device.as_deref().is_none_or(|device| device == network.bridge.as_str());
    let address = listener.address;
    here && address.is_none_or(|a| network.families().any(|f| f.address == Some(a)))
}

/// Whether a network's dnsmasq needs a port.
fn needs(network: &Network, port: u16) -> bool {
    let serves = |family: &Option<crate::model::Family>| family.as_ref().is_some_and(|f| f.address.is_some());
    match port {
        67 => serves(&network.ipv4),
        547 => serves(&network.ipv6),
        _ => true,
    }
}
