//! Who gets which address when Docker asks the registry.

use super::*;
use crate::model::network_file::NetworkFile;
use crate::model::{Fault, OwnerId, Result};

/// Leases in memory.
struct Memory(Vec<Lease>);

impl LeaseView for Memory {
    type Error = Fault;
    fn by_mac(&mut self, mac: MacAddress) -> Result<Vec<Lease>> {
        Ok(self.0.iter().filter(|l| l.mac == Some(mac)).cloned().collect())
    }
    fn at(&mut self, address: IpAddr) -> Result<Option<Lease>> {
        Ok(self.0.iter().find(|l| l.address == address).cloned())
    }
    fn reserved_for(&mut self, hostname: &DnsLabel) -> Result<Option<Lease>> {
        Ok(self.0.iter().find(|l| l.mac.is_none() && l.hostname.as_ref() == Some(hostname)).cloned())
    }
    fn lowest_free(
        &mut self,
        pool: &AddressRange,
        allowed: &dyn Fn(IpAddr) -> bool,
    ) -> Result<Option<IpAddr>> {
        let free = |a: &IpAddr| allowed(*a) && self.0.iter().all(|l| l.address != *a);
        let all = (0..pool.size()).filter_map(|n| {
            crate::model::pool::address_at(crate::model::pool::ordinal(pool.first()) + n, pool.first())
        });
        Ok(all.into_iter().find(free))
    }
    fn idle_in(&mut self, pool: &AddressRange) -> Result<Vec<Lease>> {
        Ok(self.0.iter().filter(|l| pool.contains(l.address)).cloned().collect())
    }
}

const BOOT: &str = "now";

fn network(ipam: &str) -> Result<Network> {
    let text = format!("format = 1\nipam = \"{ipam}\"\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n");
    Ok(NetworkFile::parse(&text).map_err(Fault::failed)?.network(&"hybrid".parse()?)?)
}

fn request(origin: Origin, n: u8, ip: Option<&str>) -> Result<ClaimRequest> {
    let mac: MacAddress = format!("02:42:00:00:00:{n:02x}").parse()?;
    let id = match origin {
        Origin::Container => OwnerId::of_endpoint(mac),
        _ => format!("{n:032x}").parse()?,
    };
    let ip = ip.map(|a| a.parse().map_err(|_| Fault::failed("address"))).transpose()?;
    Ok(ClaimRequest { ip, ..ClaimRequest::of(Owner { id, origin, name: None }, mac) })
}

fn ask(network: &Network, memory: &mut Memory, request: &ClaimRequest) -> Result<Result<Claimed, Refusal>> {
    let decided = decide(network, memory, request, &BootId(BOOT.into()), 1_000)?;
    if let Ok(claimed) = &decided {
        memory.0.retain(|l| l.address != claimed.lease.address && !claimed.leaves.contains(&l.address));
        memory.0.push(claimed.lease.clone());
    }
    Ok(decided)
}

/// The address that is given, or why none is.
fn told(network: &Network, memory: &mut Memory, request: &ClaimRequest) -> Result<String> {
    Ok(match ask(network, memory, request)? {
        Ok(claimed) => claimed.lease.address.to_string(),
        Err(refusal) => refusal.to_string(),
    })
}

fn stop(memory: &mut Memory) {
    for lease in &mut memory.0 {
        (lease.state, lease.boot) = (LeaseState::Idle, None);
    }
}

#[test]
fn containers_and_vms_have_pools_of_their_own() -> Result<()> {
    let (network, mut memory) = (network("hybrid")?, Memory(Vec::new()));
    assert_eq!(told(&network, &mut memory, &request(Origin::Container, 1, None)?)?, "10.0.1.64");
    assert_eq!(told(&network, &mut memory, &request(Origin::Domain, 2, None)?)?, "10.0.1.128");
    assert_eq!(told(&network, &mut memory, &request(Origin::Container, 3, None)?)?, "10.0.1.65");
    Ok(())
}

#[test]
fn a_container_can_ask_for_any_address_that_is_free_and_so_can_a_vm() -> Result<()> {
    let (asked, mut memory) = (network("hybrid")?, Memory(Vec::new()));
    for (n, ip) in [(4, "10.0.1.7"), (5, "10.0.1.70"), (6, "10.0.1.200")] {
        assert_eq!(told(&asked, &mut memory, &request(Origin::Container, n, Some(ip))?)?, ip);
        assert_eq!(told(&asked, &mut memory, &request(Origin::Domain, 2, Some("10.0.1.71"))?)?, "10.0.1.71");
    }
    let range = network("range")?;
    let refused = told(&range, &mut Memory(Vec::new()), &request(Origin::Domain, 2, Some("10.0.1.71"))?)?;
    assert!(refused.contains("container pool"), "{refused}");
    for ip in ["10.0.1.1", "10.0.1.0", "10.0.1.255", "10.0.2.1"] {
        let refused = told(&asked, &mut memory, &request(Origin::Container, 3, Some(ip))?)?;
        assert!(refused.contains("subnet") || refused.contains("gateway"), "{refused}");
    }
    Ok(())
}

