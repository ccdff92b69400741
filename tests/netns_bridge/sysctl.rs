//! Sysctls, routes, and what they let through.

use std::error::Error;
use std::io::Write;

use hybrid_hook::host::bridge::Uplinks;
use hybrid_hook::host::{Change, bridge, sysctl};
use hybrid_hook::model::Kind;

use crate::support::{BOTH, Guest, Outcome, alone, delete, name, network, run, soon};

/// The settings that are never ours to touch.
fn globals() -> Result<Vec<String>, Box<dyn Error>> {
    let paths = [
        "ipv4/ip_forward",
        "ipv4/conf/all/forwarding",
        "ipv6/conf/all/forwarding",
        "ipv6/conf/up0/forwarding",
    ];
    paths.iter().map(|p| Ok(std::fs::read_to_string(format!("/proc/sys/net/{p}"))?)).collect()
}

#[test]
fn forwarding_of_the_bridge_and_the_uplink_is_enough() -> Outcome {
    alone("sysctl::forwarding_of_the_bridge_and_the_uplink_is_enough", || {
        let network = network(BOTH)?;
        let none = Uplinks::default();
        assert_eq!(sysctl::ensure(&network, &none, soon()).err().map(|f| f.kind()), Some(Kind::Missing));
        assert_eq!(bridge::uplinks(soon())?, none);
        bridge::ensure(&network, soon())?;
        let (guest, world) = (Guest::new()?, Guest::new()?);
        guest.wire("v0", "52:54:00:00:00:01")?;
        world.wire("up0", "52:54:00:00:00:02")?;
        bridge::enslave(&network.bridge, &name("v0")?, soon())?;
        for words in [
            "ip addr add 10.0.1.200/24 dev eth0",
            "ip -6 addr add fd00:1::c8/64 dev eth0 nodad",
            "ip route add default via 10.0.1.1",
            "ip -6 route add default via fd00:1::1",
        ] {
            guest.run(words)?;
        }
        for words in [
            "ip addr add 192.0.2.2/24 dev eth0",
            "ip -6 addr add 2001:db8::2/64 dev eth0 nodad",
            "ip route add 10.0.1.0/24 via 192.0.2.1",
            "ip -6 route add fd00:1::/64 via 2001:db8::1",
        ] {
            world.run(words)?;
        }
        for words in [
            "ip addr add 192.0.2.1/24 dev up0",
            "ip -6 addr add 2001:db8::1/64 dev up0 nodad",
            "ip route add default via 192.0.2.2",
            "ip -6 route add default via 2001:db8::2",
            "ip route add 10.77.0.0/16 via 192.0.2.2",
            "ip route add blackhole 10.78.0.0/16",
        ] {
            run(words)?;
        }
        let uplinks = bridge::uplinks(soon())?;
        assert_eq!(uplinks, Uplinks { all: vec![name("up0")?], advertised: Vec::new() });
        let taken: Vec<_> = bridge::taken(&network.bridge, soon())?.into_iter().map(|t| t.who).collect();
        for who in [
            "up0, which has the address 192.0.2.1/24",
            "the route to 10.77.0.0/16 by up0",
            "the route to 10.78.0.0/16, which refuses",
        ] {
            assert!(taken.iter().any(|t| t == who), "{taken:?}");
        }
        assert!(!taken.iter().any(|t| t.contains("10.0.1.") || t.contains("/0")), "{taken:?}");

        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0")?;
        let before = globals()?;
        assert!(!guest.reaches("192.0.2.2")? && !guest.reaches("2001:db8::2")?);
        let applied = sysctl::ensure(&network, &uplinks, soon())?;
        assert_eq!(applied.change, Change::Made);
        assert_eq!(globals()?, before, "a global setting was touched");
        assert!(guest.reaches("192.0.2.2")?);
        if sysctl::ipv6_forwards(&network.bridge) {
            assert!(guest.reaches("2001:db8::2")?);
        } else {
            writeln!(std::io::stderr(), "skipped: IPv6 forwarding of one interface needs Linux 6.17")?;
        }
        let readings = sysctl::read(&network, &uplinks)?;
        assert!(readings.iter().all(|r| r.now.as_deref().is_none_or(|n| n == r.wanted)), "{readings:?}");
        assert_eq!(sysctl::ensure(&network, &uplinks, soon())?.change, Change::None);

        assert_eq!(sysctl::restore(&applied.before, soon())?, Change::Made);
        assert!(!guest.reaches("192.0.2.2")? && !guest.reaches("2001:db8::2")?);
        assert_eq!(globals()?, before);
        delete("v0")?;
        delete("up0")?;
        bridge::remove(&network, soon())?;
        Ok(())
    })
}
