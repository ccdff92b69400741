//! The host's own resolver: taught to ask ours for a network's names, and read back. Docker asks it on
//! behalf of containers, so what the host can resolve they can.
//!
//! | the host has | what it is told |
//! |---|---|
//! | systemd-resolved | our resolver for the bridge's link, with our zone as a search domain |
//! | NetworkManager with dnsmasq | a file in its dnsmasq's folder |
//! | a plain resolv.conf(5) | nothing, or with `host_dns` our resolver before the others |

mod conf;
mod network_manager;
mod resolved;

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Change;
use crate::deadline::Deadline;
use crate::model::{Fault, Network, NetworkName, Result};
use crate::places::Places;

pub use conf::ResolvConf;
pub use resolved::Link;

/// Where every program of the host looks for its resolvers (resolv.conf(5)).
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How the host resolves names, as far as a network's are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// What `/etc/resolv.conf` says.
    pub conf: ResolvConf,
    /// systemd-resolved's settings of the bridge's link; `None` where it does not run.
    pub resolved: Option<Link>,
    /// systemd-resolved's settings are as they should be.
    pub resolved_told: bool,
    /// The C library asks systemd-resolved by itself, past `/etc/resolv.conf` (nss-resolve(8)).
    pub asks_resolved: bool,
    /// Whether NetworkManager's dnsmasq has our file; `None` where it does not run.
    pub network_manager_told: Option<bool>,
}

impl State {
    /// Whether what the host's programs ask goes through systemd-resolved.
    #[must_use]
    pub fn host_asks_resolved(&self) -> bool {
        self.resolved.is_some() && (resolved::is_stub(&self.conf) || self.asks_resolved)
    }

    /// Whether Docker asks from the host's side on behalf of containers, whatever its release: it does where
    /// the host's resolver is on the loopback.
    #[must_use]
    pub fn docker_asks_for_containers(&self) -> bool {
        self.conf.servers.iter().any(IpAddr::is_loopback)
    }
}

/// Reads how the host resolves a network's names; changes nothing.
///
/// # Errors
/// A program or a file that can't be read.
pub fn state(network: &Network, deadline: Deadline) -> Result<State> {
    let conf = ResolvConf::parse(&text()?.unwrap_or_default());
    let resolved = if resolved::runs(deadline) { Some(resolved::read(network, deadline)?) } else { None };
    Ok(State {
        conf,
        resolved_told: match &resolved {
            Some(is) => *is == resolved::wanted(network, is),
            None => false,
        },
        resolved,
        asks_resolved: std::fs::read_to_string("/etc/nsswitch.conf")
            .is_ok_and(|text| conf::uses_resolve(&text)),
        network_manager_told: match network_manager::runs(deadline) {
            true => Some(network_manager::is_told(network)?),
            false => None,
        },
    })
}

/// Teaches the host's resolver a network's names. `together` are all networks that are up: a plain
/// resolv.conf is written for all of them at once.
///
/// # Errors
/// The host's resolver refuses, in its words, or the file can't be written.
pub fn ensure(network: &Network, together: &[Network], deadline: Deadline) -> Result<Change> {
    if network.resolvers().next().is_none() {
        return Ok(Change::None);
    }
    let mut change = Change::None;
    if resolved::runs(deadline) {
        change = change.or(resolved::ensure(network, deadline)?);
    }
    if network_manager::runs(deadline) {
        change = change.or(network_manager::ensure(network, deadline)?);
    }
    if network.host_dns {
        change = change.or(write_resolv_conf(together)?);
    }
    Ok(change)
}

/// Makes the host's resolver forget a network's names. `others` are the networks that stay up.
///
/// # Errors
/// As [`ensure`]; each part has its chance.
pub fn remove(network: &Network, others: &[Network], deadline: Deadline) -> Result<Change> {
    let parts = [
        if resolved::runs(deadline) { resolved::revert(network, deadline) } else { Ok(Change::None) },
        network_manager::remove(network, deadline),
        write_resolv_conf(others),
    ];
    let mut change = Change::None;
    let mut faults = Vec::new();
    for part in parts {
        match part {
            Ok(made) => change = change.or(made),
            Err(fault) => faults.push(fault),
        }
    }
    faults.into_iter().reduce(Fault::and).map_or(Ok(change), Err)
}

