//! What the checks look at beyond what `inspect` does. Changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::record::Versions;
use crate::deadline::Deadline;
use crate::host::bridge;
use crate::host::firewall::{self, Obstacle};
use crate::host::listeners::{self, Listener};
use crate::host::process::run_ok;
use crate::host::sysctl::{self, BridgeNetfilter};
use crate::model::overlap::Taken;
use crate::model::{InterfaceName, Network, NetworkName, Result};
use crate::ops::inspect::ask::{Question, ask};
use crate::ops::inspect::look::{ASK, Facts, root_only};

/// The kernel: answered at once.
const LOCAL: Duration = Duration::from_secs(2);
/// DNS, and DHCP of both families.
pub(super) const PORTS: [u16; 3] = [53, 67, 547];

/// What was seen.
#[derive(Debug)]
pub(super) struct Beyond {
    /// What stops each network's guests.
    pub(super) obstacles: Result<BTreeMap<NetworkName, Vec<Obstacle>>>,
    pub(super) listeners: Result<Vec<Listener>>,
    /// What routes and addresses take, for each network.
    pub(super) taken: BTreeMap<NetworkName, Result<Vec<Taken>>>,
    /// The uplinks and their MTUs.
    pub(super) uplinks: Vec<(InterfaceName, u32)>,
    pub(super) bridge_netfilter: Option<BridgeNetfilter>,
    /// The networks whose IPv6 packets can leave the host.
    pub(super) ipv6_forwards: Vec<NetworkName>,
    pub(super) versions: Versions,
}

/// Questions that are asked while `inspect` looks.
pub(super) struct Asked {
    listeners: Question<Vec<Listener>>,
    nft: Question<Option<String>>,
    dnsmasq: Question<Option<String>>,
}

/// Starts asking what does not depend on the networks.
pub(super) fn start() -> Asked {
    Asked {
        listeners: ask("ss", ASK, |deadline| listeners::listeners(&PORTS, deadline)),
        nft: ask("nft", ASK, |deadline| Ok(version_of(&["/usr/sbin/nft", "nft"], deadline))),
        dnsmasq: ask("dnsmasq", ASK, |deadline| Ok(version_of(&["/usr/sbin/dnsmasq", "dnsmasq"], deadline))),
    }
}

/// Waits for the answers and looks at the rest.
pub(super) fn finish(asked: Asked, facts: &Facts) -> Beyond {
    let networks: Vec<Network> = facts.networks.iter().map(|n| n.network.clone()).collect();
    let up: Vec<Network> = facts.networks.iter().filter(|n| n.up).map(|n| n.network.clone()).collect();
    let root = facts.root;
    let obstacles = ask("nft or iptables", ASK, move |deadline| {
        if !root {
            return Err(root_only());
        }
        up.iter().map(|n| Ok((n.name.clone(), firewall::obstacles(n, deadline)?))).collect()
    });
    let deadline = Deadline::after(LOCAL);
    let mtu = |name: InterfaceName| Some((name.clone(), bridge::port(&name, deadline).ok()??.mtu));
    Beyond {
        taken: networks.iter().map(|n| (n.name.clone(), bridge::taken(&n.bridge, deadline))).collect(),
        uplinks: bridge::uplinks(deadline).unwrap_or_default().all.into_iter().filter_map(mtu).collect(),
        bridge_netfilter: sysctl::bridge_netfilter(),
        ipv6_forwards: networks
            .iter()
            .filter(|n| sysctl::ipv6_forwards(&n.bridge))
            .map(|n| n.name.clone())
            .collect(),
        versions: Versions {
            hybrid_hook: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: Some(rustix::system::uname().release().to_string_lossy().into_owned()),
            nft: asked.nft.answer().ok().flatten(),
            dnsmasq: asked.dnsmasq.answer().ok().flatten(),
            docker: facts
                .docker
                .as_ref()
                .ok()
                .map(|d| format!("{} (API {})", d.version.engine, d.version.api)),
            libvirt: facts.libvirt.as_ref().ok().map(|l| l.daemon.to_string()),
        },
        listeners: asked.listeners.answer(),
        obstacles: obstacles.answer(),
    }
}

/// The first word of `--version` that begins with a digit, or with `v` and a digit.
fn version_of(programs: &[&str], deadline: Deadline) -> Option<String> {
    let output = programs.iter().find_map(|p| run_ok(p, &["--version"], b"", deadline).ok())?;
    version_in(&String::from_utf8_lossy(&output))
}

fn version_in(text: &str) -> Option<String> {
    let digits = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    let words = text.lines().next()?.split_whitespace().map(|w| w.strip_prefix('v').unwrap_or(w));
    words.map(str::to_owned).find(|w| digits(w))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_first_word_that_is_one() {
        assert_eq!(version_in("nftables v1.0.6 (Lester Gooch #5)\n").as_deref(), Some("1.0.6"));
        assert_eq!(version_in("Dnsmasq version 2.90  Copyright (c) 2000").as_deref(), Some("2.90"));
        assert_eq!(version_in(""), None);
    }
}
