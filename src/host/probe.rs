//! ARP probes (RFC 5227): does a live host use an IPv4 address?
//!
//! IPv6 asks the same question by a neighbour solicitation from the unspecified address (RFC 4862,
//! section 5.4). It would be a second `probe` for `Ipv6Addr` with a frame and a verdict of its own;
//! `ask` below, which sends, listens and keeps the time, knows nothing of ARP and serves both.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};

use super::bridge::talk;
use crate::deadline::Deadline;
use crate::model::{Fault, InterfaceName, MacAddress, Result};

/// Ethernet header (14 bytes) and ARP for Ethernet and IPv4 (28 bytes, RFC 826).
const FRAME: usize = 42;
/// EtherType of ARP.
const ETH_P_ARP: u16 = 0x0806;
/// When the second probe goes, after the first. RFC 5227 waits 1 to 2 s and sends three, for a host
/// that must be sure of a strange network; here a VM's start waits, and the bridge is next door.
const SECOND_AFTER: Duration = Duration::from_millis(75);

/// Asks on `bridge` whether anybody but `claimant` uses `address`. Two probes, at 0 and 75 ms; an
/// answer ends it at once, otherwise it ends after `patience` (150 to 200 ms is enough on a bridge).
/// Gives the other's MAC: of whoever sends any ARP with that address as its own, of another prober
/// for it (RFC 5227, section 2.1.1), or the bridge's own MAC when the host itself has the address on
/// any device, since it would answer for it here too. A bridge that has no port that carries
/// anything is not asked: nobody can answer.
///
/// Needs `CAP_NET_RAW`.
///
/// # Errors
/// `Missing` when the bridge isn't there or is down; `Failed` when a packet socket can't be had.
pub fn probe(
    bridge: &InterfaceName,
    address: Ipv4Addr,
    claimant: MacAddress,
    patience: Duration,
) -> Result<Option<MacAddress>> {
    let (device, is_hosts) = talk(Deadline::after(Duration::from_secs(1)), async |netlink| {
        let device = netlink.device(bridge.as_str()).await?;
        let addresses = netlink.addresses().await?;
        Ok((device, addresses.iter().any(|(_, a)| a.net.addr() == IpAddr::V4(address))))
    })?;
    let device = device
        .filter(|d| d.up)
        .ok_or_else(|| Fault::missing(format!("the bridge {bridge} is not there or is down")))?;
    let own =
        device.mac.ok_or_else(|| Fault::failed(format!("the bridge {bridge} has no Ethernet address")))?;
    if is_hosts {
        return Ok(Some(own));
    }
    if !device.carrier {
        return Ok(None);
    }
    let failed = |e: std::io::Error| {
        let denied = e.kind() == ErrorKind::PermissionDenied;
        let fault = Fault::failed(format!("cannot probe for {address} on {bridge}")).because(e);
        if denied { fault.hint("only root may send ARP") } else { fault }
    };
    let socket = packet_socket(device.index, ETH_P_ARP).map_err(failed)?;
    let verdict = |frame: &[u8]| {
        let arp = Arp::parse(frame)?;
        arp.claims(address).filter(|mac| *mac != claimant && *mac != own)
    };
    ask(&socket, &probe_frame(own, address), Deadline::after(patience), verdict).map_err(failed)
}

