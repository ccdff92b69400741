//! The text of dnsmasq's files. Pure.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use crate::model::mac::fnv1a;
use crate::model::{Family, Lease, MacAddress, Network, Origin};

/// How long a guest may use its address before it asks again. Short enough that a moved address is soon
/// known, long enough to outlive a restart of the host's services.
const LEASE_TIME: &str = "1h";

/// The same for IPv6. Shorter, because dnsmasq has no handover there: a NIC whose guest was installed anew
/// (another DUID, RFC 8415, section 11), or the new holder of a moved address, waits for its end.
const LEASE_TIME_6: &str = "10m";

/// A network's `dnsmasq.conf` (dnsmasq(8)), for dnsmasq's folder `folder` and the host's list of
/// resolvers `resolvers` (a file as in resolv.conf(5)).
///
/// `None` where dnsmasq can't serve: the bridge is adopted and has no address of its own.
#[must_use]
pub fn config(network: &Network, folder: &Path, resolvers: &Path) -> Option<String> {
    let served = |family: &'_ Option<Family>| -> Option<(Family, IpAddr)> {
        family.as_ref().and_then(|f| f.address.map(|a| (f.clone(), a)))
    };
    let (ipv4, ipv6) = (served(&network.ipv4), served(&network.ipv6));
    if ipv4.is_none() && ipv6.is_none() {
        return None;
    }
    let (bridge, zone, folder) = (&network.bridge, &network.zone, folder.display());
    let mut text = format!(
        "# Network {name}, written by hybrid-hook; changes are overwritten.\n\
         \n\
         # On this bridge and nowhere else, also when it comes late or again.\n\
         interface={bridge}\n\
         except-interface=lo\n\
         bind-dynamic\n\
         \n\
         # Names: our guests' from hosts.d, the rest from the host's own resolvers. A bare name is never\n\
         # asked outside, so that one without IPv6 is \"no data\" and not REFUSED.\n\
         no-hosts\n\
         hostsdir={folder}/hosts.d\n\
         domain={zone}\n\
         local=/{zone}/\n\
         domain-needed\n\
         resolv-file={resolvers}\n\
         dns-loop-detect\n\
         cache-size=1000\n",
        name = network.name,
        resolvers = resolvers.display(),
    );
    // On a LAN that is not ours another server may know the neighbours' names.
    if !network.adopt {
        for family in network.families() {
            for zone in reverse_zones(family.subnet) {
                let _ = writeln!(text, "local=/{zone}/");
            }
        }
    }
    let _ = write!(
        text,
        "\n\
         # Addresses: for the NICs in dhcp-hosts.d, known by their MAC alone. A guest's word for its own\n\
         # name is not taken.\n\
         dhcp-hostsdir={folder}/dhcp-hosts.d\n\
         dhcp-leasefile={folder}/leases\n\
         dhcp-lease-max=100000\n\
         dhcp-ignore-names\n\
         dhcp-ignore-clid\n\
         no-ping\n"
    );
    if !network.adopt {
        text.push_str("dhcp-authoritative\n");
    }
    if let Some((family, address)) = &ipv4 {
        ipv4_ranges(&mut text, network, family, *address);
    }
    if let Some((family, address)) = &ipv6 {
        ipv6_ranges(&mut text, network, family, *address);
    }
    // dnsmasq writes this file when it has read the config: its name says which.
    let hash = fnv1a(text.as_bytes());
    let _ = write!(text, "\npid-file={folder}/{}\n", pid_file(hash));
    Some(text)
}

/// The name of the file that a dnsmasq with the config `hash` writes.
fn pid_file(hash: u32) -> String {
    format!("dnsmasq-{hash:08x}.pid")
}

/// The pid file that a config names.
pub(super) fn pid_file_of(config: &str) -> Option<&Path> {
    config.lines().find_map(|line| line.strip_prefix("pid-file=")).map(Path::new)
}

