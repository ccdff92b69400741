//! The published snapshot: what anyone may read of a network, without a lock and without root.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::{
    AddressRange, BootId, DockerName, Fault, InterfaceName, Ipam, Lease, LeaseRecord, Network, NetworkName,
    Result, ZoneName,
};
use crate::places::Places;

use super::durable::{self, Care};

/// The content of `/run/hybrid-hook/leases/NETWORK.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Snapshot {
    /// The version of this format: 1. Fields are only ever added within a version.
    pub format: u32,
    /// The network.
    pub network: NetworkName,
    /// Whether it is to be up.
    pub up: bool,
    /// Its bridge.
    pub bridge: InterfaceName,
    /// Its zone.
    pub zone: ZoneName,
    /// Its name with Docker.
    pub docker_network: DockerName,
    /// Its name with libvirt.
    pub libvirt_network: DockerName,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Who gives containers their addresses.
    #[serde(default)]
    pub ipam: Ipam,
    /// Its addressing, IPv4 first.
    pub families: Vec<FamilyRecord>,
    /// Its leases in the order of addresses.
    pub leases: Vec<LeaseRecord>,
}

/// One family's addressing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FamilyRecord {
    /// The subnet.
    #[schemars(with = "String")]
    pub subnet: IpNet,
    /// The gateway of guests.
    pub gateway: IpAddr,
    /// The host's own address on the bridge, at which our resolver answers; none on an adopted bridge without one.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// Where VMs' dynamic addresses come from.
    pub vm_pool: AddressRange,
    /// Where containers' dynamic addresses come from.
    pub container_pool: Option<AddressRange>,
}

impl Snapshot {
    /// What a network and its leases look like in the boot `now`.
    #[must_use]
    pub fn of(network: &Network, up: bool, leases: &[Lease], now: &BootId) -> Self {
        Self {
            format: 1,
            network: network.name.clone(),
            up,
            bridge: network.bridge.clone(),
            zone: network.zone.clone(),
            docker_network: network.docker_network.clone(),
            libvirt_network: network.libvirt_network.clone(),
            mtu: network.mtu,
            ipam: network.ipam,
            families: network
                .families()
                .map(|f| FamilyRecord {
                    subnet: f.subnet,
                    gateway: f.gateway,
                    address: f.address,
                    vm_pool: f.vm_pool,
                    container_pool: f.container_pool,
                })
                .collect(),
            leases: LeaseRecord::all(network, leases, now),
        }
    }
}

/// Publishes a snapshot: replaced as a whole, readable by all.
pub fn publish(places: &Places, snapshot: &Snapshot) -> Result<()> {
    let path = places.snapshot(&snapshot.network);
    durable::make_folder(&places.run, 0o755)?;
    durable::make_folder(&places.run.join("leases"), 0o755)?;
    let text =
        serde_json::to_vec(snapshot).map_err(|e| Fault::failed("a snapshot can't be written").because(e))?;
    // Unchanged is not written again: readers may watch the file.
    if std::fs::read(&path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    durable::replace(&path, &text, 0o644, Care::Atomic).map(drop)
}

/// Reads a published snapshot, `None` where there is none.
pub fn read(places: &Places, network: &NetworkName) -> Result<Option<Snapshot>> {
    let path = places.snapshot(network);
    let Some(text) = durable::read_text(&path)? else { return Ok(None) };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| Fault::failed(format!("{} can't be read", path.display())).because(e))
}

/// Takes the snapshot of a network away that is no more.
pub fn withdraw(places: &Places, network: &NetworkName) -> Result<()> {
    durable::remove(&places.snapshot(network))
}
