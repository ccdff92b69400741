//! Whether a network's subnets are already somebody's, and which one is free. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::Network;
use super::pool::{address_at, ordinal};

/// A subnet that somebody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The subnet, its host bits zero.
    pub subnet: IpNet,
    /// Who has it, to follow "it overlaps": `docker0, which has the address 172.17.0.1/16`.
    pub who: String,
}

/// Whether a route's destination means "everything": the default route, or the halves and eighths
/// that VPN programs put beside it so as to come first (0.0.0.0/1; ::/3, 2000::/4, fc00::/7). Such
/// a route takes no subnet from anybody.
#[must_use]
pub fn is_default(destination: &IpNet) -> bool {
    destination.prefix_len() <= if matches!(destination, IpNet::V4(_)) { 1 } else { 7 }
}

/// The first of `taken` that shares an address with a subnet of `wanted`. Default routes don't count.
#[must_use]
pub fn first_overlap<'a>(wanted: &Network, taken: &'a [Taken]) -> Option<&'a Taken> {
    taken.iter().find(|t| !is_default(&t.subnet) && wanted.overlapping(&t.subnet).is_some())
}

/// The first free private subnet of the same family and size as `like`: for IPv4 in 10.0.0.0/8, then
/// 172.16.0.0/12, then 192.168.0.0/16 (RFC 1918); for IPv6 in fd00::/8 (RFC 4193), first beside `like`
/// where it is there itself. `None` when all of it is taken.
#[must_use]
pub fn free_subnet(like: &IpNet, taken: &[Taken]) -> Option<IpNet> {
    let prefix = like.prefix_len();
    let v4 = |a, b, prefix| IpNet::new(IpAddr::V4(Ipv4Addr::new(a, b, 0, 0)), prefix).ok();
    let v6 =
        |first: u16, prefix| IpNet::new(IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0)), prefix).ok();
    let spaces = match like {
        IpNet::V4(_) => [v4(10, 0, 8), v4(172, 16, 12), v4(192, 168, 16)],
        IpNet::V6(_) => {
            let private = v6(0xfd00, 8);
            let near = IpNet::new(like.addr(), 48).ok().map(|n| n.trunc());
            [near.filter(|n| private.is_some_and(|p| p.contains(n))), private, None]
        }
    };
    spaces.iter().flatten().find_map(|space| first_free(space, prefix, taken))
}

/// The lowest subnet of that prefix length in `space` that none of `taken` touches.
fn first_free(space: &IpNet, prefix: u8, taken: &[Taken]) -> Option<IpNet> {
    if prefix < space.prefix_len() {
        return None;
    }
    let end = ordinal(space.broadcast());
    let mut at = ordinal(space.network());
    while at <= end {
        let candidate = IpNet::new(address_at(at, space.network())?, prefix).ok()?;
        let in_the_way = taken
            .iter()
            .filter(|t| !is_default(&t.subnet))
            .find(|t| t.subnet.contains(&candidate) || candidate.contains(&t.subnet));
        let Some(other) = in_the_way else { return Some(candidate) };
        // Past whichever ends later: a large one is passed in one step.
        at = ordinal(candidate.broadcast()).max(ordinal(other.subnet.broadcast())).checked_add(1)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::network_file::NetworkFile;
    use super::*;
    use crate::model::{Fault, Result};

    fn taken(subnets: &[&str]) -> Result<Vec<Taken>> {
        let one = |s: &&str| {
            let subnet = s.parse().map_err(|_| Fault::failed(format!("{s} is no CIDR")))?;
            Ok(Taken { subnet, who: (*s).to_owned() })
        };
        subnets.iter().map(one).collect()
    }

    fn network() -> Result<Network> {
        let text = "format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n[ipv6]\nsubnet = \"fd00:1::/64\"\n";
        Ok(NetworkFile::parse(text).map_err(Fault::failed)?.network(&"hybrid".parse()?)?)
    }

    #[test]
    fn an_overlap_in_either_family_and_direction_is_found() -> Result<()> {
        let network = network()?;
        let found = |subnets: &[&str]| -> Result<Option<String>> {
            let taken = taken(subnets)?;
            Ok(first_overlap(&network, &taken).map(|t| t.who.clone()))
        };
        assert_eq!(found(&["10.0.2.0/24", "fe80::/64"])?, None);
        assert_eq!(found(&["10.0.2.0/24", "10.0.0.0/8"])?.as_deref(), Some("10.0.0.0/8"));
        assert_eq!(found(&["10.0.1.77/32"])?.as_deref(), Some("10.0.1.77/32"));
        assert_eq!(found(&["fd00:1::/48"])?.as_deref(), Some("fd00:1::/48"));
        Ok(())
    }

    #[test]
    fn a_default_route_and_a_vpns_halves_are_no_overlap() -> Result<()> {
        let network = network()?;
        let all = taken(&["0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1", "fc00::/7"])?;
        assert_eq!(first_overlap(&network, &all), None);
        Ok(())
    }

    #[test]
    fn the_first_free_subnet_of_the_same_size_is_proposed() -> Result<()> {
        let free = |like: &str, subnets: &[&str]| -> Result<Option<String>> {
            let like = like.parse().map_err(|_| Fault::failed("no CIDR"))?;
            Ok(free_subnet(&like, &taken(subnets)?).map(|n| n.to_string()))
        };
        assert_eq!(free("10.0.1.0/24", &["10.0.0.0/24", "10.0.1.0/25"])?.as_deref(), Some("10.0.2.0/24"));
        assert_eq!(free("10.0.1.0/24", &["10.0.0.0/8"])?.as_deref(), Some("172.16.0.0/24"));
        assert_eq!(free("10.0.1.0/28", &["10.0.0.0/8", "172.16.0.0/13"])?.as_deref(), Some("172.24.0.0/28"));
        let all = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
        assert_eq!(free("10.0.1.0/29", &all)?, None);
        assert_eq!(free("10.0.0.0/8", &["10.3.0.0/24"])?, None);
        assert_eq!(free("fd00:1::/64", &["fd00:1::/64"])?.as_deref(), Some("fd00:1:0:1::/64"));
        assert_eq!(free("2001:db8::/64", &[])?.as_deref(), Some("fd00::/64"));
        Ok(())
    }
}
