//! How a bridge differs from what its network says, in words: the steps that [`super::ensure`] would
//! take, so that what is shown and what is mended can't drift apart. Pure.

use std::fmt::Write as _;

use ipnet::IpNet;

use super::decode::Device;
use super::plan::{self, Seen, Step};
use super::read::{BridgeState, Port};
use crate::model::{Network, Result};

/// One way in which a bridge is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// What of it, such as `bridge hybr0 MTU`.
    pub what: String,
    /// How it is.
    pub is: String,
    /// How it should be.
    pub should_be: String,
}

/// What [`super::ensure`] would change.
///
/// # Errors
/// As [`super::ensure`]: what it would refuse to touch.
pub fn deviations(network: &Network, state: Option<&BridgeState>) -> Result<Vec<Deviation>> {
    let seen = state.map_or_else(Seen::default, |state| seen(network, state));
    let steps = plan::plan(network, &seen)?;
    Ok(steps.iter().map(|step| in_words(network, state, step)).collect())
}

fn seen(network: &Network, state: &BridgeState) -> Seen {
    let device = Device {
        index: state.index,
        name: network.bridge.to_string(),
        mac: state.mac,
        mtu: state.mtu,
        up: state.up,
        carrier: state.carrier,
        alias: state.alias.clone(),
        kind: Some("bridge".to_owned()),
        stp: state.stp,
        forward_delay: state.forward_delay,
        ..Device::default()
    };
    let port = |p: &Port| Device { index: p.index, name: p.name.clone(), mtu: p.mtu, ..Device::default() };
    Seen {
        device: Some(device),
        ports: state.ports.iter().map(port).collect(),
        addresses: state.addresses.clone(),
    }
}

fn in_words(network: &Network, state: Option<&BridgeState>, step: &Step) -> Deviation {
    let bridge = format!("bridge {}", network.bridge);
    let say = |what: String, is: String, should_be: String| Deviation { what, is, should_be };
    let of = |part: &str| format!("{bridge} {part}");
    let now = |read: &dyn Fn(&BridgeState) -> String| state.map_or_else(|| "unknown".to_owned(), read);
    match step {
        Step::Create => say(bridge, "not there".to_owned(), "there".to_owned()),
        Step::Mark => say(of("mark"), "missing".to_owned(), plan::alias(&network.name)),
        Step::StpOff => say(of("spanning tree"), "on".to_owned(), "off".to_owned()),
        Step::NoForwardDelay => {
            let is = now(&|s| format!("{}.{:02} s", s.forward_delay / 100, s.forward_delay % 100));
            say(of("forward delay"), is, "0.00 s".to_owned())
        }
        Step::SetMac => {
            let is = now(&|s| s.mac.map_or_else(|| "none".to_owned(), |m| m.to_string()));
            say(of("MAC"), is, network.bridge_mac().to_string())
        }
        Step::SetMtu => say(of("MTU"), now(&|s| s.mtu.to_string()), network.mtu.to_string()),
        Step::SetPortMtu(index, name) => {
            let mtu = |s: &BridgeState| {
                s.ports.iter().find(|p| p.index == *index).map_or_else(String::new, |p| p.mtu.to_string())
            };
            say(format!("port {name} MTU"), now(&mtu), network.mtu.to_string())
        }
        Step::RemoveAddress(net) => say(of("address"), net.to_string(), "without it".to_owned()),
        Step::AddAddress(net) => say(of("address"), now(&|s| others(s, net)), net.to_string()),
        Step::Up => say(bridge, "down".to_owned(), "up".to_owned()),
    }
}

/// The bridge's addresses of the family that one is missing of.
fn others(state: &BridgeState, missing: &IpNet) -> String {
    let mut text = String::new();
    let same = |net: &IpNet| net.addr().is_ipv4() == missing.addr().is_ipv4();
    for address in state.addresses.iter().map(|a| a.net).filter(same) {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a string can't fail.
        let _ = write!(text, "{comma}{address}");
    }
    if text.is_empty() { "none".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::bridge::Address;
    use crate::model::network_file::NetworkFile;
    use crate::model::{Fault, Kind};

    fn network() -> Result<Network> {
        let file = NetworkFile::parse("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n");
        Ok(file.map_err(Fault::failed)?.network(&"hybrid".parse()?)?)
    }

    fn right(network: &Network) -> Result<BridgeState> {
        let net = "10.0.1.1/24".parse().map_err(|_| Fault::failed("no CIDR"))?;
        Ok(BridgeState {
            index: 3,
            mac: Some(network.bridge_mac()),
            mtu: 1500,
            up: true,
            carrier: true,
            stp: false,
            forward_delay: 0,
            alias: Some("hybrid-hook:hybrid".to_owned()),
            addresses: vec![Address { net, ours: true }],
            ports: Vec::new(),
            fdb: Vec::new(),
        })
    }

    fn lines(network: &Network, state: Option<&BridgeState>) -> Result<Vec<String>> {
        let line = |d: &Deviation| format!("{} is {}, should be {}", d.what, d.is, d.should_be);
        Ok(deviations(network, state)?.iter().map(line).collect())
    }

    #[test]
    fn each_thing_that_differs_is_said_and_nothing_else() -> Result<()> {
        let network = network()?;
        let state = right(&network)?;
        assert_eq!(lines(&network, Some(&state))?, Vec::<String>::new());
        assert_eq!(lines(&network, None)?, ["bridge hybr0 is not there, should be there"]);
        let broken = BridgeState {
            mtu: 1400,
            up: false,
            forward_delay: 1500,
            addresses: vec![],
            mac: None,
            ..state.clone()
        };
        assert_eq!(
            lines(&network, Some(&broken))?,
            [
                "bridge hybr0 forward delay is 15.00 s, should be 0.00 s",
                "bridge hybr0 MAC is none, should be 02:68:8d:32:fe:63",
                "bridge hybr0 MTU is 1400, should be 1500",
                "bridge hybr0 address is none, should be 10.0.1.1/24",
                "bridge hybr0 is down, should be up",
            ]
        );
        let foreign = BridgeState { alias: Some("somebody's".to_owned()), ..state };
        assert_eq!(deviations(&network, Some(&foreign)).err().map(|f| f.kind()), Some(Kind::Refused));
        Ok(())
    }
}
