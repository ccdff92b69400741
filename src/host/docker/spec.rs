//! What the Docker network on our bridge must look like, and how one that exists differs. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use bollard::models::{Ipam as ApiIpam, IpamConfig, NetworkCreateRequest};
use ipnet::IpNet;

use super::ApiVersion;
use super::network::DockerNetwork;
use super::plugin;
use crate::model::pool::{address_at, ordinal};
use crate::model::{AddressRange, DockerName, Family, Fault, Ipam, Network, Result};

/// The label that makes a Docker network ours; its value is the network's name with us.
pub const LABEL: &str = "hybrid-hook.network";

/// The option that names the kernel's bridge.
pub(super) const BRIDGE_OPTION: &str = "com.docker.network.bridge.name";

/// The most addresses that are excluded one by one from what Docker gives out.
const MOST_EXCLUDED: u128 = 1024;

/// One family's addressing with Docker (`IPAM.Config` of its API).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The subnet.
    pub subnet: IpNet,
    /// Where containers send what leaves it; Docker never gives it out.
    pub gateway: Option<IpAddr>,
    /// What Docker gives out by itself; none: the whole subnet.
    pub range: Option<IpNet>,
    /// Addresses that it never gives out (`AuxiliaryAddresses`).
    pub excluded: BTreeSet<IpAddr>,
}

/// The network as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) name: DockerName,
    pub(super) options: BTreeMap<&'static str, String>,
    pub(super) label: String,
    pub(super) ipam_driver: &'static str,
    /// Whether it has IPv4; `None` where Docker is too old to be told (it always has, then).
    pub(super) ipv4: Option<bool>,
    pub(super) ipv6: bool,
    pub(super) pools: Vec<Pool>,
}

impl Spec {
    /// What `network` asks of a Docker that speaks `api`.
    ///
    /// # Errors
    /// Missing: the network has IPv6 alone and Docker is older than 28. Refused: the container pool can't be told
    /// to Docker, or Docker would put a foreign IPv6 gateway's address on our bridge.
    pub(super) fn of(network: &Network, api: ApiVersion) -> Result<Self> {
        let told = api >= ApiVersion::GATEWAY_PRIORITY;
        if network.ipv4.is_none() && !told {
            return Err(Fault::missing(format!(
                "network {} has IPv6 alone, and Docker has such networks from version 28 on",
                network.name
            ))
            .hint("give it an IPv4 subnet as well (--subnet, or [ipv4] in its file), or install Docker 28 or newer"));
        }
        if let Some(v6) = network.ipv6.as_ref().filter(|f| f.address != Some(f.gateway)) {
            // inhibit_ipv4 has no IPv6 twin: Docker puts the gateway on the bridge (20.10), and since 26.1 takes
            // the bridge's own address away as well.
            return Err(Fault::refused(format!(
                "the IPv6 gateway {} of network {} is not the bridge's own address, and Docker would put it there",
                v6.gateway, network.name
            ))
            .hint("give [ipv6] the bridge's own address as its gateway, or leave [ipv6] out"));
        }
        let options = BTreeMap::from([
            (BRIDGE_OPTION, network.bridge.to_string()),
            // NAT is ours; Docker's would hide VMs as well.
            ("com.docker.network.bridge.enable_ip_masquerade", "false".to_owned()),
            // The bridge's address is ours: without this Docker replaces one that is not its gateway.
            ("com.docker.network.bridge.inhibit_ipv4", "true".to_owned()),
            ("com.docker.network.driver.mtu", network.mtu.to_string()),
        ]);
        Ok(Self {
            name: network.docker_network.clone(),
            options,
            label: network.name.to_string(),
            ipam_driver: if network.ipam == Ipam::Hybrid { plugin::DRIVER } else { "default" },
            ipv4: told.then_some(network.ipv4.is_some()),
            ipv6: network.ipv6.is_some(),
            pools: network.families().map(|f| Pool::of(f, network.ipam)).collect::<Result<_>>()?,
        })
    }

    /// The call that makes it.
    pub(super) fn request(&self) -> NetworkCreateRequest {
        let ours = (self.ipam_driver == plugin::DRIVER)
            .then(|| HashMap::from([(plugin::NETWORK_OPTION.to_owned(), self.label.clone())]));
        NetworkCreateRequest {
            name: self.name.to_string(),
            driver: Some("bridge".to_owned()),
            enable_ipv4: self.ipv4,
            enable_ipv6: Some(self.ipv6),
            ipam: Some(ApiIpam {
                driver: Some(self.ipam_driver.to_owned()),
                config: Some(self.pools.iter().map(Pool::config).collect()),
                options: ours,
            }),
            options: Some(self.options.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect()),
            labels: Some(HashMap::from([(LABEL.to_owned(), self.label.clone())])),
            ..NetworkCreateRequest::default()
        }
    }

