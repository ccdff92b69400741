//! Who gets which address: sticky, fixed, reserved, passed on, refused.

use std::collections::HashSet;

use hybrid_hook::model::{ClaimRequest, Lease, Origin, Owner, Result as Answer};
use hybrid_hook::ops::{Context, claim, gc, release, reserve};
use hybrid_hook::registry::{networks, status};

use super::Outcome;
use super::host::{Host, network, nic, owner};

/// Claims as the hook of a domain does.
fn start(context: &Context, who: u64, card: u64, ip: Option<&str>) -> Outcome<Answer<Lease>> {
    let owner = Owner { id: owner(who)?, origin: Origin::Domain, name: Some(format!("vm{who}")) };
    let request = ClaimRequest { ip: ip.map(str::parse).transpose()?, ..ClaimRequest::of(owner, nic(card)?) };
    Ok(claim::claim(context, &network()?, request, soon()).map(|granted| granted.lease))
}

/// Releases as the hook does. How many became idle.
fn stop(context: &Context, who: u64, card: u64, generation: Option<u64>) -> Outcome<usize> {
    let which = release::Which { owner: owner(who)?, macs: vec![nic(card)?], generation };
    Ok(release::release(context, &network()?, &which, false, soon())?.idle.len())
}

fn soon() -> hybrid_hook::deadline::Deadline {
    hybrid_hook::deadline::Deadline::after(std::time::Duration::from_secs(10))
}

fn refusal(answer: Answer<Lease>) -> String {
    answer.map_or_else(|fault| fault.to_string(), |lease| format!("got {}", lease.address))
}

#[test]
fn an_address_survives_stop_and_start() -> Outcome {
    let host = Host::new()?;
    let context = host.context("a");
    let first = start(&context, 1, 1, None)??;
    for other in 2..6 {
        start(&context, other, other, None)??;
    }
    for _ in 0..3 {
        assert_eq!(stop(&context, 1, 1, None)?, 1);
        let again = start(&context, 1, 1, None)??;
        assert_eq!(
            (again.address, again.generation, again.since),
            (first.address, first.generation, first.since)
        );
    }
    Ok(())
}

#[test]
fn an_explicit_address_takes_an_idle_dynamic_lease() -> Outcome {
    let host = Host::new()?;
    let context = host.context("a");
    let before = start(&context, 1, 1, None)??;
    assert_eq!(before.address.to_string(), "10.0.1.128");
    stop(&context, 1, 1, None)?;
    let after = start(&context, 2, 2, Some("10.0.1.128"))??;
    assert_eq!(after.generation, before.generation + 1);
    // DHCP may know the address by its former MAC for a while.
    assert_eq!(after.handover.map(|h| h.mac), Some(nic(1)?));
    // The former holder gets another.
    assert_eq!(start(&context, 1, 1, None)??.address.to_string(), "10.0.1.129");
    host.check()
}

#[test]
fn an_idle_fixed_lease_waits_for_its_owner_alone() -> Outcome {
    let host = Host::new()?;
    let context = host.context("a");
    start(&context, 1, 1, Some("10.0.1.200"))??;
    stop(&context, 1, 1, None)?;
    let said = refusal(start(&context, 2, 2, Some("10.0.1.200"))?);
    assert_eq!(said, "10.0.1.200 is held by vm \"vm1\" (idle)");
    // Its owner may come with a new NIC.
    let moved = start(&context, 1, 3, Some("10.0.1.200"))??;
    assert_eq!(moved.mac, Some(nic(3)?));
    host.check()
}

#[test]
fn an_active_lease_is_nobody_else_s() -> Outcome {
    let host = Host::new()?;
    let context = host.context("a");
    start(&context, 1, 1, None)??;
    assert_eq!(
        refusal(start(&context, 2, 2, Some("10.0.1.128"))?),
        "10.0.1.128 is held by vm \"vm1\" (active)"
    );
    assert_eq!(
        refusal(start(&context, 2, 1, None)?),
        format!("MAC {} is in use by vm \"vm1\" with 10.0.1.128", nic(1)?)
    );
    Ok(())
}

#[test]
fn a_mac_passes_on_with_the_next_generation_and_a_late_release_frees_nothing() -> Outcome {
    let host = Host::new()?;
    let context = host.context("a");
    let first = start(&context, 1, 1, None)??;
    stop(&context, 1, 1, None)?;
    let second = start(&context, 2, 1, None)??;
    assert_eq!((second.address, second.generation), (first.address, first.generation + 1));
    // The first owner's release, come late, by owner or by generation.
    assert_eq!(stop(&context, 1, 1, None)?, 0);
    assert_eq!(stop(&context, 2, 1, Some(first.generation))?, 0);
    assert_eq!(host.lease_at("10.0.1.128")?.ok_or("gone")?["generation"], second.generation);
    assert_eq!(stop(&context, 2, 1, Some(second.generation))?, 1);
    Ok(())
}

