//! The text of dnsmasq's files. Pure.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use super::role::Role;
use crate::model::mac::fnv1a;
use crate::model::naming::OF_THE_HOST;
use crate::model::{Family, Lease, MacAddress, Network, Origin};

/// How long a guest may use its address before it asks again. Short enough that a moved address is soon
/// known, long enough to outlive a restart of the host's services.
const LEASE_TIME: &str = "1h";

/// The same for IPv6. Shorter, because dnsmasq has no handover there: a NIC whose guest was installed anew
/// (another DUID, RFC 8415, section 11), or the new holder of a moved address, waits for its end.
const LEASE_TIME_6: &str = "10m";

/// Answers that dnsmasq keeps. It sizes its table of names by this number alone: what comes through hosts.d
/// does not enlarge it, and with 1,000 guests in a table for 1,000 each question walks a long chain. More
/// than 10,000 brings a warning.
const CACHE: u32 = 10_000;

/// The config (dnsmasq(8)) of one of a network's dnsmasqs, for dnsmasq's folder `folder` and the host's list
/// of resolvers `resolvers` (a file as in resolv.conf(5)). `together` are all networks that are up.
///
/// `None` where dnsmasq can't serve: the bridge is adopted and has no address of its own.
#[must_use]
pub fn config(
    network: &Network,
    together: &[Network],
    role: Role,
    folder: &Path,
    resolvers: &Path,
) -> Option<String> {
    network.families().find(|f| f.address.is_some())?;
    let mut text = format!(
        "# Network {}, written by hybrid-hook; changes are overwritten.\n\
         \n\
         # On this bridge and nowhere else, also when it comes late or again.\n\
         interface={}\n\
         except-interface=lo\n\
         bind-dynamic\n\
         no-hosts\n",
        network.name, network.bridge,
    );
    match role {
        Role::Names => {
            names(&mut text, network, folder, resolvers);
            other_zones(&mut text, network, together);
        }
        Role::Addresses => addresses(&mut text, network, folder),
    }
    // dnsmasq writes this file when it has read the config: its name says which.
    let hash = fnv1a(text.as_bytes());
    let _ = write!(text, "\npid-file={}/{}-{hash:08x}.pid\n", folder.display(), role.stem());
    Some(text)
}

fn names(text: &mut String, network: &Network, folder: &Path, resolvers: &Path) {
    let zone = &network.zone;
    let loopback = if network.host_dns {
        format!(
            "# For the host, and for Docker on behalf of containers.\nlisten-address={}\n",
            network.loopback()
        )
    } else {
        String::new()
    };
    let _ = write!(
        text,
        "{loopback}\
         \n\
         # Names: our guests' from hosts.d, the rest from the host's own resolvers. A bare name is never\n\
         # asked outside, so that one without IPv6 is \"no data\" and not REFUSED.\n\
         hostsdir={folder}/hosts.d\n\
         local=/{zone}/\n\
         local=//\n\
         domain-needed\n\
         {others}\n\
         dns-loop-detect\n\
         cache-size={CACHE}\n",
        folder = folder.display(),
        // Names are a way out, too.
        others = if network.internal {
            "no-resolv".to_owned()
        } else {
            format!("resolv-file={}", resolvers.display())
        },
    );
    if network.stop_rebind {
        text.push_str("stop-dns-rebind\n");
    }
    own_names(text, network);
    for zone in network.reverse_zones() {
        let _ = writeln!(text, "local=/{zone}/");
    }
}

/// The zones of our other networks, from their own resolvers: what stands in the host's list need not know
/// them, and may be the world. By name, so that the order of a listing restarts nothing.
fn other_zones(text: &mut String, network: &Network, together: &[Network]) {
    let mut others: Vec<(&Network, IpAddr)> = together
        .iter()
        .filter(|other| other.name != network.name)
        .filter_map(|other| Some((other, other.resolvers().next()?)))
        .collect();
    others.sort_by_key(|(other, _)| &other.name);
    if !others.is_empty() {
        text.push_str("\n# Our other networks' zones, which are never asked outside either.\n");
    }
    for (other, address) in others {
        for zone in std::iter::once(other.zone.to_string()).chain(other.reverse_zones()) {
            let _ = writeln!(text, "server=/{zone}/{address}");
        }
        if network.stop_rebind {
            // A private address is what is to be expected of it.
            let _ = writeln!(text, "rebind-domain-ok=/{}/", other.zone);
        }
    }
}

