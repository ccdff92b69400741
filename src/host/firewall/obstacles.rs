//! What of other people's firewalls stops our guests. Read and reported, never changed.

use std::collections::BTreeMap;

use serde_json::Value;

use super::nft_listing::{self, Listed};
use super::packet::{Chains, Packet, passes};
use super::{TABLE, iptables, nft};
use crate::deadline::Deadline;
use crate::host::process::run;
use crate::model::{Family, Kind, Network, Result};

/// Something that stops a network's guests, and what opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Where on its way the packet is stopped.
    pub stage: Stage,
    /// Traffic among guests of one bridge is stopped, which br_netfilter alone makes possible.
    pub among_guests: bool,
    /// What is stopped by what, in one line.
    pub what: String,
    /// The commands that open it, for root's shell, to be run in this order.
    pub commands: Vec<String>,
}

/// Where on its way a packet is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// On its way to the host itself: DHCP and DNS.
    Input,
    /// On its way through the host.
    Forward,
}

/// What was read of the host.
#[derive(Debug, Default)]
struct Seen {
    /// What `iptables -S` printed.
    ipv4: Option<Chains>,
    /// What `ip6tables -S` printed.
    ipv6: Option<Chains>,
    /// nftables' own tables.
    tables: BTreeMap<(String, String), Listed>,
    /// Bridged packets go through iptables too (br_netfilter).
    bridged_ipv4: bool,
    /// The same for IPv6.
    bridged_ipv6: bool,
}

/// What would stop a network's DHCP and DNS, its guests' way out, or their way to each other. A firewall
/// that isn't there, or whose program is missing, is no obstacle.
///
/// # Errors
/// A program that does not answer in time.
pub fn obstacles(network: &Network, deadline: Deadline) -> Result<Vec<Obstacle>> {
    let sysctl = |name: &str| {
        std::fs::read_to_string(format!("/proc/sys/net/bridge/bridge-nf-call-{name}"))
            .is_ok_and(|text| text.trim() == "1")
    };
    let seen = Seen {
        ipv4: chains("iptables", deadline)?,
        ipv6: if network.ipv6.is_some() { chains("ip6tables", deadline)? } else { None },
        tables: tables(deadline)?,
        bridged_ipv4: sysctl("iptables"),
        bridged_ipv6: sysctl("ip6tables"),
    };
    Ok(judge(network, &seen))
}

fn chains(program: &str, deadline: Deadline) -> Result<Option<Chains>> {
    // `-w` with no time would wait for the lock for ever.
    match run(program, &["-w", "2", "-S"], b"", deadline) {
        Ok(output) if output.success() => Ok(Some(iptables::parse(&String::from_utf8_lossy(&output.stdout)))),
        // A kernel without it, or not root: nothing to say.
        Ok(_) => Ok(None),
        Err(fault) if fault.kind() == Kind::Missing => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn tables(deadline: Deadline) -> Result<BTreeMap<(String, String), Listed>> {
    match nft(&["-j", "-t", "list", "ruleset"], b"", deadline) {
        Ok(output) => {
            let listing: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            Ok(nft_listing::parse(&listing))
        }
        Err(fault) if fault.kind() == Kind::Missing => Ok(BTreeMap::new()),
        Err(fault) => Err(fault),
    }
}

/// The way that exists only while br_netfilter is on.
const AMONG_GUESTS: &str = "traffic among guests (br_netfilter is on)";

/// A way that guests' packets take, and what it is called.
struct Way<'a> {
    name: &'static str,
    packet: Packet<'a>,
}

/// What reaches the host itself: DHCP and DNS.
fn ways_in<'a>(network: &'a Network, family: &Family) -> Vec<Way<'a>> {
    if family.address.is_none() {
        return Vec::new();
    }
    let dhcp = if family.subnet.network().is_ipv4() { 67 } else { 547 };
    [("DHCP", dhcp), ("DNS", 53)]
        .map(|(name, port)| Way {
            name,
            packet: Packet {
                from: Some(network.bridge.as_str()),
                to: None,
                protocol: "udp",
                port: Some(port),
                source: (name == "DNS").then_some(family.vm_pool.first()),
                answer: false,
            },
        })
        .into()
}

/// What the host forwards: to the outside and back and, where bridged packets are filtered, among guests.
fn ways_through<'a>(network: &'a Network, family: &Family, bridged: bool) -> Vec<Way<'a>> {
    let bridge = Some(network.bridge.as_str());
    let packet = |from, to, answer| Packet {
        from,
        to,
        protocol: "tcp",
        port: None,
        source: (from == bridge).then_some(family.vm_pool.first()),
        answer,
    };
    let mut ways = Vec::new();
    if family.address == Some(family.gateway) {
        ways.push(Way { name: "the way out", packet: packet(bridge, None, false) });
        ways.push(Way { name: "the way back in", packet: packet(None, bridge, true) });
    }
    if bridged {
        ways.push(Way { name: AMONG_GUESTS, packet: packet(bridge, bridge, false) });
    }
    ways
}