#[test]
fn what_was_active_in_another_boot_is_idle() -> Outcome {
    let host = Host::new()?;
    let before = host.context("a");
    start(&before, 1, 1, None)??;
    start(&before, 2, 2, None)??;
    host.claim(3, 3, &[])?;
    let after = host.context("b");
    // By explicit address, and by MAC.
    assert_eq!(start(&after, 4, 4, Some("10.0.1.128"))??.address.to_string(), "10.0.1.128");
    assert_eq!(start(&after, 5, 2, None)??.address.to_string(), "10.0.1.129");
    // A claim by hand knows no boots.
    assert!(start(&after, 6, 6, Some("10.0.1.130"))?.is_err());
    Ok(())
}

#[test]
fn a_full_pool_takes_the_longest_idle_dynamic_lease_first() -> Outcome {
    let host = Host::with(&["--vm-pool", "10.0.1.200-10.0.1.203"])?;
    let context = host.context("a");
    for number in 1..=3 {
        start(&context, number, number, None)??;
    }
    start(&context, 4, 4, Some("10.0.1.203"))??;
    assert!(refusal(start(&context, 5, 5, None)?).starts_with("pool full: all 4 addresses"));
    // A fixed one that is idle is a person's word: not taken.
    stop(&context, 4, 4, None)?;
    assert!(start(&context, 5, 5, None)?.is_err());
    stop(&context, 2, 2, None)?;
    std::thread::sleep(std::time::Duration::from_millis(1100));
    stop(&context, 1, 1, None)?;
    assert_eq!(start(&context, 5, 5, None)??.address.to_string(), "10.0.1.201");
    assert_eq!(start(&context, 6, 6, None)??.address.to_string(), "10.0.1.200");
    host.check()
}

#[test]
fn a_reservation_is_kept_for_its_mac_or_host_name() -> Outcome {
    let host = Host::new()?;
    let context = host.context("a");
    let at = |a: &str| a.parse::<std::net::IpAddr>();
    let by_mac = reserve::For::Mac(nic(1)?);
    let by_name = reserve::For::Hostname("db".parse()?);
    reserve::reserve(&context, &network()?, at("10.0.1.20")?, &by_mac, soon())?;
    reserve::reserve(&context, &network()?, at("10.0.1.21")?, &by_name, soon())?;
    // The same again changes nothing.
    let text = std::fs::read(host.block("10.0.1.0"))?;
    reserve::reserve(&context, &network()?, at("10.0.1.20")?, &by_mac, soon())?;
    reserve::reserve(&context, &network()?, at("10.0.1.21")?, &by_name, soon())?;
    assert_eq!(std::fs::read(host.block("10.0.1.0"))?, text);

    assert_eq!(
        refusal(start(&context, 9, 9, Some("10.0.1.20"))?),
        format!("10.0.1.20 is held by a reservation for {} (reserved)", nic(1)?)
    );
    assert!(start(&context, 9, 9, Some("10.0.1.21"))?.is_err());
    assert_eq!(start(&context, 1, 1, None)??.address, at("10.0.1.20")?);
    assert_eq!(host.claim(2, 2, &["--hostname", "db"])?["address"], "10.0.1.21");
    // It outlives its owner, even one that is told to be forgotten.
    host.release(2, 2, &["--forget"])?;
    assert_eq!(host.lease_at("10.0.1.21")?.ok_or("gone")?["reserved"], true);
    Ok(())
}

