use std::collections::BTreeMap;

use super::look::Beyond;
use super::*;
use crate::host::bridge::PortBrief;
use crate::host::firewall::{Obstacle, Stage};
use crate::host::listeners::{Listener, Process};
use crate::host::sysctl::BridgeNetfilter;
use crate::model::overlap::Taken;
use crate::model::{Fault, Origin};
use crate::ops::inspect::look::Facts;
use crate::ops::inspect::testing;

fn beyond() -> Beyond {
    Beyond {
        obstacles: Ok(BTreeMap::new()),
        listeners: Ok(Vec::new()),
        taken: BTreeMap::new(),
        uplinks: Vec::new(),
        bridge_netfilter: None,
        ipv6_forwards: Vec::new(),
        versions: Versions::default(),
    }
}

fn lines(facts: &Facts, beyond: &Beyond) -> String {
    let record = inspect::assemble(facts);
    let line = |c: &Check| {
        let mend = c.mend.iter().map(|m| format!("\n    {m}")).collect::<String>();
        format!("{:?} {}: {}{mend}\n", c.status, c.id, c.detail)
    };
    checks::all(facts, &record, beyond).iter().map(line).collect()
}

/// The checks that are neither fine nor skipped.
fn trouble(facts: &Facts, beyond: &Beyond) -> String {
    let record = inspect::assemble(facts);
    let mut all = checks::all(facts, &record, beyond);
    all.retain(|c| c.status > Status::Ok);
    let line = |c: &Check| {
        let mend = c.mend.iter().map(|m| format!("\n    {m}")).collect::<String>();
        format!("{:?} {}: {}{mend}\n", c.status, c.id, c.detail)
    };
    all.iter().map(line).collect()
}