/// The names of the ways that a chain stops.
fn stopped(chains: &Chains, base: &str, ways: &[Way<'_>]) -> Vec<&'static str> {
    ways.iter().filter(|way| !passes(chains, base, &way.packet)).map(|way| way.name).collect()
}

fn judge(network: &Network, seen: &Seen) -> Vec<Obstacle> {
    let mut found = Vec::new();
    for family in network.families() {
        let ipv4 = family.subnet.network().is_ipv4();
        let (program, chains, bridged) = if ipv4 {
            ("iptables", &seen.ipv4, seen.bridged_ipv4)
        } else {
            ("ip6tables", &seen.ipv6, seen.bridged_ipv6)
        };
        let (inward, through) = (ways_in(network, family), ways_through(network, family, bridged));
        if let Some(chains) = chains {
            found.extend(of_iptables(network, program, chains, &inward, &through));
        }
        for ((of_family, table), listed) in &seen.tables {
            let concerns = of_family == "inet" || of_family == if ipv4 { "ip" } else { "ip6" };
            // iptables' own, already judged in its own words.
            let twice = chains.is_some() && table == "filter" && of_family != "inet";
            if !concerns || twice || table == TABLE {
                continue;
            }
            for (hook, base) in &listed.bases {
                let ways = match hook.as_str() {
                    "input" => &inward,
                    "forward" => &through,
                    _ => continue,
                };
                let stopped = stopped(&listed.chains, base, ways);
                found.extend(of_nftables(network, [of_family, table, base], hook, &stopped));
            }
        }
    }
    // An `inet` table stops both families for the same reason.
    let mut once: Vec<Obstacle> = Vec::new();
    for obstacle in found {
        if !once.contains(&obstacle) {
            once.push(obstacle);
        }
    }
    once
}

fn of_iptables(
    network: &Network,
    program: &str,
    chains: &Chains,
    inward: &[Way<'_>],
    through: &[Way<'_>],
) -> Vec<Obstacle> {
    let bridge = &network.bridge;
    let ufw = chains.contains_key("ufw-user-input");
    let mut found = Vec::new();
    let shut = stopped(chains, "INPUT", inward);
    if !shut.is_empty() {
        let dhcp = if program == "iptables" { 67 } else { 547 };
        let commands = if ufw {
            vec![
                format!("ufw allow in on {bridge} to any port {dhcp} proto udp"),
                format!("ufw allow in on {bridge} to any port 53"),
            ]
        } else {
            vec![
                format!("{program} -I INPUT -i {bridge} -p udp -m multiport --dports 53,{dhcp} -j ACCEPT"),
                format!("{program} -I INPUT -i {bridge} -p tcp --dport 53 -j ACCEPT"),
            ]
        };
        let by = if ufw { "ufw" } else { program };
        found.push(Obstacle {
            stage: Stage::Input,
            among_guests: false,
            what: sentence(network, &shut, by, "INPUT"),
            commands,
        });
    }
    let shut = stopped(chains, "FORWARD", through);
    if !shut.is_empty() {
        let docker = chains.contains_key("DOCKER-USER");
        let commands = if ufw && !docker {
            vec![format!("ufw route allow in on {bridge}")]
        } else {
            let chain = if docker { "DOCKER-USER" } else { "FORWARD" };
            vec![
                format!("{program} -I {chain} -i {bridge} -j ACCEPT"),
                format!(
                    "{program} -I {chain} -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
                ),
            ]
        };
        let by = if ufw { "ufw" } else { program };
        found.push(Obstacle {
            stage: Stage::Forward,
            among_guests: shut.contains(&AMONG_GUESTS),
            what: sentence(network, &shut, by, "FORWARD"),
            commands,
        });
    }
    found
}

fn of_nftables(network: &Network, path: [&String; 3], hook: &str, shut: &[&str]) -> Option<Obstacle> {
    let [family, table, chain] = path;
    if shut.is_empty() {
        return None;
    }
    let bridge = &network.bridge;
    let stage = if hook == "input" { Stage::Input } else { Stage::Forward };
    let among_guests = shut.contains(&AMONG_GUESTS);
    if table == "firewalld" {
        return Some(Obstacle {
            stage,
            among_guests,
            what: sentence(network, shut, "firewalld", chain),
            commands: vec![
                format!("firewall-cmd --permanent --zone=trusted --change-interface={bridge}"),
                "firewall-cmd --reload".to_owned(),
            ],
        });
    }
    // A name is in other people's keeping: only one that a shell takes as it stands is put in a command.
    let plain = |text: &String| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    let rule = |rule: &str| format!("nft 'insert rule {family} {table} {chain} {rule}'");
    let commands = if !plain(table) || !plain(chain) {
        Vec::new()
    } else if hook == "input" {
        vec![
            rule(&format!("iifname \"{bridge}\" udp dport {{ 53, 67, 547 }} accept")),
            rule(&format!("iifname \"{bridge}\" tcp dport 53 accept")),
        ]
    } else {
        vec![
            rule(&format!("iifname \"{bridge}\" accept")),
            rule(&format!("oifname \"{bridge}\" ct state established,related accept")),
        ]
    };
    let by = format!("nftables table {family} {table:?}");
    Some(Obstacle { stage, among_guests, what: sentence(network, shut, &by, chain), commands })
}

fn sentence(network: &Network, shut: &[&str], by: &str, chain: &str) -> String {
    format!(
        "{by} (chain {chain}) stops guests of network {} on {}: {}",
        network.name,
        network.bridge,
        shut.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network_file::NetworkFile;

    type TestResult<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

    fn network() -> TestResult<Network> {
        let file = NetworkFile::parse("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?;
        Ok(file.network(&"hybrid".parse()?)?)
    }

    fn report(seen: &Seen) -> TestResult<String> {
        let lines = judge(&network()?, seen).into_iter();
        Ok(lines.map(|o| format!("{}\n  {}\n", o.what, o.commands.join("\n  "))).collect())
    }

    fn by_iptables(text: &str, bridged: bool) -> TestResult<String> {
        let seen = Seen { ipv4: Some(iptables::parse(text)), bridged_ipv4: bridged, ..Seen::default() };
        report(&seen)
    }

    #[test]
    fn an_open_host_has_none() -> TestResult {
        assert_eq!(by_iptables("-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n", true)?, "");
        assert_eq!(report(&Seen::default())?, "");
        Ok(())
    }

    #[test]
    fn docker_without_our_network_stops_the_way_out() -> TestResult {
        let text = "-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n\
                    -A FORWARD -i docker0 ! -o docker0 -j ACCEPT\n-A DOCKER-USER -j RETURN\n";
        insta::assert_snapshot!(by_iptables(text, true)?, @r#"
            iptables (chain FORWARD) stops guests of network hybrid on hybr0: the way out, the way back in, traffic among guests (br_netfilter is on)
              iptables -I DOCKER-USER -i hybr0 -j ACCEPT
              iptables -I DOCKER-USER -o hybr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        "#);
        let mended = "-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n\
                      -A DOCKER-USER -i hybr0 -j ACCEPT\n\
                      -A DOCKER-USER -o hybr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n";
        assert_eq!(by_iptables(mended, true)?, "");
        Ok(())
    }

    #[test]
    fn ufw_is_told_in_its_own_words() -> TestResult {
        let text = "-P INPUT DROP\n-P FORWARD DROP\n-N ufw-before-input\n-N ufw-user-input\n\
                    -A INPUT -j ufw-before-input\n-A ufw-before-input -i lo -j ACCEPT\n\
                    -A ufw-before-input -j ufw-user-input\n\
                    -A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT\n";
        insta::assert_snapshot!(by_iptables(text, false)?, @r#"
            ufw (chain INPUT) stops guests of network hybrid on hybr0: DHCP, DNS
              ufw allow in on hybr0 to any port 67 proto udp
              ufw allow in on hybr0 to any port 53
            ufw (chain FORWARD) stops guests of network hybrid on hybr0: the way out, the way back in
              ufw route allow in on hybr0
        "#);
        Ok(())
    }

    #[test]
    fn a_table_of_somebody_else_is_named_with_the_rule_that_opens_it() -> TestResult {
        let text = r#"{"nftables":[
            {"chain":{"family":"inet","table":"filter","name":"input","type":"filter","hook":"input","prio":0,"policy":"drop"}},
            {"chain":{"family":"inet","table":"firewalld","name":"filter_FORWARD","type":"filter","hook":"forward","prio":10,"policy":"accept"}},
            {"rule":{"family":"inet","table":"firewalld","chain":"filter_FORWARD","expr":[{"reject":{"type":"icmpx"}}]}},
            {"chain":{"family":"inet","table":"odd $(name)","name":"in","type":"filter","hook":"input","prio":0,"policy":"drop"}}]}"#;
        let seen = Seen { tables: nft_listing::parse(&serde_json::from_str(text)?), ..Seen::default() };
        insta::assert_snapshot!(report(&seen)?, @r#"
            nftables table inet "filter" (chain input) stops guests of network hybrid on hybr0: DHCP, DNS
              nft 'insert rule inet filter input iifname "hybr0" udp dport { 53, 67, 547 } accept'
              nft 'insert rule inet filter input iifname "hybr0" tcp dport 53 accept'
            firewalld (chain filter_FORWARD) stops guests of network hybrid on hybr0: the way out, the way back in
              firewall-cmd --permanent --zone=trusted --change-interface=hybr0
              firewall-cmd --reload
            nftables table inet "odd $(name)" (chain in) stops guests of network hybrid on hybr0: DHCP, DNS
        "#);
        Ok(())
    }
}