fn ipv4_ranges(text: &mut String, network: &Network, family: &Family, address: IpAddr) {
    let (zone, subnet) = (&network.zone, family.subnet);
    let _ = write!(
        text,
        "\n\
         # \"static\": no address for a NIC that we don't know.\n\
         dhcp-range={},static,{},{LEASE_TIME}\n\
         # A guest whose only NIC this is gets route and resolver; another has them from elsewhere.\n\
         dhcp-option=tag:sole,option:router,{}\n\
         dhcp-option=tag:sole,option:dns-server,{address}\n\
         dhcp-option=tag:sole,option:domain-search,{zone}\n\
         dhcp-option=tag:!sole,option:router\n\
         dhcp-option=tag:!sole,option:dns-server\n\
         dhcp-option=tag:!sole,option:domain-name\n",
        subnet.network(),
        subnet.netmask(),
        family.gateway,
    );
    if network.mtu != 1500 {
        let _ = writeln!(text, "dhcp-option=option:mtu,{}", network.mtu);
    }
}

fn ipv6_ranges(text: &mut String, network: &Network, family: &Family, address: IpAddr) {
    let (zone, bridge) = (&network.zone, &network.bridge);
    // dnsmasq takes no DHCPv6 subnet larger than a /64; all that we give out is in the first one.
    let prefix = family.subnet.prefix_len().max(64);
    let _ = write!(
        text,
        "\n\
         dhcp-range={},static,{prefix},{LEASE_TIME_6}\n\
         dhcp-option=tag:sole,option6:dns-server,[{address}]\n\
         dhcp-option=tag:sole,option6:domain-search,{zone}\n\
         dhcp-option=tag:!sole,option6:dns-server\n",
        family.subnet.network(),
    );
    if network.adopt {
        return;
    }
    // A route can't be given to one guest alone: advertisements go to all (RFC 4861, section 6.2). With
    // low preference (RFC 4191) a guest with a router elsewhere keeps to that one.
    text.push_str("enable-ra\n");
    if network.mtu == 1500 {
        let _ = writeln!(text, "ra-param={bridge},low,60,1800");
    } else {
        let _ = writeln!(text, "ra-param={bridge},mtu:{},low,60,1800", network.mtu);
    }
}

/// The zones under `in-addr.arpa` (RFC 1035, section 3.5) or `ip6.arpa` (RFC 3596, section 2.5) that
/// make up a subnet: one, or several where its prefix ends within a label.
fn reverse_zones(subnet: IpNet) -> Vec<String> {
    let step = if matches!(subnet, IpNet::V4(_)) { 8 } else { 4 };
    let whole = subnet.prefix_len().div_ceil(step) * step;
    let Ok(parts) = subnet.subnets(whole) else { return Vec::new() };
    parts
        .map(|part| {
            let labels = usize::from(whole / step);
            let mut digits: Vec<String> = match part.network() {
                IpAddr::V4(a) => a.octets().iter().map(u8::to_string).collect(),
                IpAddr::V6(a) => {
                    a.octets().iter().flat_map(|o| [o >> 4, o & 15]).map(|n| format!("{n:x}")).collect()
                }
            };
            digits.truncate(labels);
            digits.reverse();
            let root = if part.network().is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" };
            format!("{}.{root}", digits.join("."))
        })
        .collect()
}

/// A lease's DHCP reservation: one line as `dhcp-host=` takes it, with its line end.
///
/// `None` where DHCP has nothing to give: no MAC, or a container's, which Docker sets up.
///
/// A former holder's MAC is listed beside the new one, else dnsmasq refuses the address while the former
/// DHCP lease runs. Every other reservation carries the bridge's tag, which every request from it has:
/// dnsmasq prefers a reservation with a matching tag, so a former holder that comes back with an address
/// of its own gets that one.
#[must_use]
pub fn reservation(network: &Network, lease: &Lease) -> Option<String> {
    let mac = lease.mac?;
    if lease.owner.as_ref().is_some_and(|o| o.origin == Origin::Container) {
        return None;
    }
    let mut line = match &lease.handover {
        Some(handover) => format!("{mac},{}", handover.mac),
        None => format!("tag:{},{mac}", network.bridge),
    };
    match lease.address {
        IpAddr::V4(address) => {
            let _ = write!(line, ",{address}");
            if let Some(companion) = network.companion(lease.address) {
                let _ = write!(line, ",[{companion}]");
            }
        }
        IpAddr::V6(address) => {
            let _ = write!(line, ",[{address}]");
        }
    }
    if lease.sole_nic {
        line.push_str(",set:sole");
    }
    line.push('\n');
    Some(line)
}

