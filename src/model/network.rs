//! A network as it should be: its bridge, its subnets, its pools, its names elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::names::Invalid;
use super::pool::{address_at, ordinal};
use super::{
    AddressRange, DnsLabel, DockerId, DockerName, InterfaceName, MacAddress, NetworkName, Uuid, ZoneName,
};

/// One family's addressing on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// The subnet, its host bits zero.
    pub subnet: IpNet,
    /// Where guests send what leaves the subnet.
    pub gateway: IpAddr,
    /// The bridge's own address: the gateway, unless the bridge is adopted and the gateway another
    /// router. `None` where an adopted bridge has none.
    pub address: Option<IpAddr>,
    /// What dynamic claims of VMs are taken from.
    pub vm_pool: AddressRange,
    /// Where the addresses of containers come from that ask for none; disjoint from `vm_pool`.
    pub container_pool: Option<AddressRange>,
}

/// Who gives containers their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ipam {
    /// Docker, from a range of its own that no VM's address is in.
    #[default]
    Range,
    /// The registry: Docker asks it for every address, by our IPAM driver.
    Hybrid,
}

impl std::str::FromStr for Ipam {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "range" => Ok(Self::Range),
            "hybrid" => Ok(Self::Hybrid),
            _ => Err(Invalid::new("ipam", text, "is neither range nor hybrid")),
        }
    }
}

impl std::fmt::Display for Ipam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Range => "range",
            Self::Hybrid => "hybrid",
        })
    }
}

/// A network, checked: every value can be rendered as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name with us.
    pub name: NetworkName,
    /// Its bridge in the kernel.
    pub bridge: InterfaceName,
    /// Its name with Docker.
    pub docker_network: DockerName,
    /// Its name with libvirt.
    pub libvirt_network: DockerName,
    /// The DNS zone of its guests.
    pub zone: ZoneName,
    /// Whether guests reach beyond the subnet with the host's address.
    pub nat: bool,
    /// The MTU of bridge, Docker network and DHCP, in bytes.
    pub mtu: u32,
    /// Whether the bridge existed before us and is never deleted by us.
    pub adopt: bool,
    /// The Docker network that it follows: somebody else's, on whose bridge it is and with which it goes.
    pub follows: Option<DockerId>,
    /// Whether what it follows has no way out, by route or by name (`docker network create --internal`).
    pub internal: bool,
    /// Who gives containers their addresses.
    pub ipam: Ipam,
    /// Whether our resolver is written into a plain resolv.conf(5) of the host.
    pub host_dns: bool,
    /// Whether answers from outside that name private addresses are withheld from guests.
    pub stop_rebind: bool,
    /// IPv4 addressing, if any.
    pub ipv4: Option<Family>,
    /// IPv6 addressing, if any. Beside IPv4 it follows it: the same distance from the subnet's start.
    pub ipv6: Option<Family>,
}

/// Why an address can't be a guest's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Not one of the subnet's.
    #[error("{address} is outside the subnet {subnet}")]
    Outside {
        /// What was asked.
        address: IpAddr,
        /// The subnet that it should be in.
        subnet: IpNet,
    },
    /// The subnet's first or last address.
    #[error("{address} is the subnet's {what}")]
    Special {
        /// What was asked.
        address: IpAddr,
        /// `network address`, `broadcast address`, `gateway`, `bridge's own address`.
        what: &'static str,
    },
    /// Docker hands these out by itself.
    #[error("{address} is in the container pool {pool}, which Docker gives out by itself")]
    ContainerPool {
        /// What was asked.
        address: IpAddr,
        /// The pool that it is in.
        pool: AddressRange,
    },
    /// The network has no addresses of that family.
    #[error("{address} is of a family that the network doesn't have")]
    NoFamily {
        /// What was asked.
        address: IpAddr,
    },
}

