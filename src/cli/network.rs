//! `hybrid-hook network …`.

use std::net::IpAddr;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand};
use ipnet::IpNet;
use serde::Serialize;

use crate::model::network_file::{self, FamilyFile, NetworkFile};
use crate::model::{
    AddressRange, DockerName, Fault, InterfaceName, Ipam, LeaseRecord, LeaseState, Network as Model,
    NetworkName, Result, ZoneName,
};
use crate::ops;
use crate::ops::surroundings::{Outcome, Report};
use crate::registry::{Registry, networks, snapshot, status};

use super::follow::Follow;
use super::{Surroundings, output};

#[derive(Debug, Subcommand)]
pub(super) enum Network {
    /// Create a network and bring it up
    Create(Box<Create>),
    /// Put a network of ours on a Docker network that exists, so that VMs can join it
    Follow(Follow),
    /// Delete a network and its leases
    Delete(Delete),
    /// List networks
    List(List),
    /// Show a network
    Show(Show),
    /// Bring a network up
    Up(Up),
    /// Take a network down; its leases stay
    Down(Down),
}

impl Network {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        match self {
            Self::Create(c) => c.run(around),
            Self::Follow(c) => c.run(around),
            Self::Delete(c) => c.run(around),
            Self::List(c) => c.run(around),
            Self::Show(c) => c.run(around),
            Self::Up(c) => c.run(around),
            Self::Down(c) => c.run(around),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Name
    #[arg(default_value = NetworkName::DEFAULT)]
    name: NetworkName,
    /// Subnet as a CIDR; twice for IPv4 and IPv6 [default: 10.0.1.0/24, or the next free one]
    #[arg(long)]
    subnet: Vec<IpNet>,
    /// Gateway of guests [default: the subnet's first address]
    #[arg(long)]
    gateway: Vec<IpAddr>,
    /// The bridge's own address, where the gateway is another router
    #[arg(long)]
    address: Vec<IpAddr>,
    /// Bridge [default: hybr0, or made from the name]
    #[arg(long)]
    bridge: Option<InterfaceName>,
    /// Pool of VMs, A-B or a CIDR [default: the upper half]
    #[arg(long)]
    vm_pool: Vec<AddressRange>,
    /// Pool of containers, A-B or a CIDR [default: the second quarter]
    #[arg(long)]
    container_pool: Vec<AddressRange>,
    /// Who gives containers their addresses: Docker from the pool of containers, or the registry,
    /// which Docker then asks for every address
    #[arg(
        long,
        default_value = "range",
        value_parser = PossibleValuesParser::new(["range", "hybrid"]).try_map(|v| v.parse::<Ipam>())
    )]
    ipam: Ipam,
    /// Name of the Docker network [default: NAME-net]
    #[arg(long)]
    docker_network: Option<DockerName>,
    /// Name of the libvirt network [default: NAME-net]
    #[arg(long)]
    libvirt_network: Option<DockerName>,
    /// DNS zone [default: NAME.internal]
    #[arg(long)]
    zone: Option<ZoneName>,
    /// No NAT: the network is routed, or closed
    #[arg(long)]
    no_nat: bool,
    /// MTU in bytes [default: 1500]
    #[arg(long)]
    mtu: Option<u32>,
    /// Take a bridge that exists, and never delete it
    #[arg(long)]
    adopt: bool,
    /// Where the host has but a plain /etc/resolv.conf: write our resolver into it, before the others
    #[arg(long)]
    host_dns: bool,
    /// Only write the network's file; `network up` does the rest
    #[arg(long)]
    offline: bool,
    /// Print the network as JSON
    #[arg(long)]
    json: bool,
}

