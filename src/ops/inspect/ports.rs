//! Whose a port is. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::record::{GuestKind, GuestRecord, PortRecord, Traffic};
use crate::host::bridge::{FdbKind, Port, PortKind, PortState};
use crate::host::docker::Endpoint;
use crate::model::{LeaseRecord, LeaseState, MacAddress, Origin};

/// The bridge's ports with their guests: a VM by its lease's tap or MAC, a container by its endpoint's MAC
/// at the other end of its veth. Where the other end can't be seen, what the port was heard from counts.
pub(super) fn ports(
    ports: &[Port],
    inside: Option<&BTreeMap<String, MacAddress>>,
    leases: &[LeaseRecord],
    endpoints: &[Endpoint],
) -> Vec<PortRecord> {
    ports.iter().map(|port| record(port, inside, leases, endpoints)).collect()
}

fn record(
    port: &Port,
    inside: Option<&BTreeMap<String, MacAddress>>,
    leases: &[LeaseRecord],
    endpoints: &[Endpoint],
) -> PortRecord {
    let by_tap = leases
        .iter()
        .find(|l| l.state == LeaseState::Active && l.tap.as_ref().is_some_and(|t| t.as_str() == port.name));
    let mac = by_tap
        .and_then(|l| l.mac)
        .or_else(|| inside.and_then(|i| i.get(&port.name).copied()))
        .or_else(|| {
            let tap = port.mac.filter(|_| port.kind == PortKind::Tap)?;
            leases.iter().filter_map(|l| l.mac).find(|m| m.of_tap() == tap)
        })
        .or_else(|| heard_from(port));
    let lease = by_tap.or_else(|| {
        let of_mac = leases.iter().filter(|l| l.mac.is_some() && l.mac == mac);
        of_mac.max_by_key(|l| l.state == LeaseState::Active)
    });
    let endpoint = endpoints.iter().find(|e| e.mac.is_some() && e.mac == mac);
    let v6 = |a: IpAddr| match a {
        IpAddr::V6(a) => Some(a),
        IpAddr::V4(_) => None,
    };
    PortRecord {
        device: port.name.clone(),
        kind: match &port.kind {
            PortKind::Tap => "tap".to_owned(),
            PortKind::Veth => "veth".to_owned(),
            PortKind::Other(kind) => kind.clone(),
        },
        guest: endpoint
            .map(|e| GuestRecord {
                kind: GuestKind::Container,
                name: Some(e.container_name.clone()),
                id: e.container.clone(),
            })
            .or_else(|| lease.and_then(guest)),
        mac,
        address: lease.map(|l| l.address).or_else(|| endpoint.and_then(|e| e.ipv4.or(e.ipv6))),
        address6: lease.and_then(|l| l.address6).or_else(|| endpoint.and_then(|e| e.ipv6).and_then(v6)),
        state: state(port.state),
        mtu: port.mtu,
        isolated: port.isolated,
        from_guest: Traffic {
            bytes: port.counters.rx_bytes,
            packets: port.counters.rx_packets,
            dropped: port.counters.rx_dropped,
        },
        to_guest: Traffic {
            bytes: port.counters.tx_bytes,
            packets: port.counters.tx_packets,
            dropped: port.counters.tx_dropped,
        },
    }
}

/// The one MAC that the bridge knows behind a port; none where there are several.
fn heard_from(port: &Port) -> Option<MacAddress> {
    let mut macs: Vec<_> = port.fdb.iter().filter(|e| e.kind != FdbKind::Local).map(|e| e.mac).collect();
    macs.sort_unstable();
    macs.dedup();
    match macs.as_slice() {
        [one] => Some(*one),
        _ => None,
    }
}

fn guest(lease: &LeaseRecord) -> Option<GuestRecord> {
    let kind = match lease.origin? {
        Origin::Domain => GuestKind::Vm,
        Origin::Container => GuestKind::Container,
        Origin::Hand => GuestKind::Hand,
    };
    Some(GuestRecord { kind, name: lease.owner_name.clone(), id: lease.owner.clone() })
}

fn state(state: PortState) -> String {
    match state {
        PortState::Disabled => "disabled".to_owned(),
        PortState::Listening => "listening".to_owned(),
        PortState::Learning => "learning".to_owned(),
        PortState::Forwarding => "forwarding".to_owned(),
        PortState::Blocking => "blocking".to_owned(),
        PortState::Unknown(number) => format!("unknown ({number})"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{lease, network, port};
    use super::*;
    use crate::host::bridge::FdbEntry;
    use crate::model::Result;

    fn brief(records: &[PortRecord]) -> Vec<String> {
        let name = |r: &PortRecord| {
            r.guest.as_ref().map_or_else(
                || "nobody".to_owned(),
                |g| format!("{:?} {}", g.kind, g.name.clone().unwrap_or_default()),
            )
        };
        let address = |r: &PortRecord| r.address.map_or_else(|| "-".to_owned(), |a| a.to_string());
        records.iter().map(|r| format!("{} {} {}", r.device, name(r), address(r))).collect()
    }

    #[test]
    fn each_port_has_the_guest_that_is_behind_it() -> Result<()> {
        let network = network("")?;
        let vm = lease(&network, "10.0.1.200", "52:54:00:00:00:01", Origin::Domain, Some("vnet0"))?;
        let other = lease(&network, "10.0.1.201", "52:54:00:00:00:02", Origin::Domain, None)?;
        let endpoint = Endpoint {
            container: Some("ab".repeat(32).parse()?),
            container_name: "web".to_owned(),
            endpoint_id: "e".to_owned(),
            mac: Some("02:42:0a:00:01:40".parse()?),
            ipv4: Some(IpAddr::from([10, 0, 1, 64])),
            ipv6: None,
        };
        let inside = BTreeMap::from([("veth1".to_owned(), "02:42:0a:00:01:40".parse()?)]);
        let mut by_tap_mac = port("vnet7", PortKind::Tap, Some("fe:54:00:00:00:02"))?;
        by_tap_mac.index = 9;
        let mut heard = port("veth2", PortKind::Veth, None)?;
        heard.fdb = vec![FdbEntry { mac: "02:42:0a:00:01:40".parse()?, kind: FdbKind::Learned, vlan: None }];
        let all = [
            port("vnet0", PortKind::Tap, None)?,
            by_tap_mac,
            port("veth1", PortKind::Veth, None)?,
            heard,
            port("veth3", PortKind::Veth, None)?,
        ];
        let seen = ports(&all, Some(&inside), &[vm, other], &[endpoint]);
        assert_eq!(
            brief(&seen),
            [
                "vnet0 Vm vm 10.0.1.200",
                "vnet7 Vm vm 10.0.1.201",
                "veth1 Container web 10.0.1.64",
                "veth2 Container web 10.0.1.64",
                "veth3 nobody -",
            ]
        );
        Ok(())
    }
}
