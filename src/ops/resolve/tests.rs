use super::*;
use crate::model::network_file::NetworkFile;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const NOW: &str = "now";

fn network(name: &str, text: &str) -> Result<Network> {
    Ok(NetworkFile::parse(&format!("format = 1\n{text}"))?.network(&name.parse()?)?)
}

/// A VM's lease.
fn vm(address: &str, name: &str, runs: bool) -> Result<Lease> {
    let last = address.rsplit('.').next().unwrap_or_default();
    let mut lease: Lease = toml_edit::de::from_str(&format!(
        "address = \"{address}\"\nmac = \"52:54:00:00:00:01\"\nstate = \"active\"\nhostname = \"{name}\"\n\
         generation = 1\nsince = 0\nchanged = 0\n\
         [owner]\nid = \"c7a5fdbd-edaf-9455-926a-d65c16db1{last:0>3}\"\norigin = \"domain\"\nname = \"{name}\"\n"
    ))?;
    if !runs {
        lease.state = LeaseState::Idle;
    }
    lease.boot = Some(BootId(NOW.to_owned()));
    lease.running = runs;
    Ok(lease)
}

fn chosen(all: &[(Network, Vec<Lease>)], name: &str, who: &str) -> Result<String> {
    let wish = Wish { name: name.to_owned(), who: who.parse()?, network: None };
    let place = best(all, &wish, &BootId(NOW.to_owned()));
    Ok(all.get(place).map(|(n, _)| n.name.to_string()).unwrap_or_default())
}

