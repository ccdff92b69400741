//! Following: a network of ours on the bridge of a Docker network that somebody else made, such as a
//! Compose project's. Docker's network stays as it is; ours lives as long as that one does.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::names::{Invalid, checked_string};
use super::network_file::{self, FamilyFile, NetworkFile};
use super::pool::{address_at, ordinal};
use super::{AddressRange, DnsLabel, DockerName, Family, InterfaceName, NetworkName};

/// A Docker network's id: 64 hexadecimal digits. Another network of the same name has another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DockerId(String);
checked_string!(DockerId, check_docker_id);

fn check_docker_id(text: &str) -> Result<(), Invalid> {
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Ok(());
    }
    Err(Invalid::new("Docker network id", text, "must be 64 hexadecimal digits"))
}

impl DockerId {
    /// The bridge that Docker makes for a network that names none.
    #[must_use]
    pub fn default_bridge(&self) -> String {
        format!("br-{}", self.0.get(..12).unwrap_or(&self.0))
    }
}

/// What is known of a Docker network that is to be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Its name.
    pub name: DockerName,
    /// Its id.
    pub id: DockerId,
    /// Its bridge.
    pub bridge: InterfaceName,
    /// Its IPv4 subnet.
    pub subnet: IpNet,
    /// Where its containers send what leaves the subnet.
    pub gateway: IpAddr,
    /// The bridge's own address in it.
    pub address: IpAddr,
    /// Where Docker takes addresses from, if that is not the whole subnet.
    pub range: Option<IpNet>,
    /// What somebody reserved there (`--aux-address`).
    pub excluded: BTreeSet<IpAddr>,
    /// Whether it has no way out (`--internal`).
    pub internal: bool,
    /// Its MTU, where it names one.
    pub mtu: Option<u32>,
}

/// The name of our network that follows a Docker network: a label made of its name by the rule for all
/// names, cut to what a network's name can have.
///
/// # Errors
/// Nothing is left of the name.
pub fn network_name(docker: &DockerName) -> Result<NetworkName, Invalid> {
    let label = DnsLabel::from_any(docker.as_str())
        .ok_or_else(|| Invalid::new("Docker network", docker.as_str(), "makes no network name"))?;
    let cut: String = label.as_str().chars().take(32).collect();
    NetworkName::from_str(cut.trim_end_matches('-'))
}

impl Followed {
    /// The file of the network that follows it. VMs have the addresses that Docker does not give out
    /// where it has a range of its own, else all of them, the highest first.
    ///
    /// # Errors
    /// The subnet is too small or too large for us.
    pub fn file(&self) -> Result<NetworkFile, Invalid> {
        let (vm_pool, container_pool) = self.pools()?;
        Ok(NetworkFile {
            format: network_file::FORMAT,
            bridge: Some(self.bridge.clone()),
            docker_network: Some(self.name.clone()),
            docker_id: Some(self.id.clone()),
            internal: self.internal,
            libvirt_network: None,
            zone: None,
            nat: Some(false),
            mtu: self.mtu,
            adopt: true,
            ipam: None,
            host_dns: false,
            stop_rebind: false,
            ipv4: Some(FamilyFile {
                subnet: self.subnet,
                gateway: Some(self.gateway),
                address: Some(self.address),
                vm_pool: Some(vm_pool),
                container_pool,
            }),
            ipv6: None,
        })
    }

    /// The VMs' pool and Docker's. A range that leaves VMs nothing is as good as none.
    fn pools(&self) -> Result<(AddressRange, Option<AddressRange>), Invalid> {
        let range = self.range.filter(|range| *range != self.subnet).map(AddressRange::from);
        if let Some(range) = range
            && let Ok(family) = Family::with_defaults(self.subnet, Some(self.gateway), None, Some(range))
            && let Some(vm_pool) = self.largest_gap(&family.vm_pool)
        {
            return Ok((vm_pool, Some(range)));
        }
        let (first, last) = (ordinal(self.subnet.network()), ordinal(self.subnet.broadcast()));
        let at = |number| address_at(number, self.subnet.network());
        let all = match (at(first + 1), at(last.saturating_sub(1))) {
            (Some(first), Some(last)) if first <= last => Some(AddressRange::new(first, last)?),
            _ => None,
        };
        let vm_pool = all.and_then(|all| self.largest_gap(&all));
        vm_pool
            .map(|pool| (pool, None))
            .ok_or_else(|| Invalid::new("subnet", &self.subnet.to_string(), "has no address for a VM"))
    }

