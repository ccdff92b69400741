//! `NAME.toml`, the file in which a person keeps a network: its format and its door into [`Network`].

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::names::Invalid;
use super::pool::{address_at, ordinal};
use super::{
    AddressRange, DockerId, DockerName, Family, InterfaceName, Ipam, Network, NetworkName, ZoneName,
};

/// The version of the format that this program writes and reads.
pub const FORMAT: u32 = 1;

/// The file as it stands, key for key. Unknown keys are refused: an old program must not drop what a newer one wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkFile {
    /// Always [`FORMAT`].
    pub format: u32,
    /// The bridge's name; by default made from the network's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<InterfaceName>,
    /// The Docker network's name; by default `NAME-net`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_network: Option<DockerName>,
    /// The id of a Docker network that somebody else made, which this network follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_id: Option<DockerId>,
    /// That Docker network has no way out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
    /// The libvirt network's name; by default `NAME-net`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub libvirt_network: Option<DockerName>,
    /// The DNS zone; by default `NAME.internal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneName>,
    /// NAT for what leaves the subnet; by default on, off for an adopted bridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat: Option<bool>,
    /// MTU in bytes; by default 1500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The bridge is somebody else's: used, never deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopt: bool,
    /// Who gives containers their addresses; by default `range`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipam: Option<Ipam>,
    /// Where the host has but a plain resolv.conf(5): our resolver is written into it, before the others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub host_dns: bool,
    /// Answers from outside the zone that name private addresses are withheld from guests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop_rebind: bool,
    /// IPv4 addressing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<FamilyFile>,
    /// IPv6 addressing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<FamilyFile>,
}

/// One family's part of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamilyFile {
    /// The subnet, as a CIDR.
    pub subnet: IpNet,
    /// The gateway; by default the subnet's first address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The bridge's own address; by default the gateway, and none for an adopted bridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Where VMs' dynamic addresses come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm_pool: Option<AddressRange>,
    /// Where Docker takes containers' addresses from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_pool: Option<AddressRange>,
}

/// The version alone: a newer file is refused for being newer, not for its keys.
#[derive(Deserialize)]
struct Versioned {
    format: Option<u32>,
}

impl NetworkFile {
    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let other = match toml::from_str::<Self>(text) {
            Ok(file) if file.format == FORMAT => return Ok(file),
            Ok(file) => file.format,
            // The version is looked at only where the whole does not parse: that is the rare case.
            Err(error) => match toml::from_str(text).map_err(|e| one_line(&e))? {
                Versioned { format: Some(FORMAT) } => return Err(one_line(&error)),
                Versioned { format: Some(other) } => other,
                Versioned { format: None } => return Err(format!("it has no line \"format = {FORMAT}\"")),
            },
        };
        Err(format!(
            "it has format {other} and this program knows {FORMAT}; use the hybrid-hook that wrote it"
        ))
    }

    /// Checks everything and fills in the defaults.
    pub fn network(&self, name: &NetworkName) -> Result<Network, Invalid> {
        let under = |suffix: &str| format!("{name}{suffix}");
        let net_name = name.default_net();
        let ipv4 = self.family(self.ipv4.as_ref(), true, None)?;
        let ipv6 = self.family(self.ipv6.as_ref(), false, ipv4.as_ref())?;
        let network = Network {
            name: name.clone(),
            bridge: self.bridge.clone().unwrap_or_else(|| name.default_bridge()),
            docker_network: self.docker_network.clone().unwrap_or_else(|| net_name.clone()),
            libvirt_network: self.libvirt_network.clone().unwrap_or(net_name),
            zone: match &self.zone {
                Some(zone) => zone.clone(),
                None => under(".internal").parse()?,
            },
            nat: self.nat.unwrap_or(!self.adopt),
            mtu: self.mtu.unwrap_or(1500),
            adopt: self.adopt,
            follows: self.docker_id.clone(),
            internal: self.internal,
            ipam: self.ipam.unwrap_or_default(),
            host_dns: self.host_dns,
            stop_rebind: self.stop_rebind,
            ipv4,
            ipv6,
        };
        if network.key_family().is_none() {
            return Err(Invalid::new("network", name.as_str(), "has neither [ipv4] nor [ipv6]"));
        }
        // Docker makes and removes that bridge, and does NAT for it.
        if let Some(id) = network.follows.as_ref().filter(|_| !network.adopt || network.nat) {
            return Err(Invalid::new("docker_id", id.as_str(), "needs adopt = true and nat = false"));
        }
        if network.internal && network.follows.is_none() {
            return Err(Invalid::new("internal", "true", "is for a network that follows one of Docker's"));
        }
        // RFC 791: 576 is what every host takes; RFC 8200: 1280 for IPv6. The kernel's bridge stops at 65535.
        let least = if network.ipv6.is_some() { 1280 } else { 576 };
        if !(least..=65_535).contains(&network.mtu) {
            return Err(Invalid::new(
                "MTU",
                &network.mtu.to_string(),
                format!("must be between {least} and 65535"),
            ));
        }
        Ok(network)
    }

    /// One family's part, checked. `beside` is IPv4's where this is IPv6's.
    fn family(
        &self,
        part: Option<&FamilyFile>,
        ipv4: bool,
        beside: Option<&Family>,
    ) -> Result<Option<Family>, Invalid> {
        let Some(part) = part else { return Ok(None) };
        let subnet = part.subnet;
        if matches!(subnet, IpNet::V4(_)) != ipv4 {
            let table = if ipv4 { "ipv4" } else { "ipv6" };
            return Err(Invalid::new("subnet", &subnet.to_string(), format!("does not belong in [{table}]")));
        }
        // A VM's IPv6 address is as far from its subnet's start as its IPv4 address is (Network::companion).
        // Docker counts by itself: it must do so where no VM's can be.
        let (mut vm_pool, mut container_pool) = (part.vm_pool, part.container_pool);
        if let Some(beside) = beside {
            let ipv4 = AddressRange::from(beside.subnet);
            let all = moved(&ipv4, beside, subnet)
                .filter(|range| subnet.contains(&range.last()))
                .ok_or_else(|| {
                    let why = format!("is smaller than {}; take as large a one or larger", beside.subnet);
                    Invalid::new("subnet", &subnet.to_string(), why)
                })?;
            let containers = beside.container_pool.and_then(|pool| moved(&pool, beside, subnet));
            vm_pool = vm_pool.or_else(|| moved(&beside.vm_pool, beside, subnet));
            container_pool = container_pool.or(containers);
            if let Some(pool) = container_pool
                && pool.overlaps(&all)
                && !containers.is_some_and(|c| c.contains(pool.first()) && c.contains(pool.last()))
            {
                let why = format!("overlaps the IPv6 addresses of VMs, which follow {}", beside.subnet);
                return Err(Invalid::new("container pool", &pool.to_string(), why));
            }
        }
        let mut family = Family::with_defaults(subnet, part.gateway, vm_pool, container_pool)?;
        family.address = match (part.address, self.adopt) {
            (Some(address), _) => Some(address),
            (None, true) => None,
            (None, false) => Some(family.gateway),
        };
        family.check()?;
        Ok(Some(family))
    }
}

