//! What stands: a bridge with its ports and learned addresses, and every device in brief.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};

use super::ALIAS_PREFIX;
use super::decode::{self, Address, Counters, Device, Peer, PortKind, PortState};
use super::netlink::{fault, talk};
use crate::deadline::Deadline;
use crate::model::{Fault, InterfaceName, MacAddress, Result};

/// A bridge as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeState {
    /// Its interface index.
    pub index: u32,
    /// Its Ethernet address.
    pub mac: Option<MacAddress>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is set up.
    pub up: bool,
    /// Whether a port of it carries frames.
    pub carrier: bool,
    /// Whether it runs the spanning tree protocol.
    pub stp: bool,
    /// How long a new port waits before it carries frames, in hundredths of a second.
    pub forward_delay: u32,
    /// Its alias; ours begins with [`ALIAS_PREFIX`].
    pub alias: Option<String>,
    /// Its addresses of both families, link-local ones included.
    pub addresses: Vec<Address>,
    /// Its ports, by index.
    pub ports: Vec<Port>,
    /// What it knows of its own MAC: entries of the bridge device itself.
    pub fdb: Vec<FdbEntry>,
}

impl BridgeState {
    /// The name of the network that the mark names, if the mark is ours.
    #[must_use]
    pub fn network(&self) -> Option<&str> {
        self.alias.as_deref()?.strip_prefix(ALIAS_PREFIX)
    }
}

/// A port of a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name; the kernel allows more than [`InterfaceName`] does.
    pub name: String,
    /// Its interface index.
    pub index: u32,
    /// Its own Ethernet address, which is not its guest's.
    pub mac: Option<MacAddress>,
    /// Whether it carries frames.
    pub state: PortState,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is kept from other isolated ports.
    pub isolated: bool,
    /// What sort of device it is.
    pub kind: PortKind,
    /// What it has carried.
    pub counters: Counters,
    /// Its other end, for a veth.
    pub peer: Option<Peer>,
    /// Which Ethernet addresses the bridge sends to it.
    pub fdb: Vec<FdbEntry>,
}

/// Where an entry of the bridge's forwarding table comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FdbKind {
    /// The port's own address: frames to it are the host's.
    Local,
    /// Put there by hand, or by [`super::pin`].
    Static,
    /// Seen as a sender; forgotten after a while (300 s by default).
    Learned,
}

/// One entry of the bridge's forwarding table (`bridge fdb show`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdbEntry {
    /// Whose it is.
    pub mac: MacAddress,
    /// Where it comes from.
    pub kind: FdbKind,
    /// Its VLAN, where the bridge filters them.
    pub vlan: Option<u16>,
}

/// A device in brief.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name; the kernel allows more than [`InterfaceName`] does.
    pub name: String,
    /// Its interface index.
    pub index: u32,
    /// Its kernel kind (`bridge`, `veth`, `tun`), else `physical` or `loopback`.
    pub kind: String,
    /// Whether it is set up.
    pub up: bool,
    /// Its Ethernet address.
    pub mac: Option<MacAddress>,
    /// Its alias, if it has one.
    pub alias: Option<String>,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
}

/// Reads a bridge; `None` when no device has that name. Any user may.
///
/// # Errors
/// `Refused` for a device that is no bridge; `Failed` for the kernel's refusals and the deadline.
pub fn read(bridge: &InterfaceName, deadline: Deadline) -> Result<Option<BridgeState>> {
    talk(deadline, async |netlink| {
        let Some(device) = netlink.device(bridge.as_str()).await? else { return Ok(None) };
        if !device.is_bridge() {
            return Err(Fault::refused(format!("{bridge} is no bridge ({})", device.kind_name())));
        }
        let devices = netlink.devices(None).await?;
        let addresses = netlink.addresses().await?;
        let request = netlink.handle().neighbours().get().set_address_family(AddressFamily::Bridge);
        let fdb: Vec<NeighbourMessage> = request
            .execute()
            .try_collect()
            .await
            .map_err(|e| fault(format!("cannot read the forwarding table of {bridge}"), e))?;
        Ok(Some(assemble(device, devices, &addresses, &fdb)))
    })
}

/// Those of the devices with these indexes that are there and on no bridge, with their names. Any user may.
///
/// # Errors
/// `Failed` for the kernel's refusals and the deadline.
pub fn on_no_bridge(indexes: &BTreeSet<u32>, deadline: Deadline) -> Result<Vec<(u32, String)>> {
    talk(deadline, async |netlink| {
        let mut found = Vec::new();
        for index in indexes {
            if let Some(device) = netlink.device_at(*index).await?
                && device.master.is_none()
            {
                found.push((*index, device.name));
            }
        }
        Ok(found)
    })
}