    /// The largest part of a range in which nothing is reserved; of two that are as large, the upper one.
    fn largest_gap(&self, range: &AddressRange) -> Option<AddressRange> {
        let (first, last) = (ordinal(range.first()), ordinal(range.last()));
        let reserved = self.excluded.iter().filter(|a| range.contains(**a)).map(|a| ordinal(*a));
        let mut gaps = Vec::new();
        let mut from = first;
        for next in reserved.chain(std::iter::once(last.saturating_add(1))) {
            if from < next {
                gaps.push((from, next - 1));
            }
            from = next.saturating_add(1);
        }
        let (from, to) = gaps.into_iter().max_by_key(|(from, to)| (to - from, *to))?;
        let at = |number| address_at(number, range.first());
        AddressRange::new(at(from)?, at(to)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn followed(subnet: &str, range: Option<&str>) -> Result<Followed, Box<dyn std::error::Error>> {
        let subnet: IpNet = subnet.parse()?;
        let gateway = address_at(ordinal(subnet.network()) + 1, subnet.network()).ok_or("gateway")?;
        Ok(Followed {
            name: "shop_default".parse()?,
            id: "ab".repeat(32).parse()?,
            bridge: "br-abababababab".parse()?,
            subnet,
            gateway,
            address: gateway,
            range: range.map(str::parse).transpose()?,
            excluded: BTreeSet::new(),
            internal: false,
            mtu: None,
        })
    }

    fn pools(subnet: &str, range: Option<&str>) -> Result<String, Box<dyn std::error::Error>> {
        let network = followed(subnet, range)?.file()?.network(&"shop-default".parse()?)?;
        let family = network.key_family().ok_or("no family")?;
        let containers = family.container_pool.map_or_else(|| "none".to_owned(), |p| p.to_string());
        Ok(format!("{} beside {containers}", family.vm_pool))
    }

    #[test]
    fn vms_have_what_docker_does_not_give_out() -> Outcome {
        let of = |subnet, range| pools(subnet, range);
        assert_eq!(of("172.20.0.0/16", None)?, "172.20.0.1-172.20.255.254 beside none");
        let beside = of("172.20.0.0/24", Some("172.20.0.0/25"))?;
        assert_eq!(beside, "172.20.0.128-172.20.0.254 beside 172.20.0.0/25");
        let below = of("172.20.0.0/24", Some("172.20.0.128/25"))?;
        assert_eq!(below, "172.20.0.2-172.20.0.127 beside 172.20.0.128/25");
        let all = of("172.20.0.0/24", Some("172.20.0.0/24"))?;
        assert_eq!(all, "172.20.0.1-172.20.0.254 beside none");
        assert!(of("172.20.0.0/31", None).is_err());
        Ok(())
    }

    #[test]
    fn vms_get_nothing_that_somebody_reserved() -> Outcome {
        let of = |range: Option<&str>, excluded: &[&str]| -> Result<String, Box<dyn std::error::Error>> {
            let mut there = followed("172.20.0.0/24", range)?;
            there.excluded = excluded.iter().map(|a| a.parse()).collect::<Result<_, _>>()?;
            Ok(there.pools()?.0.to_string())
        };
        assert_eq!(of(None, &["172.20.0.254"])?, "172.20.0.1-172.20.0.253");
        assert_eq!(of(None, &["172.20.0.100", "172.20.0.250", "10.0.0.1"])?, "172.20.0.101-172.20.0.249");
        assert_eq!(of(Some("172.20.0.0/25"), &["172.20.0.128", "172.20.0.5"])?, "172.20.0.129-172.20.0.254");
        Ok(())
    }

    #[test]
    fn the_file_says_whom_it_follows() -> Outcome {
        let file = followed("172.20.0.0/16", None)?.file()?;
        let text = toml_edit::ser::to_string_pretty(&file)?;
        assert_eq!(NetworkFile::parse(&text)?, file);
        let network = file.network(&"shop-default".parse()?)?;
        assert!(network.adopt && !network.nat && network.follows.is_some());
        assert_eq!(network.zone.as_str(), "shop-default.internal");
        let alone = text.replace("adopt = true", "adopt = false");
        assert!(NetworkFile::parse(&alone)?.network(&"shop-default".parse()?).is_err());
        Ok(())
    }

    #[test]
    fn a_docker_network_s_name_makes_ours() -> Outcome {
        let name =
            |docker: &str| -> Result<String, Invalid> { network_name(&docker.parse()?).map(String::from) };
        assert_eq!(name("shop_default")?, "shop-default");
        assert_eq!(name("My.Shop_1-")?, "my-shop-1");
        assert_eq!(name(&format!("{}_x", "a".repeat(31)))?, "a".repeat(31));
        Ok(())
    }

    #[test]
    fn an_id_is_64_digits() {
        assert!("ab".repeat(32).parse::<DockerId>().is_ok_and(|id| id.default_bridge() == "br-abababababab"));
        for bad in ["", "abab", &"AB".repeat(32), &"xy".repeat(32)] {
            assert!(bad.parse::<DockerId>().is_err(), "{bad}");
        }
    }
}