/// The host's list of resolvers without ours, for our own to ask; there only while ours is in the list.
#[must_use]
pub fn list_without_us(places: &Places) -> PathBuf {
    places.run.join("resolv.conf")
}

/// Writes, or removes, [`list_without_us`]. Before our resolver's config is written, which names it.
///
/// # Errors
/// A file that can't be read or written.
pub fn keep_list_without_us(places: &Places, together: &[Network]) -> Result<Change> {
    let path = list_without_us(places);
    let broken = |e: std::io::Error| Fault::failed(format!("cannot write {}", path.display())).because(e);
    let wanted = match text()? {
        Some(text) if together.iter().any(|n| n.host_dns) && is_plain() => Some(conf::without_us(&text)),
        _ => None,
    };
    let now = std::fs::read_to_string(&path).ok();
    if now == wanted {
        return Ok(Change::None);
    }
    match wanted {
        Some(text) => {
            let mut file = tempfile::Builder::new().tempfile_in(&places.run).map_err(broken)?;
            std::io::Write::write_all(&mut file, text.as_bytes()).map_err(broken)?;
            // dnsmasq is another user.
            file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(broken)?;
            file.persist(&path).map_err(|e| broken(e.error))?;
        }
        None => std::fs::remove_file(&path).map_err(broken)?,
    }
    Ok(Change::Made)
}

/// The resolvers that Docker before 28 asks from a container's side: those of `/etc/resolv.conf` without
/// ours, unless one of them is on the loopback, which Docker asks from the host's side.
#[must_use]
pub fn asked_by_containers() -> Vec<IpAddr> {
    let conf = ResolvConf::parse(&conf::without_us(&text().ok().flatten().unwrap_or_default()));
    if conf.servers.iter().any(IpAddr::is_loopback) { Vec::new() } else { conf.servers }
}

/// Writes our resolvers into `/etc/resolv.conf`, those of the networks that want it, or takes them out.
fn write_resolv_conf(together: &[Network]) -> Result<Change> {
    let Some(before) = text()? else { return Ok(Change::None) };
    let ours: Vec<&Network> = together.iter().filter(|n| n.host_dns).collect();
    let after = conf::with_us(&before, &ours);
    if after == before {
        return Ok(Change::None);
    }
    if let Some(why) = not_plain() {
        let names: Vec<&NetworkName> = ours.iter().map(|n| &n.name).collect();
        // systemd-resolved was told already, and is asked.
        if names.is_empty() || resolved::is_stub(&ResolvConf::parse(&before)) {
            return Ok(Change::None);
        }
        return Err(Fault::refused(format!("{RESOLV_CONF} is not written for host_dns: {why}"))
            .hint("tell what writes that file to put our resolver first, or make it a file of your own"));
    }
    replace(Path::new(RESOLV_CONF), &after)?;
    Ok(Change::Made)
}

/// Why `/etc/resolv.conf` is not a file of its own, if it isn't.
fn not_plain() -> Option<String> {
    match std::fs::read_link(RESOLV_CONF) {
        Ok(target) => Some(format!("it is a link to {}, which another program writes", target.display())),
        Err(_) => None,
    }
}

fn is_plain() -> bool {
    not_plain().is_none()
}

/// The text of `/etc/resolv.conf`; `None` where there is none.
fn text() -> Result<Option<String>> {
    match std::fs::read(RESOLV_CONF) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Fault::failed(format!("cannot read {RESOLV_CONF}")).because(e)),
    }
}

/// Replaces a file in one step, its permissions kept; in place where it is a mount of its own, as in a
/// container.
fn replace(path: &Path, text: &str) -> Result<()> {
    let broken = |e: std::io::Error| Fault::failed(format!("cannot write {}", path.display())).because(e);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let permissions = std::fs::metadata(path)
        .map_or_else(|_| std::fs::Permissions::from_mode(0o644), |metadata| metadata.permissions());
    let mut file = tempfile::Builder::new().prefix(".hybrid-hook-").tempfile_in(folder).map_err(broken)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(broken)?;
    file.as_file().set_permissions(permissions).map_err(broken)?;
    file.as_file().sync_all().map_err(broken)?;
    match file.persist(path) {
        Ok(_) => Ok(()),
        Err(e) if e.error.kind() == std::io::ErrorKind::ResourceBusy => {
            std::fs::write(path, text).map_err(broken)
        }
        Err(e) => Err(broken(e.error)),
    }
}
