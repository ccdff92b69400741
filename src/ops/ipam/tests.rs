//! What Docker asks, against a registry on disk.

use std::time::Duration;

use super::*;
use crate::model::{BootId, DnsLabel};
use crate::places::Places;

struct Host {
    _folder: tempfile::TempDir,
    context: Context,
}

const BOTH: &str =
    "format = 1\nipam = \"hybrid\"\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n[ipv6]\nsubnet = \"fd00:1::/64\"\n";

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

fn host(file: &str) -> Result<Host> {
    let folder = tempfile::tempdir().map_err(|e| Fault::failed("no folder").because(e))?;
    let at = |name: &str| folder.path().join(name);
    let places = Places { config: at("etc"), state: at("var"), run: at("run") };
    std::fs::create_dir_all(places.networks())
        .and_then(|()| std::fs::write(places.networks().join("hybrid.toml"), file))
        .map_err(|e| Fault::failed("no file").because(e))?;
    Ok(Host { context: Context { places, boot: BootId("now".into()) }, _folder: folder })
}

impl Host {
    fn pool(&self, ipv6: bool) -> Result<Pool> {
        pool(&self.context, &"hybrid".parse()?, None, ipv6)
    }
    fn ask(&self, n: u8, wanted: Option<&str>, ipv6: bool) -> Result<String> {
        let wanted = wanted.map(|a| a.parse().map_err(|_| Fault::failed("address"))).transpose()?;
        request(&self.context, &self.pool(ipv6)?, mac(n)?, wanted, soon()).map(|a| a.to_string())
    }
    fn give_back(&self, address: &str) -> Result<()> {
        let address = address.parse().map_err(|_| Fault::failed("address"))?;
        release(&self.context, &self.pool(false)?, address, soon())
    }
    fn leases(&self) -> Result<Vec<Lease>> {
        Registry::of(&self.context.places, &"hybrid".parse()?).read()
    }
    /// As the census does it.
    fn seen(&self, address: &str) -> Result<()> {
        Registry::of(&self.context.places, &"hybrid".parse()?).change(soon(), |_, leases| {
            for mut lease in leases.all()?.into_iter().filter(|l| l.address.to_string() == address) {
                let id = "ab".repeat(32).parse()?;
                lease.owner = Some(Owner { id, origin: Origin::Container, name: Some("web".into()) });
                lease.hostname = DnsLabel::from_any("web");
                leases.put(lease)?;
            }
            Ok(())
        })
    }
    fn vm(&self, n: u8, ip: Option<&str>) -> Result<String> {
        let owner =
            Owner { id: format!("{n:032x}").parse()?, origin: Origin::Domain, name: Some("db".into()) };
        let ip = ip.map(|a| a.parse().map_err(|_| Fault::failed("address"))).transpose()?;
        let mac = format!("52:54:00:00:00:{n:02x}").parse()?;
        let wish = ClaimRequest { ip, ..ClaimRequest::of(owner, mac) };
        let granted = claim::claim(&self.context, &"hybrid".parse()?, wish, soon())?;
        Ok(granted.lease.address.to_string())
    }
}

fn mac(n: u8) -> Result<MacAddress> {
    Ok(format!("02:42:00:00:00:{n:02x}").parse()?)
}

fn words<T>(result: Result<T>) -> String {
    result.err().map(|f| f.to_string()).unwrap_or_default()
}

#[test]
fn a_pool_is_one_of_the_networks_subnets() -> Result<()> {
    let host = host(BOTH)?;
    assert_eq!(host.pool(false)?.subnet.to_string(), "10.0.1.0/24");
    assert_eq!(host.pool(true)?.subnet.to_string(), "fd00:1::/64");
    let named = |name: &str, subnet: &str| -> Result<Pool> {
        let subnet = subnet.parse().map_err(|_| Fault::failed("subnet"))?;
        pool(&host.context, &name.parse()?, Some(subnet), false)
    };
    assert!(named("hybrid", "10.0.1.0/24").is_ok());
    assert!(words(named("hybrid", "10.0.1.0/25")).contains("not 10.0.1.0/25"));
    assert_eq!(named("other", "10.0.1.0/24").err().map(|f| f.kind()), Some(Kind::Missing));
    let range = self::host(&BOTH.replace("hybrid", "range"))?;
    assert!(words(range.pool(false)).contains("leaves containers' addresses to Docker"));
    Ok(())
}

#[test]
fn the_gateway_is_told_and_leased_to_nobody() -> Result<()> {
    let host = host(BOTH)?;
    for wanted in [None, Some(IpAddr::from([10, 0, 1, 1]))] {
        assert_eq!(gateway(&host.context, &host.pool(false)?, wanted)?.to_string(), "10.0.1.1");
    }
    let other = gateway(&host.context, &host.pool(false)?, Some(IpAddr::from([10, 0, 1, 2])));
    assert!(words(other).contains("is 10.0.1.1, not 10.0.1.2"));
    assert!(words(host.ask(1, Some("10.0.1.1"), false)).contains("gateway"));
    assert!(host.leases()?.is_empty());
    host.give_back("10.0.1.1")
}

