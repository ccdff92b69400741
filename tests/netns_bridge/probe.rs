//! Probes for addresses between namespaces.

use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use hybrid_hook::host::{bridge, probe};
use hybrid_hook::model::{Kind, MacAddress};

use crate::support::{BOTH, Guest, Outcome, alone, delete, name, network, run, send, soon};

const PATIENCE: Duration = Duration::from_millis(200);
const USED: &str = "52:54:00:00:00:01";
const CLAIMANT: &str = "52:54:00:00:00:99";

#[test]
fn it_finds_who_uses_an_address() -> Outcome {
    alone("probe::it_finds_who_uses_an_address", || {
        let network = network(BOTH)?;
        let claimant: MacAddress = CLAIMANT.parse()?;
        let ask = |last: u8| -> Result<(Option<String>, Duration), Box<dyn Error>> {
            let start = Instant::now();
            let found =
                probe::probe(&network.bridge, Ipv4Addr::new(10, 0, 1, last).into(), claimant, PATIENCE)?;
            Ok((found.map(|m| m.to_string()), start.elapsed()))
        };
        let missing =
            probe::probe(&network.bridge, Ipv4Addr::new(10, 0, 1, 200).into(), claimant, PATIENCE).err();
        assert_eq!(missing.map(|f| f.kind()), Some(Kind::Missing));
        bridge::ensure(&network, soon())?;
        let (found, took) = ask(200)?;
        assert!(found.is_none() && took < PATIENCE, "a bridge without ports is not waited for: {took:?}");

        let (used, own) = (Guest::new()?, Guest::new()?);
        used.wire("v0", USED)?;
        own.wire("v1", CLAIMANT)?;
        used.run("ip addr add 10.0.1.200/24 dev eth0")?;
        own.run("ip addr add 10.0.1.201/24 dev eth0")?;
        for port in ["v0", "v1"] {
            bridge::enslave(&network.bridge, &name(port)?, soon())?;
        }
        let (found, took) = ask(200)?;
        println!("probe(): an answer after {took:?}");
        assert_eq!(found.as_deref(), Some(USED));
        assert!(took < PATIENCE, "an answer ends it at once: {took:?}");
        let (found, took) = ask(201)?;
        assert_eq!(found, None, "the claimant's own answer is no conflict");
        assert!(took >= PATIENCE && took < PATIENCE * 3, "{took:?}");
        assert_eq!(ask(77)?.0, None);
        assert!(!used.run("ip neigh")?.contains("lladdr"), "a probe fills nobody's cache");

        // The host would answer for an address of any of its devices.
        run("ip link add d0 type veth peer name d1")?;
        run("ip addr add 10.0.1.78/32 dev d0")?;
        assert_eq!(ask(78)?.0, Some(network.bridge_mac().to_string()));
        for device in ["d0", "v0", "v1"] {
            delete(device)?;
        }
        bridge::remove(&network, soon())?;
        Ok(())
    })
}