impl Create {
    fn run(&self, around: &Surroundings) -> Result<()> {
        let context = around.context()?;
        let deadline = around.deadline();
        let mut file = NetworkFile {
            format: network_file::FORMAT,
            bridge: self.bridge.clone(),
            docker_network: self.docker_network.clone(),
            docker_id: None,
            internal: false,
            libvirt_network: self.libvirt_network.clone(),
            zone: self.zone.clone(),
            nat: self.no_nat.then_some(false),
            mtu: self.mtu,
            adopt: self.adopt,
            ipam: Some(self.ipam),
            host_dns: self.host_dns,
            stop_rebind: false,
            ipv4: None,
            ipv6: None,
        };
        let mut subnets = self.subnet.clone();
        if subnets.is_empty() {
            subnets.push(if self.adopt {
                ops::network::adopted_subnet(
                    &self.bridge.clone().unwrap_or_else(|| self.name.default_bridge()),
                    deadline,
                )?
            } else {
                ops::network::choose_subnet(&context, &self.name, self.offline, deadline)?
            });
        }
        for subnet in subnets {
            let v4 = matches!(subnet, IpNet::V4(_));
            let place = if v4 { &mut file.ipv4 } else { &mut file.ipv6 };
            if place.is_some() {
                return Err(Fault::usage(format!("--subnet {subnet} is the second of its family")));
            }
            *place = Some(FamilyFile {
                subnet,
                gateway: one_of("--gateway", &self.gateway, |a| a.is_ipv4() == v4)?,
                address: one_of("--address", &self.address, |a| a.is_ipv4() == v4)?,
                vm_pool: one_of("--vm-pool", &self.vm_pool, |p| p.first().is_ipv4() == v4)?,
                container_pool: one_of("--container-pool", &self.container_pool, |p| {
                    p.first().is_ipv4() == v4
                })?,
            });
        }
        self.refuse_strays(&file)?;
        if self.adopt {
            ops::network::adopt_addresses(&self.name, &mut file, deadline)?;
        }
        // Written out, so that the file says all that a person may want to change.
        let network = file.network(&self.name)?;
        let file = spelled_out(file, &network);
        let created = ops::network::create(&context, &self.name, &file, self.offline, deadline)?;
        if let Some(report) = &created.report {
            say(report, false)?;
        }
        if !self.offline {
            for obstacle in ops::network::obstacles(&created.network, deadline) {
                output::warning(&format!(
                    "{}; this opens it: {}",
                    obstacle.what,
                    obstacle.commands.join(" && ")
                ));
            }
        }
        if self.json {
            return output::json(&snapshot_of(&context, &created.network)?);
        }
        output::line(&match (created.existed, &created.report, self.offline) {
            (true, None, _) => format!("network {} exists already, just so; nothing was changed", self.name),
            (_, None, true) => {
                format!("network {} is written; bring it up: hybrid-hook network up {}", self.name, self.name)
            }
            _ => format!("network {} is up on bridge {}", self.name, created.network.bridge),
        })
    }

    /// A value that belongs to no subnet given is a mistake, not something to pass over.
    fn refuse_strays(&self, file: &NetworkFile) -> Result<()> {
        let has = |v4: bool| if v4 { file.ipv4.is_some() } else { file.ipv6.is_some() };
        let addresses = self.gateway.iter().chain(&self.address).map(|a| (a.to_string(), a.is_ipv4()));
        let pools =
            self.vm_pool.iter().chain(&self.container_pool).map(|p| (p.to_string(), p.first().is_ipv4()));
        match addresses.chain(pools).find(|(_, v4)| !has(*v4)) {
            Some((text, _)) => Err(Fault::usage(format!("{text} is of a family that no --subnet has"))),
            None => Ok(()),
        }
    }
}

/// The one value of a family.
fn one_of<T: Copy>(option: &str, values: &[T], fits: impl Fn(&T) -> bool) -> Result<Option<T>> {
    let mut fitting = values.iter().filter(|v| fits(v));
    let first = fitting.next().copied();
    match fitting.next() {
        Some(_) => Err(Fault::usage(format!("{option} is given twice for one family"))),
        None => Ok(first),
    }
}

