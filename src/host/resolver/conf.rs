//! resolv.conf(5): read, and our own lines put in and taken out again. Pure.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::model::Network;

/// Begins each of our two parts of the file.
const BEGIN: &str = "# hybrid-hook: begin. These lines go with the network, or with its host_dns.";
/// The same, where the text before had no line end, which goes with our part.
const BEGIN_UNFINISHED: &str = "# hybrid-hook: begin, on a line of its own. These lines go with the network.";
const END: &str = "# hybrid-hook: end";

/// What a resolv.conf says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvConf {
    /// Who is asked, in this order; ours among them.
    pub servers: Vec<IpAddr>,
    /// What is put behind a bare name: the last `search` or `domain` line counts.
    pub search: Vec<String>,
}

impl ResolvConf {
    /// Reads a file's text. What can't be understood is left out, as the C library does.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(address)),
                Some("search" | "domain") => {
                    conf.search = words.map(|w| w.trim_end_matches('.').to_owned()).collect();
                    conf.search.retain(|w| !w.is_empty());
                }
                _ => {}
            }
        }
        conf
    }
}

/// A server's address, its scope (`%eth0`) left out.
fn address(word: &str) -> Option<IpAddr> {
    word.split('%').next()?.parse().ok()
}

/// The text with the resolvers of `networks` before all others and their zones after the other search
/// domains: a name that worked before means the same. Without networks, the text as it was before us.
pub(super) fn with_us(text: &str, networks: &[&Network]) -> String {
    let original = without_us(text);
    if networks.is_empty() {
        return original;
    }
    let mut ours = format!("{BEGIN}\n");
    for network in networks {
        let _ = writeln!(ours, "nameserver {}", network.loopback());
    }
    let search = ResolvConf::parse(&original).search;
    let zones = networks.iter().map(|n| n.zone.to_string()).filter(|z| !search.contains(z));
    let words: Vec<String> = search.iter().cloned().chain(zones).collect();
    let unfinished = !original.is_empty() && !original.ends_with('\n');
    let (gap, begin) = if unfinished { ("\n", BEGIN_UNFINISHED) } else { ("", BEGIN) };
    format!("{ours}{END}\n{original}{gap}{begin}\nsearch {}\n{END}\n", words.join(" "))
}

/// The text without our parts, byte for byte as it was.
pub(super) fn without_us(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        match (inside, line.trim_end()) {
            (false, BEGIN) => inside = true,
            (false, BEGIN_UNFINISHED) => {
                inside = true;
                kept.truncate(kept.strip_suffix('\n').map_or(kept.len(), str::len));
            }
            (true, END) => inside = false,
            (true, _) => {}
            (false, _) => kept.push_str(line),
        }
    }
    kept
}

/// Whether an nsswitch.conf(5) has host names resolved by systemd-resolved itself (nss-resolve(8)).
pub(super) fn uses_resolve(nsswitch: &str) -> bool {
    let hosts = nsswitch.lines().filter_map(|line| line.trim_start().strip_prefix("hosts:")).next_back();
    hosts.is_some_and(|services| services.split_whitespace().any(|word| word == "resolve"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network_file::NetworkFile;
    use proptest::prelude::*;

    type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

    fn network(name: &str) -> Result<Network> {
        let file = NetworkFile::parse("format = 1\nhost_dns = true\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?;
        Ok(file.network(&name.parse()?)?)
    }

    #[test]
    fn the_last_search_counts_and_comments_do_not() {
        let conf = ResolvConf::parse(
            "# nameserver 9.9.9.9\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver x\n\
             domain a.example\nsearch b.example. c.example\n",
        );
        assert_eq!(
            conf.servers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["192.0.2.1", "fe80::1"]
        );
        assert_eq!(conf.search, ["b.example", "c.example"]);
        assert!(ResolvConf::parse("search .\n").search.is_empty());
    }

    #[test]
    fn ours_comes_first_and_its_zone_last() -> Result {
        let hybrid = network("hybrid")?;
        let text = with_us("search corp.example\nnameserver 192.0.2.1\n", &[&hybrid]);
        insta::assert_snapshot!(text, @r"
        # hybrid-hook: begin. These lines go with the network, or with its host_dns.
        nameserver 127.104.254.99
        # hybrid-hook: end
        search corp.example
        nameserver 192.0.2.1
        # hybrid-hook: begin. These lines go with the network, or with its host_dns.
        search corp.example hybrid.internal
        # hybrid-hook: end
        ");
        assert_eq!(with_us(&text, &[&hybrid]), text);
        assert_eq!(ResolvConf::parse(&text).search, ["corp.example", "hybrid.internal"]);
        Ok(())
    }

    #[test]
    fn nss_resolve_is_seen_in_the_line_of_hosts_alone() {
        assert!(uses_resolve("passwd: files\nhosts: files resolve [!UNAVAIL=return] dns\n"));
        assert!(!uses_resolve("hosts: files dns\nnetworks: resolve\n#hosts: resolve\n"));
    }

    proptest! {
        #[test]
        fn whatever_stood_there_comes_back(text in "([a-z #.\n\r]|nameserver 192.0.2.1\n){0,40}") {
            let networks = [network("hybrid"), network("lab")];
            let networks: Vec<&Network> = networks.iter().filter_map(|n| n.as_ref().ok()).collect();
            prop_assert_eq!(networks.len(), 2);
            let with = with_us(&text, &networks);
            prop_assert_eq!(without_us(&with), text.clone());
            prop_assert_eq!(with_us(&with, &[]), text);
        }
    }
}
