//! systemd-resolved: settings of the bridge's link (resolvectl(1), org.freedesktop.resolve1(5)). It keeps
//! them over a restart of its own, and forgets them with the link.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::ResolvConf;
use crate::deadline::Deadline;
use crate::host::process::{run, run_ok};
use crate::host::{Change, bridge, systemd};
use crate::model::{Fault, InterfaceName, Network, Result};

/// A new link is known to it a moment after the kernel made it.
const HEARS: Duration = Duration::from_secs(2);

/// What systemd-resolved is told about a link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// The interface's index; 0 while there is none.
    pub index: u32,
    /// Whether the interface has a carrier: without one nobody is asked there.
    pub carrier: bool,
    /// Who is asked.
    pub servers: Vec<IpAddr>,
    /// What is asked there: `true` for a domain that is no search domain.
    pub domains: Vec<(String, bool)>,
    /// Whether everything else may be asked there too.
    pub default_route: bool,
    /// Whether names are asked of everybody on the link: `LLMNR` and multicast DNS.
    pub everybody: [String; 2],
}

/// Whether it runs.
pub(super) fn runs(deadline: Deadline) -> bool {
    systemd::available() && systemd::is_active("systemd-resolved.service", deadline).unwrap_or(false)
}

/// Whether a resolv.conf names its stub and nobody else (systemd-resolved.service(8)).
pub(super) fn is_stub(conf: &ResolvConf) -> bool {
    let stub = |a: &IpAddr| matches!(a, IpAddr::V4(a) if matches!(a.octets(), [127, 0, 0, 53 | 54]));
    !conf.servers.is_empty() && conf.servers.iter().all(stub)
}

/// What it is told now.
pub(super) fn read(network: &Network, deadline: Deadline) -> Result<Link> {
    let seen = bridge::talk(deadline, async |netlink| netlink.device(network.bridge.as_str()).await)?;
    let Some(device) = seen else { return Ok(Link::default()) };
    let mut link = Link { index: device.index, carrier: device.carrier, ..Link::default() };
    let path = format!("/org/freedesktop/resolve1/link/{}", escaped(device.index));
    let output = run(
        "busctl",
        &[
            "--json=short",
            "get-property",
            "org.freedesktop.resolve1",
            &path,
            "org.freedesktop.resolve1.Link",
            "DNS",
            "Domains",
            "DefaultRoute",
            "LLMNR",
            "MulticastDNS",
        ],
        b"",
        deadline,
    )?;
    // A link that it has not heard of yet is told nothing.
    if output.success() {
        fill(&mut link, &String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
            Fault::failed(format!("systemd-resolved tells of {} what can't be read", network.bridge))
        })?;
    }
    Ok(link)
}

/// A number as part of a D-Bus path (sd_bus_path_encode(3)): a digit can't be the first character.
fn escaped(index: u32) -> String {
    let digits = index.to_string();
    let (first, rest) = digits.split_at(1);
    format!("_3{first}{rest}")
}

#[derive(Deserialize)]
struct Property<T> {
    data: T,
}

fn fill(link: &mut Link, output: &str) -> Option<()> {
    let mut lines = output.lines();
    let servers: Property<Vec<(i32, Vec<u8>)>> = serde_json::from_str(lines.next()?).ok()?;
    let domains: Property<Vec<(String, bool)>> = serde_json::from_str(lines.next()?).ok()?;
    let default_route: Property<bool> = serde_json::from_str(lines.next()?).ok()?;
    let llmnr: Property<String> = serde_json::from_str(lines.next()?).ok()?;
    let mdns: Property<String> = serde_json::from_str(lines.next()?).ok()?;
    link.servers = servers.data.iter().filter_map(|(_, bytes)| address(bytes)).collect();
    link.domains = domains.data;
    link.default_route = default_route.data;
    link.everybody = [llmnr.data, mdns.data];
    Some(())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
    four.or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
}

/// What it should be told, where `is` is how things are.
///
/// - Our resolver only while the bridge has a carrier: without one systemd-resolved would list it for
///   everything in `/run/systemd/resolve/resolv.conf`, which Docker gives to containers elsewhere.
/// - The zone as a search domain also without a carrier: Docker copies it into the first container before
///   that is on the bridge.
/// - On our own bridge nobody but us is asked: no guest can answer for another.
/// - The settings of an adopted bridge that somebody else made stay.
pub(super) fn wanted(network: &Network, is: &Link) -> Link {
    let ours: Vec<IpAddr> = network.resolvers().collect();
    let zone = network.zone.to_string();
    let foreign =
        is.servers.iter().any(|s| !ours.contains(s)) || is.domains.iter().any(|(domain, _)| *domain != zone);
    if is.index == 0 || ours.is_empty() || (network.adopt && foreign) {
        return is.clone();
    }
    let mut domains = vec![(zone, false)];
    domains.extend(network.reverse_zones().into_iter().map(|zone| (zone, true)));
    let quiet = ["no".to_owned(), "no".to_owned()];
    Link {
        servers: if is.carrier { ours } else { Vec::new() },
        domains,
        default_route: false,
        everybody: if network.adopt { is.everybody.clone() } else { quiet },
        ..*is
    }
}