#[test]
fn it_finds_who_uses_an_ipv6_address() -> Outcome {
    alone("probe::it_finds_who_uses_an_ipv6_address", || {
        let network = network(BOTH)?;
        let claimant: MacAddress = CLAIMANT.parse()?;
        let ask = |last: u16| -> Result<(Option<String>, Duration), Box<dyn Error>> {
            let start = Instant::now();
            let address = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, last).into();
            let found = probe::probe(&network.bridge, address, claimant, PATIENCE)?;
            Ok((found.map(|m| m.to_string()), start.elapsed()))
        };
        bridge::ensure(&network, soon())?;
        let (found, took) = ask(0xc8)?;
        assert!(found.is_none() && took < PATIENCE, "a bridge without ports is not waited for: {took:?}");
        let (used, own) = (Guest::new()?, Guest::new()?);
        used.wire("v0", USED)?;
        own.wire("v1", CLAIMANT)?;
        used.run("ip addr add fd00:1::c8/64 dev eth0 nodad")?;
        own.run("ip addr add fd00:1::c9/64 dev eth0 nodad")?;
        for port in ["v0", "v1"] {
            bridge::enslave(&network.bridge, &name(port)?, soon())?;
        }
        let (found, took) = ask(0xc8)?;
        println!("probe(): an answer after {took:?}");
        assert_eq!(found.as_deref(), Some(USED));
        assert!(took < PATIENCE, "an answer ends it at once: {took:?}");
        let (found, took) = ask(0xc9)?;
        assert_eq!(found, None, "the claimant's own answer is no conflict");
        assert!(took >= PATIENCE && took < PATIENCE * 3, "{took:?}");
        assert_eq!(ask(0x77)?.0, None);
        assert_eq!(ask(1)?.0, Some(network.bridge_mac().to_string()), "the bridge's own");

        // One that is taken up just now: its owner asks for it, and our question does not take it away.
        used.run("ip addr add fd00:1::ca/64 dev eth0")?;
        let found = (0..5).map(|_| ask(0xca)).collect::<Result<Vec<_>, _>>()?;
        assert!(found.iter().any(|(mac, _)| mac.as_deref() == Some(USED)), "{found:?}");
        assert!(!used.run("ip -6 addr show dev eth0")?.contains("dadfailed"));

        // A bridge without a link-local address asks as duplicate detection does.
        run("ip -6 addr flush dev hybr0 scope link")?;
        assert_eq!(ask(0xc8)?.0.as_deref(), Some(USED));
        for device in ["v0", "v1"] {
            delete(device)?;
        }
        bridge::remove(&network, soon())?;
        Ok(())
    })
}

/// What another host sends while we probe for 10.0.1.77, and what comes of it.
#[test]
fn only_what_claims_the_address_is_a_conflict() -> Outcome {
    alone("probe::only_what_claims_the_address_is_a_conflict", || {
        let network = network(BOTH)?;
        bridge::ensure(&network, soon())?;
        let other = Guest::new()?;
        other.wire("v0", USED)?;
        bridge::enslave(&network.bridge, &name("v0")?, soon())?;
        let head = "ffffffffffff 525400000001 0806";
        for (what, frame, found) in [
            (
                "its probe",
                format!("{head} 0001080006040001 525400000001 00000000 000000000000 0a00014d"),
                true,
            ),
            (
                "its announcement",
                format!("{head} 0001080006040001 525400000001 0a00014d 000000000000 0a00014d"),
                true,
            ),
            (
                "a late reply",
                format!("{head} 0001080006040002 525400000001 0a00014d ffffffffffff 0a00014d"),
                true,
            ),
            (
                "a question",
                format!("{head} 0001080006040001 525400000001 0a000107 000000000000 0a00014d"),
                false,
            ),
            (
                "a probe for another",
                format!("{head} 0001080006040001 525400000001 00000000 000000000000 0a00014e"),
                false,
            ),
            (
                "the claimant's",
                format!("{head} 0001080006040001 525400000099 0a00014d 000000000000 0a00014d"),
                false,
            ),
            (
                "a broadcast sender",
                format!("{head} 0001080006040001 ffffffffffff 0a00014d 000000000000 0a00014d"),
                false,
            ),
            ("a truncated one", format!("{head} 00010800060400"), false),
        ] {
            let claimant: MacAddress = CLAIMANT.parse()?;
            let patience = PATIENCE * if found { 10 } else { 3 };
            let answer = std::thread::scope(|scope| -> Result<Option<MacAddress>, Box<dyn Error>> {
                let asking = scope.spawn(move || {
                    probe::probe(&"hybr0".parse()?, Ipv4Addr::new(10, 0, 1, 77).into(), claimant, patience)
                });
                std::thread::sleep(Duration::from_millis(100));
                send(Some(other.pid()), "eth0", &frame)?;
                Ok(asking.join().map_err(|_| "a thread died")??)
            })?;
            assert_eq!(answer.map(|m| m.to_string()).as_deref(), found.then_some(USED), "{what}");
        }
        delete("v0")?;
        bridge::remove(&network, soon())?;
        Ok(())
    })
}
