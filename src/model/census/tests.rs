//! Docker's word against the registry's.

use super::*;
use crate::model::network_file::NetworkFile;
use crate::model::{Fault, Result};

fn network(ipam: &str) -> Result<Network> {
    let text = format!("format = 1\nipam = \"{ipam}\"\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n");
    Ok(NetworkFile::parse(&text).map_err(Fault::failed)?.network(&"hybrid".parse()?)?)
}

fn resident(n: u8, address: &str) -> Result<Resident> {
    Ok(Resident {
        id: format!("{n:02x}").repeat(32).parse()?,
        name: format!("c{n}"),
        address: address.parse().map_err(|_| Fault::failed("address"))?,
        address6: None,
        asked: None,
        mac: format!("02:42:0a:00:01:{n:02x}").parse()?,
        hostname: DnsLabel::from_any(&format!("c{n}")),
        aliases: Vec::new(),
        aliases_known: true,
        groups: Vec::new(),
    })
}

fn census(leases: &[Lease], residents: &[Resident], exists: &[&Resident]) -> Result<Census> {
    let exists = exists.iter().map(|r| r.id.clone()).collect();
    Ok(take(&network("range")?, leases, residents, &exists, &BootId("now".into()), 100))
}

#[test]
fn what_docker_gave_is_written_once_and_struck_out_when_it_goes() -> Result<()> {
    let web = resident(7, "10.0.1.70")?;
    let first = census(&[], std::slice::from_ref(&web), &[&web])?;
    assert_eq!((first.put.len(), first.take.len(), first.clashes.len()), (1, 0, 0));
    assert!(census(&first.put, std::slice::from_ref(&web), &[&web])?.is_settled());
    assert_eq!(census(&first.put, &[], &[&web])?.take, [web.address]);
    Ok(())
}

#[test]
fn who_is_about_to_be_connected_keeps_what_it_had() -> Result<()> {
    let (web, db) = (resident(7, "10.0.1.70")?, resident(8, "10.0.1.71")?);
    let mut leases = census(&[], &[web.clone(), db.clone()], &[&web, &db])?.put;
    let coming = HashSet::from([web.id.clone()]);
    let mut got = census(&leases, &[], &[&web, &db])?;
    got.leave(&leases, &coming);
    assert_eq!((got.put.len(), got.take), (0, vec![db.address]));
    leases.iter_mut().for_each(|l| l.fixed = true);
    let mut got = census(&leases, &[], &[&web, &db])?;
    got.leave(&leases, &coming);
    assert_eq!(got.put.iter().map(|l| l.address).collect::<Vec<_>>(), [db.address]);
    Ok(())
}

#[test]
fn names_that_docker_could_not_be_asked_for_stay() -> Result<()> {
    let mut web = resident(7, "10.0.1.70")?;
    web.aliases = vec!["front".parse()?];
    let leases = census(&[], std::slice::from_ref(&web), &[&web])?.put;
    (web.aliases, web.aliases_known) = (Vec::new(), false);
    assert!(census(&leases, std::slice::from_ref(&web), &[&web])?.is_settled());
    web.aliases_known = true;
    assert_eq!(census(&leases, std::slice::from_ref(&web), &[&web])?.put.len(), 1);
    Ok(())
}

#[test]
fn an_ipv6_address_of_a_vm_is_a_clash_too() -> Result<()> {
    let text = "format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n[ipv6]\nsubnet = \"fd00:9::/64\"\n";
    let network = NetworkFile::parse(text).map_err(Fault::failed)?.network(&"hybrid".parse()?)?;
    let mut leases = census(&[], &[resident(9, "10.0.1.200")?], &[])?.put;
    for lease in &mut leases {
        let id = "9".repeat(32).parse()?;
        lease.owner = Some(Owner { id, origin: Origin::Domain, name: Some("db".into()) });
    }
    let mut web = resident(7, "10.0.1.70")?;
    web.address6 = network.companion(resident(9, "10.0.1.200")?.address);
    let got = take(&network, &leases, &[web.clone()], &HashSet::new(), &BootId("now".into()), 100);
    assert_eq!((got.put.len(), got.clashes.len()), (1, 1), "{got:?}");
    web.address6 = network.companion(web.address);
    let got = take(&network, &leases, &[web], &HashSet::new(), &BootId("now".into()), 100);
    assert_eq!((got.put.len(), got.clashes.len()), (1, 0), "{got:?}");
    Ok(())
}

#[test]
fn an_address_asked_for_waits_for_a_stopped_container_but_not_for_a_removed_one() -> Result<()> {
    let web = resident(7, "10.0.1.40")?;
    let mut leases = census(&[], std::slice::from_ref(&web), &[&web])?.put;
    leases.iter_mut().for_each(|l| l.fixed = true);
    let stopped = census(&leases, &[], &[&web])?;
    assert!(stopped.take.is_empty() && stopped.put.iter().all(|l| l.state == LeaseState::Idle));
    assert_eq!(census(&stopped.put, &[], &[])?.take, [web.address]);
    Ok(())
}