#[test]
fn the_network_that_a_question_is_about() -> Result {
    let all = [
        (
            network("aa", "[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?,
            vec![
                vm("10.0.1.200", "db", false)?,
                vm("10.0.1.201", "old", false)?,
                vm("10.0.1.202", "here", true)?,
            ],
        ),
        (
            network("bb", "zone = \"dev.aa.internal\"\n[ipv4]\nsubnet = \"10.0.2.0/24\"\n")?,
            vec![vm("10.0.2.200", "db", true)?, vm("10.0.2.201", "there", true)?],
        ),
        (network("hybrid", "[ipv4]\nsubnet = \"10.0.3.0/24\"\n")?, Vec::new()),
    ];
    for (name, who, network) in [
        // Who has the name now comes before who would if he ran.
        ("db", "host", "bb"),
        ("old", "host", "aa"),
        ("nobody", "host", "hybrid"),
        // What a guest asks is asked where it is.
        ("db", "vm:here", "aa"),
        ("db", "vm:there", "bb"),
        ("old", "vm:there", "bb"),
        ("outside.example", "vm:there", "bb"),
        // One that is off is nowhere.
        ("db", "vm:old", "bb"),
        // A zone or a subnet says it all, and the nearest zone.
        ("db.aa.internal", "host", "aa"),
        ("db.dev.aa.internal", "host", "bb"),
        ("10.0.1.7", "vm:there", "aa"),
    ] {
        assert_eq!(chosen(&all, name, who)?, network, "{name}, asked by {who}");
    }
    Ok(())
}

#[test]
fn a_containers_host_name_makes_no_vm_of_it() -> Result {
    let mut lease = vm("10.0.1.200", "db", true)?;
    let (by_vm, by_container): (Who, Who) = ("vm:db".parse()?, "container:db".parse()?);
    assert_eq!((by_vm.is(&lease), by_container.is(&lease)), (true, false));
    lease.owner.iter_mut().for_each(|o| o.name = None);
    assert!(by_vm.is(&lease), "by its host name");
    lease.owner.iter_mut().for_each(|o| (o.origin, o.name) = (Origin::Container, Some("web".to_owned())));
    assert!(!by_vm.is(&lease));
    Ok(())
}

#[test]
fn why_no_guest_can_have_a_name() -> Result {
    let network = network("hybrid", "[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?;
    let my_app = "\"my_app\" is no name in DNS; a guest called so has the name my-app";
    for (typed, why) in [
        ("my_app", my_app),
        ("My_App.", my_app),
        ("my_app.hybrid.internal", my_app),
        ("__", "\"__\" is no name in DNS; a guest called so has none"),
        ("a.b.hybrid.internal", "the zone hybrid.internal has no names of more than one label"),
        ("hybrid.internal", "the zone hybrid.internal itself has no address"),
    ] {
        let target = Target::of(&network, typed)?;
        assert_eq!(target.label(&network), None, "{typed}");
        let Target::InZone(name) = target else { return Err(format!("{typed} is elsewhere").into()) };
        assert_eq!(no_name(&name, &network), why, "{typed}");
    }
    assert_eq!(Target::of(&network, "my_app.example")?, Target::Elsewhere("my_app.example".to_owned()));
    Ok(())
}

#[test]
fn no_such_name_outside_is_an_answer_and_a_refusal_is_none() -> Result {
    let records = |all: &[&str]| Answer::Records(all.iter().map(ToString::to_string).collect());
    let refused = || Answer::Error("REFUSED".to_owned());
    let name = Target::Elsewhere("nosuch.example".to_owned());
    let none = "the host's own resolvers know no such name";
    for (answers, works, nobody) in [
        (vec![Answer::NoSuchName, Answer::NoSuchName], true, Some(none)),
        (
            vec![records(&[]), records(&[])],
            true,
            Some("the name is there, but no address of it comes from the host's own resolvers"),
        ),
        (vec![records(&["192.0.2.77"]), records(&[])], true, None),
        (vec![records(&["192.0.2.77"]), refused()], true, None),
        (vec![Answer::NoSuchName, refused()], false, None),
        (vec![], false, None),
    ] {
        let right = !answers.is_empty() && is_right(Source::Upstream, &answers);
        assert_eq!(right, works, "{answers:?}");
        let hop = Hop { what: String::new(), works: Some(right), detail: words(&name, &answers) };
        let heard = Heard { answers, hops: vec![hop] };
        assert_eq!(heard.nobody_outside(Source::Upstream, &name).as_deref(), nobody, "{:?}", heard.hops);
        assert_eq!(heard.nobody_outside(Source::Registry, &name), None);
    }
    // A guest's name has to be there; nobody is asked on an adopted bridge without an address.
    assert!(!is_right(Source::Registry, &[Answer::NoSuchName]));
    let unheard = Heard { answers: Vec::new(), hops: Vec::new() };
    assert_eq!(unheard.nobody_outside(Source::Upstream, &name), None);
    let address = Target::Address("192.0.2.1".parse()?);
    let works = Hop { what: String::new(), works: Some(true), detail: String::new() };
    let heard = Heard { answers: vec![Answer::NoSuchName], hops: vec![works] };
    let why = heard.nobody_outside(Source::Upstream, &address);
    assert_eq!(why.as_deref(), Some("the host's own resolvers know no name of it"));
    Ok(())
}

#[test]
fn a_vm_asks_the_resolver_of_the_network_that_it_runs_on() -> Result {
    let hybrid = network("hybrid", "[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?;
    let lab = network("lab", "[ipv4]\nsubnet = \"10.0.2.0/24\"\n")?;
    let boot = BootId(NOW.to_owned());
    let mut there = [vm("10.0.2.200", "db", true)?, vm("10.0.2.201", "both", true)?];
    there.iter_mut().for_each(|l| l.sole_nic = true);
    let here = [
        vm("10.0.1.201", "both", true)?,
        vm("10.0.1.202", "off", false)?,
        // What is left of it here from another time.
        vm("10.0.1.200", "db", false)?,
    ];
    let on = |who: &str| -> Result<Option<(String, Hop)>> {
        let all = [(&hybrid, here.as_slice()), (&lab, there.as_slice())].into_iter();
        let found = way::nearest(all, &who.parse()?, &boot);
        Ok(found.map(|(n, l)| (n.name.to_string(), way::by_dhcp(n, l, &boot))))
    };
    for (who, network, works, detail) in [
        ("vm:db", "lab", Some(true), "DHCP names the resolver of network lab, and lab.internal to search"),
        ("vm:both", "hybrid", None, "it has another NIC"),
        ("vm:off", "hybrid", Some(false), "it does not run"),
    ] {
        let (name, hop) = on(who)?.ok_or("nobody")?;
        assert_eq!((name.as_str(), hop.works), (network, works), "{who}");
        assert!(hop.detail.starts_with(detail), "{}", hop.detail);
    }
    assert_eq!(on("vm:nobody")?, None);
    Ok(())
}
