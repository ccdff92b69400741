//! What of dnsmasq, Docker's network and libvirt's is not as it should be. Pure.

use std::collections::BTreeMap;

use super::{APPLY, Findings};
use crate::host::bridge::BridgeState;
use crate::host::dns::Role;
use crate::host::docker::DockerNetwork;
use crate::host::libvirt::LibvirtNetwork;
use crate::model::{Fault, Kind, LeaseState, MacAddress, Network, Origin};
use crate::ops::inspect::host;
use crate::ops::inspect::look::{Facts, NetworkFacts};
use crate::ops::inspect::record::Part;

/// Whether the network is to have DHCP and DNS at all: not where the bridge has no address.
pub(in crate::ops) fn serves(network: &Network) -> bool {
    network.families().any(|f| f.address.is_some())
}

pub(super) fn compare_dns(facts: &Facts, of: &NetworkFacts, bridge_in_order: bool, found: &mut Findings) {
    let state = match &of.dns {
        Ok(state) => state,
        Err(fault) => return found.cannot_see(Part::Dnsmasq, "dnsmasq", fault.to_string(), !facts.root),
    };
    if serves(&of.network) {
        for (role, daemon) in state.each() {
            let is = if daemon.pid.is_none() {
                Some(("not running", "running"))
            } else if !daemon.config_current {
                Some(("running with another config", "running with the one on disk"))
            } else if role == Role::Addresses && state.reload_needed {
                Some(("without a changed reservation", "with all reservations"))
            } else {
                None
            };
            if let Some((is, should)) = is {
                found.differs(Part::Dnsmasq, format!("dnsmasq for {}", role.protocol()), is, should, APPLY);
            }
            // A socket comes and goes with the bridge's address: without that there is nothing to add.
            if daemon.pid.is_some() && bridge_in_order && daemon.socket == Some(false) {
                found.differs(
                    Part::Dnsmasq,
                    format!("dnsmasq's socket for {}", role.protocol()),
                    "missing",
                    "there",
                    format!("systemctl restart {}", role.unit(&of.network.name)),
                );
            }
        }
        if facts.root && state.each().iter().any(|(_, d)| d.pid.is_some() && d.socket.is_none()) {
            found.cannot_see(Part::Dnsmasq, "dnsmasq's sockets", "its process could not be looked at", false);
        }
    } else if state.any_running() {
        found.differs(
            Part::Dnsmasq,
            "dnsmasq",
            "running",
            "stopped: the bridge has no address of its own",
            APPLY,
        );
    }
    match &of.stale_files {
        None if !facts.root => {
            found.cannot_see(
                Part::Dnsmasq,
                "dnsmasq's files against the registry",
                "only root may read the registry",
                true,
            );
        }
        None => {}
        Some(files) => {
            for file in files {
                found.differs(
                    Part::Dnsmasq,
                    format!("file {}", file.display()),
                    "not as the registry says",
                    "as the registry says",
                    APPLY,
                );
            }
        }
    }
}

/// Whether the host's own resolvers know whom to ask for the network's names.
pub(super) fn compare_names(facts: &Facts, of: &NetworkFacts, found: &mut Findings) {
    let what = "the host's names of guests";
    let state = match &of.resolver {
        Ok(Some(state)) => state,
        Ok(None) => return,
        Err(fault) => return found.cannot_see(Part::Names, what, fault.to_string(), !facts.root),
    };
    let zone = &of.network.zone;
    let mut untold = |who: &str| {
        found.differs(Part::Names, who, format!("not told whom to ask for {zone}"), "told", APPLY);
    };
    if state.resolved.is_some() && !state.resolved_told {
        untold("systemd-resolved");
    }
    if state.network_manager_told == Some(false) {
        untold("NetworkManager's dnsmasq");
    }
}

pub(super) fn compare_docker(
    facts: &Facts,
    of: &NetworkFacts,
    bridge: Option<&BridgeState>,
    found: &mut Findings,
) {
    let name = &of.network.docker_network;
    let what = format!("Docker network {name}");
    let view = match &facts.docker {
        Ok(docker) => docker.networks.get(&of.network.name),
        Err(fault) => {
            return found.cannot_see(Part::Docker, what, fault.to_string(), !facts.root && !is_absent(fault));
        }
    };
    let view = match view {
        Some(Ok(view)) => view,
        Some(Err(fault)) => return found.cannot_see(Part::Docker, what, fault.to_string(), false),
        None => return,
    };
    let Some(there) = &view.there else {
        return found.differs(Part::Docker, what, "not there", "there", APPLY);
    };
    address_clashes(of, there, found);
    match &view.differences {
        Ok(differences) if differences.is_empty() => {}
        Ok(differences) => {
            let names: Vec<_> = there.endpoints.iter().map(|e| e.container_name.as_str()).collect();
            let mend = if names.is_empty() {
                APPLY.to_owned()
            } else {
                format!("stop or disconnect {}, then: {APPLY}", names.join(", "))
            };
            found.differs(Part::Docker, what, differences.join("; "), "as the network's file says", mend);
        }
        Err(fault) => {
            found.is_faulty(Part::Docker, what, fault, "this network's own", APPLY);
            return;
        }
    }
    if let Err(fault) = &of.driver {
        let mend = host::start_driver(facts);
        found.differs(
            Part::Docker,
            "the driver of addresses for Docker",
            fault.to_string(),
            "listening",
            mend,
        );
    }
    if let (Some(bridge), Some(inside)) = (bridge, &of.inside) {
        lost_containers(of, there, bridge, inside, found);
    }
}

