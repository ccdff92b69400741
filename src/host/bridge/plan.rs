//! What has to be done so that a bridge is as its network says. Pure.

use std::fmt;

use ipnet::IpNet;

use super::ALIAS_PREFIX;
use super::decode::{Address, Device};
use crate::model::{Fault, Network, NetworkName, Result};

/// What stands, as far as the bridge is concerned.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The device of the bridge's name.
    pub(super) device: Option<Device>,
    /// Its ports.
    pub(super) ports: Vec<Device>,
    /// Its addresses.
    pub(super) addresses: Vec<Address>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Make the bridge. Nothing else can be planned before it is there.
    Create,
    /// Write our mark into its alias.
    Mark,
    /// Spanning tree off, which must come before its delay becomes 0.
    StpOff,
    /// Ports carry frames at once.
    NoForwardDelay,
    /// The MAC that stays.
    SetMac,
    /// The bridge's MTU.
    SetMtu,
    /// A port's MTU: index and name.
    SetPortMtu(u32, String),
    /// An address that is not to be there.
    RemoveAddress(IpNet),
    /// An address that is to be there.
    AddAddress(IpNet),
    /// Up.
    Up,
}

impl fmt::Display for Step {
    /// Completes "it still needs …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create => f.write_str("to be made"),
            Self::Mark => f.write_str("our mark in its alias"),
            Self::StpOff => f.write_str("the spanning tree switched off"),
            Self::NoForwardDelay => f.write_str("a forward delay of 0"),
            Self::SetMac => f.write_str("its MAC address"),
            Self::SetMtu => f.write_str("its MTU"),
            Self::SetPortMtu(_, name) => write!(f, "the MTU of its port {name}"),
            Self::RemoveAddress(net) => write!(f, "the address {net} taken away"),
            Self::AddAddress(net) => write!(f, "the address {net}"),
            Self::Up => f.write_str("to be up"),
        }
    }
}

/// Whose a bridge is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    /// This network's own.
    Ours,
    /// Another network's of ours, by its name as it stands in the alias.
    OtherNetwork(String),
    /// Somebody else's.
    Foreign,
}

/// Tells by the alias; without one by the MAC, which nobody else derives (see the module's words).
pub(super) fn whose(device: &Device, network: &Network) -> Whose {
    match device.alias.as_deref() {
        Some(alias) => match alias.strip_prefix(ALIAS_PREFIX) {
            Some(name) if name == network.name.as_str() => Whose::Ours,
            Some(name) => Whose::OtherNetwork(name.to_owned()),
            None => Whose::Foreign,
        },
        None if device.mac == Some(network.bridge_mac()) => Whose::Ours,
        None => Whose::Foreign,
    }
}

/// Our mark for a network's bridge.
pub(super) fn alias(network: &NetworkName) -> String {
    format!("{ALIAS_PREFIX}{network}")
}

/// The addresses that the bridge is to have.
pub(super) fn wanted(network: &Network) -> Vec<IpNet> {
    network
        .families()
        .filter_map(|f| f.address.and_then(|a| IpNet::new(a, f.subnet.prefix_len()).ok()))
        .collect()
}

/// The steps from what stands to what should; none when all is well.
pub(super) fn plan(network: &Network, seen: &Seen) -> Result<Vec<Step>> {
    let bridge = &network.bridge;
    let Some(device) = &seen.device else {
        if network.follows.is_some() {
            let docker = &network.docker_network;
            return Err(Fault::missing(format!(
                "the bridge {bridge} of Docker network {docker} is not there"
            ))
            .hint("systemctl restart docker makes it again"));
        }
        if network.adopt {
            return Err(Fault::missing(format!(
                "the bridge {bridge} that network {} adopts is not there",
                network.name
            ))
            .hint("make it first, or leave --adopt out so that it is made here"));
        }
        return Ok(vec![Step::Create]);
    };
    if !device.is_bridge() {
        return Err(Fault::refused(format!("{bridge} is there and is no bridge ({})", device.kind_name()))
            .hint("choose another name with --bridge"));
    }
    match whose(device, network) {
        Whose::OtherNetwork(other) => {
            Err(Fault::refused(format!("the bridge {bridge} belongs to network {}", printable(&other)))
                .hint("choose another name with --bridge"))
        }
        Whose::Foreign if !network.adopt => Err(Fault::refused(format!(
            "the bridge {bridge} is there already and was not made by hybrid-hook"
        ))
        .hint("--adopt uses it and leaves its settings alone; --bridge chooses another name")),
        _ if network.adopt => Ok(adopted(network, device, seen)),
        _ => Ok(own(network, device, seen)),
    }
}