#[test]
fn docker_asking_twice_is_answered_twice_the_same() -> Result<()> {
    let (network, mut memory) = (network("hybrid")?, Memory(Vec::new()));
    for ip in [None, Some("10.0.1.9")] {
        let request = request(Origin::Container, 1, ip)?;
        let first = told(&network, &mut memory, &request)?;
        let again = ask(&network, &mut memory, &request)?;
        assert!(again.is_ok_and(|c| c.unchanged && c.lease.address.to_string() == first));
        memory.0.clear();
    }
    Ok(())
}

#[test]
fn a_stopped_vms_address_and_mac_are_no_containers() -> Result<()> {
    for ip in [None, Some("10.0.1.128")] {
        let (hybrid, mut memory) = (network("hybrid")?, Memory(Vec::new()));
        told(&hybrid, &mut memory, &request(Origin::Domain, 1, ip)?)?;
        stop(&mut memory);
        let wish = request(Origin::Container, 2, Some("10.0.1.128"))?;
        let refused = told(&hybrid, &mut memory, &wish)?;
        assert!(refused.contains("10.0.1.128 is held by vm") && refused.contains("(idle)"), "{refused}");
        let refused = told(&hybrid, &mut memory, &request(Origin::Container, 1, None)?)?;
        assert!(refused.contains("MAC 02:42:00:00:00:01 is in use"), "{refused}");
        // Where Docker counts by itself, an address asked for goes before one that only waits.
        if ip.is_none() {
            assert_eq!(told(&network("range")?, &mut memory, &wish)?, "10.0.1.128");
        }
    }
    Ok(())
}

#[test]
fn a_stopped_containers_own_address_waits_for_docker_and_for_no_vm() -> Result<()> {
    let (network, mut memory) = (network("hybrid")?, Memory(Vec::new()));
    told(&network, &mut memory, &request(Origin::Container, 1, Some("10.0.1.40"))?)?;
    stop(&mut memory);
    let refused = told(&network, &mut memory, &request(Origin::Domain, 2, Some("10.0.1.40"))?)?;
    assert!(refused.contains("held by a container"), "{refused}");
    let back = ask(&network, &mut memory, &request(Origin::Container, 3, Some("10.0.1.40"))?)?;
    assert!(back.is_ok_and(|c| c.lease.generation == 2 && c.lease.handover.is_none()));
    let refused = told(&network, &mut memory, &request(Origin::Container, 4, Some("10.0.1.40"))?)?;
    assert!(refused.contains("(active)"), "{refused}");
    Ok(())
}

#[test]
fn a_full_pool_gives_up_what_containers_left_and_nothing_of_vms() -> Result<()> {
    let (network, mut memory) = (network("hybrid")?, Memory(Vec::new()));
    told(&network, &mut memory, &request(Origin::Domain, 250, Some("10.0.1.64"))?)?;
    for n in 1..=63 {
        told(&network, &mut memory, &request(Origin::Container, n, None)?)?;
    }
    let full = told(&network, &mut memory, &request(Origin::Container, 99, None)?)?;
    assert!(full.starts_with("pool full: all 64 addresses"), "{full}");
    stop(&mut memory);
    for lease in memory.0.iter_mut().filter(|l| l.origin() == Some(Origin::Domain)) {
        // As dynamic, and idle for longer than all others.
        (lease.fixed, lease.changed) = (false, 0);
    }
    assert_eq!(told(&network, &mut memory, &request(Origin::Container, 99, None)?)?, "10.0.1.65");
    Ok(())
}

#[test]
fn without_a_container_pool_only_addresses_asked_for_are_given() -> Result<()> {
    let text = "format = 1\nipam = \"hybrid\"\n[ipv4]\nsubnet = \"10.0.1.0/24\"\nvm_pool = \"10.0.1.2-10.0.1.254\"\n";
    let network = NetworkFile::parse(text).map_err(Fault::failed)?.network(&"hybrid".parse()?)?;
    let mut memory = Memory(Vec::new());
    let refused = told(&network, &mut memory, &request(Origin::Container, 1, None)?)?;
    assert!(refused.contains("no pool of addresses for containers"), "{refused}");
    assert_eq!(told(&network, &mut memory, &request(Origin::Container, 1, Some("10.0.1.9"))?)?, "10.0.1.9");
    Ok(())
}

