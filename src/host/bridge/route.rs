//! Routes of the main table, and what they and the devices' addresses already take.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};

use super::netlink::{Netlink, fault, talk};
use crate::deadline::Deadline;
use crate::model::overlap::{Taken, is_default};
use crate::model::{InterfaceName, Result};

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads; prefix length 0: the default route.
    pub destination: IpNet,
    /// By which device; `None` for one that refuses (blackhole, unreachable, prohibit). A route of
    /// several ways comes once for each.
    pub device: Option<String>,
    /// Whether a router advertised it (RFC 4861).
    pub advertised: bool,
}

/// The devices by which packets leave the host, each once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uplinks {
    /// Those of the default routes of either family.
    pub all: Vec<InterfaceName>,
    /// Those among them whose default route a router advertised.
    pub advertised: Vec<InterfaceName>,
}

/// The main table's routes of both families, local and multicast ones left out. Any user may.
///
/// # Errors
/// `Failed` for the kernel's refusals and the deadline.
pub fn routes(deadline: Deadline) -> Result<Vec<Route>> {
    talk(deadline, async |netlink| routes_of(&netlink).await)
}

/// The devices of the default routes of either family. Empty on a host that has none. Any user may.
///
/// # Errors
/// As [`routes`].
pub fn uplinks(deadline: Deadline) -> Result<Uplinks> {
    Ok(uplinks_among(&routes(deadline)?))
}

/// What routes and devices' addresses take, for an overlap check, in words that a refusal can use.
/// `own_bridge` and default routes are left out. Any user may.
///
/// # Errors
/// As [`routes`].
pub fn taken(own_bridge: &InterfaceName, deadline: Deadline) -> Result<Vec<Taken>> {
    let found = talk(deadline, async |netlink| {
        let devices = netlink.devices(None).await?;
        let addresses = netlink.addresses().await?;
        let name = |index| devices.iter().find(|d| d.index == index).map(|d| d.name.clone());
        let addresses: Vec<(String, IpNet)> =
            addresses.iter().filter_map(|(index, a)| Some((name(*index)?, a.net))).collect();
        Ok((routes_of(&netlink).await?, addresses))
    })?;
    Ok(taken_by(&found.0, &found.1, own_bridge))
}

async fn routes_of(netlink: &Netlink) -> Result<Vec<Route>> {
    let devices = netlink.devices(None).await?;
    let name = |index: u32| devices.iter().find(|d| d.index == index).map(|d| d.name.clone());
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        let messages: Vec<RouteMessage> = netlink
            .handle()
            .route()
            .get(question)
            .execute()
            .try_collect()
            .await
            .map_err(|e| fault("cannot list the routes", e))?;
        for message in &messages {
            let Some((destination, ways)) = route(message) else { continue };
            let advertised = message.header.protocol == RouteProtocol::Ra;
            if ways.is_empty() {
                routes.push(Route { destination, device: None, advertised });
            }
            // A device that went between the two questions has taken its routes along.
            let known = ways.into_iter().filter_map(name);
            routes.extend(known.map(|device| Route { destination, device: Some(device), advertised }));
        }
    }
    Ok(routes)
}

/// The destination and the indexes of the devices; `None` for other tables and kinds.
fn route(message: &RouteMessage) -> Option<(IpNet, Vec<u32>)> {
    let header = &message.header;
    let refuses = matches!(header.kind, RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit);
    if !refuses && header.kind != RouteType::Unicast {
        return None;
    }
    let mut table = u32::from(header.table);
    let mut destination: Option<IpAddr> = None;
    let mut ways = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(RouteAddress::Inet(a)) => destination = Some((*a).into()),
            RouteAttribute::Destination(RouteAddress::Inet6(a)) => destination = Some((*a).into()),
            RouteAttribute::Oif(index) => ways.push(*index),
            RouteAttribute::MultiPath(hops) => ways.extend(hops.iter().map(|h| h.interface_index)),
            _ => {}
        }
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) {
        return None;
    }
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let net = IpNet::new(destination.unwrap_or(unspecified), header.destination_prefix_length).ok()?;
    // An IPv6 "unreachable" on lo names a device that carries nothing.
    Some((net, if refuses { Vec::new() } else { ways }))
}

