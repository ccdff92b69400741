//! What was seen, for people: the verdicts and what differs, then each network in short sections.

use crate::cli::output::{or_dash, printable, rows};
use crate::model::LeaseRecord;
use crate::ops::inspect::{
    DaemonRecord, DaemonState, Difference, DnsmasqRecord, GuestKind, HookState, HostNamesRecord, HostRecord,
    Inspection, NamesRecord, NatTable, NetworkRecord, Part, PoolGuests, PortRecord, Traffic, Unseen,
};
use crate::ops::names::{Asker, Works};

pub(super) fn of(inspection: &Inspection) -> String {
    let mut lines = Vec::new();
    let unreadable = inspection.host.differences.iter().any(|d| d.part == Part::Files);
    if inspection.networks.is_empty() && !unreadable {
        lines.push("no networks; hybrid-hook network create makes one".to_owned());
    }
    for network in &inspection.networks {
        let differ = &network.differences;
        let state = if network.up { "" } else { " (down)" };
        lines.push(verdict(&format!("network {}{state}", network.name), differ, &network.unseen));
        lines.extend(differences(differ));
    }
    let host = &inspection.host;
    lines.push(verdict("this host", &host.differences, &host.unseen));
    lines.extend(differences(&host.differences));
    lines.extend(unseen(inspection));
    for network in &inspection.networks {
        lines.push(String::new());
        lines.extend(sections(network));
    }
    lines.push(String::new());
    lines.extend(host_lines(host));
    lines.iter().map(|l| l.trim_end()).collect::<Vec<_>>().join("\n")
}

fn verdict(what: &str, differences: &[Difference], unseen: &[Unseen]) -> String {
    let verdict = match (differences.len(), unseen.len()) {
        (0, 0) => "in order".to_owned(),
        (0, _) => "in order as far as could be seen".to_owned(),
        (1, _) => "1 thing differs".to_owned(),
        (n, _) => format!("{n} things differ"),
    };
    format!("{what}: {verdict}")
}

/// Each on its line; what is mended by the same command shares one.
fn differences(all: &[Difference]) -> Vec<String> {
    let mut lines = Vec::new();
    for (i, d) in all.iter().enumerate() {
        lines.push(printable(&format!("  {} is {}, should be {}", d.what, d.is, d.should_be)));
        if all.get(i + 1).is_none_or(|next| next.mend != d.mend) {
            lines.push(printable(&format!("    mend: {}", d.mend)));
        }
    }
    lines
}

