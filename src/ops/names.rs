//! Names: who goes without one, and who of those who might ask can resolve a network's names.

use std::net::IpAddr;
use std::path::Path;

use serde::Serialize;

use crate::deadline::Deadline;
use crate::host::docker::Docker;
use crate::host::firewall;
use crate::host::resolver::{self, State};
use crate::model::naming::{self, Clash};
use crate::model::{Lease, LeaseState, Network, Origin, Result};
use crate::registry::Registry;

use super::Context;

/// The names that guests of a network asked for and do not have, by the rule of [`naming`].
///
/// # Errors
/// The registry can't be read.
pub fn clashes(context: &Context, network: &Network) -> Result<Vec<Clash>> {
    let leases = Registry::of(&context.places, &network.name).read()?;
    Ok(naming::settle(leases, &context.boot).1)
}

/// Who may ask for a network's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Asker {
    /// The host itself.
    Host,
    /// Containers on the network, and on other networks that somebody made (not Docker's own `bridge`).
    Containers,
    /// VMs on the network.
    Vms,
}

/// Whether names are resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Works {
    /// Bare and full names.
    Yes,
    /// Full names (`db.hybrid.internal`) only.
    FullNames,
    /// It depends on what can't be seen from here.
    Maybe,
    /// None.
    No,
}

/// Whether, and by which way, somebody resolves a network's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Reach {
    /// Who asks.
    pub asker: Asker,
    /// Whether it works.
    pub works: Works,
    /// By which way, or why not.
    pub path: String,
    /// The one line that mends it, where it does not work.
    pub mend: Option<String>,
}

/// Who can resolve a network's names. Asks systemd and Docker, each for a moment; changes nothing.
///
/// # Errors
/// The host's settings or the registry can't be read.
pub fn reach(context: &Context, network: &Network, deadline: Deadline) -> Result<Vec<Reach>> {
    let ask = deadline.at_most(super::ASK);
    let state = resolver::state(network, ask)?;
    let docker = Docker::connect(ask).ok().map(|d| d.version().engine.clone());
    reach_as_seen(context, network, Some(&state), docker.as_deref())
}

/// As [`reach`], by what was seen already: the host's resolver, `None` where it has nothing to be told, and the
/// version of Docker's engine, where that answers.
///
/// # Errors
/// The registry can't be read.
pub(super) fn reach_as_seen(
    context: &Context,
    network: &Network,
    state: Option<&State>,
    docker: Option<&str>,
) -> Result<Vec<Reach>> {
    let mut leases = Registry::of(&context.places, &network.name).read()?;
    leases.retain(|l| l.state_now(&context.boot) == LeaseState::Active);
    Ok(judge(network, state, docker, &leases, &context.places.network_file(&network.name)))
}

/// Decides it; `leases` are the active ones.
fn judge(
    network: &Network,
    state: Option<&State>,
    docker: Option<&str>,
    leases: &[Lease],
    file: &Path,
) -> Vec<Reach> {
    let Some(state) = state.filter(|_| network.resolvers().next().is_some()) else {
        let why = "the bridge is adopted and has no address on which names could be asked";
        let mend = format!("address = \"…\" in {}, then: hybrid-hook apply {}", file.display(), network.name);
        return [Asker::Host, Asker::Containers, Asker::Vms]
            .map(|asker| Reach { asker, works: Works::No, path: why.to_owned(), mend: Some(mend.clone()) })
            .to_vec();
    };
    let host = host(network, state, file);
    let containers = docker.map(|engine| containers(network, state, engine, &host));
    [Some(host), containers, Some(vms(network, leases))].into_iter().flatten().collect()
}

fn bare(network: &Network, state: &State) -> Works {
    let searched = state.conf.search.iter().any(|s| s.as_str() == network.zone.as_str());
    if searched { Works::Yes } else { Works::FullNames }
}