fn uplinks_among(routes: &[Route]) -> Uplinks {
    let mut uplinks = Uplinks::default();
    for route in routes.iter().filter(|r| is_default(&r.destination)) {
        let Some(Ok(name)) = route.device.as_deref().map(str::parse::<InterfaceName>) else { continue };
        if route.advertised && !uplinks.advertised.contains(&name) {
            uplinks.advertised.push(name.clone());
        }
        if !uplinks.all.contains(&name) {
            uplinks.all.push(name);
        }
    }
    uplinks
}

fn taken_by(routes: &[Route], addresses: &[(String, IpNet)], own_bridge: &InterfaceName) -> Vec<Taken> {
    let own = |device: &str| device == own_bridge.as_str();
    let by_address = addresses.iter().filter(|(device, _)| !own(device)).map(|(device, net)| Taken {
        subnet: net.trunc(),
        who: format!("{device}, which has the address {net}"),
    });
    let by_route = routes.iter().filter_map(|route| {
        let who = match route.device.as_deref() {
            Some(device) if own(device) => return None,
            Some(device) => format!("the route to {} by {device}", route.destination),
            None => format!("the route to {}, which refuses", route.destination),
        };
        (!is_default(&route.destination)).then_some(Taken { subnet: route.destination, who })
    });
    // Addresses first: "docker0, which has the address …" tells more than its route does.
    by_address.chain(by_route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap_or_else(|_| IpNet::from(IpAddr::from([0, 0, 0, 0])))
    }

    fn message(kind: RouteType, table: u8, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = table;
        message.header.kind = kind;
        message.header.destination_prefix_length = 8;
        message.attributes = attributes;
        message
    }

    #[test]
    fn only_the_main_tables_routes_that_lead_somewhere_or_refuse_are_kept() {
        let to = || RouteAttribute::Destination(RouteAddress::Inet([10, 0, 0, 0].into()));
        let by = RouteAttribute::Oif;
        let unicast = message(RouteType::Unicast, 254, vec![to(), by(3)]);
        assert_eq!(route(&unicast), Some((net("10.0.0.0/8"), vec![3])));
        assert_eq!(route(&message(RouteType::Unicast, 100, vec![to(), by(3)])), None);
        let far = vec![to(), by(3), RouteAttribute::Table(1000)];
        assert_eq!(route(&message(RouteType::Unicast, 254, far)), None);
        assert_eq!(route(&message(RouteType::Local, 254, vec![to(), by(3)])), None);
        let black = message(RouteType::BlackHole, 254, vec![to()]);
        assert_eq!(route(&black), Some((net("10.0.0.0/8"), vec![])));
    }

    #[test]
    fn uplinks_are_the_default_routes_devices_once_each() {
        let by = |destination: &str, device: &str| Route {
            destination: net(destination),
            device: Some(device.to_owned()),
            advertised: device == "wan",
        };
        let routes = [
            by("0.0.0.0/0", "eth0"),
            by("10.0.0.0/8", "tun0"),
            by("::/0", "eth0"),
            by("::/0", "wan"),
            by("2001:db8::/64", "wan"),
        ];
        let names = |all: &[InterfaceName]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let uplinks = uplinks_among(&routes);
        assert_eq!(names(&uplinks.all), ["eth0", "wan"]);
        assert_eq!(names(&uplinks.advertised), ["wan"]);
    }

    #[test]
    fn what_is_taken_is_said_in_words_and_our_own_is_left_out() -> Result<()> {
        let by = |destination: &str, device: Option<&str>| Route {
            destination: net(destination),
            device: device.map(str::to_owned),
            advertised: false,
        };
        let routes = [
            by("0.0.0.0/0", Some("eth0")),
            by("10.0.1.0/24", Some("hybr0")),
            by("10.8.0.0/16", Some("tun0")),
            by("10.9.0.0/16", None),
        ];
        let addresses =
            [("docker0".to_owned(), net("172.17.0.1/16")), ("hybr0".to_owned(), net("10.0.1.1/24"))];
        let taken = taken_by(&routes, &addresses, &"hybr0".parse()?);
        let lines: Vec<_> = taken.iter().map(|t| format!("{}: {}", t.subnet, t.who)).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        172.17.0.0/16: docker0, which has the address 172.17.0.1/16
        10.8.0.0/16: the route to 10.8.0.0/16 by tun0
        10.9.0.0/16: the route to 10.9.0.0/16, which refuses
        ");
        Ok(())
    }
}