    /// In what `there` is not like this, each as a line for people; empty when it is equal.
    pub(super) fn differences(&self, there: &DockerNetwork) -> Vec<String> {
        let mut all = Vec::new();
        let mut differ = |what: &str, is: &str, should: &str| {
            if is != should {
                all.push(format!("{what} is {is}, not {should}"));
            }
        };
        differ("driver", &there.driver, "bridge");
        differ("IPAM driver", &there.ipam_driver, self.ipam_driver);
        // Docker adds options of its own; only those that we set count.
        for (key, value) in &self.options {
            differ(key, there.options.get(*key).map_or("unset", String::as_str), value);
        }
        differ("IPv6", on(there.ipv6), on(self.ipv6));
        if let (Some(is), Some(should)) = (there.ipv4, self.ipv4) {
            differ("IPv4", on(is), on(should));
        }
        let text = |pools: &[Pool]| {
            let mut texts: Vec<_> = pools.iter().map(ToString::to_string).collect();
            texts.sort();
            texts.join(", ")
        };
        differ("addressing", &text(&there.pools), &text(&self.pools));
        all
    }
}

fn on(is: bool) -> &'static str {
    if is { "on" } else { "off" }
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.subnet)?;
        if let Some(gateway) = self.gateway {
            write!(f, " gateway {gateway}")?;
        }
        if let Some(range) = self.range {
            write!(f, " range {range}")?;
        }
        match self.excluded.len() {
            0 => Ok(()),
            n @ 1..=4 => {
                let all: Vec<_> = self.excluded.iter().take(n).map(ToString::to_string).collect();
                write!(f, " without {}", all.join(" "))
            }
            n => {
                // A fingerprint, so that two long lists compare right in one line.
                let all: Vec<_> = self.excluded.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    " without {n} addresses ({:08x})",
                    crate::model::mac::fnv1a(all.join(" ").as_bytes())
                )
            }
        }
    }
}

impl Pool {
    /// What a family asks of Docker.
    fn of(family: &Family, ipam: Ipam) -> Result<Self> {
        if ipam == Ipam::Hybrid {
            // What it may give out it asks for each time.
            let (subnet, gateway) = (family.subnet, Some(family.gateway));
            return Ok(Self { subnet, gateway, range: None, excluded: BTreeSet::new() });
        }
        let (range, mut excluded) = match &family.container_pool {
            Some(pool) => range_of(pool, family)?,
            // Docker is to give out nothing by itself. A range that holds just the gateway, which is taken, is
            // how to say it: asked-for addresses still work, others get "no available addresses".
            None => (IpNet::from(family.gateway), BTreeSet::new()),
        };
        // Docker knows the gateway; an own address beside it must be said, or a container may get it.
        excluded.extend(family.address.filter(|a| *a != family.gateway));
        Ok(Self { subnet: family.subnet, gateway: Some(family.gateway), range: Some(range), excluded })
    }

    fn config(&self) -> IpamConfig {
        let excluded = self.excluded.iter().enumerate().map(|(i, a)| (format!("hybrid-{i}"), a.to_string()));
        let excluded: HashMap<_, _> = excluded.collect();
        IpamConfig {
            subnet: Some(self.subnet.to_string()),
            ip_range: self.range.map(|r| r.to_string()),
            gateway: self.gateway.map(|g| g.to_string()),
            auxiliary_addresses: (!excluded.is_empty()).then_some(excluded),
        }
    }

    /// As Docker tells it; `None` for what is no subnet.
    pub(super) fn read(config: &IpamConfig) -> Option<Self> {
        let address = |text: &String| {
            // Some versions add the prefix length.
            text.split('/').next().and_then(|a| a.parse::<IpAddr>().ok())
        };
        Some(Self {
            subnet: config.subnet.as_deref()?.parse::<IpNet>().ok()?,
            gateway: config.gateway.as_ref().and_then(address),
            range: config.ip_range.as_deref().and_then(|r| r.parse::<IpNet>().ok()),
            excluded: config
                .auxiliary_addresses
                .iter()
                .flat_map(|m| m.values())
                .filter_map(address)
                .collect(),
        })
    }
}

