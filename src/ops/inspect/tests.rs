use super::testing::{facts, lease};
use super::*;
use crate::host::bridge::PortBrief;
use crate::host::resolver;
use crate::model::{Fault, InterfaceName, Origin};

/// What differs once `change` was made to a host where all is well.
fn after(change: impl FnOnce(&mut Facts, &mut Vec<Fault>)) -> Result<String> {
    let mut facts = facts()?;
    let mut faults = Vec::new();
    change(&mut facts, &mut faults);
    if let Some(fault) = faults.pop() {
        return Err(fault);
    }
    let seen = assemble(&facts);
    let all = seen.networks.iter().flat_map(|n| &n.differences).chain(&seen.host.differences);
    Ok(all.map(|d| format!("{}: {}; should be {}; {}\n", d.what, d.is, d.should_be, d.mend)).collect())
}

fn first(facts: &mut Facts, faults: &mut Vec<Fault>, change: impl FnOnce(&mut NetworkFacts) -> Result<()>) {
    let done = facts.networks.first_mut().ok_or_else(|| Fault::failed("no network")).and_then(change);
    faults.extend(done.err());
}

#[test]
fn a_host_in_order_has_no_difference_and_every_guest_its_port() -> Result<()> {
    let seen = assemble(&facts()?);
    assert!(seen.in_order, "{seen:?}");
    let owners: Vec<_> = seen
        .networks
        .iter()
        .flat_map(|n| &n.ports)
        .map(|p| p.guest.as_ref().and_then(|g| g.name.clone()).unwrap_or_default())
        .collect();
    assert_eq!(owners, ["vm", "web"]);
    Ok(())
}

#[test]
fn a_bridge_that_is_gone_is_one_difference() -> Result<()> {
    let text = after(|facts, faults| {
        first(facts, faults, |n| {
            n.bridge = Ok(None);
            n.settings = Ok(Vec::new());
            Ok(())
        });
    })?;
    assert_eq!(text, "bridge hybr0: not there; should be there; hybrid-hook apply\n");
    Ok(())
}

