//! Making, repairing and removing the bridge.

use std::error::Error;
use std::time::Duration;

use hybrid_hook::deadline::Deadline;
use hybrid_hook::host::Change;
use hybrid_hook::host::bridge::{self, BridgeState};
use hybrid_hook::model::{Kind, Network};

use crate::support::{BOTH, Outcome, alone, delete, name, network, run, soon};

fn state(network: &Network) -> Result<BridgeState, Box<dyn Error>> {
    Ok(bridge::read(&network.bridge, soon())?.ok_or("no bridge")?)
}

/// Its addresses and whether each is ours, link-local ones left out.
fn addresses(network: &Network) -> Result<Vec<(String, bool)>, Box<dyn Error>> {
    let mut nets: Vec<_> = state(network)?.addresses.iter().map(|a| (a.net.to_string(), a.ours)).collect();
    nets.retain(|(n, _)| !n.starts_with("fe80"));
    Ok(nets)
}

#[test]
fn it_is_made_repaired_and_removed() -> Outcome {
    alone("bridge::it_is_made_repaired_and_removed", || {
        let network = network(BOTH)?;
        assert_eq!(bridge::read(&network.bridge, soon())?, None);
        assert_eq!(bridge::ensure(&network, soon())?, Change::Made);
        let look = || state(&network).map(|s| (s.mac, s.mtu, s.up, s.alias));
        let right = look()?;
        assert_eq!(right, (Some(network.bridge_mac()), 1500, true, Some("hybrid-hook:hybrid".to_owned())));
        let own = [("10.0.1.1/24".to_owned(), true), ("fd00:1::1/64".to_owned(), true)];
        assert_eq!(addresses(&network)?, own);
        // Bound to at once, although no port gives the bridge a carrier (else dnsmasq could not start).
        std::net::TcpListener::bind("10.0.1.1:0")?;
        std::net::TcpListener::bind("[fd00:1::1]:0")?;
        for setting in ["accept_ra", "autoconf"] {
            let path = format!("/proc/sys/net/ipv6/conf/hybr0/{setting}");
            assert_eq!(std::fs::read_to_string(path)?.trim(), "0");
        }
        assert!(run("ip -d link show hybr0")?.contains("forward_delay 0 "));
        assert_eq!(bridge::ensure(&network, soon())?, Change::None, "twice is once");

        for drift in [
            "ip link set hybr0 down",
            "ip link set hybr0 mtu 1400",
            "ip link set hybr0 address 02:00:00:00:00:09",
            "ip link set hybr0 type bridge stp_state 1 forward_delay 1500",
            "ip addr del 10.0.1.1/24 dev hybr0",
            "ip addr flush dev hybr0",
            "ip addr add 10.0.1.9/24 dev hybr0",
            "ip addr add fd00:1::9/64 dev hybr0",
        ] {
            run(drift)?;
            assert_eq!(bridge::ensure(&network, soon())?, Change::Made, "{drift}");
            assert_eq!(look()?, right, "{drift}");
            assert_eq!(addresses(&network)?, own, "{drift}");
            assert_eq!(bridge::ensure(&network, soon())?, Change::None, "{drift}");
        }
        assert!(run("ip -d link show hybr0")?.contains("stp_state 0 "));
        // The first of a subnet takes those after it along when it goes.
        run("ip addr flush dev hybr0")?;
        run("ip addr add 10.0.1.9/24 dev hybr0")?;
        run("ip addr add 10.0.1.1/24 dev hybr0")?;
        bridge::ensure(&network, soon())?;
        assert_eq!(addresses(&network)?.len(), 2);

        assert_eq!(bridge::remove(&network, soon())?, Change::Made);
        assert_eq!(bridge::remove(&network, soon())?, Change::None);
        let passed = Deadline::after(Duration::ZERO);
        assert!(bridge::ensure(&network, passed).is_err(), "a passed deadline is a fault, not a wait");
        Ok(())
    })
}

#[test]
fn an_edited_subnet_takes_the_old_address_away() -> Outcome {
    alone("bridge::an_edited_subnet_takes_the_old_address_away", || {
        bridge::ensure(&network(BOTH)?, soon())?;
        run("ip addr add 192.168.77.1/24 dev hybr0")?;
        let edited = network("[ipv4]\nsubnet = \"10.0.2.0/24\"")?;
        assert_eq!(bridge::ensure(&edited, soon())?, Change::Made);
        // A person's own address elsewhere stays.
        let left = [("192.168.77.1/24".to_owned(), false), ("10.0.2.1/24".to_owned(), true)];
        assert_eq!(addresses(&edited)?, left);
        assert_eq!(state(&edited)?.network(), Some("hybrid"));
        bridge::remove(&edited, soon())?;
        Ok(())
    })
}

#[test]
fn a_crash_before_the_mark_leaves_one_that_is_still_ours() -> Outcome {
    alone("bridge::a_crash_before_the_mark_leaves_one_that_is_still_ours", || {
        let network = network(BOTH)?;
        run(&format!("ip link add hybr0 address {} type bridge", network.bridge_mac()))?;
        assert_eq!(bridge::ensure(&network, soon())?, Change::Made);
        assert_eq!(state(&network)?.network(), Some("hybrid"));
        assert_eq!(bridge::remove(&network, soon())?, Change::Made);
        Ok(())
    })
}

