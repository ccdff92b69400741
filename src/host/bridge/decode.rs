//! From the kernel's messages to our own values. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol};
use rtnetlink::packet_route::link::{
    BridgePortState, BridgeStpState, InfoBridge, InfoBridgePort, InfoData, InfoPortData, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};

use super::ADDRESS_PROTOCOL;
use crate::model::MacAddress;

/// What a port has carried, seen from the host: received is what the guest sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Bytes that the guest sent.
    pub rx_bytes: u64,
    /// Frames that the guest sent.
    pub rx_packets: u64,
    /// Frames of the guest that the host dropped.
    pub rx_dropped: u64,
    /// Bytes sent to the guest.
    pub tx_bytes: u64,
    /// Frames sent to the guest.
    pub tx_packets: u64,
    /// Frames for the guest that were dropped: it does not read, or its queue is full.
    pub tx_dropped: u64,
}

/// What sort of device a port is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortKind {
    /// A VM's: `tun` with the kernel (a layer 3 tun can't be a port).
    Tap,
    /// A container's, or a namespace's.
    Veth,
    /// Anything else by its kernel name (`vlan`, `vxlan`), or `physical`.
    Other(String),
}

/// A port's state in the spanning tree's terms (IEEE 802.1D); without STP it is forwarding or disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortState {
    /// The device is down or has no carrier.
    Disabled,
    /// STP only.
    Listening,
    /// STP only: learns addresses, carries nothing yet.
    Learning,
    /// It carries frames.
    Forwarding,
    /// STP, or a person, has closed it.
    Blocking,
    /// A number that the kernel gave and we don't know.
    Unknown(u8),
}

/// The other end of a veth pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its interface index in its own namespace.
    pub index: u32,
    /// Its namespace, as an id of ours (`NETNSA_NSID`); `None`: the same namespace.
    pub netns: Option<i32>,
}

/// An address on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address with its prefix length, host bits kept.
    pub net: IpNet,
    /// Whether we put it there ([`ADDRESS_PROTOCOL`]); always false on kernels before 5.18.
    pub ours: bool,
}

/// A device, with all that this module looks at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Device {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Option<MacAddress>,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    pub(crate) carrier: bool,
    pub(crate) alias: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) master: Option<u32>,
    pub(crate) peer: Option<Peer>,
    pub(crate) port_state: Option<PortState>,
    pub(crate) isolated: bool,
    pub(crate) counters: Counters,
    /// A bridge's own settings.
    pub(crate) stp: bool,
    /// In hundredths of a second (`USER_HZ`).
    pub(crate) forward_delay: u32,
}

impl Device {
    pub(crate) fn is_bridge(&self) -> bool {
        self.kind.as_deref() == Some("bridge")
    }

    /// What it is in words: its kernel kind, or that of hardware, which has none.
    pub(crate) fn kind_name(&self) -> &str {
        self.kind.as_deref().unwrap_or(if self.name == "lo" { "loopback" } else { "physical" })
    }

    pub(crate) fn port_kind(&self) -> PortKind {
        match self.kind.as_deref() {
            Some("tun") => PortKind::Tap,
            Some("veth") => PortKind::Veth,
            _ => PortKind::Other(self.kind_name().to_owned()),
        }
    }
}

pub(super) fn mac(bytes: &[u8]) -> Option<MacAddress> {
    <[u8; 6]>::try_from(bytes).ok().and_then(MacAddress::from_octets)
}

pub(super) fn device(message: &LinkMessage) -> Device {
    let flags = message.header.flags;
    let mut device = Device {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        ..Device::default()
    };
    let (mut peer, mut netns) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Address(bytes) => device.mac = mac(bytes),
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            LinkAttribute::IfAlias(alias) => device.alias = Some(alias.clone()),
            LinkAttribute::Controller(index) => device.master = Some(*index).filter(|i| *i != 0),
            LinkAttribute::Link(index) => peer = Some(*index),
            LinkAttribute::LinkNetNsId(id) => netns = Some(*id),
            LinkAttribute::Stats64(s) => {
                device.counters = Counters {
                    rx_bytes: s.rx_bytes,
                    rx_packets: s.rx_packets,
                    rx_dropped: s.rx_dropped,
                    tx_bytes: s.tx_bytes,
                    tx_packets: s.tx_packets,
                    tx_dropped: s.tx_dropped,
                }
            }
            LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| link_info(&mut device, info)),
            _ => {}
        }
    }
    // IFLA_LINK means the peer only for a veth; a VLAN has its lower device there.
    if device.kind.as_deref() == Some("veth") {
        device.peer = peer.map(|index| Peer { index, netns });
    }
    device
}