/// The file with every default written down.
fn spelled_out(file: NetworkFile, network: &Model) -> NetworkFile {
    let family = |f: &crate::model::Family| FamilyFile {
        subnet: f.subnet,
        gateway: Some(f.gateway),
        address: f.address.filter(|a| *a != f.gateway || network.adopt),
        vm_pool: Some(f.vm_pool),
        container_pool: f.container_pool,
    };
    NetworkFile {
        format: file.format,
        bridge: Some(network.bridge.clone()),
        docker_network: Some(network.docker_network.clone()),
        docker_id: network.follows.clone(),
        internal: network.internal,
        libvirt_network: Some(network.libvirt_network.clone()),
        zone: Some(network.zone.clone()),
        nat: Some(network.nat),
        mtu: Some(network.mtu),
        adopt: network.adopt,
        ipam: Some(network.ipam),
        host_dns: network.host_dns,
        stop_rebind: network.stop_rebind,
        ipv4: network.ipv4.as_ref().map(family),
        ipv6: network.ipv6.as_ref().map(family),
    }
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// Name
    name: NetworkName,
    /// Even while guests are on it
    #[arg(long)]
    force: bool,
}

impl Delete {
    fn run(&self, around: &Surroundings) -> Result<()> {
        let report = ops::network::delete(&around.context()?, &self.name, self.force, around.deadline())?;
        // Nothing of ours looks for it again.
        for left in report.iter().flat_map(Report::left_behind) {
            output::warning(&left);
        }
        output::line(&format!("network {} is deleted", self.name))
    }
}

#[derive(Debug, Args)]
pub(super) struct Up {
    /// Name
    #[arg(default_value = NetworkName::DEFAULT)]
    name: NetworkName,
}

impl Up {
    fn run(&self, around: &Surroundings) -> Result<()> {
        let report = ops::network::up(&around.context()?, &self.name, around.deadline())?;
        say(&report, false)?;
        output::line(&format!("network {} is up", self.name))
    }
}

#[derive(Debug, Args)]
pub(super) struct Down {
    /// Name
    #[arg(default_value = NetworkName::DEFAULT)]
    name: NetworkName,
    /// Even while guests are on it
    #[arg(long)]
    force: bool,
}

impl Down {
    fn run(&self, around: &Surroundings) -> Result<()> {
        let report = ops::network::down(&around.context()?, &self.name, self.force, around.deadline())?;
        say(&report, false)?;
        output::line(&format!("network {} is down; its leases are kept", self.name))
    }
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Print an array as JSON
    #[arg(long)]
    json: bool,
}

/// One network in `network list --json`.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct ListRecord {
    name: NetworkName,
    up: bool,
    bridge: InterfaceName,
    subnets: Vec<String>,
    zone: ZoneName,
    /// Active leases.
    active: usize,
    /// All leases.
    leases: usize,
}

impl List {
    fn run(&self, around: &Surroundings) -> Result<()> {
        let context = around.context()?;
        let (all, broken) = networks::load_all(&around.places)?;
        for fault in &broken {
            output::warning(&fault.to_string());
        }
        let mut records = Vec::new();
        for network in all {
            let snapshot = snapshot_of(&context, &network)?;
            let active = |l: &&LeaseRecord| l.state == LeaseState::Active;
            records.push(ListRecord {
                up: snapshot.up,
                bridge: network.bridge.clone(),
                subnets: network.families().map(|f| f.subnet.to_string()).collect(),
                active: snapshot.leases.iter().filter(active).count(),
                leases: snapshot.leases.len(),
                zone: network.zone,
                name: network.name,
            });
        }
        if self.json {
            return output::json(&records);
        }
        if records.is_empty() {
            return output::line("no networks; hybrid-hook network create makes one");
        }
        let rows = records.iter().map(|r| {
            let state = if r.up { "up" } else { "down" };
            let leases = format!("{} of {}", r.active, r.leases);
            vec![
                r.name.to_string(),
                state.to_owned(),
                r.bridge.to_string(),
                r.subnets.join(" "),
                r.zone.to_string(),
                leases,
            ]
        });
        output::table(&["NETWORK", "STATE", "BRIDGE", "SUBNET", "ZONE", "ACTIVE LEASES"], rows.collect())
    }
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Name
    #[arg(default_value = NetworkName::DEFAULT)]
    name: NetworkName,
    /// Print it as JSON, with its leases
    #[arg(long)]
    json: bool,
}