#[test]
fn what_was_given_back_goes_to_another_only_when_none_is_left() -> Result<()> {
    let host = host(BOTH)?;
    assert_eq!(host.ask(1, None, false)?, "10.0.1.64");
    assert_eq!(host.ask(1, None, false)?, "10.0.1.64");
    assert_eq!(host.ask(2, Some("10.0.1.7"), false)?, "10.0.1.7");
    let leases = host.leases()?;
    assert!(leases.len() == 2 && leases.iter().all(Lease::is_provisional));
    host.give_back("10.0.1.64")?;
    host.give_back("10.0.1.7")?;
    host.give_back("10.0.1.7")?;
    assert!(host.leases()?.iter().all(|l| l.state == LeaseState::Idle && !l.fixed));
    for n in 65..=127 {
        assert_eq!(host.ask(n, None, false)?, format!("10.0.1.{n}"));
    }
    assert_eq!(host.ask(128, None, false)?, "10.0.1.64");
    assert!(words(host.ask(129, None, false)).contains("pool full"));
    // Asked for by name it is free.
    assert_eq!(host.vm(1, Some("10.0.1.7"))?, "10.0.1.7");
    Ok(())
}

#[test]
fn what_a_container_asked_for_waits_for_it_once_it_was_seen() -> Result<()> {
    let host = host(BOTH)?;
    host.ask(1, Some("10.0.1.7"), false)?;
    host.seen("10.0.1.7")?;
    host.ask(2, None, false)?;
    host.seen("10.0.1.64")?;
    host.give_back("10.0.1.7")?;
    host.give_back("10.0.1.64")?;
    let leases = host.leases()?;
    assert_eq!(
        leases.iter().filter(|l| l.fixed).map(|l| (l.address.to_string(), l.state)).collect::<Vec<_>>(),
        [("10.0.1.7".to_owned(), LeaseState::Idle)]
    );
    assert!(words(host.vm(9, Some("10.0.1.7"))).contains("is held by container \"web\" (idle)"));
    assert_eq!(host.ask(3, Some("10.0.1.7"), false)?, "10.0.1.7");
    Ok(())
}

#[test]
fn a_vms_lease_is_neither_given_nor_freed() -> Result<()> {
    let host = host(BOTH)?;
    assert_eq!(host.vm(1, Some("10.0.1.70"))?, "10.0.1.70");
    assert!(words(host.ask(1, Some("10.0.1.70"), false)).contains("is held by vm \"db\" (active)"));
    host.give_back("10.0.1.70")?;
    assert_eq!(host.leases()?.len(), 1);
    Ok(())
}

#[test]
fn the_second_family_follows_the_first() -> Result<()> {
    let host = host(BOTH)?;
    assert!(words(host.ask(1, None, true)).contains("no IPv4 address"));
    host.ask(1, None, false)?;
    assert_eq!(host.ask(1, None, true)?, "fd00:1::40");
    assert_eq!(host.ask(1, Some("fd00:1::40"), true)?, "fd00:1::40");
    assert!(words(host.ask(1, Some("fd00:1::41"), true)).contains("which is fd00:1::40"));
    let v6: IpAddr = "fd00:1::40".parse().map_err(|_| Fault::failed("address"))?;
    release(&host.context, &host.pool(true)?, v6, soon())?;
    assert_eq!(host.leases()?.len(), 1);
    Ok(())
}

#[test]
fn a_network_that_is_gone_has_nothing_to_free_and_no_folder_comes_back() -> Result<()> {
    let host = host(BOTH)?;
    let pool = host.pool(false)?;
    std::fs::remove_file(host.context.places.network_file(&pool.network))
        .map_err(|e| Fault::failed("cannot remove").because(e))?;
    release(&host.context, &pool, IpAddr::from([10, 0, 1, 64]), soon())?;
    assert!(!host.context.places.network_state(&pool.network).exists());
    assert_eq!(
        request(&host.context, &pool, mac(1)?, None, soon()).err().map(|f| f.kind()),
        Some(Kind::Missing)
    );
    Ok(())
}

#[test]
fn many_at_once_get_an_address_each() -> Result<()> {
    let host = host(BOTH)?;
    let ask = |n: u8| if n.is_multiple_of(4) { host.vm(n, None) } else { host.ask(n, None, false) };
    let given = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=32).map(|n| scope.spawn(move || ask(n))).collect();
        threads
            .into_iter()
            .map(|t| t.join().map_err(|_| Fault::failed("thread"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    let unique: std::collections::BTreeSet<_> = given.iter().collect();
    assert_eq!((given.len(), unique.len(), host.leases()?.len()), (32, 32, 32));
    Ok(())
}
