//! Makes a bridge as it should be, reads it back until it is, and takes it away.

use rtnetlink::packet_route::link::BridgeStpState;
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};
use rustix::io::Errno;

use super::netlink::{Netlink, fault, is, talk};
use super::plan::{self, Seen, Step, Whose};
use crate::deadline::Deadline;
use crate::host::{Change, sysctl};
use crate::model::{Fault, Network, Result};

/// How often it is read back and put right. One step can undo another (removing an address takes
/// its secondaries along), and somebody else may be at work at the same moment.
const ROUNDS: usize = 4;

/// Makes the network's bridge as it should be, or finds that it is.
///
/// Our own bridge: made if missing, then MAC, MTU (its ports' too), no spanning tree, no forward
/// delay, router advertisements ignored, its addresses, up. Every difference is repaired; an address
/// in the network's subnets that isn't the network's is taken away. IPv6's link-local address and
/// addresses elsewhere are left alone.
///
/// An adopted bridge: its MAC, MTU, ports, spanning tree and addresses stay as they are. What the
/// network's file names as the bridge's `address` is added where it is missing, one that we added
/// earlier and that is no longer named goes, and the bridge is set up if it is down.
///
/// # Errors
/// `Refused` for a device of that name that is no bridge, that is another network's, or that is
/// not ours where the network does not adopt; `Missing` where an adopted one isn't there; `Failed`
/// for the kernel's refusals, the deadline, and a bridge that somebody keeps changing.
pub fn ensure(network: &Network, deadline: Deadline) -> Result<Change> {
    talk(deadline, async |netlink| {
        let mut change = Change::None;
        for _ in 0..ROUNDS {
            let seen = see(&netlink, network).await?;
            let steps = plan::plan(network, &seen)?;
            if steps.is_empty() {
                return Ok(change);
            }
            change = Change::Made;
            carry_out(&netlink, network, &seen, &steps).await?;
        }
        let steps = plan::plan(network, &see(&netlink, network).await?)?;
        if steps.is_empty() {
            return Ok(change);
        }
        let lacks: Vec<String> = steps.iter().map(ToString::to_string).collect();
        Err(Fault::failed(format!(
            "the bridge {} does not stay as it is set: it still needs {}",
            network.bridge,
            lacks.join(", ")
        ))
        .hint("another program may be changing it: NetworkManager, systemd-networkd, a script"))
    })
}

/// Deletes the network's bridge if it is there and ours; its ports are let go by the kernel. A
/// bridge that is not ours is left alone. Of an adopted bridge, only the addresses that we added go.
///
/// # Errors
/// `Failed` for the kernel's refusals and the deadline. One that is gone is no error.
pub fn remove(network: &Network, deadline: Deadline) -> Result<Change> {
    talk(deadline, async |netlink| {
        let seen = see(&netlink, network).await?;
        let Some(device) = seen.device.filter(|d| d.is_bridge()) else { return Ok(Change::None) };
        if network.adopt {
            let mut change = Change::None;
            for address in seen.addresses.iter().filter(|a| a.ours) {
                netlink.remove_address(device.index, address.net, &device.name).await?;
                change = Change::Made;
            }
            return Ok(change);
        }
        if plan::whose(&device, network) != Whose::Ours {
            return Ok(Change::None);
        }
        // By index: the name may be another device's by now.
        match netlink.handle().link().del(device.index).execute().await {
            Ok(()) => Ok(Change::Made),
            Err(e) if is(&e, Errno::NODEV) => Ok(Change::None),
            Err(e) => Err(fault(format!("cannot delete the bridge {}", network.bridge), e)),
        }
    })
}

/// Puts our mark on a bridge that bears none, so that [`ensure`] makes it right. For one case: ours
/// was deleted, and dockerd, which restores our Docker network when it starts, made one of its own in
/// its place. The caller knows that from Docker; to anybody else's bridge it must not be done.
///
/// # Errors
/// `Missing` when it isn't there; `Refused` when it is no bridge or bears another mark or alias.
pub fn take_over(network: &Network, deadline: Deadline) -> Result<Change> {
    let bridge = &network.bridge;
    talk(deadline, async |netlink| {
        let device = netlink
            .device(bridge.as_str())
            .await?
            .ok_or_else(|| Fault::missing(format!("there is no bridge {bridge}")))?;
        if !device.is_bridge() {
            return Err(Fault::refused(format!("{bridge} is no bridge ({})", device.kind_name())));
        }
        match (&device.alias, plan::whose(&device, network)) {
            (Some(_), Whose::Ours) => Ok(Change::None),
            (Some(_), _) => Err(Fault::refused(format!("the bridge {bridge} bears somebody else's alias"))),
            (None, _) => {
                let message = LinkUnspec::new_with_index(device.index).alias(plan::alias(&network.name));
                netlink.change(message.build(), &format!("mark the bridge {bridge} as ours")).await?;
                Ok(Change::Made)
            }
        }
    })
}