/// An alias is anybody's text.
fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic()).take(40).collect()
}

/// Somebody else's bridge: only what the network's file asks for by name is added, and only what we
/// added ourselves goes.
fn adopted(network: &Network, device: &Device, seen: &Seen) -> Vec<Step> {
    if network.follows.is_some() {
        // All of it is Docker's.
        return Vec::new();
    }
    let wanted = wanted(network);
    let mut steps = Vec::new();
    for address in seen.addresses.iter().filter(|a| a.ours && !wanted.contains(&a.net)) {
        steps.push(Step::RemoveAddress(address.net));
    }
    for net in wanted {
        // With another prefix length it is still there; that is its owner's choice.
        if !seen.addresses.iter().any(|a| a.net.addr() == net.addr()) {
            steps.push(Step::AddAddress(net));
        }
    }
    if !device.up {
        steps.push(Step::Up);
    }
    steps
}

fn own(network: &Network, device: &Device, seen: &Seen) -> Vec<Step> {
    let mut steps = Vec::new();
    if device.alias.is_none() {
        steps.push(Step::Mark);
    }
    if device.stp {
        steps.push(Step::StpOff);
    }
    if device.forward_delay != 0 {
        steps.push(Step::NoForwardDelay);
    }
    if device.mac != Some(network.bridge_mac()) {
        steps.push(Step::SetMac);
    }
    if device.mtu != network.mtu {
        steps.push(Step::SetMtu);
    }
    for port in seen.ports.iter().filter(|p| p.mtu != network.mtu) {
        steps.push(Step::SetPortMtu(port.index, port.name.clone()));
    }
    let wanted = wanted(network);
    let stale = |a: &&Address| {
        !wanted.contains(&a.net) && (a.ours || network.overlapping(&IpNet::from(a.net.addr())).is_some())
    };
    // Away with the stale first: removing the first of a subnet takes the later ones with it.
    steps.extend(seen.addresses.iter().filter(stale).map(|a| Step::RemoveAddress(a.net)));
    for net in &wanted {
        if !seen.addresses.iter().any(|a| a.net == *net) {
            steps.push(Step::AddAddress(*net));
        }
    }
    if !device.up {
        steps.push(Step::Up);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network_file::NetworkFile;
    use crate::model::{Kind, MacAddress};

    fn network(more: &str) -> Result<Network> {
        let text = format!(
            "format = 1\n{more}\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n[ipv6]\nsubnet = \"fd00:1::/64\"\n"
        );
        let file = NetworkFile::parse(&text).map_err(Fault::failed)?;
        Ok(file.network(&"hybrid".parse()?)?)
    }

    fn address(net: &str, ours: bool) -> Result<Address> {
        Ok(Address { net: net.parse().map_err(|_| Fault::failed("no CIDR"))?, ours })
    }

    fn right(network: &Network) -> Result<Seen> {
        let device = Device {
            index: 3,
            name: network.bridge.to_string(),
            mac: Some(network.bridge_mac()),
            mtu: 1500,
            up: true,
            alias: Some("hybrid-hook:hybrid".to_owned()),
            kind: Some("bridge".to_owned()),
            ..Device::default()
        };
        let addresses = vec![
            address("10.0.1.1/24", true)?,
            address("fd00:1::1/64", true)?,
            address("fe80::1/64", false)?,
        ];
        Ok(Seen { device: Some(device), ports: Vec::new(), addresses })
    }

    fn words(network: &Network, seen: &Seen) -> Result<Vec<String>> {
        Ok(plan(network, seen)?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_right_bridge_needs_nothing() -> Result<()> {
        let network = network("")?;
        assert_eq!(plan(&network, &right(&network)?)?, []);
        assert_eq!(plan(&network, &Seen::default())?, [Step::Create]);
        Ok(())
    }

    #[test]
    fn every_difference_of_our_own_bridge_is_a_step() -> Result<()> {
        let network = network("")?;
        let mut seen = right(&network)?;
        if let Some(device) = &mut seen.device {
            device.alias = None;
            device.stp = true;
            device.forward_delay = 1500;
            device.mtu = 1400;
            device.up = false;
        }
        seen.ports = vec![
            Device { index: 9, name: "tap9".to_owned(), mtu: 1400, ..Device::default() },
            Device { index: 8, name: "tap8".to_owned(), mtu: 1500, ..Device::default() },
        ];
        // One stale in the subnet, one stale that we once added elsewhere, one of a person.
        seen.addresses = vec![
            address("10.0.1.9/24", false)?,
            address("10.7.0.1/24", true)?,
            address("10.8.0.1/24", false)?,
        ];
        insta::assert_snapshot!(words(&network, &seen)?.join("\n"), @r"
        our mark in its alias
        the spanning tree switched off
        a forward delay of 0
        its MTU
        the MTU of its port tap9
        the address 10.0.1.9/24 taken away
        the address 10.7.0.1/24 taken away
        the address 10.0.1.1/24
        the address fd00:1::1/64
        to be up
        ");
        Ok(())
    }

    #[test]
    fn a_wrong_mac_is_repaired_where_the_alias_says_ours() -> Result<()> {
        let network = network("")?;
        let mut seen = right(&network)?;
        if let Some(device) = &mut seen.device {
            device.mac = MacAddress::from_octets([2, 0, 0, 0, 0, 1]);
        }
        assert_eq!(plan(&network, &seen)?, [Step::SetMac]);
        Ok(())
    }

    #[test]
    fn what_is_not_ours_is_refused_with_a_hint() -> Result<()> {
        let network = network("")?;
        let told = |change: fn(&mut Device)| -> Result<(Option<Kind>, String)> {
            let mut seen = right(&network)?;
            if let Some(device) = &mut seen.device {
                change(device);
            }
            let fault = plan(&network, &seen).err();
            let text = fault.as_ref().map(|f| format!("{f} / {}", f.hint_text().unwrap_or_default()));
            Ok((fault.map(|f| f.kind()), text.unwrap_or_default()))
        };
        let (kind, text) = told(|d| d.kind = Some("dummy".to_owned()))?;
        assert_eq!(kind, Some(Kind::Refused));
        assert_eq!(text, "hybr0 is there and is no bridge (dummy) / choose another name with --bridge");
        let (kind, text) = told(|d| d.alias = Some("hybrid-hook:shop".to_owned()))?;
        assert_eq!(kind, Some(Kind::Refused));
        assert!(text.starts_with("the bridge hybr0 belongs to network shop"), "{text}");
        for change in [(|d| d.alias = Some("LAN".to_owned())) as fn(&mut Device), |d| {
            (d.alias, d.mac) = (None, MacAddress::from_octets([2, 0, 0, 0, 0, 1]))
        }] {
            let (kind, text) = told(change)?;
            assert_eq!(kind, Some(Kind::Refused));
            assert!(text.contains("--adopt"), "{text}");
        }
        Ok(())
    }

    #[test]
    fn an_adopted_bridge_keeps_everything_of_its_own() -> Result<()> {
        let network = network("adopt = true")?;
        let mut seen = right(&network)?;
        if let Some(device) = &mut seen.device {
            (device.alias, device.mac, device.mtu, device.stp) = (None, None, 9000, true);
        }
        seen.addresses = vec![address("10.0.1.9/24", false)?, address("10.0.1.7/24", true)?];
        assert_eq!(words(&network, &seen)?, ["the address 10.0.1.7/24 taken away"]);
        seen.device = None;
        assert_eq!(plan(&network, &seen).err().map(|f| f.kind()), Some(Kind::Missing));
        Ok(())
    }

    #[test]
    fn an_adopted_bridge_gets_the_address_that_its_network_names() -> Result<()> {
        let text = "format = 1\nadopt = true\n[ipv4]\nsubnet = \"10.0.1.0/24\"\naddress = \"10.0.1.5\"\n";
        let network = NetworkFile::parse(text).map_err(Fault::failed)?.network(&"hybrid".parse()?)?;
        let mut seen = right(&network)?;
        seen.addresses = vec![address("10.0.1.9/24", false)?];
        assert_eq!(words(&network, &seen)?, ["the address 10.0.1.5/24"]);
        seen.addresses = vec![address("10.0.1.5/16", false)?];
        assert_eq!(words(&network, &seen)?, [""; 0]);
        Ok(())
    }
}