/// Every device of this namespace, by index. Any user may.
///
/// # Errors
/// `Failed` for the kernel's refusals and the deadline.
pub fn links(deadline: Deadline) -> Result<Vec<Link>> {
    talk(deadline, async |netlink| {
        let devices = netlink.devices(None).await?;
        let addresses = netlink.addresses().await?;
        let of = |index| addresses.iter().filter(move |(i, _)| *i == index).map(|(_, a)| a.net).collect();
        Ok(devices
            .into_iter()
            .map(|d| Link {
                kind: d.kind_name().to_owned(),
                addresses: of(d.index),
                name: d.name,
                index: d.index,
                up: d.up,
                mac: d.mac,
                alias: d.alias,
            })
            .collect())
    })
}

fn assemble(
    device: Device,
    devices: Vec<Device>,
    addresses: &[(u32, Address)],
    fdb: &[NeighbourMessage],
) -> BridgeState {
    let fdb_of = |port: u32| fdb.iter().filter_map(|m| fdb_entry(m, device.index, port)).collect();
    let mut ports: Vec<Port> = devices
        .into_iter()
        .filter(|d| d.master == Some(device.index))
        .map(|d| Port {
            index: d.index,
            mac: d.mac,
            state: d.port_state.unwrap_or(PortState::Disabled),
            mtu: d.mtu,
            isolated: d.isolated,
            kind: d.port_kind(),
            counters: d.counters,
            peer: d.peer,
            fdb: fdb_of(d.index),
            name: d.name,
        })
        .collect();
    ports.sort_by_key(|p| p.index);
    BridgeState {
        index: device.index,
        mac: device.mac,
        mtu: device.mtu,
        up: device.up,
        carrier: device.carrier,
        stp: device.stp,
        forward_delay: device.forward_delay,
        addresses: addresses.iter().filter(|(i, _)| *i == device.index).map(|(_, a)| *a).collect(),
        fdb: fdb_of(device.index),
        alias: device.alias,
        ports,
    }
}

/// The entry, if it is that bridge's and of that port.
fn fdb_entry(message: &NeighbourMessage, bridge: u32, port: u32) -> Option<FdbEntry> {
    if message.header.ifindex != port {
        return None;
    }
    let (mut mac, mut vlan, mut master) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = decode::mac(bytes),
            NeighbourAttribute::Vlan(id) => vlan = Some(*id),
            NeighbourAttribute::Controller(index) => master = Some(*index),
            _ => {}
        }
    }
    // Without a master it is the device's own filter list, not the bridge's table.
    if master != Some(bridge) {
        return None;
    }
    let kind = match message.header.state {
        NeighbourState::Permanent => FdbKind::Local,
        NeighbourState::Noarp => FdbKind::Static,
        _ => FdbKind::Learned,
    };
    Some(FdbEntry { mac: mac?, kind, vlan })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(port: u32, master: Option<u32>, state: NeighbourState, last: u8) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = port;
        message.header.state = state;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(vec![0x52, 0x54, 0, 0, 0, last]));
        message.attributes.extend(master.map(NeighbourAttribute::Controller));
        message
    }

    #[test]
    fn a_port_has_the_entries_of_its_own_bridge_only() {
        let device = Device { index: 3, kind: Some("bridge".to_owned()), ..Device::default() };
        let port = |index, master| Device { index, master: Some(master), ..Device::default() };
        let fdb = [
            entry(5, Some(3), NeighbourState::Noarp, 1),
            entry(5, None, NeighbourState::Permanent, 2),
            entry(5, Some(3), NeighbourState::Stale, 3),
            entry(6, Some(9), NeighbourState::Noarp, 4),
            entry(3, Some(3), NeighbourState::Permanent, 5),
        ];
        let state = assemble(device, vec![port(6, 9), port(5, 3)], &[], &fdb);
        let kinds: Vec<_> = state
            .ports
            .iter()
            .flat_map(|p| p.fdb.iter().map(|e| (p.index, e.mac.octets()[5], e.kind)))
            .collect();
        assert_eq!(kinds, [(5, 1, FdbKind::Static), (5, 3, FdbKind::Learned)]);
        assert_eq!(state.fdb.len(), 1);
    }
}
