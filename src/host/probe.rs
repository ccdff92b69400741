//! Does a live host use an address? Asked by ARP for IPv4, by a neighbour solicitation for IPv6.

mod arp;
mod solicitation;

use std::io::{ErrorKind, Read};
use std::net::IpAddr;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};

use super::bridge::talk;
use crate::deadline::Deadline;
use crate::model::{Fault, InterfaceName, MacAddress, Result};

/// When the second question goes, after the first. RFC 5227 waits 1 to 2 s and sends three, RFC 4862 waits
/// 1 s after one, for a host that must be sure of a strange network; here a VM's start waits, and the
/// bridge is next door.
const SECOND_AFTER: Duration = Duration::from_millis(75);

/// Asks on `bridge` whether anybody but `claimant` uses `address`. Two questions, at 0 and 75 ms; an
/// answer ends it at once, otherwise it ends after `patience` (150 to 200 ms is enough on a bridge).
/// Gives the other's MAC: of whoever says that it has the address, of another that asks for it before
/// using it, or the bridge's own MAC when the host itself has the address on any device. A bridge that
/// has no port that carries anything is not asked: nobody can answer.
///
/// Needs `CAP_NET_RAW`.
///
/// # Errors
/// `Missing` when the bridge isn't there or is down; `Failed` when a packet socket can't be had.
pub fn probe(
    bridge: &InterfaceName,
    address: IpAddr,
    claimant: MacAddress,
    patience: Duration,
) -> Result<Option<MacAddress>> {
    let (device, addresses) = talk(Deadline::after(Duration::from_secs(1)), async |netlink| {
        Ok((netlink.device(bridge.as_str()).await?, netlink.addresses().await?))
    })?;
    let device = device
        .filter(|d| d.up)
        .ok_or_else(|| Fault::missing(format!("the bridge {bridge} is not there or is down")))?;
    let own =
        device.mac.ok_or_else(|| Fault::failed(format!("the bridge {bridge} has no Ethernet address")))?;
    if addresses.iter().any(|(_, a)| a.net.addr() == address) {
        return Ok(Some(own));
    }
    if !device.carrier {
        return Ok(None);
    }
    let failed = |e: std::io::Error| {
        let denied = e.kind() == ErrorKind::PermissionDenied;
        let fault = Fault::failed(format!("cannot probe for {address} on {bridge}")).because(e);
        if denied { fault.hint("only root may send ARP and neighbour solicitations") } else { fault }
    };
    let deadline = Deadline::after(patience);
    let other = |mac: &MacAddress| *mac != claimant && *mac != own;
    match address {
        IpAddr::V4(address) => {
            let socket = packet_socket(device.index, arp::ETHERTYPE).map_err(failed)?;
            let verdict = |frame: &[u8]| arp::claimed(frame, address).filter(other);
            ask(&socket, &arp::frame(own, address), deadline, verdict)
        }
        IpAddr::V6(address) => {
            let link_local = addresses.iter().find_map(|(index, a)| match a.net.addr() {
                IpAddr::V6(a) if *index == device.index && a.is_unicast_link_local() => Some(a),
                _ => None,
            });
            let socket = packet_socket(device.index, solicitation::ETHERTYPE).map_err(failed)?;
            let verdict = |frame: &[u8]| solicitation::claimed(frame, address).filter(other);
            ask(&socket, &solicitation::frame(own, link_local, address), deadline, verdict)
        }
    }
    .map_err(failed)
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
    // What follows the first 128 bytes of a frame is not looked at.
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