fn host(network: &Network, state: &State, file: &Path) -> Reach {
    let reach = |works, path: String, mend: Option<String>| Reach { asker: Asker::Host, works, path, mend };
    let apply = || Some(format!("hybrid-hook apply {}", network.name));
    let bridge = &network.bridge;
    let first = state.conf.servers.first().copied();
    if state.host_asks_resolved() {
        let link = state.resolved.as_ref();
        let asked = link.is_some_and(|l| l.domains.iter().any(|(d, _)| d.as_str() == network.zone.as_str()));
        return match (state.resolved_told && asked, link.is_some_and(|l| l.carrier)) {
            (true, true) => reach(Works::Yes, format!("systemd-resolved, link {bridge}"), None),
            (true, false) => {
                reach(Works::Yes, format!("systemd-resolved, link {bridge}, once a guest is on it"), None)
            }
            (false, _) if network.adopt && state.resolved_told => {
                let servers = network.resolvers().map(|a| a.to_string()).collect::<Vec<_>>().join(" and ");
                let path = format!("systemd-resolved has another resolver for the adopted bridge {bridge}");
                let mend = format!("have that resolver forward {} to {servers}", network.zone);
                reach(Works::No, path, Some(mend))
            }
            (false, _) => reach(Works::No, "systemd-resolved was not told".to_owned(), apply()),
        };
    }
    if let Some(told) = state.network_manager_told
        && first.is_some_and(|a| a.is_loopback())
    {
        return match told {
            true => reach(bare(network, state), "NetworkManager's dnsmasq".to_owned(), None),
            false => reach(Works::No, "NetworkManager's dnsmasq was not told".to_owned(), apply()),
        };
    }
    let ours = |a: IpAddr| a == IpAddr::V4(network.loopback()) || network.resolvers().any(|r| r == a);
    if let Some(first) = first.filter(|a| ours(*a)) {
        return reach(bare(network, state), format!("{}: {first} is ours", resolver::RESOLV_CONF), None);
    }
    let asks = first.map_or_else(|| "nobody".to_owned(), |a| a.to_string());
    let path = format!("{} asks {asks}", resolver::RESOLV_CONF);
    if state.resolved.is_some() {
        let mend = "ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf".to_owned();
        return reach(Works::No, format!("{path}, past systemd-resolved"), Some(mend));
    }
    if network.host_dns {
        return reach(Works::No, path, apply());
    }
    let mend = format!("host_dns = true in {}, then: hybrid-hook apply {}", file.display(), network.name);
    reach(Works::No, path, Some(mend))
}

fn containers(network: &Network, state: &State, engine: &str, host: &Reach) -> Reach {
    let reach = |works, path: String, mend| Reach { asker: Asker::Containers, works, path, mend };
    if state.docker_asks_for_containers() {
        let server = state.conf.servers.iter().find(|a| a.is_loopback()).map(ToString::to_string);
        let path = format!(
            "Docker's resolver, which asks {} from the host's side: {}",
            server.unwrap_or_default(),
            host.path
        );
        let works = if host.works == Works::No { Works::No } else { bare(network, state) };
        return reach(works, path, host.mend.clone());
    }
    if host.works != Works::No
        && state.conf.servers.first().is_some_and(|a| network.resolvers().any(|r| r == *a))
    {
        return reach(host.works, format!("Docker's resolver, which asks ours: {}", host.path), None);
    }
    // From 28 on Docker asks from the host's side, where nothing can be redirected without others.
    let asks_itself = major(engine).is_some_and(|major| major < 28);
    if asks_itself && !state.conf.servers.is_empty() && firewall::redirects(network) {
        let path = "Docker's resolver, whose question is redirected to ours where it leaves the bridge";
        return reach(Works::FullNames, path.to_owned(), None);
    }
    let side = if asks_itself { "container's" } else { "host's" };
    let path = format!("Docker's resolver asks {} from the {side} side", first_server(state));
    reach(Works::No, path, host.mend.clone())
}

fn first_server(state: &State) -> String {
    state.conf.servers.first().map_or_else(|| "nobody".to_owned(), ToString::to_string)
}

/// The first number of a version such as `20.10.24+dfsg1`.
fn major(engine: &str) -> Option<u32> {
    engine.split('.').next()?.parse().ok()
}

fn vms(network: &Network, leases: &[Lease]) -> Reach {
    let others: Vec<String> = leases
        .iter()
        .filter(|l| l.owner.as_ref().is_some_and(|o| o.origin == Origin::Domain) && !l.sole_nic)
        .map(Lease::holder)
        .collect();
    if others.is_empty() {
        return Reach {
            asker: Asker::Vms,
            works: Works::Yes,
            path: "DHCP names our resolver".to_owned(),
            mend: None,
        };
    }
    let server = network.resolvers().next().map(|a| a.to_string()).unwrap_or_default();
    Reach {
        asker: Asker::Vms,
        works: Works::Maybe,
        path: format!("a VM with another NIC asks whom that one's network names: {}", others.join(", ")),
        mend: Some(format!(
            "in the guest: resolvectl dns INTERFACE {server}; resolvectl domain INTERFACE {}",
            network.zone
        )),
    }
}

#[cfg(test)]
mod tests;