/// What needs root in one line; the rest with its reason.
fn unseen(inspection: &Inspection) -> Vec<String> {
    let all: Vec<&Unseen> =
        inspection.networks.iter().flat_map(|n| &n.unseen).chain(&inspection.host.unseen).collect();
    let mut root: Vec<&str> = all.iter().filter(|u| u.needs_root).map(|u| u.what.as_str()).collect();
    root.sort_unstable();
    root.dedup();
    let mut lines = Vec::new();
    for one in all.iter().filter(|u| !u.needs_root) {
        let line = printable(&format!("not looked at: {} ({})", one.what, one.why));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    if !root.is_empty() {
        lines.push(printable(&format!("only root can see: {}", root.join(", "))));
    }
    lines
}

fn sections(network: &NetworkRecord) -> Vec<String> {
    let bridge = &network.bridge;
    let mut lines = vec![format!("network {}", network.name)];
    let mut say = |what: &str, value: String| lines.push(printable(&format!("  {what:<9} {value}")));
    say(
        "bridge",
        match bridge.exists {
            Some(true) => {
                let mut words = vec![
                    bridge.name.to_string(),
                    if bridge.up { "up" } else { "down" }.to_owned(),
                    format!("MAC {}", or_dash(bridge.mac)),
                    format!("MTU {}", or_dash(bridge.mtu)),
                ];
                words.extend(bridge.addresses.iter().map(ToString::to_string));
                words.join(", ")
            }
            Some(false) => format!("{}, not there", bridge.name),
            None => format!("{}, unknown", bridge.name),
        },
    );
    say(
        "NAT",
        match (network.nat.wanted, network.nat.table) {
            (false, _) => "none wanted",
            (true, NatTable::Current) => "on",
            (true, NatTable::Stale) => "of another rendering",
            (true, NatTable::Absent) => "missing",
            (true, NatTable::Unknown) => "unknown",
        }
        .to_owned(),
    );
    say("dnsmasq", dnsmasq(&network.dnsmasq));
    say("resolvers", host_names(&network.host_names));
    for (what, value) in network.names.iter().flat_map(names) {
        say(what, value);
    }
    let wrong =
        network.settings.iter().filter(|s| s.is.as_deref().is_some_and(|is| is != s.should_be)).count();
    let count = network.settings.len();
    say(
        "settings",
        if wrong == 0 { format!("{count} as they should be") } else { format!("{wrong} of {count} differ") },
    );
    let wanted = &network.wanted;
    say(
        "Docker",
        match &network.docker_network {
            Some(n) if n.exists => format!("{}, {} on it", n.name, counted(n.endpoints.len(), "container")),
            Some(n) => format!("{}, not there", n.name),
            None => format!("{}, unknown", wanted.docker_network),
        },
    );
    say(
        "libvirt",
        match &network.libvirt_network {
            Some(n) if n.exists => {
                format!("{}, {}", n.name, if n.active { "started" } else { "not started" })
            }
            Some(n) => format!("{}, not there", n.name),
            None => format!("{}, unknown", wanted.libvirt_network),
        },
    );
    let pools = network.pools.iter().map(|p| {
        let guests = match p.guests {
            PoolGuests::Vms => "VMs",
            PoolGuests::Containers => "containers",
        };
        vec![
            guests.to_owned(),
            p.range.to_string(),
            p.size.to_string(),
            p.active.to_string(),
            p.idle.to_string(),
            p.reserved.to_string(),
            p.free.to_string(),
        ]
    });
    let heading = ["POOL", "RANGE", "SIZE", "ACTIVE", "IDLE", "RESERVED", "FREE"];
    lines.extend(table(&heading, pools.collect()));
    if !network.ports.is_empty() {
        let heading = ["PORT", "GUEST", "ADDRESS", "MAC", "STATE", "SENT", "RECEIVED", "DROPPED"];
        lines.extend(table(&heading, network.ports.iter().map(port).collect()));
    }
    if !network.leases.is_empty() {
        let heading = ["LEASE", "STATE", "MAC", "HOST NAME", "OWNER"];
        lines.extend(table(&heading, network.leases.iter().map(lease).collect()));
    }
    lines
}

fn table(heading: &[&str], cells: Vec<Vec<String>>) -> Vec<String> {
    let lines = rows(heading, cells).into_iter().map(|line| format!("  {line}"));
    std::iter::once(String::new()).chain(lines).collect()
}

/// Who can resolve names, in a line; and a line for each who can't and each who goes without.
fn names(record: &NamesRecord) -> Vec<(&'static str, String)> {
    let who = |asker| match asker {
        Asker::Host => "the host",
        Asker::Containers => "containers",
        Asker::Vms => "VMs",
    };
    let word = |works| match works {
        Works::Yes => "",
        Works::FullNames => " (full names)",
        Works::Maybe => " (most)",
        Works::No => "",
    };
    let able = record.reach.iter().filter(|r| r.works != Works::No);
    let able: Vec<String> = able.map(|r| format!("{}{}", who(r.asker), word(r.works))).collect();
    let list = if able.is_empty() { "nobody".to_owned() } else { able.join(", ") };
    let mut lines = vec![("names", format!("resolved for {list}"))];
    for r in record.reach.iter().filter(|r| r.works == Works::No) {
        let mend = r.mend.as_ref().map(|m| format!("; mend: {m}")).unwrap_or_default();
        lines.push(("", format!("not for {}: {}{mend}", who(r.asker), r.path)));
    }
    for clash in &record.clashes {
        let holder = clash.holder_in_words();
        lines.push(("", format!("{} is {holder}'s; {} goes without", clash.name, clash.asker)));
    }
    lines
}

fn dnsmasq(record: &DnsmasqRecord) -> String {
    let (dns, dhcp) = match (record.pid, record.dhcp_pid) {
        (Some(dns), Some(dhcp)) => (dns, dhcp),
        (Some(_), None) if record.wanted => return "not running for DHCP".to_owned(),
        (None, Some(_)) if record.wanted => return "not running for DNS".to_owned(),
        (Some(left), None) | (None, Some(left)) => return format!("process {left}, which is not wanted"),
        (None, None) if record.wanted => return "not running".to_owned(),
        (None, None) => return "none wanted".to_owned(),
    };
    let by = if record.supervised { ", restarted by systemd" } else { "" };
    let config = if record.config_current { "" } else { ", with another config" };
    format!("processes {dns} (DNS) and {dhcp} (DHCP){by}{config}")
}

fn host_names(record: &HostNamesRecord) -> String {
    let named = [("systemd-resolved", record.resolved), ("NetworkManager", record.network_manager)];
    let words = named.iter().filter_map(|(who, told)| Some((who, (*told)?)));
    let words: Vec<_> = words
        .map(|(who, told)| format!("{who} {}", if told { "asks it" } else { "does not ask it" }))
        .collect();
    if words.is_empty() { "the host asks by other ways, if at all".to_owned() } else { words.join(", ") }
}

fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn port(port: &PortRecord) -> Vec<String> {
    let guest = port.guest.as_ref().map(|g| {
        let kind = match g.kind {
            GuestKind::Vm => "vm",
            GuestKind::Container => "container",
            GuestKind::Hand => "by hand",
        };
        format!("{kind} {}", g.name.clone().unwrap_or_else(|| or_dash(g.id.as_ref())))
    });
    vec![
        port.device.clone(),
        or_dash(guest),
        or_dash(port.address),
        or_dash(port.mac),
        port.state.clone(),
        bytes(port.from_guest),
        bytes(port.to_guest),
        (port.from_guest.dropped + port.to_guest.dropped).to_string(),
    ]
}

fn bytes(traffic: Traffic) -> String {
    const STEP: u64 = 1024;
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (traffic.bytes, 0);
    while value >= 10 * STEP && unit + 1 < units.len() {
        value /= STEP;
        unit += 1;
    }
    format!("{value} {}", units.get(unit).copied().unwrap_or_default())
}

fn lease(lease: &LeaseRecord) -> Vec<String> {
    vec![
        lease.address.to_string(),
        lease.state.to_string(),
        or_dash(lease.mac),
        or_dash(lease.hostname.as_ref()),
        lease.owner_name.clone().unwrap_or_else(|| or_dash(lease.owner.as_ref())),
    ]
}

fn host_lines(host: &HostRecord) -> Vec<String> {
    let mut lines = vec!["this host".to_owned()];
    let mut say = |what: &str, value: String| lines.push(printable(&format!("  {what:<9} {value}")));
    say("service", host.service.pid.map_or_else(|| "not running".to_owned(), |pid| format!("process {pid}")));
    let hooks = host.hooks.iter().map(|h| {
        let state = match h.state {
            HookState::Ours => "there",
            HookState::Dangling => "leads nowhere",
            HookState::Absent => "not there",
            HookState::Other => "another tool's",
        };
        format!("{} {state}", h.kind)
    });
    let hooks: Vec<_> = hooks.collect();
    say("hooks", if hooks.is_empty() { "unknown".to_owned() } else { hooks.join(", ") });
    say("Docker", daemon(&host.docker));
    say("libvirt", daemon(&host.libvirt));
    lines
}

fn daemon(record: &DaemonRecord) -> String {
    match (record.state, &record.version, &record.detail) {
        (DaemonState::Answers, Some(version), _) => version.clone(),
        (_, _, Some(detail)) => detail.clone(),
        _ => "unknown".to_owned(),
    }
}
