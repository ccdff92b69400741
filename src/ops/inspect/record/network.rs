//! What is told of one network.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Difference, Unseen};
use crate::model::naming::Clash;
use crate::model::{
    AddressRange, DnsLabel, DockerName, InterfaceName, LeaseRecord, MacAddress, NetworkName, OwnerId,
    ZoneName,
};
use crate::ops::names::Reach;

/// One network: as it should be, as it is, and what differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NetworkRecord {
    /// Its name.
    pub name: NetworkName,
    /// Whether it is to be up.
    pub up: bool,
    /// Nothing that could be looked at differs.
    pub in_order: bool,
    /// What differs.
    pub differences: Vec<Difference>,
    /// What could not be looked at.
    pub unseen: Vec<Unseen>,
    /// What its file says.
    pub wanted: WantedRecord,
    /// Its bridge.
    pub bridge: BridgeRecord,
    /// The bridge's ports.
    pub ports: Vec<PortRecord>,
    /// Its leases, in the order of addresses.
    pub leases: Vec<LeaseRecord>,
    /// How much of its pools is used.
    pub pools: Vec<PoolRecord>,
    /// Its DHCP and DNS.
    pub dnsmasq: DnsmasqRecord,
    /// Whether the host's resolvers ask it.
    pub host_names: HostNamesRecord,
    /// Who can resolve its names; null while it is down, or when that can't be seen.
    pub names: Option<NamesRecord>,
    /// NAT.
    pub nat: NatRecord,
    /// The kernel's settings that it needs.
    pub settings: Vec<SettingRecord>,
    /// Its Docker network; null when Docker could not be asked.
    pub docker_network: Option<DockerNetworkRecord>,
    /// Its libvirt network; null when libvirt could not be asked.
    pub libvirt_network: Option<LibvirtNetworkRecord>,
}

/// How a network's names are resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NamesRecord {
    /// Who of those who might ask can resolve them.
    pub reach: Vec<Reach>,
    /// Who asked for a name and goes without.
    pub clashes: Vec<NameClashRecord>,
}

/// A name that a guest asked for and does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NameClashRecord {
    /// The name.
    pub name: DnsLabel,
    /// The address of the one who has it; null for a name of the host's.
    pub holder: Option<IpAddr>,
    /// The address of the one who asked for it too.
    pub asker: IpAddr,
}

impl NameClashRecord {
    /// Who has the name, in words.
    #[must_use]
    pub fn holder_in_words(&self) -> String {
        self.holder.map_or_else(|| "the host".to_owned(), |holder| holder.to_string())
    }
}

impl From<Clash> for NameClashRecord {
    fn from(clash: Clash) -> Self {
        Self { name: clash.name, holder: clash.holder, asker: clash.asker }
    }
}

/// What a network's file says, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WantedRecord {
    /// The file.
    pub file: PathBuf,
    /// The bridge.
    pub bridge: InterfaceName,
    /// Its MAC; null for an adopted bridge.
    pub mac: Option<MacAddress>,
    /// Its MTU.
    pub mtu: u32,
    /// The bridge is somebody else's: used, never deleted.
    pub adopt: bool,
    /// NAT for what leaves the subnets.
    pub nat: bool,
    /// The DNS zone.
    pub zone: ZoneName,
    /// The Docker network's name.
    pub docker_network: DockerName,
    /// The libvirt network's name.
    pub libvirt_network: DockerName,
    /// Addressing, IPv4 first.
    pub families: Vec<WantedFamily>,
}

/// One family's addressing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WantedFamily {
    /// The subnet.
    #[schemars(with = "String")]
    pub subnet: IpNet,
    /// The guests' gateway.
    pub gateway: IpAddr,
    /// The bridge's own address.
    pub address: Option<IpAddr>,
}

/// A bridge as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BridgeRecord {
    /// Its name.
    pub name: InterfaceName,
    /// Whether it is there; null when the kernel could not be asked.
    pub exists: Option<bool>,
    /// Whether it carries this network's mark.
    pub ours: bool,
    /// Whether it is set up.
    pub up: bool,
    /// Its MAC.
    pub mac: Option<MacAddress>,
    /// Its MTU.
    pub mtu: Option<u32>,
    /// Its addresses with their prefix lengths.
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<IpNet>,
}