#[test]
fn a_reservation_by_name_is_for_the_next_guest_of_that_name() -> Outcome {
    let host = Host::new()?;
    host.ok(&["reserve", "--ip", "10.0.1.50", "--hostname", "web"])?;
    for number in 1..=3 {
        // Made anew each time, with another UUID and another MAC.
        let lease = host.claim(number, number, &["--hostname", "web"])?;
        assert_eq!(lease["address"], "10.0.1.50");
        // While it is there, stopped or not, nobody else of that name gets it.
        host.release(number, number, &[])?;
        let other = host.claim(9, 9, &["--hostname", "web"])?;
        assert_ne!(other["address"], "10.0.1.50");
        host.release(9, 9, &["--forget"])?;
        if number == 1 {
            // As the service or `gc` does it, once libvirt knows the domain no more.
            let known = gc::Known { domains: Some(HashSet::new()), ..gc::Known::default() };
            let (_, collected) = gc::collect(&host.context("a"), &network()?, &known, soon())?;
            assert_eq!(collected.freed.len(), 1);
        } else {
            host.release(number, number, &["--forget"])?;
        }
        let lease = host.lease_at("10.0.1.50")?.ok_or("gone")?;
        assert_eq!((&lease["state"], &lease["hostname"]), (&"reserved".into(), &"web".into()));
        assert!(lease["mac"].is_null() && lease["owner"].is_null());
    }
    // DHCP may know it by its last guest's MAC.
    let handover = host.registry()?.read()?.into_iter().find_map(|l| l.handover);
    assert_eq!(handover.map(|h| h.mac), Some(nic(3)?));
    // A registry of before knows no name for one that is claimed; for one that is not, it is its host name.
    let text = std::fs::read_to_string(host.block("10.0.1.0"))?;
    assert!(text.contains("reserved_for = \"web\"\n"));
    std::fs::write(host.block("10.0.1.0"), text.replace("reserved_for = \"web\"\n", ""))?;
    assert_eq!(host.claim(4, 4, &["--hostname", "web"])?["address"], "10.0.1.50");
    host.release(4, 4, &["--forget"])?;
    assert_eq!(host.claim(5, 5, &["--hostname", "web"])?["address"], "10.0.1.50");
    host.check()
}

#[test]
fn forget_frees_at_once_and_release_keeps() -> Outcome {
    let host = Host::new()?;
    let first = host.claim(1, 1, &[])?;
    assert_eq!(host.release(1, 1, &[])?["state"], "idle");
    assert_eq!(host.claim(2, 2, &[])?["address"], "10.0.1.129");
    assert_eq!(host.claim(1, 1, &[])?["address"], first["address"]);
    host.release(1, 1, &["--forget"])?;
    assert!(host.lease_at("10.0.1.128")?.is_none());
    assert_eq!(host.claim(3, 3, &[])?["address"], "10.0.1.128");
    Ok(())
}

#[test]
fn a_claim_done_twice_writes_nothing() -> Outcome {
    let host = Host::new()?;
    let first = host.claim(1, 1, &["--hostname", "db"])?;
    let stamp = std::fs::metadata(host.block("10.0.1.128"))?.modified()?;
    assert_eq!(host.claim(1, 1, &["--hostname", "db"])?, first);
    assert_eq!(std::fs::metadata(host.block("10.0.1.128"))?.modified()?, stamp);
    Ok(())
}

#[test]
fn both_families_count_the_same_distance() -> Outcome {
    let host = Host::with(&["--subnet", "10.0.1.0/24", "--subnet", "fd00:1::/64"])?;
    let lease = host.claim(1, 1, &["--ip", "10.0.1.200"])?;
    assert_eq!(lease["address6"], "fd00:1::c8");
    let host = Host::with(&["--subnet", "fd00:1::/64"])?;
    assert_eq!(host.claim(1, 1, &[])?["address"], "fd00:1::8000");
    assert_eq!(host.claim(2, 2, &["--ip", "fd00:1::99"])?["address"], "fd00:1::99");
    host.check()
}

#[test]
fn the_ends_of_a_pool_are_given_out() -> Outcome {
    let host = Host::with(&["--vm-pool", "10.0.1.253-10.0.1.254"])?;
    assert_eq!(host.claim(1, 1, &[])?["address"], "10.0.1.253");
    assert_eq!(host.claim(2, 2, &[])?["address"], "10.0.1.254");
    assert!(host.claim(3, 3, &[]).is_err());
    Ok(())
}

#[test]
fn an_edited_file_counts_once_it_is_applied_and_a_person_is_told() -> Outcome {
    let host = Host::new()?;
    let (places, name) = (host.places(), network()?);
    let mut status = status::load(&places, &name)?;
    status.up = true;
    status::store(&places, &name, &status)?;
    networks::put_in_force(&places, &networks::as_written(&places, &name)?)?;
    let edited = "edited; hybrid-hook apply";
    assert!(!host.ok(&["network", "show"])?.contains(edited));
    let text = std::fs::read_to_string(host.network_file())?;
    std::fs::write(host.network_file(), text.replace("10.0.1.", "10.0.9."))?;
    let shown = host.ok(&["network", "show"])?;
    assert!(shown.contains(edited) && shown.contains("10.0.1.0/24"), "{shown}");
    // The same words again are compared with the file: that is what a person edits.
    let again = host.run(&["network", "create", "--offline", "--subnet", "10.0.1.0/24"])?;
    assert!(
        again.code == 3 && again.err.contains("its subnet is 10.0.9.0/24, not 10.0.1.0/24"),
        "{}",
        again.err
    );
    assert_eq!(host.run(&["network", "create", "--offline", "--subnet", "10.0.9.0/24"])?.code, 0);
    Ok(())
}