impl Family {
    /// The defaults within a subnet: the first address is the gateway, the second quarter is for
    /// containers, the upper half for VMs, the rest for people to fix by hand. An IPv6 subnet is
    /// used up to 65,536 addresses.
    pub fn with_defaults(
        subnet: IpNet,
        gateway: Option<IpAddr>,
        vm_pool: Option<AddressRange>,
        container_pool: Option<AddressRange>,
    ) -> Result<Self, Invalid> {
        let text = subnet.to_string();
        let bad = |why: String| Invalid::new("subnet", &text, why);
        let trunc = subnet.trunc();
        if trunc != subnet {
            return Err(bad(format!("has bits set past its prefix; did you mean {trunc}?")));
        }
        let (shortest, longest) = if matches!(subnet, IpNet::V4(_)) { (8, 29) } else { (48, 120) };
        if subnet.prefix_len() > longest {
            return Err(bad(format!("is too small to hold VMs and containers; take a /{longest} or larger")));
        }
        if subnet.prefix_len() < shortest {
            return Err(bad(format!("is too large; take a /{shortest} or smaller")));
        }
        let base = subnet.network();
        if base.is_multicast() || base.is_loopback() || base.is_unspecified() {
            return Err(bad("is not for hosts on a network".to_owned()));
        }
        let bits = u32::from(subnet.max_prefix_len() - subnet.prefix_len())
            .min(if matches!(subnet, IpNet::V4(_)) { 32 } else { 16 });
        let size = 1_u128 << bits;
        let at = |offset: u128| address_at(ordinal(base) + offset, base).unwrap_or(base);
        let gateway = gateway.unwrap_or_else(|| at(1));
        let (first, last) = (at(1), at(size - 2));
        let vm_pool = match (vm_pool, container_pool) {
            (Some(pool), _) => pool,
            (None, None) => AddressRange::new(at(size / 2), last)?,
            // The default gives way to the other pool that a person chose.
            (None, Some(taken)) => {
                let upper = AddressRange::new(at(size / 2), last)?;
                if upper.overlaps(&taken) { largest_beside(&taken, gateway, first, last)? } else { upper }
            }
        };
        let container_pool = match container_pool {
            Some(pool) => Some(pool),
            None => [4_u128, 8, 16]
                .iter()
                .flat_map(|part| {
                    let step = size / part;
                    // The second part first, then those after it: the first has the gateway.
                    (1..*part).map(move |i| (i * step, (i + 1) * step - 1))
                })
                .filter_map(|(a, b)| AddressRange::new(at(a), at(b)).ok())
                .find(|pool| {
                    !pool.overlaps(&vm_pool) && !pool.contains(gateway) && subnet.broadcast() != pool.last()
                }),
        };
        let family = Self { subnet, gateway, address: Some(gateway), vm_pool, container_pool };
        family.check()?;
        Ok(family)
    }

    /// Checks that all of it fits together.
    pub fn check(&self) -> Result<(), Invalid> {
        let Self { subnet, gateway, address, vm_pool, container_pool } = self;
        for (what, a) in [("gateway", Some(gateway)), ("bridge address", address.as_ref())] {
            let Some(a) = a else { continue };
            if !subnet.contains(a) {
                return Err(Invalid::new(what, &a.to_string(), format!("is outside the subnet {subnet}")));
            }
            if *a == subnet.network() || (a.is_ipv4() && *a == subnet.broadcast()) {
                return Err(Invalid::new(what, &a.to_string(), format!("can't be a host's in {subnet}")));
            }
        }
        for pool in [Some(vm_pool), container_pool.as_ref()].into_iter().flatten() {
            if !subnet.contains(&pool.first()) || !subnet.contains(&pool.last()) {
                return Err(Invalid::new(
                    "pool",
                    &pool.to_string(),
                    format!("is not inside the subnet {subnet}"),
                ));
            }
        }
        if let Some(containers) = container_pool
            && containers.overlaps(vm_pool)
        {
            return Err(Invalid::new(
                "pool",
                &vm_pool.to_string(),
                format!("overlaps the container pool {containers}; the two must share no address"),
            ));
        }
        Ok(())
    }

    /// What `address` is, if a guest can't have it.
    fn special(&self, address: IpAddr) -> Option<&'static str> {
        if address == self.gateway {
            Some("gateway")
        } else if Some(address) == self.address {
            Some("bridge's own address")
        } else if address == self.subnet.network() {
            Some("network address")
        } else if address.is_ipv4() && address == self.subnet.broadcast() {
            Some("broadcast address")
        } else {
            None
        }
    }
}