#[test]
fn the_mtu_holds_when_a_port_with_a_smaller_one_joins() -> Outcome {
    alone("bridge::the_mtu_holds_when_a_port_with_a_smaller_one_joins", || {
        for mtu in [1500, 9000, 1280, 65_535] {
            let network = network(&format!("mtu = {mtu}\n{BOTH}"))?;
            bridge::ensure(&network, soon())?;
            run("ip link add v0 mtu 1200 type veth peer name p0 mtu 1200")?;
            bridge::enslave(&network.bridge, &name("v0")?, soon())?;
            assert_eq!(state(&network)?.mtu, mtu, "the bridge took its port's MTU");
            assert_eq!(bridge::ensure(&network, soon())?, Change::Made);
            assert_eq!(state(&network)?.ports.first().map(|p| p.mtu), Some(mtu));
            assert_eq!(bridge::ensure(&network, soon())?, Change::None);
            delete("v0")?;
            bridge::remove(&network, soon())?;
        }
        Ok(())
    })
}

#[test]
fn what_is_not_ours_is_refused_and_left_as_it_is() -> Outcome {
    alone("bridge::what_is_not_ours_is_refused_and_left_as_it_is", || {
        let network = network(BOTH)?;
        for (made, alias, hint) in [
            ("ip link add hybr0 type veth peer name hybr1", None, "--bridge"),
            ("ip link add hybr0 type bridge", None, "--adopt"),
            ("ip link add hybr0 type bridge", Some("LAN"), "--adopt"),
            ("ip link add hybr0 type bridge", Some("hybrid-hook:shop"), "--bridge"),
        ] {
            run(made)?;
            if let Some(alias) = alias {
                run(&format!("ip link set hybr0 alias {alias}"))?;
            }
            let before = run("ip -d addr show hybr0")?;
            let fault = bridge::ensure(&network, soon()).err().ok_or("not refused")?;
            assert_eq!(fault.kind(), Kind::Refused, "{fault}");
            assert!(fault.hint_text().is_some_and(|h| h.contains(hint)), "{fault}: {:?}", fault.hint_text());
            assert_eq!(bridge::remove(&network, soon())?, Change::None);
            assert_eq!(run("ip -d addr show hybr0")?, before);
            delete("hybr0")?;
        }
        Ok(())
    })
}

#[test]
fn one_made_in_ours_place_can_be_taken_over() -> Outcome {
    alone("bridge::one_made_in_ours_place_can_be_taken_over", || {
        let network = network(BOTH)?;
        assert_eq!(bridge::take_over(&network, soon()).err().map(|f| f.kind()), Some(Kind::Missing));
        run("ip link add hybr0 type bridge")?;
        run("ip addr add 10.0.1.9/24 dev hybr0")?;
        assert_eq!(bridge::take_over(&network, soon())?, Change::Made);
        assert_eq!(bridge::take_over(&network, soon())?, Change::None);
        assert_eq!(bridge::ensure(&network, soon())?, Change::Made);
        assert_eq!(state(&network)?.mac, Some(network.bridge_mac()));
        assert_eq!(addresses(&network)?.len(), 2);
        run("ip link set hybr0 alias LAN")?;
        assert_eq!(bridge::take_over(&network, soon()).err().map(|f| f.kind()), Some(Kind::Refused));
        delete("hybr0")
    })
}

#[test]
fn an_adopted_one_gives_back_only_what_we_added() -> Outcome {
    alone("bridge::an_adopted_one_gives_back_only_what_we_added", || {
        let adopting = network("adopt = true\n[ipv4]\nsubnet = \"10.0.1.0/24\"\naddress = \"10.0.1.5\"")?;
        assert_eq!(bridge::ensure(&adopting, soon()).err().map(|f| f.kind()), Some(Kind::Missing));
        run("ip link add hybr0 address 02:00:00:00:00:01 mtu 1450 type bridge stp_state 1")?;
        run("ip addr add 10.0.1.9/24 dev hybr0")?;
        assert_eq!(bridge::ensure(&adopting, soon())?, Change::Made);
        assert_eq!(bridge::ensure(&adopting, soon())?, Change::None);
        let now = state(&adopting)?;
        assert_eq!((now.mac.map(|m| m.to_string()), now.mtu), (Some("02:00:00:00:00:01".to_owned()), 1450));
        assert_eq!((now.alias, now.up), (None, true));
        let both = [("10.0.1.9/24".to_owned(), false), ("10.0.1.5/24".to_owned(), true)];
        assert_eq!(addresses(&adopting)?, both);
        assert!(run("ip -d link show hybr0")?.contains("stp_state 1 "));
        assert_eq!(bridge::remove(&adopting, soon())?, Change::Made);
        assert_eq!(bridge::remove(&adopting, soon())?, Change::None);
        assert_eq!(addresses(&adopting)?, [("10.0.1.9/24".to_owned(), false)]);
        delete("hybr0")
    })
}

#[test]
fn eight_at_once_make_one() -> Outcome {
    alone("bridge::eight_at_once_make_one", || {
        let network = network(BOTH)?;
        let changes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| bridge::ensure(&network, soon()))).collect();
            threads.into_iter().map(|t| t.join()).collect()
        });
        for change in changes {
            change.map_err(|_| "a thread died")??;
        }
        assert_eq!(bridge::ensure(&network, soon())?, Change::None);
        bridge::remove(&network, soon())?;
        Ok(())
    })
}