/// Sends `frame` at once and again after [`SECOND_AFTER`], and shows everything that comes in to
/// `verdict` until that gives something or the deadline passes.
fn ask<T>(
    socket: &Socket,
    frame: &[u8],
    deadline: Deadline,
    mut verdict: impl FnMut(&[u8]) -> Option<T>,
) -> std::io::Result<Option<T>> {
    let second = Deadline::after(SECOND_AFTER);
    let mut again = true;
    let mut buffer = [0_u8; 128];
    socket.send(frame)?;
    while !deadline.passed() {
        if again && second.passed() {
            again = false;
            socket.send(frame)?;
        }
        let wait = if again { deadline.left().min(second.left()) } else { deadline.left() };
        // A timeout of zero would mean for ever.
        socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        let mut reader: &Socket = socket;
        match reader.read(&mut buffer) {
            Ok(length) => {
                if let Some(found) = buffer.get(..length).and_then(&mut verdict) {
                    return Ok(Some(found));
                }
            }
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// A socket for whole Ethernet frames of one EtherType on one device (packet(7)). It has no protocol
/// before it is bound, so that nothing of another device is ever queued in it.
fn packet_socket(index: u32, ethertype: u16) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.bind(&link_address(index, ethertype))?;
    Ok(socket)
}

/// `struct sockaddr_ll` as packet(7) gives it.
#[repr(C)]
struct LinkAddress {
    family: u16,
    /// In network order.
    protocol: u16,
    index: i32,
    hardware_type: u16,
    packet_type: u8,
    address_length: u8,
    address: [u8; 8],
}

#[allow(unsafe_code)]
fn link_address(index: u32, ethertype: u16) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `LinkAddress` is `sockaddr_ll` field for field (20 bytes, plain integers, every bit
    // pattern valid, alignment 4), and it is smaller than the storage that it is a view of.
    let link = unsafe { storage.view_as::<LinkAddress>() };
    *link = LinkAddress {
        family: rustix::net::AddressFamily::PACKET.as_raw(),
        protocol: ethertype.to_be(),
        index: i32::try_from(index).unwrap_or_default(),
        hardware_type: 0,
        packet_type: 0,
        address_length: 0,
        address: [0; 8],
    };
    let length = u32::try_from(size_of::<LinkAddress>()).unwrap_or_default();
    // SAFETY: family and length are those of the `sockaddr_ll` just written.
    unsafe { SockAddr::new(storage, length) }
}

/// RFC 5227, section 1.1: a broadcast request whose sender address is all zeros, so that it fills
/// nobody's cache, and whose target is the address in question.
fn probe_frame(source: MacAddress, address: Ipv4Addr) -> [u8; FRAME] {
    let mut frame = [0_u8; FRAME];
    let parts: [&[u8]; 11] = [
        &[0xff; 6],
        &source.octets(),
        &ETH_P_ARP.to_be_bytes(),
        &[0, 1],       // hardware: Ethernet
        &[0x08, 0x00], // protocol: IPv4
        &[6, 4],       // lengths of their addresses
        &[0, 1],       // request
        &source.octets(),
        &Ipv4Addr::UNSPECIFIED.octets(),
        &[0; 6],
        &address.octets(),
    ];
    for (to, from) in frame.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    frame
}

/// What an ARP packet says, as far as we ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arp {
    request: bool,
    sender: MacAddress,
    sender_address: Ipv4Addr,
    target_address: Ipv4Addr,
}

impl Arp {
    /// Reads an Ethernet frame; `None` for anything but a whole ARP request or reply for Ethernet and
    /// IPv4 with a sender that can be a host's. What follows it (padding) is not looked at.
    fn parse(frame: &[u8]) -> Option<Self> {
        let bytes = frame.get(12..FRAME)?;
        let (head, body) = bytes.split_at_checked(10)?;
        let [0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, operation] = *head else { return None };
        let request = match operation {
            1 => true,
            2 => false,
            _ => return None,
        };
        let (sender, body) = body.split_first_chunk::<6>()?;
        let (sender_address, body) = body.split_first_chunk::<4>()?;
        let target_address = body.get(6..)?.first_chunk::<4>()?;
        Some(Self {
            request,
            sender: MacAddress::from_octets(*sender)?,
            sender_address: Ipv4Addr::from(*sender_address),
            target_address: Ipv4Addr::from(*target_address),
        })
    }

    /// Who claims `address` by this packet, if anybody does: its sender has it as its own, or probes
    /// for it.
    fn claims(&self, address: Ipv4Addr) -> Option<MacAddress> {
        let has = self.sender_address == address && !address.is_unspecified();
        let probes = self.request && self.sender_address.is_unspecified() && self.target_address == address;
        (has || probes).then_some(self.sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 200);

    fn mac(last: u8) -> Result<MacAddress> {
        MacAddress::from_octets([0x52, 0x54, 0, 0, 0, last]).ok_or_else(|| Fault::failed("no MAC"))
    }

    /// A probe with other bytes at `at`.
    fn with(at: usize, bytes: &[u8]) -> Result<[u8; FRAME]> {
        let mut frame = probe_frame(mac(1)?, ADDRESS);
        for (to, from) in frame.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
        Ok(frame)
    }

    #[test]
    fn a_probe_is_rfc_5227s_packet_byte_for_byte() -> Result<()> {
        let frame = probe_frame(mac(1)?, ADDRESS);
        let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
        let expected = "ffffffffffff 525400000001 0806 \
            0001 0800 06 04 0001 525400000001 00000000 000000000000 0a0001c8";
        assert_eq!(hex, expected.replace(' ', ""));
        Ok(())
    }

    #[test]
    fn a_sender_with_the_address_claims_it_in_request_and_reply() -> Result<()> {
        let own = ADDRESS.octets();
        for operation in [1, 2] {
            let mut frame = with(28, &own)?;
            frame[21] = operation;
            // It asks for, or answers, somebody else.
            frame[38..42].copy_from_slice(&[10, 0, 1, 7]);
            assert_eq!(Arp::parse(&frame).and_then(|a| a.claims(ADDRESS)), Some(mac(1)?));
        }
        Ok(())
    }

    #[test]
    fn another_probe_for_it_claims_it_and_an_ordinary_question_does_not() -> Result<()> {
        let probe = with(0, &[])?;
        assert_eq!(Arp::parse(&probe).and_then(|a| a.claims(ADDRESS)), Some(mac(1)?));
        assert_eq!(Arp::parse(&probe).and_then(|a| a.claims(Ipv4Addr::new(10, 0, 1, 201))), None);
        // 10.0.1.7 asks who has it.
        let question = with(28, &[10, 0, 1, 7])?;
        assert_eq!(Arp::parse(&question).and_then(|a| a.claims(ADDRESS)), None);
        // A reply from 0.0.0.0 is nonsense.
        assert_eq!(Arp::parse(&with(20, &[0, 2])?).and_then(|a| a.claims(ADDRESS)), None);
        Ok(())
    }

    #[test]
    fn hostile_and_truncated_packets_say_nothing() -> Result<()> {
        let good = with(28, &ADDRESS.octets())?;
        for length in 0..FRAME {
            assert_eq!(good.get(..length).and_then(Arp::parse), None, "{length} bytes");
        }
        for (at, bytes) in [
            (12, &[0x08, 0x00][..]), // IPv4, not ARP
            (14, &[0, 6]),           // another hardware
            (16, &[0x86, 0xdd]),     // another protocol
            (18, &[255, 255]),       // lengths that lie
            (18, &[6, 16]),
            (20, &[1, 1]), // an operation of two bytes
            (20, &[0, 9]),
            (22, &[0xff; 6]), // a broadcast sender
            (22, &[0; 6]),
            (22, &[0x01, 0, 0x5e, 0, 0, 1]),
        ] {
            assert_eq!(Arp::parse(&with(at, bytes)?), None, "{at} {bytes:?}");
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = Arp::parse(&bytes).and_then(|a| a.claims(ADDRESS));
        }
    }
}