#[test]
fn a_host_in_order_passes_every_check() -> Result<()> {
    insta::assert_snapshot!(lines(&testing::facts()?, &beyond()), @r"
    Ok files: one network
    Ok service: process 1234
    Ok hooks: libvirtd (pid 7) looked for hooks since ours are there
    Ok executable: /usr/bin/hybrid-hook
    Ok bridge: hybr0
    Ok guests: every port and lease has its guest
    Ok routing: as the networks' files say
    Ok dnsmasq: it does
    Ok names: they do
    Ok ports: nobody else listens there
    Ok input: nothing stops them
    Ok forward: nothing stops them
    Ok br_netfilter: not loaded: frames from guest to guest don't cross iptables
    Ok docker: there, as they should be
    Ok libvirt: there, as they should be
    Ok overlap: neither a route nor another network does
    Ok ipv6: no network that is up has IPv6 with NAT
    ");
    Ok(())
}

#[test]
fn an_ordinary_user_is_told_what_needs_root() -> Result<()> {
    let mut facts = testing::facts()?;
    facts.root = false;
    facts.nat = Err(crate::ops::inspect::look::root_only());
    if let Some(network) = facts.networks.first_mut() {
        network.stale_files = None;
        network.inside = None;
        network.names = None;
    }
    insta::assert_snapshot!(lines(&facts, &beyond()), @r"
    Ok files: 1 of the networks' files; the registry is root's
    Ok service: process 1234
    Ok hooks: libvirtd (pid 7) looked for hooks since ours are there
    Ok executable: /usr/bin/hybrid-hook
    Ok bridge: hybr0
    Ok guests: every port and lease has its guest
    Skipped routing: only root can look at it
        sudo hybrid-hook doctor
    Skipped dnsmasq: only root can look at it
        sudo hybrid-hook doctor
    Skipped names: only root can look at it
        sudo hybrid-hook doctor
    Skipped ports: only root can look at it
        sudo hybrid-hook doctor
    Skipped input: only root can look at it
        sudo hybrid-hook doctor
    Skipped forward: only root can look at it
        sudo hybrid-hook doctor
    Ok br_netfilter: not loaded: frames from guest to guest don't cross iptables
    Ok docker: there, as they should be
    Ok libvirt: there, as they should be
    Ok overlap: neither a route nor another network does
    Ok ipv6: no network that is up has IPv6 with NAT
    ");
    Ok(())
}

#[test]
fn daemons_that_hang_skip_their_own_checks() -> Result<()> {
    let mut facts = testing::facts()?;
    facts.docker = Err(Fault::failed("Docker did not answer in time"));
    facts.libvirt = Err(Fault::failed("libvirt did not answer in time"));
    facts.installation = Err(Fault::failed("systemd did not answer in time"));
    let mut beyond = beyond();
    beyond.obstacles = Err(Fault::failed("nft or iptables did not answer in time"));
    assert_eq!(trouble(&facts, &beyond), "");
    let all = lines(&facts, &beyond);
    let skipped: Vec<_> = all.lines().filter(|l| l.contains("did not answer in time")).collect();
    insta::assert_snapshot!(skipped.join("\n"), @r"
    Skipped hooks: systemd did not answer in time
    Skipped input: nft or iptables did not answer in time
    Skipped forward: nft or iptables did not answer in time
    Skipped docker: Docker network hybrid-net: Docker did not answer in time
    Skipped libvirt: libvirt network hybrid-net: libvirt did not answer in time
    Skipped overlap: Docker did not answer in time; libvirt did not answer in time
    ");
    Ok(())
}

#[test]
fn what_others_do_to_us_is_named_with_the_way_out() -> Result<()> {
    let mut facts = testing::facts()?;
    let mut beyond = beyond();
    let obstacle = |stage, among_guests| Obstacle {
        stage,
        among_guests,
        what: format!("{stage:?} is shut"),
        commands: vec!["open it".to_owned()],
    };
    let name = testing::network("")?.name;
    let both = vec![obstacle(Stage::Input, false), obstacle(Stage::Forward, true)];
    beyond.obstacles = Ok(BTreeMap::from([(name.clone(), both)]));
    beyond.bridge_netfilter = Some(BridgeNetfilter { iptables: true, ip6tables: true, arptables: true });
    let subnet = "10.0.0.0/16".parse().map_err(|_| Fault::failed("no CIDR"))?;
    let taken = Taken { subnet, who: "the route to 10.0.0.0/16 by eth1".to_owned() };
    beyond.taken = BTreeMap::from([(name, Ok(vec![taken]))]);
    beyond.uplinks = vec![("eth0".parse()?, 1400)];
    let listener = |device: Option<&str>, address: Option<[u8; 4]>, port, pid| Listener {
        protocol: "udp".to_owned(),
        address: address.map(Into::into),
        device: device.map(str::to_owned),
        port,
        process: Some(Process { name: "named".to_owned(), pid }),
    };
    beyond.listeners = Ok(vec![
        listener(None, None, 53, 99),
        listener(None, None, 53, 99),
        listener(Some("virbr0"), None, 67, 98),
        listener(None, Some([10, 0, 1, 1]), 53, 411),
        listener(None, Some([127, 0, 0, 1]), 53, 97),
        listener(Some("hybr0"), None, 67, 96),
    ]);
    if let Some(network) = facts.networks.first_mut()
        && let Ok(dns) = &mut network.dns
    {
        dns.names.socket = Some(false);
    }
    insta::assert_snapshot!(trouble(&facts, &beyond), @r"
    Warn bridge: hybr0 has an MTU of 1500 and the way out, eth0, one of 1400: large packets to the outside may get lost
        write mtu = 1400 in /etc/hybrid-hook/networks/hybrid.toml, then: hybrid-hook apply
    Fail dnsmasq: dnsmasq's socket for DNS is missing, should be there
        systemctl restart hybrid-hook-dnsmasq@hybrid.service
    Fail ports: named (pid 99) has port 53 on every address; named (pid 96) has port 67 on every address
        stop named (pid 99), or keep it off hybr0; then: systemctl restart hybrid-hook-dnsmasq@hybrid.service
        stop named (pid 96), or keep it off hybr0; then: systemctl restart hybrid-hook-dhcp@hybrid.service
    Fail input: Input is shut
        open it
    Fail forward: Forward is shut
        open it
    Fail br_netfilter: Forward is shut
        open it
    Fail overlap: 10.0.1.0/24 of network hybrid overlaps 10.0.0.0/16 of the route to 10.0.0.0/16 by eth1
        move the other one, or write a free subnet, such as 10.1.0.0/24, in /etc/hybrid-hook/networks/hybrid.toml, then: hybrid-hook apply
    ");
    Ok(())
}

#[test]
fn what_inspect_finds_is_in_its_check() -> Result<()> {
    let mut facts = testing::facts()?;
    facts.service = None;
    if let Ok(installation) = &mut facts.installation
        && let Some(daemon) = installation.daemons.first_mut()
    {
        daemon.sees_hooks = false;
    }
    if let Some(network) = facts.networks.first_mut() {
        let tap = testing::lease(
            &network.network,
            "10.0.1.200",
            "52:54:00:00:00:01",
            Origin::Domain,
            Some("vnet0"),
        )?;
        network.lost_taps = vec![(tap, None::<PortBrief>)];
    }
    facts.nat = Ok(crate::host::firewall::TableState::Absent);
    insta::assert_snapshot!(trouble(&facts, &beyond()), @r#"
    Fail service: the service hybrid-hook watch is not running, should be running
        systemctl start hybrid-hook.service
    Fail hooks: libvirtd (pid 7) is not told of our hooks, should be told, or started after them
        hybrid-hook install
    Fail guests: port vnet0 of vm "vm" is gone while its lease is active, should be there, or its lease idle
        hybrid-hook apply
    Fail routing: nftables table inet hybrid_hook (NAT) is not there, should be there
        hybrid-hook apply
    "#);
    Ok(())
}

#[test]
fn ipv6_that_stays_inside_is_a_warning() -> Result<()> {
    let mut facts = testing::facts()?;
    let network = testing::network("[ipv6]\nsubnet = \"fd00:1::/64\"\n")?;
    let name = network.name.clone();
    if let Some(first) = facts.networks.first_mut() {
        first.network = network;
        if let Ok(Some(bridge)) = &mut first.bridge {
            let net = "fd00:1::1/64".parse().map_err(|_| Fault::failed("no CIDR"))?;
            bridge.addresses.push(crate::host::bridge::Address { net, ours: true });
        }
    }
    let mut beyond = beyond();
    assert!(
        trouble(&facts, &beyond)
            .starts_with("Warn ipv6: guests of network hybrid have IPv6 among themselves")
    );
    beyond.ipv6_forwards = vec![name];
    assert_eq!(trouble(&facts, &beyond), "");
    Ok(())
}