/// Docker takes its range as a CIDR alone: the pool itself where it is one, else the CIDR around it less the
/// rest.
fn range_of(pool: &AddressRange, family: &Family) -> Result<(IpNet, BTreeSet<IpAddr>)> {
    let around = pool.covering();
    let whole = AddressRange::from(around);
    let rest = whole.size() - pool.size();
    if rest > MOST_EXCLUDED {
        return Err(Fault::refused(format!(
            "the container pool {pool} is no CIDR, and {rest} addresses around it are more than Docker can be told \
             to leave out"
        ))
        .hint(format!("take {} as the container pool", largest_inside(pool))));
    }
    let between = |from: u128, to: u128| (from..to).filter_map(|n| address_at(n, pool.first()));
    let excluded = between(ordinal(whole.first()), ordinal(pool.first()))
        .chain(between(ordinal(pool.last()) + 1, ordinal(whole.last()) + 1))
        // These Docker takes out itself, and says "already in use" to whoever does it again.
        .filter(|a| {
            *a != family.gateway
                && *a != family.subnet.network()
                && !(a.is_ipv4() && *a == family.subnet.broadcast())
        })
        .collect();
    Ok((around, excluded))
}

/// The largest CIDR that lies inside a range; the first of them.
fn largest_inside(pool: &AddressRange) -> IpNet {
    let (first, last) = (ordinal(pool.first()), ordinal(pool.last()));
    let longest: u8 = if pool.first().is_ipv4() { 32 } else { 128 };
    for prefix in 1..=longest {
        let bits = longest - prefix;
        let Some(size) = 1_u128.checked_shl(u32::from(bits)) else { continue };
        let Some(start) = first.checked_next_multiple_of(size) else { continue };
        if start.checked_add(size - 1).is_some_and(|end| end <= last)
            && let Some(net) = address_at(start, pool.first()).and_then(|a| IpNet::new(a, prefix).ok())
        {
            return net;
        }
    }
    IpNet::from(pool.first())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;
    use crate::model::network_file::NetworkFile;

    const OLD: ApiVersion = ApiVersion { major: 1, minor: 41 };

    fn network(text: &str) -> Result<Network> {
        let file = NetworkFile::parse(&format!("format = 1\n{text}")).map_err(Fault::failed)?;
        Ok(file.network(&"hybrid".parse()?)?)
    }

    fn pools(text: &str) -> Result<String> {
        let spec = Spec::of(&network(text)?, OLD)?;
        Ok(spec.pools.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn the_default_network_is_as_the_design_says() -> Result<()> {
        let request = Spec::of(&network("[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?, OLD)?.request();
        let json = serde_json::to_value(&request).map_err(|e| Fault::failed(e.to_string()))?;
        insta::assert_snapshot!(json, @r#"{"Driver":"bridge","EnableIPv6":false,"IPAM":{"Config":[{"Gateway":"10.0.1.1","IPRange":"10.0.1.64/26","Subnet":"10.0.1.0/24"}],"Driver":"default"},"Labels":{"hybrid-hook.network":"hybrid"},"Name":"hybrid-net","Options":{"com.docker.network.bridge.enable_ip_masquerade":"false","com.docker.network.bridge.inhibit_ipv4":"true","com.docker.network.bridge.name":"hybr0","com.docker.network.driver.mtu":"1500"}}"#);
        Ok(())
    }

    #[test]
    fn a_pool_that_is_no_cidr_becomes_the_one_around_it_less_the_rest() -> Result<()> {
        let text = pools("[ipv4]\nsubnet=\"10.0.1.0/24\"\ncontainer_pool=\"10.0.1.2-10.0.1.5\"\n")?;
        // .0 is the network's and .1 the gateway: both are Docker's to leave out.
        assert_eq!(text, "10.0.1.0/24 gateway 10.0.1.1 range 10.0.1.0/29 without 10.0.1.6 10.0.1.7");
        let text = pools("[ipv4]\nsubnet=\"10.0.1.0/24\"\ncontainer_pool=\"10.0.1.10-10.0.1.50\"\n")?;
        assert!(text.contains("range 10.0.1.0/26 without 21 addresses"), "{text}");
        Ok(())
    }

    #[test]
    fn a_pool_too_odd_for_docker_is_refused_with_the_nearest_cidr() -> Result<()> {
        let fault = pools("[ipv4]\nsubnet=\"10.0.0.0/16\"\ncontainer_pool=\"10.0.64.10-10.0.100.0\"\n").err();
        assert_eq!(fault.as_ref().map(Fault::kind), Some(Kind::Refused));
        let hint = fault.as_ref().and_then(Fault::hint_text);
        assert_eq!(hint, Some("take 10.0.80.0/20 as the container pool"));
        let inside = |t: &str| t.parse().map(|p| largest_inside(&p).to_string());
        assert_eq!(inside("10.0.1.7-10.0.1.7").as_deref(), Ok("10.0.1.7/32"));
        assert_eq!(inside("10.0.1.1-10.0.1.255").as_deref(), Ok("10.0.1.128/25"));
        assert_eq!(inside("fd00::1-fd00::8000").as_deref(), Ok("fd00::4000/114"));
        Ok(())
    }

    #[test]
    fn without_a_container_pool_docker_gives_out_nothing() -> Result<()> {
        let text = pools("[ipv4]\nsubnet=\"10.9.0.0/24\"\nvm_pool=\"10.9.0.2-10.9.0.254\"\n")?;
        assert_eq!(text, "10.9.0.0/24 gateway 10.9.0.1 range 10.9.0.1/32");
        Ok(())
    }

    #[test]
    fn an_own_address_beside_the_gateway_is_excluded() -> Result<()> {
        let text = pools("adopt=true\n[ipv4]\nsubnet=\"10.9.0.0/24\"\naddress=\"10.9.0.70\"\n")?;
        assert_eq!(text, "10.9.0.0/24 gateway 10.9.0.1 range 10.9.0.64/26 without 10.9.0.70");
        Ok(())
    }

    #[test]
    fn where_the_registry_counts_docker_is_told_no_range() -> Result<()> {
        let text = "ipam=\"hybrid\"\n[ipv4]\nsubnet=\"10.9.0.0/24\"\ncontainer_pool=\"10.9.0.3-10.9.0.200\"\n\
                    vm_pool=\"10.9.0.201-10.9.0.254\"\n";
        let spec = Spec::of(&network(text)?, OLD)?;
        let json = serde_json::to_value(spec.request().ipam).map_err(|e| Fault::failed(e.to_string()))?;
        insta::assert_snapshot!(json, @r#"{"Config":[{"Gateway":"10.9.0.1","Subnet":"10.9.0.0/24"}],"Driver":"hybrid","Options":{"network":"hybrid"}}"#);
        Ok(())
    }

    #[test]
    fn ipv6_alone_needs_docker_28_and_a_gateway_on_the_bridge() -> Result<()> {
        let v6 = network("[ipv6]\nsubnet=\"fd00:1::/64\"\n")?;
        assert_eq!(Spec::of(&v6, OLD).err().map(|f| f.kind()), Some(Kind::Missing));
        let spec = Spec::of(&v6, ApiVersion::GATEWAY_PRIORITY)?;
        assert_eq!((spec.ipv4, spec.ipv6), (Some(false), true));
        let foreign =
            network("adopt=true\n[ipv4]\nsubnet=\"10.9.0.0/24\"\n[ipv6]\nsubnet=\"fd00:1::/64\"\n")?;
        assert_eq!(Spec::of(&foreign, OLD).err().map(|f| f.kind()), Some(Kind::Refused));
        Ok(())
    }

    #[test]
    fn what_docker_tells_back_is_equal_and_a_change_is_named() -> Result<()> {
        let text = "[ipv4]\nsubnet=\"10.0.1.0/24\"\ncontainer_pool=\"10.0.1.66-10.0.1.127\"\n\
                    [ipv6]\nsubnet=\"fd00:1::/64\"\n";
        let spec = Spec::of(&network(text)?, OLD)?;
        let request = spec.request();
        let config = request.ipam.and_then(|i| i.config).unwrap_or_default();
        let mut there = DockerNetwork {
            driver: "bridge".into(),
            ipam_driver: "default".into(),
            options: request.options.unwrap_or_default().into_iter().collect(),
            pools: config.iter().filter_map(Pool::read).collect(),
            ipv6: true,
            ..DockerNetwork::default()
        };
        there.pools.reverse();
        there.options.insert("com.docker.network.enable_ipv4".into(), "true".into());
        assert_eq!(spec.differences(&there), Vec::<String>::new());
        let other = Spec::of(
            &network(&text.replace("10.0.1.66", "10.0.1.65").replace("[ipv4]", "mtu=1400\n[ipv4]"))?,
            OLD,
        )?;
        assert_eq!(other.differences(&there).len(), 2, "{:?}", other.differences(&there));
        Ok(())
    }
}
