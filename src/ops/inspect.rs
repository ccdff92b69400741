//! Inspect: networks as they should be and as they are, what differs, and the command that mends it.
//! Changes nothing.

pub(super) mod ask;
mod differ;
pub(super) mod host;
pub(super) mod look;
mod pools;
mod ports;
mod record;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(super) use differ::serves;
pub use record::*;

use super::Context;
use crate::deadline::Deadline;
use crate::host::bridge::BridgeState;
use crate::host::dns::{DnsState, DnsmasqState};
use crate::host::docker::Endpoint;
use crate::host::firewall::TableState;
use crate::model::{NetworkName, Result};
use look::{Facts, NetworkFacts};

/// So long after a look that found something, the next one: what was under way may be done by then.
const PAUSE: Duration = Duration::from_millis(300);
/// So often while the service runs, which mends by itself within a second.
const LOOKS: u32 = 4;
/// No more looks after so long.
const PATIENCE: Duration = Duration::from_millis(3500);

/// Looks at one network, or at all. Anybody may; what only root can see is named as unseen.
///
/// A daemon that hangs costs three seconds and is named as unseen.
///
/// # Errors
/// `Missing`: no network has that name. `Failed`: the network's file, or their folder, can't be read.
pub fn inspect(context: &Context, only: Option<&NetworkName>) -> Result<Inspection> {
    Ok(facts_and_record(context, only)?.1)
}

/// What was seen, and what it means.
pub(super) fn facts_and_record(context: &Context, only: Option<&NetworkName>) -> Result<(Facts, Inspection)> {
    let patience = Deadline::after(PATIENCE);
    let mut facts = look::look(context, only)?;
    let mut record = assemble(&facts);
    // A claim, a start or an apply of this moment is no difference.
    let looks = if facts.service.is_some() { LOOKS } else { 1 };
    for _ in 0..looks {
        if record.in_order || patience.passed() {
            break;
        }
        std::thread::sleep(PAUSE);
        facts.look_again(context);
        record = assemble(&facts);
    }
    Ok((facts, record))
}

pub(super) fn assemble(facts: &Facts) -> Inspection {
    let networks: Vec<_> = facts.networks.iter().map(|of| network(facts, of)).collect();
    let host = host::record(facts);
    let in_order = host.differences.is_empty() && networks.iter().all(|n| n.in_order);
    Inspection { format: record::FORMAT, in_order, host, networks }
}

fn network(facts: &Facts, of: &NetworkFacts) -> NetworkRecord {
    let found = differ::network(facts, of);
    let network = &of.network;
    let bridge = of.bridge.as_ref().ok().and_then(Option::as_ref);
    let leases = of.leases.as_deref().unwrap_or_default();
    let docker = facts.docker.as_ref().ok().and_then(|d| d.networks.get(&network.name)?.as_ref().ok());
    let on_docker = docker.and_then(|v| v.there.as_ref());
    let endpoints = on_docker.map(|t| t.endpoints.as_slice()).unwrap_or_default();
    let ports = bridge.map(|b| b.ports.as_slice()).unwrap_or_default();
    let libvirt = facts.libvirt.as_ref().and_then(|l| l.networks.as_ref()).ok();
    NetworkRecord {
        name: network.name.clone(),
        up: of.up,
        in_order: found.differences.is_empty(),
        differences: found.differences,
        unseen: found.unseen,
        wanted: wanted(of),
        bridge: bridge_record(of, bridge),
        ports: ports::ports(ports, of.inside.as_ref(), leases, endpoints),
        leases: leases.to_vec(),
        pools: pools::pools(network, leases, endpoints),
        dnsmasq: dnsmasq(of),
        host_names: host_names(of),
        names: of.names.clone(),
        nat: NatRecord { wanted: of.up && network.nat, table: nat_table(facts) },
        settings: settings(of),
        docker_network: docker.map(|_| DockerNetworkRecord {
            name: network.docker_network.clone(),
            exists: on_docker.is_some(),
            ours: on_docker.is_some_and(|t| t.ours.as_ref() == Some(&network.name)),
            id: on_docker.map(|t| t.id.clone()),
            ipam_driver: on_docker.map(|t| t.ipam_driver.clone()),
            endpoints: endpoints.iter().map(endpoint).collect(),
        }),
        libvirt_network: libvirt.map(|networks| {
            let there = differ::libvirt_network(networks, network);
            LibvirtNetworkRecord {
                name: network.libvirt_network.clone(),
                exists: there.is_some(),
                ours: there.is_some_and(|t| t.uuid == network.libvirt_uuid()),
                active: there.is_some_and(|t| t.active),
                autostart: there.is_some_and(|t| t.autostart),
                bridge: there.and_then(|t| t.bridge.clone()),
            }
        }),
    }
}