/// A port of the bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PortRecord {
    /// The device.
    pub device: String,
    /// `tap` (a VM's), `veth` (a container's), else the kernel's word for it.
    pub kind: String,
    /// Whose it is, as far as is known.
    pub guest: Option<GuestRecord>,
    /// The guest's MAC.
    pub mac: Option<MacAddress>,
    /// The guest's address.
    pub address: Option<IpAddr>,
    /// The guest's IPv6 address beside it.
    pub address6: Option<Ipv6Addr>,
    /// `forwarding` when it carries frames.
    pub state: String,
    /// Its MTU.
    pub mtu: u32,
    /// Kept from other isolated ports.
    pub isolated: bool,
    /// What the guest has sent.
    pub from_guest: Traffic,
    /// What the guest was sent.
    pub to_guest: Traffic,
}

/// A VM or container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GuestRecord {
    /// What it is.
    pub kind: GuestKind,
    /// Its name.
    pub name: Option<String>,
    /// The domain's UUID or the container's id.
    pub id: Option<OwnerId>,
}

/// What a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuestKind {
    /// A libvirt domain.
    Vm,
    /// A Docker container.
    Container,
    /// Whoever an address was claimed for by hand.
    Hand,
}

/// One direction's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Frames.
    pub packets: u64,
    /// Frames that were dropped.
    pub dropped: u64,
}

/// A pool's use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PoolRecord {
    /// Whose pool it is.
    pub guests: PoolGuests,
    /// Its addresses.
    pub range: AddressRange,
    /// How many it has that a guest can have.
    pub size: u64,
    /// How many are in use now.
    pub active: u64,
    /// How many wait for their owners.
    pub idle: u64,
    /// How many are reserved and claimed by nobody yet.
    pub reserved: u64,
    /// How many are left.
    pub free: u64,
}

/// Whose a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolGuests {
    /// VMs' dynamic addresses.
    Vms,
    /// What Docker gives out.
    Containers,
}

/// A network's dnsmasqs: one answers for names, one gives addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DnsmasqRecord {
    /// Whether they are to be there: not where the bridge has no address of its own.
    pub wanted: bool,
    /// Whether both run.
    pub running: bool,
    /// The process that answers for names.
    pub pid: Option<u32>,
    /// The process that gives addresses.
    pub dhcp_pid: Option<u32>,
    /// systemd restarts each when it dies.
    pub supervised: bool,
    /// Both run with the config that is on disk.
    pub config_current: bool,
    /// The one for names has a socket for DNS; null: only root can know.
    pub dns_socket: Option<bool>,
    /// The one for addresses has a socket for DHCP; null: only root can know.
    pub dhcp_socket: Option<bool>,
    /// Files that are not as the registry says; null: only root can know.
    pub stale_files: Option<Vec<PathBuf>>,
}

/// What the host's own resolvers were told of a network; null where one does not run, or could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HostNamesRecord {
    /// systemd-resolved, about the bridge's link.
    pub resolved: Option<bool>,
    /// NetworkManager's dnsmasq.
    pub network_manager: Option<bool>,
}

/// NAT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NatRecord {
    /// Whether the network is to have it.
    pub wanted: bool,
    /// Our table, which all networks share.
    pub table: NatTable,
}

/// Our nftables table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NatTable {
    /// It is as it should be.
    Current,
    /// It is of another rendering, or somebody changed it.
    Stale,
    /// There is none.
    Absent,
    /// It could not be looked at.
    Unknown,
}

/// A setting of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SettingRecord {
    /// Its name, as sysctl(8) takes it.
    pub key: String,
    /// How it is; null where this kernel has none.
    pub is: Option<String>,
    /// How it should be.
    pub should_be: String,
}

/// A Docker network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DockerNetworkRecord {
    /// Its name.
    pub name: DockerName,
    /// Whether it is there.
    pub exists: bool,
    /// Whether it is this network's.
    pub ours: bool,
    /// Its id.
    pub id: Option<String>,
    /// Whom Docker asks for containers' addresses: `default` for Docker itself, `hybrid` for us.
    pub ipam_driver: Option<String>,
    /// Who is on it.
    pub endpoints: Vec<EndpointRecord>,
}

/// A container on a Docker network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EndpointRecord {
    /// The container; null for what is left of one that is gone.
    pub container: Option<OwnerId>,
    /// Its name.
    pub name: String,
    /// Its MAC.
    pub mac: Option<MacAddress>,
    /// Its IPv4 address.
    pub ipv4: Option<IpAddr>,
    /// Its IPv6 address.
    pub ipv6: Option<IpAddr>,
}

/// A libvirt network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LibvirtNetworkRecord {
    /// Its name.
    pub name: DockerName,
    /// Whether one of that name, or ours under another, is there.
    pub exists: bool,
    /// Whether it is this network's.
    pub ours: bool,
    /// Whether it is started.
    pub active: bool,
    /// Whether it starts with libvirt's daemon.
    pub autostart: bool,
    /// Its bridge.
    pub bridge: Option<String>,
}
