//! What the tests of this folder look at.

use std::collections::BTreeMap;

use super::look::{DockerFacts, DockerView, Facts, LibvirtFacts, NetworkFacts};
use super::record::{HookRecord, HookState, NamesRecord};
use crate::host::bridge::{Address, BridgeState, Counters, Port, PortKind, PortState};
use crate::host::dns::{DnsState, DnsmasqState};
use crate::host::docker::{ApiVersion, DockerNetwork, Endpoint, Version};
use crate::host::firewall::TableState;
use crate::host::libvirt::daemons::Daemon;
use crate::host::libvirt::{LibvirtNetwork, VersionNumber};
use crate::model::network_file::NetworkFile;
use crate::model::{Fault, LeaseRecord, LeaseState, Network, Origin, Result};
use crate::ops::install::state::{DaemonState, UnitStanding, UnitState};
use crate::ops::install::{Installation, UNITS};

pub(in crate::ops) fn network(more: &str) -> Result<Network> {
    let text = format!("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n{more}");
    Ok(NetworkFile::parse(&text).map_err(Fault::failed)?.network(&"hybrid".parse()?)?)
}

pub(in crate::ops) fn lease(
    network: &Network,
    address: &str,
    mac: &str,
    origin: Origin,
    tap: Option<&str>,
) -> Result<LeaseRecord> {
    let address = address.parse().map_err(|_| Fault::failed("no address"))?;
    Ok(LeaseRecord {
        network: network.name.clone(),
        address,
        address6: network.companion(address),
        mac: Some(mac.parse()?),
        owner: Some("c7a5fdbd-edaf-9455-926a-d65c16db1809".parse()?),
        owner_name: Some("vm".to_owned()),
        origin: Some(origin),
        state: LeaseState::Active,
        generation: 1,
        fixed: false,
        reserved: false,
        hostname: None,
        fqdn: None,
        aliases: Vec::new(),
        groups: Vec::new(),
        containers: None,
        tap: tap.map(str::parse).transpose()?,
        since: String::new(),
        changed: String::new(),
    })
}

pub(in crate::ops) fn port(name: &str, kind: PortKind, mac: Option<&str>) -> Result<Port> {
    Ok(Port {
        name: name.to_owned(),
        index: 5,
        mac: mac.map(str::parse).transpose()?,
        state: PortState::Forwarding,
        mtu: 1500,
        isolated: false,
        kind,
        counters: Counters::default(),
        peer: None,
        fdb: Vec::new(),
    })
}

pub(in crate::ops) fn bridge(network: &Network) -> Result<BridgeState> {
    let net = "10.0.1.1/24".parse().map_err(|_| Fault::failed("no CIDR"))?;
    Ok(BridgeState {
        index: 3,
        mac: Some(network.bridge_mac()),
        mtu: 1500,
        up: true,
        carrier: true,
        stp: false,
        forward_delay: 0,
        alias: Some("hybrid-hook:hybrid".to_owned()),
        addresses: vec![Address { net, ours: true }],
        ports: Vec::new(),
        fdb: Vec::new(),
    })
}

/// A host where all is well, with one network that is up, a VM and a container.
pub(in crate::ops) fn facts() -> Result<Facts> {
    let network = network("")?;
    let vm = lease(&network, "10.0.1.200", "52:54:00:00:00:01", Origin::Domain, Some("vnet0"))?;
    let mut bridge = bridge(&network)?;
    bridge.ports = vec![port("vnet0", PortKind::Tap, None)?, port("veth1", PortKind::Veth, None)?];
    let web = Endpoint {
        container: Some("ab".repeat(32).parse()?),
        container_name: "web".to_owned(),
        endpoint_id: "e".to_owned(),
        mac: Some("02:42:0a:00:01:40".parse()?),
        ipv4: Some(std::net::IpAddr::from([10, 0, 1, 64])),
        ipv6: None,
    };
    let there = DockerNetwork {
        id: "d".to_owned(),
        name: "hybrid-net".to_owned(),
        ours: Some(network.name.clone()),
        endpoints: vec![web],
        ..DockerNetwork::default()
    };
    let docker = DockerFacts {
        version: Version { engine: "28.5.1".to_owned(), api: ApiVersion::GATEWAY_PRIORITY },
        networks: BTreeMap::from([(
            network.name.clone(),
            Ok(DockerView { there: Some(there), differences: Ok(Vec::new()) }),
        )]),
        subnets: Ok(Vec::new()),
    };
    let libvirt_network = LibvirtNetwork {
        name: "hybrid-net".to_owned(),
        uuid: network.libvirt_uuid(),
        active: true,
        autostart: true,
        persistent: true,
        forward: Some("bridge".to_owned()),
        bridge: Some("hybr0".to_owned()),
        subnets: Vec::new(),
        xml: String::new(),
    };
    let version = VersionNumber::new(9, 0, 0);
    Ok(Facts {
        root: true,
        networks: vec![NetworkFacts {
            file: "/etc/hybrid-hook/networks/hybrid.toml".into(),
            up: true,
            edited: None,
            former_bridge: None,
            leases: Ok(vec![vm]),
            bridge: Ok(Some(bridge)),
            inside: Some(BTreeMap::from([("veth1".to_owned(), "02:42:0a:00:01:40".parse()?)])),
            lost_taps: Vec::new(),
            dns: Ok(DnsState { names: dnsmasq(411), addresses: dnsmasq(412), reload_needed: false }),
            stale_files: Some(Vec::new()),
            settings: Ok(Vec::new()),
            resolver: Ok(None),
            driver: Ok(()),
            names: Some(NamesRecord { reach: Vec::new(), clashes: Vec::new() }),
            network,
        }],
        unreadable: Vec::new(),
        nat: Ok(TableState::Current),
        docker: Ok(docker),
        libvirt: Ok(LibvirtFacts {
            daemon: version,
            networks: Ok(vec![libvirt_network]),
            stranded: Vec::new(),
        }),
        installation: Ok(installation()),
        service: Some(1234),
        hooks: ["qemu", "network"]
            .map(|kind| HookRecord {
                kind: kind.to_owned(),
                path: format!("/etc/libvirt/hooks/{kind}.d/50-hybrid-hook").into(),
                target: Some("/usr/bin/hybrid-hook".into()),
                state: HookState::Ours,
            })
            .into(),
    })
}

fn installation() -> Installation {
    let daemon = Daemon { name: "libvirtd".to_owned(), pid: 7, started: 1 };
    Installation {
        executable: "/usr/bin/hybrid-hook".into(),
        unsafe_place: None,
        libvirt: Some(VersionNumber::new(9, 0, 0)),
        hooks: Vec::new(),
        units: UNITS
            .iter()
            .map(|u| UnitState {
                name: u.name.to_owned(),
                file: UnitStanding::Ours,
                enabled: Some(true),
                active: Some(true),
            })
            .collect(),
        daemons: vec![DaemonState { daemon, sees_hooks: true }],
    }
}

fn dnsmasq(pid: u32) -> DnsmasqState {
    DnsmasqState { pid: Some(pid), supervised: true, config_current: true, socket: Some(true) }
}