async fn see(netlink: &Netlink, network: &Network) -> Result<Seen> {
    let Some(device) = netlink.device(network.bridge.as_str()).await? else { return Ok(Seen::default()) };
    let index = device.index;
    let mut ports = netlink.devices(None).await?;
    ports.retain(|d| d.master == Some(index));
    let addresses =
        netlink.addresses().await?.into_iter().filter(|(i, _)| *i == index).map(|(_, a)| a).collect();
    Ok(Seen { device: Some(device), ports, addresses })
}

async fn carry_out(netlink: &Netlink, network: &Network, seen: &Seen, steps: &[Step]) -> Result<()> {
    let bridge = network.bridge.as_str();
    let index = seen.device.as_ref().map_or(0, |d| d.index);
    if seen.device.is_some() && !network.adopt {
        // Before it is up, so that no router's advertisement can give it an address or a route.
        sysctl::refuse_advertisements(&network.bridge)?;
    }
    // A port may refuse an MTU (a physical one has a limit). The rest must stand all the same.
    let mut refused: Option<Fault> = None;
    for step in steps {
        let what = format!("set up the bridge {bridge}: it needs {step}");
        match step {
            Step::Create => create(netlink, network).await?,
            Step::Mark => {
                let alias = plan::alias(&network.name);
                netlink.change(LinkUnspec::new_with_index(index).alias(alias).build(), &what).await?;
            }
            Step::StpOff => {
                let message = bridge_settings(index).stp_state(BridgeStpState::Disabled);
                netlink.change(message.build(), &what).await?;
            }
            Step::NoForwardDelay => {
                netlink.change(bridge_settings(index).forward_delay(0).build(), &what).await?;
            }
            Step::SetMac => {
                let mac = network.bridge_mac().octets().to_vec();
                netlink.change(LinkUnspec::new_with_index(index).address(mac).build(), &what).await?;
            }
            Step::SetMtu => {
                netlink.change(LinkUnspec::new_with_index(index).mtu(network.mtu).build(), &what).await?;
            }
            Step::SetPortMtu(port, _) => {
                let message = LinkUnspec::new_with_index(*port).mtu(network.mtu).build();
                if let Err(fault) = netlink.change(message, &what).await {
                    refused = Some(match refused {
                        Some(first) => first.and(fault),
                        None => fault,
                    });
                }
            }
            Step::RemoveAddress(net) => netlink.remove_address(index, *net, bridge).await?,
            // Our own bridge's address has no rival, and one that is still tentative (a bridge
            // without ports stays so) could not be bound by dnsmasq.
            Step::AddAddress(net) => netlink.add_address(index, *net, !network.adopt, bridge).await?,
            Step::Up => netlink.change(LinkUnspec::new_with_index(index).up().build(), &what).await?,
        }
    }
    refused.map_or(Ok(()), Err)
}

/// A message about a bridge's own settings.
fn bridge_settings(index: u32) -> LinkMessageBuilder<LinkBridge> {
    use rtnetlink::packet_route::link::InfoKind;
    LinkMessageBuilder::<LinkBridge>::new_with_info_kind(InfoKind::Bridge).index(index)
}

async fn create(netlink: &Netlink, network: &Network) -> Result<()> {
    // An MTU given at creation counts as a default, and a bridge with a default MTU takes the
    // lowest of its ports'. Only a later change, which must be one, counts as set by hand.
    let other_mtu = if network.mtu < 65_535 { network.mtu + 1 } else { network.mtu - 1 };
    let message = LinkMessageBuilder::<LinkBridge>::new(network.bridge.as_str())
        .address(network.bridge_mac().octets().to_vec())
        .mtu(other_mtu)
        .forward_delay(0)
        .stp_state(BridgeStpState::Disabled)
        .build();
    match netlink.handle().link().add(message).execute().await {
        Ok(()) => Ok(()),
        // Another of our own calls was faster; what it made is looked at in the next round.
        Err(e) if is(&e, Errno::EXIST) => Ok(()),
        Err(e) => Err(fault(format!("cannot make the bridge {}", network.bridge), e)),
    }
}
