//! Ports: the quick look for the hook, enslaving, and pinning a guest's MAC to its port.

use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};

use super::decode::Device;
use super::netlink::{Netlink, fault, talk};
use crate::deadline::Deadline;
use crate::host::Change;
use crate::model::{Fault, InterfaceName, MacAddress, Result};

/// A device as a hook wants to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortBrief {
    /// The bridge (or other master) that it is a port of, by name.
    pub master: Option<String>,
    /// Its own Ethernet address; a tap's is its guest's with `fe` in front.
    pub mac: Option<MacAddress>,
    /// Whether it is set up.
    pub up: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// Looks at one device, and at its master's name: two short questions, well under a millisecond.
/// `None` when it isn't there. Any user may.
///
/// # Errors
/// `Failed` for the kernel's refusals and the deadline.
pub fn port(name: &InterfaceName, deadline: Deadline) -> Result<Option<PortBrief>> {
    talk(deadline, async |netlink| {
        let Some(device) = netlink.device(name.as_str()).await? else { return Ok(None) };
        let master = match device.master {
            Some(index) => netlink.device_at(index).await?.map(|m| m.name),
            None => None,
        };
        Ok(Some(PortBrief { master, mac: device.mac, up: device.up, mtu: device.mtu }))
    })
}

/// Whether the tap of the guest with this MAC is a port of the bridge. libvirt gives a tap its guest's address
/// with another first byte ([`MacAddress::of_tap`]). No bridge, no taps. Any user may.
///
/// # Errors
/// `Failed` for the kernel's refusals and the deadline.
pub fn has_tap_of(bridge: &InterfaceName, guest: MacAddress, deadline: Deadline) -> Result<bool> {
    talk(deadline, async |netlink| {
        let Some(master) = netlink.device(bridge.as_str()).await? else { return Ok(false) };
        Ok(netlink.devices(None).await?.iter().any(|device| is_tap_of(device, &master, guest)))
    })
}

fn is_tap_of(device: &Device, master: &Device, guest: MacAddress) -> bool {
    device.master == Some(master.index) && device.mac == Some(guest.of_tap())
}

/// Makes a device a port of the bridge. Done already: no change.
///
/// # Errors
/// `Missing` when either isn't there; `Refused` when `bridge` is no bridge, or when the port is
/// another master's: it is never taken away from there.
pub fn enslave(bridge: &InterfaceName, port: &InterfaceName, deadline: Deadline) -> Result<Change> {
    talk(deadline, async |netlink| {
        let master = find_bridge(&netlink, bridge).await?;
        match netlink.device(port.as_str()).await? {
            Some(device) => join(&netlink, &master, &device).await,
            None => Err(Fault::missing(format!("there is no device {port} to put on {bridge}"))),
        }
    })
}

/// Puts ports back on a bridge that was made again: taps by their leases' names, container veths by
/// [`super::host_veths_of`]. One that is gone, or that is a port of something else by now, is left
/// out. Gives the names of those that were put back.
///
/// # Errors
/// `Missing` or `Refused` for the bridge. A port that can't be put back does not stop the others;
/// all such failures come back as one fault after the rest is done.
pub fn put_back(
    bridge: &InterfaceName,
    ports: &[InterfaceName],
    deadline: Deadline,
) -> Result<Vec<InterfaceName>> {
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    talk(deadline, async |netlink| {
        let master = find_bridge(&netlink, bridge).await?;
        let (mut done, mut refused) = (Vec::new(), None::<Fault>);
        for port in ports {
            let Some(device) = netlink.device(port.as_str()).await? else { continue };
            if device.master.is_some() {
                continue;
            }
            match join(&netlink, &master, &device).await {
                Ok(_) => done.push(port.clone()),
                Err(fault) => {
                    refused = Some(match refused {
                        Some(first) => first.and(fault),
                        None => fault,
                    });
                }
            }
        }
        refused.map_or(Ok(done), Err)
    })
}

/// Ties a guest's MAC to its port: frames to it go there and nowhere else, whoever else sends with
/// it. The entry goes when the port does. As `bridge fdb replace MAC dev PORT master static sticky`:
/// `static` alone keeps the entry from ageing, but another sender still moves it (`br_fdb_update`);
/// only `sticky`, in Linux since 4.20, holds.
///
/// # Errors
/// `Missing` when the port isn't there or is no bridge's; `Failed` for the kernel's refusals.
pub fn pin(port: &InterfaceName, mac: MacAddress, deadline: Deadline) -> Result<()> {
    talk(deadline, async |netlink| {
        let device = netlink
            .device(port.as_str())
            .await?
            .filter(|d| d.master.is_some())
            .ok_or_else(|| Fault::missing(format!("{port} is not a port of a bridge")))?;
        // NUD_NOARP: a static entry. NUD_PERMANENT would make the MAC the host's own.
        let request = netlink
            .handle()
            .neighbours()
            .add_bridge(device.index, &mac.octets())
            .state(NeighbourState::Noarp)
            .flags(NeighbourFlags::Controller | NeighbourFlags::Sticky)
            .replace();
        request.execute().await.map_err(|e| fault(format!("cannot tie {mac} to the port {port}"), e))
    })
}

async fn find_bridge(netlink: &Netlink, bridge: &InterfaceName) -> Result<Device> {
    match netlink.device(bridge.as_str()).await? {
        Some(device) if device.is_bridge() => Ok(device),
        Some(device) => Err(Fault::refused(format!("{bridge} is no bridge ({})", device.kind_name()))),
        None => Err(Fault::missing(format!("there is no bridge {bridge}"))),
    }
}

async fn join(netlink: &Netlink, bridge: &Device, port: &Device) -> Result<Change> {
    match port.master {
        Some(master) if master == bridge.index => Ok(Change::None),
        Some(_) => Err(Fault::refused(format!(
            "{} is a port of another bridge and is not taken from it for {}",
            port.name, bridge.name
        ))),
        None => {
            let what = format!("put {} on {}", port.name, bridge.name);
            netlink.set_master(port.index, bridge.index, &what).await?;
            Ok(Change::Made)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_tap_is_known_by_its_mac_and_its_bridge() -> std::result::Result<(), crate::model::Invalid> {
        let guest: MacAddress = "52:54:00:00:00:01".parse()?;
        let master = Device { index: 3, ..Device::default() };
        let tap = |master, mac: &str| {
            mac.parse().map(|mac| Device { index: 5, master, mac: Some(mac), ..Device::default() })
        };
        assert!(is_tap_of(&tap(Some(3), "fe:54:00:00:00:01")?, &master, guest));
        assert!(!is_tap_of(&tap(Some(3), "fe:54:00:00:00:02")?, &master, guest), "another guest's");
        assert!(!is_tap_of(&tap(Some(3), "52:54:00:00:00:01")?, &master, guest), "no tap of libvirt's");
        assert!(!is_tap_of(&tap(Some(4), "fe:54:00:00:00:01")?, &master, guest), "on another bridge");
        assert!(!is_tap_of(&tap(None, "fe:54:00:00:00:01")?, &master, guest), "on none");
        Ok(())
    }
}