/// The larger of the two ranges beside `taken`, the gateway left out where it is at an end.
fn largest_beside(
    taken: &AddressRange,
    gateway: IpAddr,
    first: IpAddr,
    last: IpAddr,
) -> Result<AddressRange, Invalid> {
    let like = first;
    let start = if gateway == first { ordinal(first) + 1 } else { ordinal(first) };
    let below = (start, ordinal(taken.first()).saturating_sub(1));
    let above = (ordinal(taken.last()) + 1, ordinal(last));
    let (a, b) =
        if above.1.saturating_sub(above.0) >= below.1.saturating_sub(below.0) { above } else { below };
    match (address_at(a, like), address_at(b, like)) {
        (Some(a), Some(b)) if a <= b => AddressRange::new(a, b),
        _ => Err(Invalid::new("container pool", &taken.to_string(), "leaves no address for VMs")),
    }
}

impl Network {
    /// The families that it has, IPv4 first.
    pub fn families(&self) -> impl Iterator<Item = &Family> {
        self.ipv4.iter().chain(&self.ipv6)
    }

    /// The family whose address is a lease's key: IPv4 where there is one.
    #[must_use]
    pub fn key_family(&self) -> Option<&Family> {
        self.families().next()
    }

    /// The addresses at which our resolver answers; none on an adopted bridge without an address.
    pub fn resolvers(&self) -> impl Iterator<Item = IpAddr> {
        self.families().filter_map(|f| f.address)
    }

    /// Where our resolver answers the host itself as well, with `host_dns`. Of the loopback network, so that
    /// Docker asks it from the host's side on behalf of every container, and no guest can reach it.
    #[must_use]
    pub fn loopback(&self) -> Ipv4Addr {
        let [.., a, b] = super::mac::fnv1a(self.name.as_str().as_bytes()).to_be_bytes();
        Ipv4Addr::new(127, 104, a, b)
    }

    /// The zones of its addresses' names (`in-addr.arpa`, `ip6.arpa`). None on an adopted bridge: another
    /// server may know the neighbours there.
    #[must_use]
    pub fn reverse_zones(&self) -> Vec<String> {
        if self.adopt {
            return Vec::new();
        }
        self.families().flat_map(|f| super::reverse::of_subnet(f.subnet)).collect()
    }

    /// The address of the bridge's Ethernet side.
    #[must_use]
    pub fn bridge_mac(&self) -> MacAddress {
        MacAddress::of_bridge(&self.name)
    }

    /// The UUID of our libvirt network: by it ours is told from somebody else's of the same name.
    #[must_use]
    pub fn libvirt_uuid(&self) -> Uuid {
        Uuid::of_libvirt_network(&self.name)
    }

    /// Whether `address` can be a guest's lease here, container or VM.
    pub fn may_lease(&self, address: IpAddr) -> Result<(), Unfit> {
        let family = self.key_family().ok_or(Unfit::NoFamily { address })?;
        if family.subnet.network().is_ipv4() != address.is_ipv4() {
            return Err(Unfit::NoFamily { address });
        }
        if !family.subnet.contains(&address) {
            return Err(Unfit::Outside { address, subnet: family.subnet });
        }
        match family.special(address) {
            Some(what) => Err(Unfit::Special { address, what }),
            None => Ok(()),
        }
    }

    /// Whether `address` can be a VM's: a lease's, and not one that Docker gives out by itself.
    pub fn may_lease_to_vm(&self, address: IpAddr) -> Result<(), Unfit> {
        self.may_lease(address)?;
        if self.ipam == Ipam::Hybrid {
            return Ok(());
        }
        match self.key_family().and_then(|f| f.container_pool) {
            Some(pool) if pool.contains(address) => Err(Unfit::ContainerPool { address, pool }),
            _ => Ok(()),
        }
    }