impl Show {
    fn run(&self, around: &Surroundings) -> Result<()> {
        let context = around.context()?;
        let network = networks::load(&around.places, &self.name)?;
        let snapshot = snapshot_of(&context, &network)?;
        if self.json {
            return output::json(&snapshot);
        }
        let mut lines = vec![
            ("network", network.name.to_string()),
            ("state", if snapshot.up { "up" } else { "down" }.to_owned()),
            (
                "bridge",
                format!(
                    "{}{}",
                    network.bridge,
                    match (&network.follows, network.adopt) {
                        (Some(_), _) => " (Docker's)",
                        (None, true) => " (adopted)",
                        (None, false) => "",
                    }
                ),
            ),
        ];
        for family in network.families() {
            lines.push(("subnet", family.subnet.to_string()));
            lines.push(("gateway", family.gateway.to_string()));
            if let Some(address) = family.address.filter(|a| *a != family.gateway) {
                lines.push(("bridge address", address.to_string()));
            }
            lines.push(("VM pool", family.vm_pool.to_string()));
            lines.push(("container pool", output::or_dash(family.container_pool)));
        }
        lines.push(("ipam", network.ipam.to_string()));
        lines.push(("zone", network.zone.to_string()));
        lines.push(("NAT", if network.nat { "yes" } else { "no" }.to_owned()));
        lines.push(("MTU", network.mtu.to_string()));
        lines.push(("Docker network", network.docker_network.to_string()));
        lines.push(("libvirt network", network.libvirt_network.to_string()));
        lines.push(("leases", snapshot.leases.len().to_string()));
        let edited = match networks::edited(&around.places, &network).filter(|_| snapshot.up) {
            Some(Ok(_)) => " (edited; hybrid-hook apply puts it in force)",
            Some(Err(_)) => " (edited and can't be used; hybrid-hook apply says why)",
            None => "",
        };
        lines.push(("file", format!("{}{edited}", around.places.network_file(&self.name).display())));
        for (what, value) in lines {
            output::line(&format!("{what:<16} {value}"))?;
        }
        Ok(())
    }
}

/// A network with its leases: from the registry, or for an ordinary user from what was published.
pub(super) fn snapshot_of(context: &ops::Context, network: &Model) -> Result<snapshot::Snapshot> {
    let fresh = || -> Result<snapshot::Snapshot> {
        let up = status::load(&context.places, &network.name)?.up;
        let leases = Registry::of(&context.places, &network.name).read()?;
        Ok(snapshot::Snapshot::of(network, up, &leases, &context.boot))
    };
    match fresh() {
        Err(fault) if !crate::places::is_root() => match snapshot::read(&context.places, &network.name)? {
            Some(published) => Ok(published),
            None => Err(fault),
        },
        result => result,
    }
}

/// Says what was made, what has to wait, and what may be left. On standard error: it is about the way, not the answer.
pub(super) fn say(report: &Report, all: bool) -> Result<()> {
    for step in &report.steps {
        match &step.outcome {
            Outcome::Made => {
                let done = if report.lowered { "taken away" } else { "made right" };
                eprintln!("network {}: {}: {done}", report.network, step.what);
            }
            Outcome::Unchanged if all => {
                eprintln!("network {}: {}: as it should be", report.network, step.what)
            }
            Outcome::Unchanged => {}
            Outcome::Later(_) if report.lowered => {}
            Outcome::Later(fault) => output::warning(&format!(
                "{} has to wait: {fault}; hybrid-hook apply makes up for it",
                step.what
            )),
            Outcome::Failed(fault) => output::fault(fault),
        }
    }
    for left in report.left_behind() {
        output::warning(&left);
    }
    Ok(())
}
