//! What must be decided, case by case.

use super::*;
use crate::model::network_file::NetworkFile;
use crate::model::{Fault, Owner, Result};

fn network() -> Result<Network> {
    let file = NetworkFile::parse("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n").map_err(Fault::failed)?;
    Ok(file.network(&"hybrid".parse()?)?)
}

fn boot(text: &str) -> BootId {
    BootId(text.to_owned())
}

fn container(n: u8, name: &str, labels: &[(&str, &str)]) -> Result<ContainerView> {
    Ok(ContainerView {
        id: format!("{n:02x}").repeat(32).parse()?,
        name: name.to_owned(),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        running: true,
        connectable: true,
        on: BTreeMap::new(),
    })
}

fn on(mut container: ContainerView, endpoint: &str, ours: bool) -> ContainerView {
    let place = On { endpoint_id: Some(endpoint.to_owned()), ours };
    container.on.insert("hybrid-net".to_owned(), place);
    container
}

fn lease(address: &str, selector: Option<&str>) -> Result<Lease> {
    Ok(Lease {
        address: address.parse().map_err(|_| Fault::failed("address"))?,
        mac: Some("52:54:00:00:00:01".parse()?),
        owner: Some(Owner {
            id: "c7a5fdbd-edaf-9455-926a-d65c16db1809".parse()?,
            origin: Origin::Domain,
            name: Some("db".into()),
        }),
        state: LeaseState::Active,
        boot: Some(boot("now")),
        fixed: false,
        reserved: false,
        reserved_for: None,
        generation: 1,
        since: 0,
        changed: 0,
        unprobed: false,
        hostname: None,
        aliases: Vec::new(),
        groups: Vec::new(),
        containers: selector.map(str::parse).transpose()?,
        running: true,
        sole_nic: false,
        tap: None,
        handover: None,
        address6: None,
    })
}

/// The steps in short: `+name ip`, `-name endpoint`.
fn short(plan: &AttachPlan) -> Vec<String> {
    let step = |s: &AttachStep| match s {
        AttachStep::Connect { name, request, .. } => {
            format!("+{name} {}", request.ip.map_or("-".to_owned(), |i| i.to_string()))
        }
        AttachStep::Disconnect { name, endpoint_id, .. } => format!("-{name} {endpoint_id}"),
    };
    plan.steps.iter().map(step).collect()
}

fn plan(leases: &[Lease], containers: &[ContainerView]) -> Result<AttachPlan> {
    Ok(plan_attachments(&network()?, leases, containers, &boot("now")))
}