#[test]
fn guests_that_lost_the_bridge_are_named() -> Result<()> {
    let text = after(|facts, faults| {
        first(facts, faults, |n| {
            let tap = lease(&n.network, "10.0.1.200", "52:54:00:00:00:01", Origin::Domain, Some("vnet0"))?;
            let brief = |master: Option<&str>| PortBrief {
                master: master.map(str::to_owned),
                mac: None,
                up: true,
                mtu: 1500,
            };
            n.lost_taps =
                vec![(tap.clone(), Some(brief(None))), (tap.clone(), Some(brief(Some("br1")))), (tap, None)];
            n.inside = Some(std::collections::BTreeMap::new());
            Ok(())
        });
    })?;
    insta::assert_snapshot!(text, @r#"
    port vnet0 of vm "vm": on no bridge; should be on hybr0; hybrid-hook apply
    port vnet0 of vm "vm": on br1; should be on hybr0; ip link set vnet0 master hybr0
    port vnet0 of vm "vm": gone while its lease is active; should be there, or its lease idle; hybrid-hook apply
    port of container "web": on no bridge of ours; should be on hybr0; hybrid-hook apply
    "#);
    Ok(())
}

#[test]
fn what_others_have_in_our_place_is_said_in_the_words_of_the_refusal() -> Result<()> {
    let text = after(|facts, faults| {
        if let Ok(docker) = &mut facts.docker {
            for view in docker.networks.values_mut().flatten() {
                view.differences =
                    Err(Fault::refused("there is a Docker network hybrid-net that is not ours")
                        .hint("docker network rm hybrid-net"));
            }
        }
        if let Ok(networks) = facts.libvirt.as_mut().map(|l| &mut l.networks) {
            for network in networks.iter_mut().flatten() {
                match "11111111-2222-3333-4444-555555555555".parse() {
                    Ok(uuid) => network.uuid = uuid,
                    Err(e) => faults.push(Fault::from(e)),
                }
            }
        }
        facts.nat = Ok(TableState::Stale);
    })?;
    insta::assert_snapshot!(text, @r"
    nftables table inet hybrid_hook (NAT): changed, or of another rendering; should be as hybrid-hook renders it; hybrid-hook apply
    Docker network hybrid-net: there is a Docker network hybrid-net that is not ours; should be this network's own; docker network rm hybrid-net
    libvirt network hybrid-net: somebody else's; should be this network's own; name another libvirt_network in /etc/hybrid-hook/networks/hybrid.toml, then: hybrid-hook apply
    ");
    Ok(())
}

#[test]
fn a_daemon_that_hangs_is_unseen_and_no_difference() -> Result<()> {
    let mut facts = facts()?;
    facts.docker = Err(Fault::failed("Docker did not answer in time"));
    facts.libvirt = Err(Fault::missing("no daemon"));
    let seen = assemble(&facts);
    assert!(seen.in_order);
    assert_eq!(seen.host.docker.state, DaemonState::Silent);
    assert_eq!(seen.host.libvirt.state, DaemonState::Absent);
    let unseen: Vec<_> = seen.networks.iter().flat_map(|n| &n.unseen).map(|u| u.what.clone()).collect();
    assert_eq!(unseen, ["Docker network hybrid-net", "libvirt network hybrid-net"]);
    Ok(())
}

#[test]
fn a_service_and_hooks_that_are_missing_are_the_hosts() -> Result<()> {
    let text = after(|facts, _| {
        facts.service = None;
        if let Some(hook) = facts.hooks.first_mut() {
            hook.state = HookState::Absent;
        }
        if let Some(hook) = facts.hooks.last_mut() {
            hook.target = Some("/usr/local/bin/hybrid-hook".into());
        }
    })?;
    let text = text.replace(&host::move_to_usr_bin(), "MOVE");
    insta::assert_snapshot!(text, @r"
    the service hybrid-hook watch: not running; should be running; systemctl start hybrid-hook.service
    hook /etc/libvirt/hooks/qemu.d/50-hybrid-hook: not there; should be a link to hybrid-hook; hybrid-hook install
    the hooks' executable: /usr/local/bin/hybrid-hook; should be directly in /usr/bin, from where AppArmor lets libvirt run it; MOVE
    ");
    Ok(())
}

#[test]
fn a_network_that_is_down_is_in_order_without_its_bridge() -> Result<()> {
    let down = |bridge: bool| {
        after(move |facts, faults| {
            first(facts, faults, |n| {
                n.up = false;
                if !bridge {
                    n.bridge = Ok(None);
                    n.dns = Ok(DnsState::default());
                }
                Ok(())
            });
        })
    };
    assert_eq!(down(false)?, "");
    insta::assert_snapshot!(down(true)?, @r"
    bridge hybr0: there; should be gone: the network is down; hybrid-hook network down hybrid
    dnsmasq: running; should be stopped: the network is down; hybrid-hook network down hybrid
    ");
    Ok(())
}

#[test]
fn an_edited_file_is_a_difference_until_it_is_applied() -> Result<()> {
    let text = after(|facts, faults| {
        first(facts, faults, |n| {
            let text = "format = 1\nmtu = 9000\n[ipv4]\nsubnet = \"10.0.2.0/24\"\n";
            let file = crate::model::network_file::NetworkFile::parse(text).map_err(Fault::failed)?;
            let held = lease(&n.network, "10.0.1.200", "52:54:00:00:00:01", Origin::Domain, None)?;
            n.edited = Some(Ok(file.network(&n.network.name)?));
            n.leases = Ok(vec![held]);
            Ok(())
        });
    })?;
    insta::assert_snapshot!(text, @r#"
    /etc/hybrid-hook/networks/hybrid.toml: edited and not applied: its subnet is 10.0.1.0/24, not 10.0.2.0/24; its gateway is 10.0.1.1, not 10.0.2.1; its bridge's address is 10.0.1.1, not 10.0.2.1; its VM pool is 10.0.1.128-10.0.1.254, not 10.0.2.128-10.0.2.254; its container pool is 10.0.1.64/26, not 10.0.2.64/26; its MTU is 1500, not 9000; should be in force; hybrid-hook apply
    lease 10.0.1.200 of "vm": 10.0.1.200 is outside the subnet 10.0.2.0/24; should be one that the network's file allows; edit /etc/hybrid-hook/networks/hybrid.toml back, or stop the guest and release its address
    "#);
    Ok(())
}

#[test]
fn the_bridge_of_before_is_a_difference_where_no_copy_of_the_file_tells() -> Result<()> {
    let text = after(|facts, faults| {
        first(facts, faults, |n| {
            n.former_bridge = Some("hybr9".parse::<InterfaceName>()?);
            Ok(())
        });
    })?;
    assert_eq!(text, "bridge: hybr9, as the file said before; should be hybr0; hybrid-hook apply\n");
    Ok(())
}

#[test]
fn a_resolver_that_is_not_told_and_a_driver_that_is_gone_are_named() -> Result<()> {
    let text = after(|facts, faults| {
        first(facts, faults, |n| {
            n.resolver = Ok(Some(resolver::State {
                conf: resolver::ResolvConf::parse("nameserver 127.0.0.53\n"),
                resolved: Some(resolver::Link::default()),
                resolved_told: false,
                asks_resolved: false,
                network_manager_told: Some(false),
            }));
            n.driver = Err(Fault::missing("nobody listens"));
            Ok(())
        });
    })?;
    insta::assert_snapshot!(text, @r"
    systemd-resolved: not told whom to ask for hybrid.internal; should be told; hybrid-hook apply
    NetworkManager's dnsmasq: not told whom to ask for hybrid.internal; should be told; hybrid-hook apply
    the driver of addresses for Docker: nobody listens; should be listening; systemctl start hybrid-hook-ipam.socket
    ");
    Ok(())
}