/// Tells it what it should be told.
pub(super) fn ensure(network: &Network, deadline: Deadline) -> Result<Change> {
    let is = read(network, deadline)?;
    let wanted = wanted(network, &is);
    if is == wanted {
        return Ok(Change::None);
    }
    for call in calls(&network.bridge, &is, &wanted) {
        tell(&call, deadline)?;
    }
    Ok(Change::Made)
}

/// The calls that make a link from what it is to what it should be. Who is asked comes last, when it is
/// known for what.
fn calls(bridge: &InterfaceName, is: &Link, wanted: &Link) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    let mut call = |verb: &str, words: Vec<String>| {
        // An empty word takes away what is there.
        let words = if words.is_empty() { vec![String::new()] } else { words };
        calls.push([verb.to_owned(), bridge.to_string()].into_iter().chain(words).collect());
    };
    for ((verb, is), wanted) in ["llmnr", "mdns"].iter().zip(&is.everybody).zip(&wanted.everybody) {
        if is != wanted {
            call(verb, vec![wanted.clone()]);
        }
    }
    let fresh = is.domains != wanted.domains || is.default_route != wanted.default_route;
    if fresh {
        call("default-route", vec![if wanted.default_route { "yes" } else { "no" }.to_owned()]);
        let word = |(domain, route): &(String, bool)| format!("{}{domain}", if *route { "~" } else { "" });
        call("domain", wanted.domains.iter().map(word).collect());
    }
    if fresh || is.servers != wanted.servers {
        call("dns", wanted.servers.iter().map(ToString::to_string).collect());
    }
    calls
}

fn tell(call: &[String], deadline: Deadline) -> Result<()> {
    let hears = deadline.at_most(HEARS);
    loop {
        match run_ok("resolvectl", call, b"", deadline) {
            Err(_) if !hears.passed() => std::thread::sleep(Duration::from_millis(50)),
            done => return done.map(drop),
        }
    }
}

/// Makes it forget. A link that goes takes its settings along.
pub(super) fn revert(network: &Network, deadline: Deadline) -> Result<Change> {
    let is = read(network, deadline)?;
    let zone = network.zone.to_string();
    if is.index == 0 || !is.domains.iter().any(|(domain, _)| *domain == zone) {
        return Ok(Change::None);
    }
    run_ok("resolvectl", &["revert", network.bridge.as_str()], b"", deadline)?;
    Ok(Change::Made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network_file::NetworkFile;

    type TestResult = std::result::Result<(), Box<dyn std::error::Error>>;

    fn network(more: &str) -> std::result::Result<Network, Box<dyn std::error::Error>> {
        let text = format!("format = 1\n{more}\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n");
        Ok(NetworkFile::parse(&text)?.network(&"hybrid".parse()?)?)
    }

    fn shown(network: &Network, is: &Link) -> Vec<String> {
        calls(&network.bridge, is, &wanted(network, is)).iter().map(|c| c.join(" ")).collect()
    }

    #[test]
    fn a_link_is_told_of_our_resolver_while_it_has_a_carrier() -> TestResult {
        let network = network("")?;
        let mut link = Link { index: 12, everybody: ["yes".into(), "no".into()], ..Link::default() };
        let domain = "domain hybr0 hybrid.internal ~1.0.10.in-addr.arpa";
        assert_eq!(
            shown(&network, &link),
            ["llmnr hybr0 no", "default-route hybr0 no", domain, "dns hybr0 "]
        );
        link.carrier = true;
        assert_eq!(shown(&network, &link).last().map(String::as_str), Some("dns hybr0 10.0.1.1"));
        link = wanted(&network, &link);
        assert!(shown(&network, &link).is_empty());
        link.carrier = false;
        assert_eq!(shown(&network, &link), ["dns hybr0 "]);
        Ok(())
    }

    #[test]
    fn an_adopted_link_with_a_resolver_of_its_own_is_left_alone() -> TestResult {
        let mut network = network("adopt = true")?;
        if let Some(family) = &mut network.ipv4 {
            family.address = Some(family.gateway);
        }
        let link = Link { index: 3, carrier: true, ..Link::default() };
        assert_eq!(shown(&network, &link).len(), 3);
        let theirs = Link { servers: vec![IpAddr::from([192, 0, 2, 1])], ..link };
        assert!(shown(&network, &theirs).is_empty());
        Ok(())
    }

    #[test]
    fn what_busctl_prints_is_read() {
        let mut link = Link::default();
        let printed = "{\"type\":\"a(iay)\",\"data\":[[2,[10,0,1,1]],[10,[253,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1]]]}\n\
             {\"type\":\"a(sb)\",\"data\":[[\"hybrid.internal\",false],[\"1.0.10.in-addr.arpa\",true]]}\n\
             {\"type\":\"b\",\"data\":false}\n{\"type\":\"s\",\"data\":\"yes\"}\n{\"type\":\"s\",\"data\":\"no\"}\n";
        assert!(fill(&mut link, printed).is_some());
        assert_eq!(link.servers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.1.1", "fd00::1"]);
        assert_eq!(link.domains.len(), 2);
        assert!(fill(&mut Link::default(), "{\"type\":\"b\",\"data\":false}\n").is_none());
        assert_eq!((escaped(4), escaped(12)), ("_34".to_owned(), "_312".to_owned()));
    }
}
