//! NetworkManager with its dnsmasq (NetworkManager.conf(5), `dns=dnsmasq`): a file in that dnsmasq's folder.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::deadline::Deadline;
use crate::host::Change;
use crate::host::process::run_ok;
use crate::model::{Fault, Network, Result};

const FOLDER: &str = "/etc/NetworkManager/dnsmasq.d";
const PREFIX: &str = "hybrid-hook-";
/// A bare name goes to the server after it (dnsmasq(8), `--server`).
const BARE: &str = "server=//";

const SERVICE: &str = "org.freedesktop.NetworkManager";
const PATH: &str = "/org/freedesktop/NetworkManager";

/// Whether NetworkManager runs a dnsmasq for the host.
pub(super) fn runs(deadline: Deadline) -> bool {
    if !Path::new("/run/NetworkManager").is_dir() {
        return false;
    }
    let manager = format!("{PATH}/DnsManager");
    let interface = format!("{SERVICE}.DnsManager");
    run_ok("busctl", &["get-property", SERVICE, &manager, &interface, "Mode"], b"", deadline)
        .is_ok_and(|output| String::from_utf8_lossy(&output).trim() == "s \"dnsmasq\"")
}

/// Whether its file is as it should be.
pub(super) fn is_told(network: &Network) -> Result<bool> {
    Ok(read(&file(network))?.as_deref() == Some(wanted(network)?.as_str()))
}

pub(super) fn ensure(network: &Network, deadline: Deadline) -> Result<Change> {
    if is_told(network)? {
        return Ok(Change::None);
    }
    super::replace(&file(network), &wanted(network)?)?;
    reload(deadline)?;
    Ok(Change::Made)
}

pub(super) fn remove(network: &Network, deadline: Deadline) -> Result<Change> {
    let path = file(network);
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Change::None),
        Err(e) => return Err(Fault::failed(format!("cannot remove {}", path.display())).because(e)),
    }
    if runs(deadline) {
        reload(deadline)?;
    }
    Ok(Change::Made)
}

fn file(network: &Network) -> PathBuf {
    Path::new(FOLDER).join(format!("{PREFIX}{}.conf", network.name))
}

/// Its dnsmasq reads the folder only when it starts: the flag 4 starts it again.
fn reload(deadline: Deadline) -> Result<()> {
    run_ok("busctl", &["call", SERVICE, PATH, SERVICE, "Reload", "u", "4"], b"", deadline).map(drop)
}

fn wanted(network: &Network) -> Result<String> {
    let bare = !others_have_bare_names(network)?;
    Ok(render(network, bare))
}

fn render(network: &Network, bare: bool) -> String {
    let mut text = format!("# Network {}, written by hybrid-hook; changes are overwritten.\n", network.name);
    let zones = std::iter::once(network.zone.to_string()).chain(network.reverse_zones());
    for zone in zones {
        for server in network.resolvers() {
            let _ = writeln!(text, "server=/{zone}/{server}");
        }
    }
    if bare {
        for server in network.resolvers() {
            let _ = writeln!(text, "{BARE}{server}");
        }
    }
    text
}

/// Bare names can be one network's only: the first one's.
fn others_have_bare_names(network: &Network) -> Result<bool> {
    let own = file(network);
    let entries = match std::fs::read_dir(FOLDER) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Fault::failed(format!("cannot list {FOLDER}")).because(e)),
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    for path in paths.filter(|p| *p != own) {
        let ours = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(PREFIX));
        if ours && read(&path)?.is_some_and(|text| text.lines().any(|l| l.starts_with(BARE))) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Fault::failed(format!("cannot read {}", path.display())).because(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network_file::NetworkFile;

    #[test]
    fn zone_reverse_zone_and_bare_names_go_to_our_resolver()
    -> std::result::Result<(), Box<dyn std::error::Error>> {
        let text = "format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n[ipv6]\nsubnet = \"fd00:1::/64\"\n";
        let network = NetworkFile::parse(text)?.network(&"hybrid".parse()?)?;
        insta::assert_snapshot!(render(&network, true), @r"
        # Network hybrid, written by hybrid-hook; changes are overwritten.
        server=/hybrid.internal/10.0.1.1
        server=/hybrid.internal/fd00:1::1
        server=/1.0.10.in-addr.arpa/10.0.1.1
        server=/1.0.10.in-addr.arpa/fd00:1::1
        server=/0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa/10.0.1.1
        server=/0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa/fd00:1::1
        server=//10.0.1.1
        server=//fd00:1::1
        ");
        Ok(())
    }
}
