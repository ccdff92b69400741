//! Whether Docker has an address left on a network: asked before it is, because of what its own "no" leaves behind.

use std::net::IpAddr;

use super::network::DockerNetwork;
use super::spec::Pool;
use crate::model::{AddressRange, Fault, Result};

/// Refuses a fixed address that a container has or that Docker leaves out, and a pool of which every address is given
/// out. `fixed`: at most one of each family.
pub(super) fn check_room(there: &DockerNetwork, fixed: &[IpAddr]) -> Result<()> {
    let taken = || there.endpoints.iter().flat_map(|e| [e.ipv4, e.ipv6]).flatten();
    for ip in fixed {
        if let Some(other) = there.endpoints.iter().find(|e| [e.ipv4, e.ipv6].contains(&Some(*ip))) {
            return Err(Fault::refused(format!("{ip} is held by container {}", other.container_name))
                .hint("choose another address, or none"));
        }
    }
    if let Some(ip) = fixed.iter().find(|ip| there.pools.iter().any(|p| p.excluded.contains(ip))) {
        return Err(Fault::refused(format!(
            "{ip} is left out of what Docker gives on network {}",
            there.name
        ))
        .hint("choose another address, or none"));
    }
    for pool in &there.pools {
        // The family of a fixed address has no need of the pool.
        if fixed.iter().any(|ip| ip.is_ipv4() == pool.subnet.addr().is_ipv4()) {
            continue;
        }
        let range = AddressRange::from(pool.range.unwrap_or(pool.subnet));
        let used = taken().filter(|a| range.contains(*a)).count();
        if used as u128 >= size(pool, &range) {
            return Err(Fault::refused(format!(
                "Docker has no address left in {range} of network {}",
                there.name
            ))
            .hint("give the container a fixed address (label hybrid.ip), or enlarge the container pool"));
        }
    }
    Ok(())
}

/// How many addresses Docker gives out of a range: not the subnet's first, IPv4's last, the gateway, the excluded.
fn size(pool: &Pool, range: &AddressRange) -> u128 {
    let mut never = pool.excluded.clone();
    never.insert(pool.subnet.network());
    never.extend(pool.gateway);
    if pool.subnet.addr().is_ipv4() {
        never.insert(pool.subnet.broadcast());
    }
    range.size().saturating_sub(never.iter().filter(|a| range.contains(**a)).count() as u128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::docker::Endpoint;
    use crate::model::Kind;

    fn there(range: &str, taken: &[&str]) -> Result<DockerNetwork> {
        let net = |text: &str| text.parse().map_err(|_| Fault::failed("no CIDR"));
        let endpoint = |address: &&str| Endpoint {
            container: None,
            container_name: format!("c{address}"),
            endpoint_id: String::new(),
            mac: None,
            ipv4: address.parse().ok(),
            ipv6: None,
        };
        Ok(DockerNetwork {
            pools: vec![Pool {
                subnet: net("10.0.1.0/24")?,
                gateway: "10.0.1.1".parse().ok(),
                range: Some(net(range)?),
                excluded: "10.0.1.6".parse().into_iter().collect(),
            }],
            endpoints: taken.iter().map(endpoint).collect(),
            ..DockerNetwork::default()
        })
    }

    fn check(range: &str, taken: &[&str], ip: Option<&str>) -> Result<Option<Kind>> {
        let fixed: Vec<IpAddr> = ip.and_then(|i| i.parse().ok()).into_iter().collect();
        Ok(check_room(&there(range, taken)?, &fixed).err().map(|f| f.kind()))
    }

    #[test]
    fn a_pool_is_full_when_all_that_docker_gives_is_given() -> Result<()> {
        // Of .0 to .7 Docker gives .2 .3 .4 .5 .7; .9 was asked for and is outside.
        let four = ["10.0.1.2", "10.0.1.3", "10.0.1.4", "10.0.1.5", "10.0.1.9"];
        assert_eq!(check("10.0.1.0/29", &four, None)?, None);
        let five = ["10.0.1.2", "10.0.1.3", "10.0.1.4", "10.0.1.5", "10.0.1.7"];
        assert_eq!(check("10.0.1.0/29", &five, None)?, Some(Kind::Refused));
        assert_eq!(check("10.0.1.0/29", &five, Some("10.0.1.200"))?, None);
        assert_eq!(check("10.0.1.1/32", &[], None)?, Some(Kind::Refused), "the pool that gives nothing");
        Ok(())
    }

    #[test]
    fn an_address_that_docker_leaves_out_is_refused() -> Result<()> {
        assert_eq!(check("10.0.1.0/29", &[], Some("10.0.1.6"))?, Some(Kind::Refused));
        assert_eq!(check("10.0.1.0/29", &[], Some("10.0.1.5"))?, None);
        Ok(())
    }

    #[test]
    fn an_address_that_a_container_has_is_refused() -> Result<()> {
        assert_eq!(check("10.0.1.64/26", &["10.0.1.70"], Some("10.0.1.70"))?, Some(Kind::Refused));
        assert_eq!(check("10.0.1.64/26", &["10.0.1.70"], Some("10.0.1.71"))?, None);
        Ok(())
    }
}