    /// Whether Docker gives `address` to nobody, also not to who asks for it: the container pool is no CIDR, and
    /// Docker is told the one around it and what to leave out of that.
    #[must_use]
    pub fn docker_leaves_out(&self, address: IpAddr) -> bool {
        let pools = self.families().filter_map(|f| f.container_pool).filter(|_| self.ipam == Ipam::Range);
        pools
            .into_iter()
            .any(|pool| AddressRange::from(pool.covering()).contains(address) && !pool.contains(address))
    }

    /// The IPv6 address that goes with an IPv4 lease on a network of both families: as far from
    /// the start of its subnet. So one registry entry keeps both from being given twice.
    #[must_use]
    pub fn companion(&self, address: IpAddr) -> Option<Ipv6Addr> {
        let (v4, v6) = (self.ipv4.as_ref()?, self.ipv6.as_ref()?);
        if !address.is_ipv4() || !v4.subnet.contains(&address) {
            return None;
        }
        let offset = ordinal(address) - ordinal(v4.subnet.network());
        match address_at(ordinal(v6.subnet.network()) + offset, v6.subnet.network()) {
            Some(IpAddr::V6(a)) if v6.subnet.contains(&IpAddr::V6(a)) => Some(a),
            _ => None,
        }
    }

    /// The first subnet of this network that shares an address with `other`.
    #[must_use]
    pub fn overlapping(&self, other: &IpNet) -> Option<IpNet> {
        self.families()
            .map(|f| f.subnet)
            .find(|mine| mine.contains(&other.network()) || other.contains(&mine.network()))
    }

    /// The full name of a guest's label.
    #[must_use]
    pub fn fqdn(&self, label: &DnsLabel) -> String {
        format!("{label}.{}", self.zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(subnet: &str) -> Result<Family, Invalid> {
        let subnet = subnet.parse().map_err(|_| Invalid::new("subnet", subnet, "is no CIDR"))?;
        Family::with_defaults(subnet, None, None, None)
    }

    #[test]
    fn defaults_are_those_of_the_design() -> Result<(), Invalid> {
        let f = family("10.0.1.0/24")?;
        assert_eq!(f.gateway.to_string(), "10.0.1.1");
        assert_eq!(f.vm_pool.to_string(), "10.0.1.128-10.0.1.254");
        assert_eq!(f.container_pool.map(|p| p.to_string()).as_deref(), Some("10.0.1.64/26"));
        let f = family("10.0.1.8/29")?;
        assert_eq!(f.vm_pool.to_string(), "10.0.1.12-10.0.1.14");
        let f = family("fd00::/64")?;
        assert_eq!(f.vm_pool.to_string(), "fd00::8000-fd00::fffe");
        Ok(())
    }

    #[test]
    fn a_default_pool_gives_way_to_a_chosen_one() -> Result<(), Invalid> {
        let subnet = "10.9.0.0/24".parse().map_err(|_| Invalid::new("subnet", "", "is no CIDR"))?;
        let pools =
            |vm: Option<&str>, containers: Option<&str>| -> Result<(String, Option<String>), Invalid> {
                let vm = vm.map(str::parse).transpose()?;
                let containers = containers.map(str::parse).transpose()?;
                let f = Family::with_defaults(subnet, None, vm, containers)?;
                Ok((f.vm_pool.to_string(), f.container_pool.map(|p| p.to_string())))
            };
        assert_eq!(pools(Some("10.9.0.10-10.9.0.100"), None)?.1.as_deref(), Some("10.9.0.128/26"));
        assert_eq!(pools(None, Some("10.9.0.128/25"))?.0, "10.9.0.2-10.9.0.127");
        assert_eq!(pools(Some("10.9.0.2-10.9.0.254"), None)?.1, None);
        assert!(pools(Some("10.9.0.2-10.9.0.100"), Some("10.9.0.64/26")).is_err());
        Ok(())
    }

    #[test]
    fn odd_subnets_are_refused() {
        for subnet in [
            "10.0.1.0/30",
            "10.0.1.0/31",
            "10.0.1.1/32",
            "0.0.0.0/0",
            "10.0.1.5/24",
            "224.0.0.0/8",
            "127.0.0.0/8",
            "fd00::/121",
            "fd00::/16",
        ] {
            assert!(family(subnet).is_err(), "{subnet}");
        }
    }
}