fn wanted(of: &NetworkFacts) -> WantedRecord {
    let network = &of.network;
    WantedRecord {
        file: of.file.clone(),
        bridge: network.bridge.clone(),
        mac: (!network.adopt).then(|| network.bridge_mac()),
        mtu: network.mtu,
        adopt: network.adopt,
        nat: network.nat,
        zone: network.zone.clone(),
        docker_network: network.docker_network.clone(),
        libvirt_network: network.libvirt_network.clone(),
        families: network
            .families()
            .map(|f| WantedFamily { subnet: f.subnet, gateway: f.gateway, address: f.address })
            .collect(),
    }
}

fn bridge_record(of: &NetworkFacts, bridge: Option<&BridgeState>) -> BridgeRecord {
    BridgeRecord {
        name: of.network.bridge.clone(),
        exists: of.bridge.as_ref().ok().map(Option::is_some),
        ours: bridge.and_then(BridgeState::network) == Some(of.network.name.as_str()),
        up: bridge.is_some_and(|b| b.up),
        mac: bridge.and_then(|b| b.mac),
        mtu: bridge.map(|b| b.mtu),
        addresses: bridge.map(|b| b.addresses.iter().map(|a| a.net).collect()).unwrap_or_default(),
    }
}

fn dnsmasq(of: &NetworkFacts) -> DnsmasqRecord {
    let state: Option<&DnsState> = of.dns.as_ref().ok();
    let all =
        |is: fn(&DnsmasqState) -> bool| state.is_some_and(|s| s.each().iter().all(|(_, daemon)| is(daemon)));
    DnsmasqRecord {
        wanted: of.up && serves(&of.network),
        running: all(|d| d.pid.is_some()),
        pid: state.and_then(|s| s.names.pid),
        dhcp_pid: state.and_then(|s| s.addresses.pid),
        supervised: all(|d| d.supervised),
        config_current: all(|d| d.config_current),
        dns_socket: state.and_then(|s| s.names.socket),
        dhcp_socket: state.and_then(|s| s.addresses.socket),
        stale_files: of.stale_files.clone(),
    }
}

fn host_names(of: &NetworkFacts) -> HostNamesRecord {
    let state = of.resolver.as_ref().ok().and_then(Option::as_ref);
    HostNamesRecord {
        resolved: state.and_then(|s| s.resolved.as_ref().map(|_| s.resolved_told)),
        network_manager: state.and_then(|s| s.network_manager_told),
    }
}

fn nat_table(facts: &Facts) -> NatTable {
    match &facts.nat {
        Ok(TableState::Current) => NatTable::Current,
        Ok(TableState::Stale) => NatTable::Stale,
        Ok(TableState::Absent) => NatTable::Absent,
        Err(_) => NatTable::Unknown,
    }
}

fn settings(of: &NetworkFacts) -> Vec<SettingRecord> {
    let readings = of.settings.as_deref().unwrap_or_default().iter();
    readings
        .map(|r| SettingRecord { key: r.key.to_string(), is: r.now.clone(), should_be: r.wanted.to_owned() })
        .collect()
}

fn endpoint(endpoint: &Endpoint) -> EndpointRecord {
    EndpointRecord {
        container: endpoint.container.clone(),
        name: endpoint.container_name.clone(),
        mac: endpoint.mac,
        ipv4: endpoint.ipv4,
        ipv6: endpoint.ipv6,
    }
}