#[test]
fn a_label_or_a_running_vms_selector_connects() -> Result<()> {
    let all = [
        container(1, "web", &[(NETWORK_LABEL, "hybrid")])?,
        container(2, "shop", &[("app", "shop")])?,
        container(3, "other", &[(NETWORK_LABEL, "lab")])?,
        container(4, "alone", &[])?,
    ];
    let got = plan(&[lease("10.0.1.200", Some("label=app=shop"))?], &all)?;
    assert_eq!(short(&got), ["+web -", "+shop -"]);
    assert_eq!(got.notes, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_vm_that_does_not_run_in_this_boot_selects_nothing() -> Result<()> {
    let all = [container(2, "shop", &[])?];
    let running = lease("10.0.1.200", Some("name=shop"))?;
    let stopped = Lease { running: false, ..running.clone() };
    let idle = Lease { state: LeaseState::Idle, ..running.clone() };
    let before = Lease { boot: Some(boot("before")), ..running.clone() };
    assert_eq!(short(&plan(&[running], &all)?).len(), 1);
    for lease in [stopped, idle, before] {
        assert_eq!(short(&plan(&[lease], &all)?), Vec::<String>::new());
    }
    Ok(())
}

#[test]
fn what_we_connected_is_let_go_and_what_others_connected_never() -> Result<()> {
    let marked = on(container(1, "marked", &[])?, "e1", true);
    let by_hand = on(container(3, "hand", &[])?, "e3", false);
    assert_eq!(short(&plan(&[], &[marked, by_hand])?), ["-marked e1"]);
    Ok(())
}

#[test]
fn what_is_on_it_and_wanted_stays_untouched() -> Result<()> {
    let labels = &[(NETWORK_LABEL, "hybrid")];
    let all = [on(container(1, "a", labels)?, "e1", true), on(container(2, "b", labels)?, "e2", false)];
    assert_eq!(plan(&[], &all)?, AttachPlan::default());
    Ok(())
}

#[test]
fn stopped_containers_are_not_touched() -> Result<()> {
    let mut stopped = on(container(1, "a", &[(NETWORK_LABEL, "hybrid")])?, "", true);
    stopped.running = false;
    stopped.on.values_mut().for_each(|o| o.endpoint_id = None);
    assert_eq!(plan(&[], &[stopped])?, AttachPlan::default());
    Ok(())
}

#[test]
fn bad_labels_are_noted_and_the_container_still_connects() -> Result<()> {
    for (ip, why) in [
        ("10.0.1.999", "not an address"),
        ("$(reboot)", "not an address"),
        ("10.0.2.5", "outside the subnet"),
        ("10.0.1.1", "gateway"),
        ("10.0.1.255", "broadcast"),
        ("fd00::1", "family"),
    ] {
        let all = [container(1, "web\n", &[(NETWORK_LABEL, "hybrid"), (IP_LABEL, ip)])?];
        let got = plan(&[], &all)?;
        assert_eq!(short(&got), ["+web\n -"], "{ip}");
        assert_eq!(got.notes.len(), 1, "{ip}");
        assert!(got.notes.iter().all(|n| n.contains(why) && !n.contains('\n')), "{:?}", got.notes);
    }
    let odd = [container(1, "web", &[(NETWORK_LABEL, "../x")])?];
    let got = plan(&[], &odd)?;
    assert_eq!((short(&got).len(), got.notes.len()), (0, 1));
    Ok(())
}

#[test]
fn an_address_that_another_holds_is_not_connected() -> Result<()> {
    let all = [container(1, "web", &[(NETWORK_LABEL, "hybrid"), (IP_LABEL, "10.0.1.200")])?];
    let held = lease("10.0.1.200", None)?;
    let got = plan(std::slice::from_ref(&held), &all)?;
    assert_eq!(short(&got), Vec::<String>::new());
    assert!(got.notes.iter().any(|n| n.contains("held by vm \"db\"")), "{:?}", got.notes);
    let idle = Lease { state: LeaseState::Idle, ..held };
    assert_eq!(short(&plan(&[idle], &all)?), ["+web 10.0.1.200"]);
    Ok(())
}

#[test]
fn an_address_that_docker_would_refuse_is_not_asked_of_it() -> Result<()> {
    let asks = |ip: &str| container(1, "web", &[(NETWORK_LABEL, "hybrid"), (IP_LABEL, ip)]);
    let network_of = |text: &str| -> Result<Network> {
        let file = NetworkFile::parse(text).map_err(Fault::failed)?;
        Ok(file.network(&"hybrid".parse()?)?)
    };
    // Docker is told 10.0.1.0/26 and what to leave out of it.
    let odd = "format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\ncontainer_pool = \"10.0.1.10-10.0.1.50\"\n";
    for (ip, connected) in [("10.0.1.5", 0), ("10.0.1.51", 0), ("10.0.1.10", 1), ("10.0.1.64", 1)] {
        let got = plan_attachments(&network_of(odd)?, &[], &[asks(ip)?], &boot("now"));
        assert_eq!((got.steps.len(), got.notes.len()), (connected, 1 - connected), "{ip}: {:?}", got.notes);
    }
    // Whom the registry refuses where Docker asks it.
    let idle = Lease { state: LeaseState::Idle, ..lease("10.0.1.200", None)? };
    let reserved = Lease { state: LeaseState::Reserved, owner: None, reserved: true, ..idle.clone() };
    let web = asks("10.0.1.200")?;
    let own = Owner { id: web.id.clone(), origin: Origin::Container, name: None };
    let own_idle = Lease { owner: Some(own), fixed: true, ..idle.clone() };
    let own_reserved = Lease { reserved: true, ..own_idle.clone() };
    let hybrid = network_of("format = 1\nipam = \"hybrid\"\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?;
    for (lease, connected) in [(&idle, 0), (&reserved, 0), (&own_reserved, 0), (&own_idle, 1)] {
        let got =
            plan_attachments(&hybrid, std::slice::from_ref(lease), std::slice::from_ref(&web), &boot("now"));
        assert_eq!(
            (got.steps.len(), got.notes.len()),
            (connected, 1 - connected),
            "{lease:?}: {:?}",
            got.notes
        );
    }
    Ok(())
}

#[test]
fn a_container_gets_its_own_address_again() -> Result<()> {
    let web = container(1, "web", &[(NETWORK_LABEL, "hybrid")])?;
    let mut own = lease("10.0.1.77", None)?;
    own.owner = Some(Owner { id: web.id.clone(), origin: Origin::Container, name: None });
    assert_eq!(short(&plan(&[own], &[web])?), ["+web 10.0.1.77"]);
    Ok(())
}

#[test]
fn a_container_in_the_hosts_namespace_is_noted() -> Result<()> {
    let mut host = container(1, "web", &[(NETWORK_LABEL, "hybrid")])?;
    host.connectable = false;
    let got = plan(&[], &[host])?;
    assert_eq!((got.steps.len(), got.notes.len()), (0, 1));
    Ok(())
}

#[test]
fn labels_become_names_by_the_one_rule() -> Result<()> {
    let labels = [(HOSTNAME_LABEL, "My_DB"), (ALIASES_LABEL, "pg, PG  main,,--"), (GROUPS_LABEL, "backend")];
    let (request, notes) = read_labels(&network()?, &container(1, "shop_db_1", &labels)?);
    let text = |l: &[DnsLabel]| l.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(request.hostname.map(String::from).as_deref(), Some("my-db"));
    assert_eq!((text(&request.aliases), text(&request.groups)), ("pg main".into(), "backend".into()));
    assert_eq!(notes.len(), 1, "{notes:?}");
    let (request, _) = read_labels(&network()?, &container(1, "shop_db_1", &[])?);
    assert_eq!(request.hostname.map(String::from).as_deref(), Some("shop-db-1"));
    Ok(())
}

#[test]
fn compose_run_does_not_answer_for_the_service() -> Result<()> {
    for (one_off, aliases) in [("False", 1), ("True", 0)] {
        let labels = [(SERVICE_LABEL, "web"), (ONE_OFF_LABEL, one_off)];
        let (request, _) = read_labels(&network()?, &container(1, "shop-web-run-1", &labels)?);
        assert_eq!(request.aliases.len(), aliases, "{one_off}");
    }
    Ok(())
}

#[test]
fn names_for_another_network_are_not_taken_here() -> Result<()> {
    let labels =
        [(NETWORK_LABEL, "lab"), (HOSTNAME_LABEL, "db"), (ALIASES_LABEL, "pg"), (GROUPS_LABEL, "backend")];
    let (request, _) = read_labels(&network()?, &container(1, "web", &labels)?);
    assert_eq!(request.hostname.map(String::from).as_deref(), Some("web"));
    assert!(request.aliases.is_empty() && request.groups.is_empty());
    Ok(())
}

#[test]
fn an_address_for_another_network_is_not_taken_here() -> Result<()> {
    let all = [container(1, "web", &[(NETWORK_LABEL, "lab"), (IP_LABEL, "10.0.1.50")])?];
    let got = plan(&[lease("10.0.1.200", Some("name=web"))?], &all)?;
    assert_eq!(short(&got), ["+web -"]);
    Ok(())
}