fn link_info(device: &mut Device, info: &LinkInfo) {
    match info {
        LinkInfo::Kind(kind) => device.kind = Some(kind.to_string()),
        LinkInfo::Data(InfoData::Bridge(data)) => {
            for value in data {
                match value {
                    InfoBridge::StpState(state) => device.stp = *state != BridgeStpState::Disabled,
                    InfoBridge::ForwardDelay(delay) => device.forward_delay = *delay,
                    _ => {}
                }
            }
        }
        LinkInfo::PortData(InfoPortData::BridgePort(data)) => {
            for value in data {
                match value {
                    InfoBridgePort::State(state) => device.port_state = Some(port_state(*state)),
                    InfoBridgePort::Isolated(isolated) => device.isolated = *isolated,
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn port_state(state: BridgePortState) -> PortState {
    match state {
        BridgePortState::Disabled => PortState::Disabled,
        BridgePortState::Listening => PortState::Listening,
        BridgePortState::Learning => PortState::Learning,
        BridgePortState::Forwarding => PortState::Forwarding,
        BridgePortState::Blocking => PortState::Blocking,
        BridgePortState::Other(number) => PortState::Unknown(number),
        _ => PortState::Unknown(u8::MAX),
    }
}

/// The device's index and the address; `None` for what has no address of its own.
pub(super) fn address(message: &AddressMessage) -> Option<(u32, Address)> {
    let (mut local, mut address, mut ours) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(a) => local = Some(*a),
            AddressAttribute::Address(a) => address = Some(*a),
            AddressAttribute::Protocol(AddressProtocol::Other(p)) => ours = *p == ADDRESS_PROTOCOL,
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the other side's; IFA_LOCAL is always one's own.
    let own: IpAddr = local.or(address)?;
    let net = IpNet::new(own, message.header.prefix_len).ok()?;
    Some((message.header.index, Address { net, ours }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_route::link::InfoKind;

    #[test]
    fn a_veth_has_a_peer_and_a_vlan_has_none() {
        let message = |kind| {
            let mut message = LinkMessage::default();
            message.attributes = vec![
                LinkAttribute::IfName("x".to_owned()),
                LinkAttribute::Link(7),
                LinkAttribute::LinkNetNsId(3),
                LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]),
            ];
            message
        };
        assert_eq!(device(&message(InfoKind::Veth)).peer, Some(Peer { index: 7, netns: Some(3) }));
        assert_eq!(device(&message(InfoKind::Vlan)).peer, None);
    }

    #[test]
    fn a_group_address_or_a_long_one_is_no_mac() {
        assert_eq!(mac(&[1, 0, 0x5e, 0, 0, 1]), None);
        assert_eq!(mac(&[0; 6]), None);
        assert_eq!(mac(&[2; 20]), None);
    }

    #[test]
    fn the_local_side_of_a_point_to_point_link_is_the_address() {
        let mut message = AddressMessage::default();
        message.header.index = 4;
        message.header.prefix_len = 32;
        message.attributes = vec![
            AddressAttribute::Address(IpAddr::from([10, 8, 0, 1])),
            AddressAttribute::Local(IpAddr::from([10, 8, 0, 2])),
            AddressAttribute::Protocol(AddressProtocol::Other(ADDRESS_PROTOCOL)),
        ];
        let got = address(&message).map(|(index, a)| (index, a.net.to_string(), a.ours));
        assert_eq!(got, Some((4, "10.8.0.2/32".to_owned(), true)));
    }
}