fn addresses(text: &mut String, network: &Network, folder: &Path) {
    let folder = folder.display();
    // No "no-ping": it pings nobody before it gives a reserved address. But without pings it gives up the
    // right to bind its sockets to a device, and is deaf after the bridge was deleted and made again.
    let _ = write!(
        text,
        "port=0\n\
         \n\
         # Addresses: for the NICs in dhcp-hosts.d, known by their MAC alone. A guest's word for its own\n\
         # name is not taken.\n\
         dhcp-hostsdir={folder}/dhcp-hosts.d\n\
         dhcp-leasefile={folder}/leases\n\
         dhcp-lease-max=100000\n\
         dhcp-ignore-names\n\
         dhcp-ignore-clid\n"
    );
    if !network.adopt {
        text.push_str("dhcp-authoritative\n");
    }
    if let Some((family, address)) = served(network.ipv4.as_ref()) {
        ipv4_ranges(text, network, family, address);
    }
    if let Some((family, address)) = served(network.ipv6.as_ref()) {
        ipv6_ranges(text, network, family, address);
    }
}

/// A family with the address at which dnsmasq serves it.
fn served(family: Option<&Family>) -> Option<(&Family, IpAddr)> {
    family.and_then(|f| f.address.map(|a| (f, a)))
}

/// The names `host` and `gateway`, which no guest can have: one line where they are the same machine.
fn own_names(text: &mut String, network: &Network) {
    let zone = &network.zone;
    let mut lines: Vec<(Vec<&str>, Vec<IpAddr>)> = Vec::new();
    for (name, of) in [
        (OF_THE_HOST[0], (|f: &Family| f.address) as fn(&Family) -> Option<IpAddr>),
        (OF_THE_HOST[1], |f| Some(f.gateway)),
    ] {
        let addresses: Vec<IpAddr> = network.families().filter_map(of).collect();
        match lines.iter_mut().find(|(_, other)| *other == addresses) {
            Some((names, _)) => names.push(name),
            None if addresses.is_empty() => {}
            None => lines.push((vec![name], addresses)),
        }
    }
    for (names, addresses) in lines {
        let full = names.iter().map(|n| format!("{n}.{zone}"));
        let words: Vec<String> = full
            .chain(names.iter().map(ToString::to_string))
            .chain(addresses.iter().map(ToString::to_string))
            .collect();
        let _ = writeln!(text, "host-record={}", words.join(","));
    }
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
         dhcp-option=tag:sole,option:router{}\n\
         dhcp-option=tag:sole,option:dns-server,{address}\n\
         dhcp-option=tag:sole,option:domain-name,{zone}\n\
         dhcp-option=tag:sole,option:domain-search,{zone}\n\
         dhcp-option=tag:!sole,option:router\n\
         dhcp-option=tag:!sole,option:dns-server\n",
        subnet.network(),
        subnet.netmask(),
        if network.internal { String::new() } else { format!(",{}", family.gateway) },
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
            if let Some(companion) = lease.ipv6(network) {
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
/// question, then the bare label, then the aliases; and after them, as a comment, `mac`, the guest's own.
/// Empty where it has no name.
#[must_use]
pub fn hosts(network: &Network, lease: &Lease, mac: MacAddress) -> String {
    let mut names = String::new();
    for label in lease.hostname.iter().chain(&lease.aliases) {
        let _ = write!(names, " {} {label}", network.fqdn(label));
    }
    let mut text = String::new();
    if !names.is_empty() {
        let companion = lease.ipv6(network).map(IpAddr::V6);
        for address in [Some(lease.address), companion].into_iter().flatten() {
            let _ = writeln!(text, "{address}{names} # {mac}");
        }
    }
    text
}

/// Whose line of [`hosts`] this is.
pub(super) fn named_in(line: &str) -> Option<MacAddress> {
    line.rsplit_once(" # ")?.1.parse().ok()
}

#[cfg(test)]
mod tests;
