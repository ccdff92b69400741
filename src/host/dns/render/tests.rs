use super::*;
use crate::host::dns::testing::{Result, lease, network};
use crate::model::lease::Handover;

/// Both configs, the one for names first.
fn render(text: &str) -> Result<Option<String>> {
    let network = network(text)?;
    let folder = Path::new("/run/hybrid-hook/dnsmasq/hybrid");
    let of = |role| config(&network, &[], role, folder, Path::new("/etc/resolv.conf"));
    Ok(of(Role::Names).zip(of(Role::Addresses)).map(|(names, addresses)| names + "\n" + &addresses))
}

#[test]
fn the_default_network() -> Result {
    let text = render("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?.unwrap_or_default();
    insta::assert_snapshot!(text, @r#"
        # Network hybrid, written by hybrid-hook; changes are overwritten.

        # On this bridge and nowhere else, also when it comes late or again.
        interface=hybr0
        except-interface=lo
        bind-dynamic
        no-hosts

        # Names: our guests' from hosts.d, the rest from the host's own resolvers. A bare name is never
        # asked outside, so that one without IPv6 is "no data" and not REFUSED.
        hostsdir=/run/hybrid-hook/dnsmasq/hybrid/hosts.d
        local=/hybrid.internal/
        local=//
        domain-needed
        resolv-file=/etc/resolv.conf
        dns-loop-detect
        cache-size=10000
        host-record=host.hybrid.internal,gateway.hybrid.internal,host,gateway,10.0.1.1
        local=/1.0.10.in-addr.arpa/

        pid-file=/run/hybrid-hook/dnsmasq/hybrid/dnsmasq-52383df1.pid

        # Network hybrid, written by hybrid-hook; changes are overwritten.

        # On this bridge and nowhere else, also when it comes late or again.
        interface=hybr0
        except-interface=lo
        bind-dynamic
        no-hosts
        port=0

        # Addresses: for the NICs in dhcp-hosts.d, known by their MAC alone. A guest's word for its own
        # name is not taken.
        dhcp-hostsdir=/run/hybrid-hook/dnsmasq/hybrid/dhcp-hosts.d
        dhcp-leasefile=/run/hybrid-hook/dnsmasq/hybrid/leases
        dhcp-lease-max=100000
        dhcp-ignore-names
        dhcp-ignore-clid
        dhcp-authoritative

        # "static": no address for a NIC that we don't know.
        dhcp-range=10.0.1.0,static,255.255.255.0,1h
        # A guest whose only NIC this is gets route and resolver; another has them from elsewhere.
        dhcp-option=tag:sole,option:router,10.0.1.1
        dhcp-option=tag:sole,option:dns-server,10.0.1.1
        dhcp-option=tag:sole,option:domain-name,hybrid.internal
        dhcp-option=tag:sole,option:domain-search,hybrid.internal
        dhcp-option=tag:!sole,option:router
        dhcp-option=tag:!sole,option:dns-server

        pid-file=/run/hybrid-hook/dnsmasq/hybrid/dhcp-8a3958d9.pid
    "#);
    Ok(())
}

#[test]
fn both_families_and_jumbo_frames() -> Result {
    let text = render(
        "format = 1\nmtu = 9000\n[ipv4]\nsubnet = \"10.0.8.0/22\"\n[ipv6]\nsubnet = \"fd00:1::/64\"\n",
    )?;
    insta::assert_snapshot!(text.unwrap_or_default(), @r#"
        # Network hybrid, written by hybrid-hook; changes are overwritten.

        # On this bridge and nowhere else, also when it comes late or again.
        interface=hybr0
        except-interface=lo
        bind-dynamic
        no-hosts

        # Names: our guests' from hosts.d, the rest from the host's own resolvers. A bare name is never
        # asked outside, so that one without IPv6 is "no data" and not REFUSED.
        hostsdir=/run/hybrid-hook/dnsmasq/hybrid/hosts.d
        local=/hybrid.internal/
        local=//
        domain-needed
        resolv-file=/etc/resolv.conf
        dns-loop-detect
        cache-size=10000
        host-record=host.hybrid.internal,gateway.hybrid.internal,host,gateway,10.0.8.1,fd00:1::1
        local=/8.0.10.in-addr.arpa/
        local=/9.0.10.in-addr.arpa/
        local=/10.0.10.in-addr.arpa/
        local=/11.0.10.in-addr.arpa/
        local=/0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa/

        pid-file=/run/hybrid-hook/dnsmasq/hybrid/dnsmasq-c6231aed.pid

        # Network hybrid, written by hybrid-hook; changes are overwritten.

        # On this bridge and nowhere else, also when it comes late or again.
        interface=hybr0
        except-interface=lo
        bind-dynamic
        no-hosts
        port=0

        # Addresses: for the NICs in dhcp-hosts.d, known by their MAC alone. A guest's word for its own
        # name is not taken.
        dhcp-hostsdir=/run/hybrid-hook/dnsmasq/hybrid/dhcp-hosts.d
        dhcp-leasefile=/run/hybrid-hook/dnsmasq/hybrid/leases
        dhcp-lease-max=100000
        dhcp-ignore-names
        dhcp-ignore-clid
        dhcp-authoritative

        # "static": no address for a NIC that we don't know.
        dhcp-range=10.0.8.0,static,255.255.252.0,1h
        # A guest whose only NIC this is gets route and resolver; another has them from elsewhere.
        dhcp-option=tag:sole,option:router,10.0.8.1
        dhcp-option=tag:sole,option:dns-server,10.0.8.1
        dhcp-option=tag:sole,option:domain-name,hybrid.internal
        dhcp-option=tag:sole,option:domain-search,hybrid.internal
        dhcp-option=tag:!sole,option:router
        dhcp-option=tag:!sole,option:dns-server
        dhcp-option=option:mtu,9000

        dhcp-range=fd00:1::,static,64,10m
        dhcp-option=tag:sole,option6:dns-server,[fd00:1::1]
        dhcp-option=tag:sole,option6:domain-search,hybrid.internal
        dhcp-option=tag:!sole,option6:dns-server
        enable-ra
        ra-param=hybr0,mtu:9000,low,60,1800

        pid-file=/run/hybrid-hook/dnsmasq/hybrid/dhcp-b04617a7.pid
    "#);
    Ok(())
}

#[test]
fn the_zones_of_other_networks_are_asked_of_their_own_resolvers() -> Result {
    let of = |name: &str, text: &str| -> Result<Network> {
        let file = crate::model::network_file::NetworkFile::parse(&format!("format = 1\n{text}"))?;
        Ok(file.network(&name.parse()?)?)
    };
    let own = of("hybrid", "zone = \"in.test\"\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?;
    let mut together = vec![
        of("two", "[ipv4]\nsubnet = \"10.0.2.0/24\"\n[ipv6]\nsubnet = \"fd00:2::/64\"\n")?,
        own.clone(),
        of("nested", "zone = \"dev.in.test\"\n[ipv6]\nsubnet = \"fd00:3::/64\"\n")?,
        // Nobody serves the zone of a bridge that is adopted without an address.
        of("lan", "adopt = true\n[ipv4]\nsubnet = \"192.168.7.0/24\"\n")?,
    ];
    let folder = Path::new("/run");
    let config = |role, together: &[Network]| {
        config(&own, together, role, folder, Path::new("/etc/resolv.conf")).unwrap_or_default()
    };
    let text = config(Role::Names, &together);
    let servers: Vec<&str> = text.lines().filter(|l| l.starts_with("server=")).collect();
    assert_eq!(
        servers,
        [
            "server=/dev.in.test/fd00:3::1",
            "server=/0.0.0.0.0.0.0.0.3.0.0.0.0.0.d.f.ip6.arpa/fd00:3::1",
            "server=/two.internal/10.0.2.1",
            "server=/2.0.10.in-addr.arpa/10.0.2.1",
            "server=/0.0.0.0.0.0.0.0.2.0.0.0.0.0.d.f.ip6.arpa/10.0.2.1",
        ]
    );
    let mut careful = own.clone();
    careful.stop_rebind = true;
    let text_of_careful =
        super::config(&careful, &together, Role::Names, folder, Path::new("/etc/resolv.conf"))
            .unwrap_or_default();
    assert!(text_of_careful.contains("rebind-domain-ok=/dev.in.test/\n"), "{text_of_careful}");
    assert!(!text.contains("rebind-domain-ok"));
    // Neither their order nor who gives addresses makes another config.
    together.reverse();
    assert_eq!(config(Role::Names, &together), text);
    assert_eq!(config(Role::Addresses, &together), config(Role::Addresses, &[]));
    Ok(())
}

#[test]
fn an_adopted_lan_keeps_its_own_router_and_reverse_names() -> Result {
    let text = render(
        "format = 1\nadopt = true\nbridge = \"br0\"\n[ipv4]\nsubnet = \"192.168.7.0/24\"\n\
         gateway = \"192.168.7.1\"\naddress = \"192.168.7.9\"\n",
    )?;
    insta::assert_snapshot!(text.unwrap_or_default(), @r#"
        # Network hybrid, written by hybrid-hook; changes are overwritten.

        # On this bridge and nowhere else, also when it comes late or again.
        interface=br0
        except-interface=lo
        bind-dynamic
        no-hosts

        # Names: our guests' from hosts.d, the rest from the host's own resolvers. A bare name is never
        # asked outside, so that one without IPv6 is "no data" and not REFUSED.
        hostsdir=/run/hybrid-hook/dnsmasq/hybrid/hosts.d
        local=/hybrid.internal/
        local=//
        domain-needed
        resolv-file=/etc/resolv.conf
        dns-loop-detect
        cache-size=10000
        host-record=host.hybrid.internal,host,192.168.7.9
        host-record=gateway.hybrid.internal,gateway,192.168.7.1

        pid-file=/run/hybrid-hook/dnsmasq/hybrid/dnsmasq-f6bb75fb.pid

        # Network hybrid, written by hybrid-hook; changes are overwritten.

        # On this bridge and nowhere else, also when it comes late or again.
        interface=br0
        except-interface=lo
        bind-dynamic
        no-hosts
        port=0

        # Addresses: for the NICs in dhcp-hosts.d, known by their MAC alone. A guest's word for its own
        # name is not taken.
        dhcp-hostsdir=/run/hybrid-hook/dnsmasq/hybrid/dhcp-hosts.d
        dhcp-leasefile=/run/hybrid-hook/dnsmasq/hybrid/leases
        dhcp-lease-max=100000
        dhcp-ignore-names
        dhcp-ignore-clid

        # "static": no address for a NIC that we don't know.
        dhcp-range=192.168.7.0,static,255.255.255.0,1h
        # A guest whose only NIC this is gets route and resolver; another has them from elsewhere.
        dhcp-option=tag:sole,option:router,192.168.7.1
        dhcp-option=tag:sole,option:dns-server,192.168.7.9
        dhcp-option=tag:sole,option:domain-name,hybrid.internal
        dhcp-option=tag:sole,option:domain-search,hybrid.internal
        dhcp-option=tag:!sole,option:router
        dhcp-option=tag:!sole,option:dns-server

        pid-file=/run/hybrid-hook/dnsmasq/hybrid/dhcp-a9fa6ad5.pid
    "#);
    Ok(())
}

#[test]
fn an_adopted_bridge_without_an_address_can_not_be_served() -> Result {
    let text = render("format = 1\nadopt = true\n[ipv4]\nsubnet = \"192.168.7.0/24\"\n")?;
    assert_eq!(text, None);
    Ok(())
}

#[test]
fn another_config_has_another_pid_file() -> Result {
    let one = render("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?.unwrap_or_default();
    let two = render("format = 1\n[ipv4]\nsubnet = \"10.0.2.0/24\"\n")?.unwrap_or_default();
    assert!(pid_file_of(&one).is_some());
    assert_ne!(pid_file_of(&one), pid_file_of(&two));
    Ok(())
}

#[test]
fn a_reservation_has_both_families_and_says_whether_it_is_the_only_nic() -> Result {
    let both = network("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n[ipv6]\nsubnet = \"fd00:1::/64\"\n")?;
    let mut lease = lease("10.0.1.200", "52:54:00:aa:bb:cc", Some("db"))?;
    assert_eq!(
        reservation(&both, &lease).as_deref(),
        Some("tag:hybr0,52:54:00:aa:bb:cc,10.0.1.200,[fd00:1::c8]\n")
    );
    let only4 = network("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?;
    lease.sole_nic = true;
    assert_eq!(
        reservation(&only4, &lease).as_deref(),
        Some("tag:hybr0,52:54:00:aa:bb:cc,10.0.1.200,set:sole\n")
    );
    let only6 = network("format = 1\n[ipv6]\nsubnet = \"fd00:1::/64\"\n")?;
    lease.address = "fd00:1::c8".parse()?;
    assert_eq!(
        reservation(&only6, &lease).as_deref(),
        Some("tag:hybr0,52:54:00:aa:bb:cc,[fd00:1::c8],set:sole\n")
    );
    lease.mac = None;
    assert_eq!(reservation(&only6, &lease), None);
    Ok(())
}

#[test]
fn a_moved_address_lists_its_former_holder_without_the_tag() -> Result {
    let network = network("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?;
    let mut lease = lease("10.0.1.200", "52:54:00:00:00:02", None)?;
    lease.handover = Some(Handover { mac: "52:54:00:00:00:01".parse()?, until: 0 });
    let moved = reservation(&network, &lease).unwrap_or_default();
    assert_eq!(moved, "52:54:00:00:00:02,52:54:00:00:00:01,10.0.1.200\n");
    assert_eq!(former_holder(&moved), Some("52:54:00:00:00:01".parse()?));
    lease.handover = None;
    let settled = reservation(&network, &lease);
    assert_eq!(without_former_holder(&network, &moved), settled);
    assert_eq!(former_holder(&settled.unwrap_or_default()), None);
    Ok(())
}

#[test]
fn names_are_full_first_then_bare_then_aliases() -> Result {
    let network =
        network("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n[ipv6]\nsubnet = \"fd00:1::/64\"\n")?;
    let mut lease = lease("10.0.1.200", "52:54:00:aa:bb:cc", Some("db"))?;
    let mac = "52:54:00:aa:bb:cc".parse()?;
    lease.aliases = vec!["pg".parse()?];
    let text = hosts(&network, &lease, mac);
    assert_eq!(
        text,
        "10.0.1.200 db.hybrid.internal db pg.hybrid.internal pg # 52:54:00:aa:bb:cc\n\
         fd00:1::c8 db.hybrid.internal db pg.hybrid.internal pg # 52:54:00:aa:bb:cc\n"
    );
    assert!(text.lines().all(|line| named_in(line) == Some(mac)));
    lease.hostname = None;
    lease.aliases.clear();
    assert_eq!(hosts(&network, &lease, mac), "");
    Ok(())
}