#[test]
fn an_address_that_the_labels_ask_for_is_fixed_also_where_nothing_claimed_it() -> Result<()> {
    let text = "format = 1\n[ipv6]\nsubnet = \"fd00:9::/64\"\n";
    let network = NetworkFile::parse(text).map_err(Fault::failed)?.network(&"hybrid".parse()?)?;
    let at = |leases: &[Lease], residents: &[Resident], exists: &Resident| {
        let exists = HashSet::from([exists.id.clone()]);
        take(&network, leases, residents, &exists, &BootId("now".into()), 100)
    };
    let mut web = resident(7, "fd00:9::30")?;
    for (asked, fixed) in [(None, false), (Some("fd00:9::31"), false), (Some("fd00:9::30"), true)] {
        web.asked = asked.and_then(|a| a.parse().ok());
        let seen = at(&[], std::slice::from_ref(&web), &web).put;
        assert_eq!(seen.iter().map(|l| l.fixed).collect::<Vec<_>>(), [fixed], "{asked:?}");
        // It waits for a container that is stopped.
        assert_eq!(at(&seen, &[], &web).take.is_empty(), fixed, "{asked:?}");
    }
    Ok(())
}

/// As it stands when Docker has asked for a container's address and not said for whom.
fn asked_for(resident: &Resident) -> Result<Vec<Lease>> {
    let mut leases = census(&[], std::slice::from_ref(resident), &[])?.put;
    for lease in &mut leases {
        let id = OwnerId::of_endpoint(resident.mac);
        lease.owner = Some(Owner { id, origin: Origin::Container, name: None });
        (lease.hostname, lease.running, lease.fixed) = (None, false, true);
    }
    Ok(leases)
}

#[test]
fn a_container_takes_over_what_docker_asked_for_it_and_waits_until_it_is_seen() -> Result<()> {
    let web = resident(7, "10.0.1.40")?;
    let asked = asked_for(&web)?;
    assert!(census(&asked, &[], &[&web])?.is_settled());
    let seen = census(&asked, std::slice::from_ref(&web), &[&web])?;
    let lease = seen.put.first().ok_or(Fault::failed("nothing to write"))?;
    assert!(lease.is_owned_by(&web.id) && lease.fixed && lease.running && seen.take.is_empty());
    assert_eq!(lease.generation, asked.first().map_or(0, |l| l.generation));
    Ok(())
}

#[test]
fn one_that_never_came_is_struck_out_after_a_while_or_a_reboot() -> Result<()> {
    let web = resident(7, "10.0.1.70")?;
    let asked = asked_for(&web)?;
    let at = |boot: &str, now| -> Result<Census> {
        Ok(take(&network("hybrid")?, &asked, &[], &HashSet::new(), &BootId(boot.into()), now))
    };
    assert!(at("now", 399)?.is_settled());
    assert_eq!(at("now", 400)?.take, [web.address]);
    assert_eq!(at("later", 100)?.take, [web.address]);
    Ok(())
}

#[test]
fn what_docker_said_before_the_address_went_to_another_is_passed_over() -> Result<()> {
    let (before, after) = (resident(7, "10.0.1.70")?, resident(8, "10.0.1.70")?);
    let asked = asked_for(&after)?;
    assert!(census(&asked, std::slice::from_ref(&before), &[&before])?.is_settled());
    Ok(())
}

#[test]
fn an_address_that_a_vm_holds_is_a_clash_and_stays_the_vms() -> Result<()> {
    let web = resident(7, "10.0.1.200")?;
    let mut vm = census(&[], std::slice::from_ref(&web), &[&web])?.put;
    for lease in &mut vm {
        lease.owner = Some(Owner {
            id: "c7a5fdbd-edaf-9455-926a-d65c16db1809".parse()?,
            origin: Origin::Domain,
            name: Some("db".into()),
        });
    }
    let got = census(&vm, std::slice::from_ref(&web), &[&web])?;
    assert!(got.is_settled() && got.clashes.len() == 1);
    vm.iter_mut().for_each(|l| l.state = LeaseState::Idle);
    assert_eq!(census(&vm, std::slice::from_ref(&web), &[&web])?.put.len(), 1);
    Ok(())
}

#[test]
fn what_was_given_back_a_moment_ago_is_not_taken_up_by_an_older_list() -> Result<()> {
    let web = resident(7, "10.0.1.70")?;
    let mut back = census(&[], std::slice::from_ref(&web), &[&web])?.put;
    back.iter_mut().for_each(|l| (l.state, l.boot, l.running) = (LeaseState::Idle, None, false));
    let at = |ipam: &str, now, residents: &[Resident]| -> Result<Census> {
        let exists = HashSet::from([web.id.clone()]);
        Ok(take(&network(ipam)?, &back, residents, &exists, &BootId("now".into()), now))
    };
    let listed = std::slice::from_ref(&web);
    assert!(at("hybrid", 129, listed)?.is_settled() && at("hybrid", 129, &[])?.is_settled());
    assert_eq!(at("hybrid", 130, &[])?.take, [web.address]);
    let removed = take(&network("hybrid")?, &back, &[], &HashSet::new(), &BootId("now".into()), 101);
    assert_eq!(removed.take, [web.address]);
    // What goes on being listed does run.
    assert_eq!(at("hybrid", 130, listed)?.put.len(), 1);
    // Docker counts by itself: there is nothing newer than its word.
    assert_eq!(at("range", 100, listed)?.put.len(), 1);
    Ok(())
}