#[test]
fn a_container_has_its_own_address_again_under_another_mac_and_a_vm_does_not() -> Result<()> {
    let network = network("range")?;
    for (origin, granted) in [(Origin::Container, true), (Origin::Domain, false)] {
        let mut memory = Memory(Vec::new());
        let mut wish = request(origin, 1, Some("10.0.1.40"))?;
        assert!(ask(&network, &mut memory, &wish)?.is_ok());
        wish.mac = "52:54:00:00:00:99".parse()?;
        assert_eq!(ask(&network, &mut memory, &wish)?.is_ok(), granted, "{origin:?}");
    }
    Ok(())
}

fn following(range: &str) -> Result<Network> {
    let text = format!(
        "format = 1\nadopt = true\ndocker_id = \"{}\"\n[ipv4]\nsubnet = \"10.0.1.0/24\"\naddress = \"10.0.1.1\"\n\
         {range}",
        "ab".repeat(32)
    );
    Ok(NetworkFile::parse(&text).map_err(Fault::failed)?.network(&"hybrid".parse()?)?)
}

#[test]
fn where_docker_gives_out_the_whole_subnet_a_vm_has_the_highest_free_address() -> Result<()> {
    let shared = following("vm_pool = \"10.0.1.1-10.0.1.254\"\n")?;
    let boot = BootId(BOOT.to_owned());
    let mut memory = Memory(Vec::new());
    for (n, wanted) in [(1, "10.0.1.254"), (2, "10.0.1.253"), (3, "10.0.1.252")] {
        let claimed = decide(&shared, &mut memory, &request(Origin::Domain, n, None)?, &boot, 100)?;
        let lease = claimed.map_err(|r| Fault::failed(r.to_string()))?.lease;
        assert_eq!(lease.address.to_string(), wanted);
        memory.0.push(lease);
    }
    let apart = following("vm_pool = \"10.0.1.128-10.0.1.254\"\ncontainer_pool = \"10.0.1.0/25\"\n")?;
    let claimed = decide(&apart, &mut memory, &request(Origin::Domain, 9, None)?, &boot, 100)?;
    let lease = claimed.map_err(|r| Fault::failed(r.to_string()))?.lease;
    assert_eq!(lease.address.to_string(), "10.0.1.128");
    Ok(())
}

#[test]
fn a_reservation_is_untried_until_a_guest_has_it() -> Result<()> {
    let network = network("range")?;
    let mut memory = Memory(Vec::new());
    let db = request(Origin::Domain, 1, None)?;
    let untried = |claimed: Result<Claimed, Refusal>| {
        claimed.map(|c| c.untried).map_err(|r| Fault::failed(r.to_string()))
    };
    ask(&network, &mut memory, &request(Origin::Domain, 1, Some("10.0.1.150"))?)?
        .map_err(|r| Fault::failed(r.to_string()))?;
    for lease in &mut memory.0 {
        (lease.owner, lease.reserved, lease.state) = (None, true, LeaseState::Reserved);
    }
    assert!(untried(ask(&network, &mut memory, &db)?)?);
    assert!(!untried(ask(&network, &mut memory, &db)?)?);
    Ok(())
}

#[test]
fn another_container_with_a_mac_that_is_starting_gets_nothing_and_frees_nothing() -> Result<()> {
    let network = network("hybrid")?;
    for (first, others) in
        [(None, [Some("10.0.1.9"), Some("10.0.1.64")]), (Some("10.0.1.64"), [Some("10.0.1.9"), None])]
    {
        let mut memory = Memory(Vec::new());
        assert_eq!(told(&network, &mut memory, &request(Origin::Container, 1, first)?)?, "10.0.1.64");
        let before = memory.0.clone();
        for other in others {
            let refused = told(&network, &mut memory, &request(Origin::Container, 1, other)?)?;
            assert!(
                refused.contains("MAC 02:42:00:00:00:01 is in use by a container"),
                "{other:?}: {refused}"
            );
            assert_eq!(memory.0, before);
        }
        // Once Docker gave it back, the MAC is free for any wish.
        stop(&mut memory);
        assert_eq!(
            told(&network, &mut memory, &request(Origin::Container, 1, Some("10.0.1.9"))?)?,
            "10.0.1.9"
        );
    }
    Ok(())
}

#[test]
fn who_had_the_address_before_is_known_for_longer_than_dhcp_needs_it() -> Result<()> {
    let (network, mut memory) = (network("range")?, Memory(Vec::new()));
    told(&network, &mut memory, &request(Origin::Domain, 1, None)?)?;
    stop(&mut memory);
    let taker = request(Origin::Domain, 2, Some("10.0.1.128"))?;
    told(&network, &mut memory, &taker)?;
    stop(&mut memory);
    let later = decide(&network, &mut memory, &taker, &BootId(BOOT.into()), 1_000_000)?;
    let handover = later.map_err(|r| Fault::failed(r.to_string()))?.lease.handover;
    assert_eq!(handover.map(|h| h.mac.to_string()).as_deref(), Some("02:42:00:00:00:01"));
    Ok(())
}