/// A range of `from`'s subnet at the same distance from the start of `to`.
fn moved(range: &AddressRange, from: &Family, to: IpNet) -> Option<AddressRange> {
    let place = |address| {
        let offset = ordinal(address) - ordinal(from.subnet.network());
        address_at(ordinal(to.network()) + offset, to.network())
    };
    AddressRange::new(place(range.first())?, place(range.last())?).ok()
}

/// A TOML error in one line: where and what, without the drawing.
pub(crate) fn one_line(error: &toml::de::Error) -> String {
    error.message().trim().replace('\n', ", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Network, String> {
        let name: NetworkName = "hybrid".parse().map_err(|e: Invalid| e.to_string())?;
        NetworkFile::parse(text)?.network(&name).map_err(|e| e.to_string())
    }

    #[test]
    fn the_smallest_file_has_every_default() -> Result<(), String> {
        let network = read("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?;
        assert_eq!(network.bridge.as_str(), "hybr0");
        assert_eq!(network.docker_network.as_str(), "hybrid-net");
        assert_eq!(network.zone.as_str(), "hybrid.internal");
        assert!(network.nat && network.mtu == 1500);
        Ok(())
    }

    #[test]
    fn beside_ipv4_docker_counts_where_no_vm_is() -> Result<(), String> {
        let both = "format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n[ipv6]\nsubnet = \"fd00::/64\"\n";
        let network = read(both)?;
        let v6 = network.ipv6.as_ref().ok_or("no IPv6")?;
        assert_eq!(v6.container_pool.map(|p| p.to_string()).as_deref(), Some("fd00::40/122"));
        assert_eq!(v6.vm_pool.to_string(), "fd00::80-fd00::fe");
        assert!(read(&format!("{both}container_pool = \"fd00::100/120\"\n")).is_ok());
        let error = |more: &str| read(&format!("{both}{more}")).err().unwrap_or_default();
        assert!(error("container_pool = \"fd00::c0/122\"\n").contains("overlaps"));
        let small = read(&both.replace("fd00::/64", "fd00::/125")).err().unwrap_or_default();
        assert!(small.contains("smaller"), "{small}");
        Ok(())
    }

    #[test]
    fn newer_unknown_and_empty_files_are_refused_with_the_reason() {
        let error = |text| read(text).err().unwrap_or_default();
        assert!(error("format = 2\nnew = 1\n").contains("format 2"));
        assert!(error("").contains("format = 1"));
        assert!(error("format = 1\nbrigde = \"x\"\n").contains("brigde"));
        assert!(error("format = 1\n").contains("neither"));
        assert!(error("format = 1\ninternal = true\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n").contains("follows"));
        assert!(error("format = 1\nmtu = 12\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n").contains("MTU"));
    }
}