/// Containers that Docker gave an address which a VM has, too.
fn address_clashes(of: &NetworkFacts, there: &DockerNetwork, found: &mut Findings) {
    let leases = of.leases.as_deref().unwrap_or_default();
    for endpoint in there.endpoints.iter().filter(|e| e.container.is_some()) {
        let addresses = [endpoint.ipv4, endpoint.ipv6];
        let other = leases.iter().find(|l| {
            addresses.contains(&Some(l.address))
                && l.state == LeaseState::Active
                && l.origin.is_some_and(|o| o != Origin::Container)
        });
        let Some(lease) = other else { continue };
        let (address, container) = (lease.address, &endpoint.container_name);
        let vm = lease.owner_name.as_deref().unwrap_or("?");
        found.differs(
            Part::Guests,
            format!("address {address}"),
            format!("both vm {vm:?}'s and container {container:?}'s, to which Docker gave it"),
            "one guest's",
            if lease.fixed {
                "name another --ip for the VM (hybrid-hook attach) or for the container, and start it anew".to_owned()
            } else {
                // While it is off, the address becomes the container's alone.
                "stop the VM and start it again, and it gets another; or start the container anew with another --ip"
                    .to_owned()
            },
        );
    }
}

/// Containers that Docker has on the network and whose veth is not on the bridge.
fn lost_containers(
    of: &NetworkFacts,
    there: &DockerNetwork,
    bridge: &BridgeState,
    inside: &BTreeMap<String, MacAddress>,
    found: &mut Findings,
) {
    let on_bridge = |mac| {
        bridge.ports.iter().any(|p| inside.get(&p.name) == Some(&mac) || p.fdb.iter().any(|e| e.mac == mac))
    };
    for endpoint in &there.endpoints {
        let (Some(mac), Some(_)) = (endpoint.mac, &endpoint.container) else { continue };
        if !on_bridge(mac) {
            found.differs(
                Part::Guests,
                format!("port of container {:?}", endpoint.container_name),
                "on no bridge of ours",
                format!("on {}", of.network.bridge),
                APPLY,
            );
        }
    }
}

/// Whether it is not there at all, so that root would see no more.
fn is_absent(fault: &Fault) -> bool {
    fault.kind() == Kind::Missing
}

/// Which of libvirt's networks is a network's: by its UUID; else the one that has its name.
pub(in crate::ops) fn libvirt_network<'a>(
    networks: &'a [LibvirtNetwork],
    network: &Network,
) -> Option<&'a LibvirtNetwork> {
    let name = network.libvirt_network.as_str();
    networks
        .iter()
        .find(|n| n.uuid == network.libvirt_uuid())
        .or_else(|| networks.iter().find(|n| n.name == name))
}

pub(super) fn compare_libvirt(facts: &Facts, of: &NetworkFacts, found: &mut Findings) {
    let network = &of.network;
    let what = format!("libvirt network {}", network.libvirt_network);
    let networks = match facts.libvirt.as_ref().and_then(|l| l.networks.as_ref()) {
        Ok(networks) => networks,
        Err(fault) => {
            return found.cannot_see(
                Part::Libvirt,
                what,
                fault.to_string(),
                !facts.root && !is_absent(fault),
            );
        }
    };
    let Some(there) = libvirt_network(networks, network) else {
        return found.differs(Part::Libvirt, what, "not there", "there", APPLY);
    };
    if there.uuid != network.libvirt_uuid() {
        let mend = format!("name another libvirt_network in {}, then: {APPLY}", of.file.display());
        return found.differs(Part::Libvirt, what, "somebody else's", "this network's own", mend);
    }
    if there.name != network.libvirt_network.as_str() {
        found.differs(
            Part::Libvirt,
            &what,
            format!("named {:?}", there.name),
            network.libvirt_network.as_str(),
            APPLY,
        );
    }
    let bridge = there.bridge.as_deref().unwrap_or("none");
    if bridge != network.bridge.as_str() || there.forward.as_deref() != Some("bridge") {
        let forward = there.forward.as_deref().unwrap_or("none");
        let is = format!("forward mode {forward} on bridge {bridge}");
        found.differs(
            Part::Libvirt,
            &what,
            is,
            format!("forward mode bridge on bridge {}", network.bridge),
            APPLY,
        );
    }
    if !there.persistent {
        found.differs(Part::Libvirt, &what, "not defined", "defined", APPLY);
    }
    if !there.active {
        found.differs(Part::Libvirt, &what, "not started", "started", APPLY);
    }
    if there.persistent && !there.autostart {
        found.differs(Part::Libvirt, &what, "not started with libvirt's daemon", "autostarted", APPLY);
    }
}
