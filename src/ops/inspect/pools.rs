//! How much of a network's pools is used. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::record::{PoolGuests, PoolRecord};
use crate::host::docker::Endpoint;
use crate::model::{AddressRange, Family, LeaseRecord, LeaseState, Network};

/// The VMs' pool of the family that leases are in (the other one's addresses follow it), and every pool
/// of Docker's. Where Docker could not be asked, its containers count only as far as they
/// have leases.
pub(super) fn pools(network: &Network, leases: &[LeaseRecord], endpoints: &[Endpoint]) -> Vec<PoolRecord> {
    network
        .families()
        .enumerate()
        .flat_map(|(i, family)| {
            let vms = (i == 0).then_some((PoolGuests::Vms, family.vm_pool));
            let containers = family.container_pool.map(|pool| (PoolGuests::Containers, pool));
            let pool = move |(guests, range)| pool(guests, range, family, leases, endpoints);
            [vms, containers].into_iter().flatten().map(pool)
        })
        .collect()
}

fn pool(
    guests: PoolGuests,
    range: AddressRange,
    family: &Family,
    leases: &[LeaseRecord],
    endpoints: &[Endpoint],
) -> PoolRecord {
    let mut used: [BTreeSet<IpAddr>; 3] = Default::default();
    let [active, idle, reserved] = &mut used;
    for lease in leases {
        let set = match lease.state {
            LeaseState::Active => &mut *active,
            LeaseState::Idle => &mut *idle,
            LeaseState::Reserved => &mut *reserved,
        };
        let addresses = [Some(lease.address), lease.address6.map(IpAddr::V6)];
        set.extend(addresses.into_iter().flatten().filter(|a| range.contains(*a)));
    }
    let on_docker = endpoints.iter().flat_map(|e| [e.ipv4, e.ipv6]).flatten().filter(|a| range.contains(*a));
    active.extend(on_docker);
    idle.retain(|a| !active.contains(a));
    // What no guest can have: the gateway, the bridge's own address, the subnet's ends.
    let subnet = family.subnet;
    let ends = [
        Some(family.gateway),
        family.address,
        Some(subnet.network()),
        subnet.network().is_ipv4().then(|| subnet.broadcast()),
    ];
    let special: BTreeSet<IpAddr> = ends.into_iter().flatten().filter(|a| range.contains(*a)).collect();
    let count = |set: &BTreeSet<IpAddr>| u64::try_from(set.len()).unwrap_or(u64::MAX);
    let size = u64::try_from(range.size()).unwrap_or(u64::MAX).saturating_sub(count(&special));
    let (active, idle, reserved) = (count(active), count(idle), count(reserved));
    let free = size.saturating_sub(active).saturating_sub(idle).saturating_sub(reserved);
    PoolRecord { guests, range, size, active, idle, reserved, free }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{lease, network};
    use super::*;
    use crate::model::{Origin, Result};

    #[test]
    fn pools_count_each_address_once() -> Result<()> {
        let network = network("[ipv6]\nsubnet = \"fd00:1::/64\"\n")?;
        let active = lease(&network, "10.0.1.128", "52:54:00:00:00:01", Origin::Domain, None)?;
        let mut idle = lease(&network, "10.0.1.129", "52:54:00:00:00:02", Origin::Domain, None)?;
        idle.state = LeaseState::Idle;
        let fixed = lease(&network, "10.0.1.5", "52:54:00:00:00:03", Origin::Domain, None)?;
        let container = lease(&network, "10.0.1.70", "02:42:0a:00:01:46", Origin::Container, None)?;
        let endpoint = |address: [u8; 4]| Endpoint {
            container: None,
            container_name: "c".to_owned(),
            endpoint_id: "e".to_owned(),
            mac: None,
            ipv4: Some(IpAddr::from(address)),
            ipv6: None,
        };
        let endpoints = [endpoint([10, 0, 1, 70]), endpoint([10, 0, 1, 64])];
        let lines: Vec<_> = pools(&network, &[active, idle, fixed, container], &endpoints)
            .iter()
            .map(|p| format!("{:?} {} {}: {} {} {}", p.guests, p.range, p.size, p.active, p.idle, p.free))
            .collect();
        assert_eq!(
            lines,
            [
                "Vms 10.0.1.128-10.0.1.254 127: 1 1 125",
                "Containers 10.0.1.64/26 64: 2 0 62",
                "Containers fd00:1::40/122 64: 1 0 63",
            ]
        );
        Ok(())
    }
}