/// The former holder that a reservation lists, if any.
pub(super) fn former_holder(reservation: &str) -> Option<MacAddress> {
    let mut fields = reservation.trim_end().split(',');
    // With a tag in front there is one MAC only.
    fields.next()?.parse::<MacAddress>().ok()?;
    fields.next()?.parse().ok()
}

/// A reservation without the former holder that it lists.
pub(super) fn without_former_holder(network: &Network, reservation: &str) -> Option<String> {
    let (mac, rest) = reservation.split_once(',')?;
    let (_, rest) = rest.split_once(',')?;
    Some(format!("tag:{},{mac},{rest}", network.bridge))
}

/// The names of a lease's guest, as hosts(5): the full name first, because that one answers a reverse
/// question, then the bare label, then the aliases. Empty where it has no name.
#[must_use]
pub fn hosts(network: &Network, lease: &Lease) -> String {
    let mut names = String::new();
    for label in lease.hostname.iter().chain(&lease.aliases) {
        let _ = write!(names, " {} {label}", network.fqdn(label));
    }
    let mut text = String::new();
    if !names.is_empty() {
        let companion = network.companion(lease.address).map(IpAddr::V6);
        for address in [Some(lease.address), companion].into_iter().flatten() {
            let _ = writeln!(text, "{address}{names}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Result, lease, network};
    use super::*;
    use crate::model::lease::Handover;

    fn render(text: &str) -> Result<Option<String>> {
        let network = network(text)?;
        let folder = Path::new("/run/hybrid-hook/dnsmasq/hybrid");
        Ok(config(&network, folder, Path::new("/etc/resolv.conf")))
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

            # Names: our guests' from hosts.d, the rest from the host's own resolvers. A bare name is never
            # asked outside, so that one without IPv6 is "no data" and not REFUSED.
            no-hosts
            hostsdir=/run/hybrid-hook/dnsmasq/hybrid/hosts.d
            domain=hybrid.internal
            local=/hybrid.internal/
            domain-needed
            resolv-file=/etc/resolv.conf
            dns-loop-detect
            cache-size=1000
            local=/1.0.10.in-addr.arpa/

            # Addresses: for the NICs in dhcp-hosts.d, known by their MAC alone. A guest's word for its own
            # name is not taken.
            dhcp-hostsdir=/run/hybrid-hook/dnsmasq/hybrid/dhcp-hosts.d
            dhcp-leasefile=/run/hybrid-hook/dnsmasq/hybrid/leases
            dhcp-lease-max=100000
            dhcp-ignore-names
            dhcp-ignore-clid
            no-ping
            dhcp-authoritative

            # "static": no address for a NIC that we don't know.
            dhcp-range=10.0.1.0,static,255.255.255.0,1h
            # A guest whose only NIC this is gets route and resolver; another has them from elsewhere.
            dhcp-option=tag:sole,option:router,10.0.1.1
            dhcp-option=tag:sole,option:dns-server,10.0.1.1
            dhcp-option=tag:sole,option:domain-search,hybrid.internal
            dhcp-option=tag:!sole,option:router
            dhcp-option=tag:!sole,option:dns-server
            dhcp-option=tag:!sole,option:domain-name

            pid-file=/run/hybrid-hook/dnsmasq/hybrid/dnsmasq-bd4829e2.pid
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

            # Names: our guests' from hosts.d, the rest from the host's own resolvers. A bare name is never
            # asked outside, so that one without IPv6 is "no data" and not REFUSED.
            no-hosts
            hostsdir=/run/hybrid-hook/dnsmasq/hybrid/hosts.d
            domain=hybrid.internal
            local=/hybrid.internal/
            domain-needed
            resolv-file=/etc/resolv.conf
            dns-loop-detect
            cache-size=1000
            local=/8.0.10.in-addr.arpa/
            local=/9.0.10.in-addr.arpa/
            local=/10.0.10.in-addr.arpa/
            local=/11.0.10.in-addr.arpa/
            local=/0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa/

            # Addresses: for the NICs in dhcp-hosts.d, known by their MAC alone. A guest's word for its own
            # name is not taken.
            dhcp-hostsdir=/run/hybrid-hook/dnsmasq/hybrid/dhcp-hosts.d
            dhcp-leasefile=/run/hybrid-hook/dnsmasq/hybrid/leases
            dhcp-lease-max=100000
            dhcp-ignore-names
            dhcp-ignore-clid
            no-ping
            dhcp-authoritative

            # "static": no address for a NIC that we don't know.
            dhcp-range=10.0.8.0,static,255.255.252.0,1h
            # A guest whose only NIC this is gets route and resolver; another has them from elsewhere.
            dhcp-option=tag:sole,option:router,10.0.8.1
            dhcp-option=tag:sole,option:dns-server,10.0.8.1
            dhcp-option=tag:sole,option:domain-search,hybrid.internal
            dhcp-option=tag:!sole,option:router
            dhcp-option=tag:!sole,option:dns-server
            dhcp-option=tag:!sole,option:domain-name
            dhcp-option=option:mtu,9000

            dhcp-range=fd00:1::,static,64,10m
            dhcp-option=tag:sole,option6:dns-server,[fd00:1::1]
            dhcp-option=tag:sole,option6:domain-search,hybrid.internal
            dhcp-option=tag:!sole,option6:dns-server
            enable-ra
            ra-param=hybr0,mtu:9000,low,60,1800

            pid-file=/run/hybrid-hook/dnsmasq/hybrid/dnsmasq-8bfc23bb.pid
        "#);
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

            # Names: our guests' from hosts.d, the rest from the host's own resolvers. A bare name is never
            # asked outside, so that one without IPv6 is "no data" and not REFUSED.
            no-hosts
            hostsdir=/run/hybrid-hook/dnsmasq/hybrid/hosts.d
            domain=hybrid.internal
            local=/hybrid.internal/
            domain-needed
            resolv-file=/etc/resolv.conf
            dns-loop-detect
            cache-size=1000

            # Addresses: for the NICs in dhcp-hosts.d, known by their MAC alone. A guest's word for its own
            # name is not taken.
            dhcp-hostsdir=/run/hybrid-hook/dnsmasq/hybrid/dhcp-hosts.d
            dhcp-leasefile=/run/hybrid-hook/dnsmasq/hybrid/leases
            dhcp-lease-max=100000
            dhcp-ignore-names
            dhcp-ignore-clid
            no-ping

            # "static": no address for a NIC that we don't know.
            dhcp-range=192.168.7.0,static,255.255.255.0,1h
            # A guest whose only NIC this is gets route and resolver; another has them from elsewhere.
            dhcp-option=tag:sole,option:router,192.168.7.1
            dhcp-option=tag:sole,option:dns-server,192.168.7.9
            dhcp-option=tag:sole,option:domain-search,hybrid.internal
            dhcp-option=tag:!sole,option:router
            dhcp-option=tag:!sole,option:dns-server
            dhcp-option=tag:!sole,option:domain-name

            pid-file=/run/hybrid-hook/dnsmasq/hybrid/dnsmasq-65e09f95.pid
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
        let two = render("format = 1\nmtu = 1400\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?.unwrap_or_default();
        assert!(pid_file_of(&one).is_some());
        assert_ne!(pid_file_of(&one), pid_file_of(&two));
        Ok(())
    }

    #[test]
    fn reverse_zones_cover_the_subnet_and_no_more() -> Result {
        let zones = |net: &str| -> Result<Vec<String>> { Ok(reverse_zones(net.parse()?)) };
        assert_eq!(zones("10.0.1.0/24")?, ["1.0.10.in-addr.arpa"]);
        assert_eq!(zones("10.0.0.0/15")?, ["0.10.in-addr.arpa", "1.10.in-addr.arpa"]);
        assert_eq!(zones("10.0.1.8/31")?, ["8.1.0.10.in-addr.arpa", "9.1.0.10.in-addr.arpa"]);
        assert_eq!(zones("fd00:1::/64")?, ["0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa"]);
        assert_eq!(zones("fd00::/50")?.len(), 4);
        Ok(())
    }

    #[test]
    fn a_reservation_has_both_families_and_says_whether_it_is_the_only_nic() -> Result {
        let both =
            network("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n[ipv6]\nsubnet = \"fd00:1::/64\"\n")?;
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
        lease.aliases = vec!["pg".parse()?];
        assert_eq!(
            hosts(&network, &lease),
            "10.0.1.200 db.hybrid.internal db pg.hybrid.internal pg\n\
             fd00:1::c8 db.hybrid.internal db pg.hybrid.internal pg\n"
        );
        lease.hostname = None;
        lease.aliases.clear();
        assert_eq!(hosts(&network, &lease), "");
        Ok(())
    }
}
