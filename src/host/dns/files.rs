//! dnsmasq's files on disk: written only where they differ, each replaced in one step.

mod shared;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use super::render::{config, former_holder, hosts, reservation, without_former_holder};
use super::role::Role;
use crate::host::{Change, resolver};
use crate::model::{Fault, Lease, MacAddress, Network, NetworkName, Result};
use crate::places::Places;

/// dnsmasq follows new files in this folder.
const RESERVATIONS: &str = "dhcp-hosts.d";
/// dnsmasq follows new, changed and removed files in this folder. For each answer it walks the list of all
/// files of such folders to the one that the answer is from, whether that is logged or not: a file a guest
/// would make every answer slower with every guest. So they share a few.
const HOSTS: &str = "hosts.d";
/// Begins the name of a file that is not yet in its place. In the network's folder, where dnsmasq does
/// not look.
const UNFINISHED: &str = ".new-";

/// What a write of a guest's files means for the dnsmasq that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[must_use]
pub enum Written {
    /// They stood like that already.
    Unchanged,
    /// They changed, and dnsmasq sees it by itself.
    Seen,
    /// They changed, and dnsmasq sees it only by [`super::reload`].
    NeedsReload,
}

impl Written {
    /// Whether anything changed on disk.
    #[must_use]
    pub fn change(self) -> Change {
        if self == Self::Unchanged { Change::None } else { Change::Made }
    }

    /// Whether [`super::reload`] is to be called.
    #[must_use]
    pub fn needs_reload(self) -> bool {
        self == Self::NeedsReload
    }
}

/// Removes every file of a network that is no more, dnsmasq's record of leases too: a network that
/// takes its name must not find an address leased to a MAC of before. dnsmasq must have ended.
///
/// # Errors
/// `Failed`, for the folder that can't be removed.
pub fn forget(network: &NetworkName, places: &Places) -> Result<()> {
    let folder = places.dns(network);
    match fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(Fault::failed(format!("cannot remove {}", folder.display())).because(e))
        }
        _ => Ok(()),
    }
}

/// The paths of one network's files.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn of(network: &Network, places: &Places) -> Self {
        Self(places.dns(&network.name))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn config(&self, role: Role) -> PathBuf {
        self.0.join(format!("{}.conf", role.stem()))
    }

    pub(super) fn leases(&self) -> PathBuf {
        self.0.join("leases")
    }

    /// A reservation was changed or removed, and dnsmasq has not been started since.
    pub(super) fn reload_needed(&self) -> PathBuf {
        self.0.join("reload-needed")
    }

    /// What dnsmasq wrote when it had read its config, one for each config that ever ran.
    pub(super) fn pid_files(&self, role: Role) -> Result<Vec<PathBuf>> {
        let is_own = |name: &String| name.starts_with(role.stem()) && name.ends_with(".pid");
        Ok(names(&self.0)?.into_iter().filter(is_own).map(|name| self.0.join(name)).collect())
    }

    /// Makes one that runs count as one with another config. dnsmasq can't remove them itself: it is no
    /// longer root when it ends.
    pub(super) fn forget_pid_files(&self, role: Role) -> Result<()> {
        self.pid_files(role)?.iter().try_for_each(|path| remove(path).map(|_| ()))
    }

    fn reservations(&self) -> PathBuf {
        self.0.join(RESERVATIONS)
    }

    /// Every guest's reservation, as it stands.
    pub(super) fn all_reservations(&self) -> Result<Vec<String>> {
        let folder = self.reservations();
        let mut texts = Vec::new();
        for name in names(&folder)? {
            texts.extend(read(&folder.join(name))?);
        }
        Ok(texts)
    }

    fn hosts(&self) -> PathBuf {
        self.0.join(HOSTS)
    }

    /// Puts `text` in a file of the folder, in one step. `false` when it stood there already.
    pub(super) fn put(&self, path: &Path, text: &str) -> Result<bool> {
        if read(path)?.as_deref() == Some(text) {
            return Ok(false);
        }
        let broken = |e: std::io::Error| Fault::failed(format!("cannot write {}", path.display())).because(e);
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.0).map_err(broken)?;
        file.write_all(text.as_bytes()).map_err(broken)?;
        // Not by the creation's mode, which the caller's umask would narrow: dnsmasq is another user.
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(broken)?;
        file.persist(path).map_err(|e| broken(e.error))?;
        Ok(true)
    }

    /// As [`Folder::put`] for a reservation, which dnsmasq sees by itself only when it is new.
    fn put_reservation(&self, path: &Path, text: &str) -> Result<Written> {
        let before = read(path)?;
        if before.as_deref() == Some(text) {
            return Ok(Written::Unchanged);
        }
        // A line with an address that dnsmasq still has in another is thrown away; that other one may
        // be of a moment ago, or of the former holder.
        let fresh = before.is_none() && former_holder(text).is_none() && !exists(&self.reload_needed())?;
        if !fresh {
            self.note_reload()?;
        }
        self.put(path, text)?;
        Ok(if fresh { Written::Seen } else { Written::NeedsReload })
    }

    /// Written before the change that it is about: a crash between them costs a restart of dnsmasq, not
    /// a reservation that it never learns of.
    pub(super) fn note_reload(&self) -> Result<()> {
        self.put(&self.reload_needed(), "").map(|_| ())
    }

    fn remove_reservation(&self, path: &Path) -> Result<Written> {
        if !exists(path)? {
            return Ok(Written::Unchanged);
        }
        self.note_reload()?;
        remove(path)?;
        Ok(Written::NeedsReload)
    }
}

/// The file name of a guest's reservation: its MAC without colons.
fn file_name(mac: MacAddress) -> String {
    mac.to_string().replace(':', "")
}

/// A file's text; `None` where there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        // Something else's bytes: different from all that we write.
        Err(e) if e.kind() == ErrorKind::InvalidData => Ok(Some(String::new())),
        Err(e) => Err(Fault::failed(format!("cannot read {}", path.display())).because(e)),
    }
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|e| Fault::failed(format!("cannot look at {}", path.display())).because(e))
}

/// Removes a file; `false` when it is gone already.
pub(super) fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Fault::failed(format!("cannot remove {}", path.display())).because(e)),
    }
}

/// The names of the files in a folder; none where there is no folder.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    let broken = |e: std::io::Error| Fault::failed(format!("cannot list {}", folder.display())).because(e);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(broken(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        // We write no name that is not UTF-8; one that isn't, is shown so that it fails to be removed.
        names.push(entry.map_err(broken)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// Makes a folder that dnsmasq's user can read, or makes it so.
fn folder(path: &Path) -> Result<Change> {
    let broken = |e: std::io::Error| Fault::failed(format!("cannot make {}", path.display())).because(e);
    let made = match fs::DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => Change::Made,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Change::None,
        Err(e) => return Err(broken(e)),
    };
    let mode = fs::metadata(path).map_err(broken)?.permissions().mode() & 0o7777;
    if mode == 0o755 {
        return Ok(made);
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(broken)?;
    Ok(Change::Made)
}

/// Writes the folder and the configs of a network's dnsmasq. A dnsmasq that runs learns of it by
/// [`super::ensure_running`]. Where it can't serve (see [`config`]) they are removed. `together` are all networks
/// that are up.
///
/// # Errors
/// A folder or file that can't be written.
pub fn write_static(network: &Network, together: &[Network], places: &Places) -> Result<Change> {
    let own = Folder::of(network, places);
    if !exists(&places.run)? {
        fs::create_dir_all(&places.run)
            .map_err(|e| Fault::failed(format!("cannot make {}", places.run.display())).because(e))?;
        folder(&places.run)?;
    }
    let mut change = Change::None;
    if let Some(parent) = own.path().parent() {
        change = change.or(folder(parent)?);
    }
    change = change.or(folder(own.path())?);
    for (path, role) in [(own.reservations(), Role::Addresses), (own.hosts(), Role::Names)] {
        // One that runs follows the folder that was there when it started, and no other of that name.
        if !exists(&path)? {
            own.forget_pid_files(role)?;
        }
        change = change.or(folder(&path)?);
    }
    // What a crash left. Not ones of this moment: another writer's are gone within a millisecond.
    for name in names(own.path())?.iter().filter(|n| n.starts_with(UNFINISHED)) {
        let path = own.path().join(name);
        let old = fs::metadata(&path)
            .and_then(|m| m.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() > 60));
        if old {
            remove(&path)?;
        }
    }
    for role in Role::ALL {
        let written = match config(network, together, role, own.path(), &resolvers(places)) {
            Some(text) => own.put(&own.config(role), &text)?,
            None => remove(&own.config(role))?,
        };
        change = change.or(if written { Change::Made } else { Change::None });
    }
    Ok(change)
}

/// The host's list of resolvers, behind which stands what the host itself does: systemd-resolved with all
/// its links, a VPN's among them. What we ask it is never ours, so it never asks us for that. Where our own
/// resolver stands in that list (`host_dns`), the list without it.
fn resolvers(places: &Places) -> PathBuf {
    let without_us = resolver::list_without_us(places);
    if without_us.exists() { without_us } else { target(Path::new(resolver::RESOLV_CONF)) }
}

/// Where a path leads in the end, whether that is there or not. dnsmasq itself looks only once, at its start:
/// a link that is turned elsewhere must be another config.
fn target(path: &Path) -> PathBuf {
    let mut path = path.to_path_buf();
    // As many as the kernel follows (path_resolution(7)).
    for _ in 0..40 {
        let Ok(link) = fs::read_link(&path) else { break };
        let mut next = path.parent().unwrap_or(Path::new("/")).to_path_buf();
        for part in link.components() {
            match part {
                Component::ParentDir => {
                    next.pop();
                }
                Component::CurDir => {}
                part => next.push(part),
            }
        }
        path = next;
    }
    path
}

/// Writes one guest's reservation and names. A lease without a MAC has neither. The caller keeps others from
/// writing at the same time.
///
/// # Errors
/// A file that can't be written, or the folder not yet made by [`write_static`].
pub fn write_lease(network: &Network, places: &Places, lease: &Lease) -> Result<Written> {
    let own = Folder::of(network, places);
    let Some(mac) = lease.mac else { return Ok(Written::Unchanged) };
    let name = file_name(mac);
    let mut lease = lease.clone();
    let mut written = Written::Unchanged;
    if let Some(handover) = &lease.handover {
        // A MAC that two untagged reservations list would get either's address. One handover gives way.
        let former = read(&own.reservations().join(file_name(handover.mac)))?;
        if former.as_deref().and_then(former_holder).is_some() {
            lease.handover = None;
        } else {
            written = settle_those_listing(network, &own, mac)?;
        }
    }
    let path = own.reservations().join(&name);
    written = written.max(match reservation(network, &lease) {
        Some(text) => own.put_reservation(&path, &text)?,
        None => own.remove_reservation(&path)?,
    });
    Ok(written.max(shared::put(&own, mac, &hosts(network, &lease, mac))?))
}

/// Takes `mac` off the reservations that list it as a former holder.
fn settle_those_listing(network: &Network, own: &Folder, mac: MacAddress) -> Result<Written> {
    let mut written = Written::Unchanged;
    for name in names(&own.reservations())? {
        let path = own.reservations().join(name);
        let Some(text) = read(&path)? else { continue };
        if former_holder(&text) == Some(mac)
            && let Some(settled) = without_former_holder(network, &text)
        {
            written = written.max(own.put_reservation(&path, &settled)?);
        }
    }
    Ok(written)
}

/// Removes one guest's reservation and names. The caller keeps others from writing at the same time.
///
/// # Errors
/// A file that can't be changed or removed.
pub fn remove_lease(network: &Network, places: &Places, mac: MacAddress) -> Result<Written> {
    let own = Folder::of(network, places);
    let written = own.remove_reservation(&own.reservations().join(file_name(mac)))?;
    Ok(written.max(shared::put(&own, mac, "")?))
}

/// The guests' files as they should be: file names and texts, none of them empty.
struct Rendering {
    reservations: HashMap<String, String>,
    hosts: shared::Texts,
}

fn rendering(network: &Network, leases: &[Lease]) -> Rendering {
    let taking_over: HashSet<MacAddress> =
        leases.iter().filter(|l| l.handover.is_some()).filter_map(|l| l.mac).collect();
    let mut reservations = HashMap::new();
    // Sorted, as one guest's change leaves them.
    let mut names_of = BTreeMap::new();
    for lease in leases {
        let Some(mac) = lease.mac else { continue };
        let mut lease = lease.clone();
        // The same rule as in write_lease.
        if lease.handover.as_ref().is_some_and(|h| taking_over.contains(&h.mac)) {
            lease.handover = None;
        }
        if let Some(text) = reservation(network, &lease) {
            reservations.insert(file_name(mac), text);
        }
        names_of.insert(mac, hosts(network, &lease, mac));
    }
    let mut shared = shared::Texts::new();
    for (mac, text) in names_of.into_iter().filter(|(_, text)| !text.is_empty()) {
        shared.entry(shared::file_name(mac)).or_default().push_str(&text);
    }
    Rendering { reservations, hosts: shared }
}

/// Which of a network's files are not as they should be: as [`write_static`] and [`write_all`] would
/// write them. Changes nothing.
///
/// # Errors
/// A file that can't be read.
pub fn stale(
    network: &Network,
    together: &[Network],
    places: &Places,
    leases: &[Lease],
) -> Result<Vec<PathBuf>> {
    let own = Folder::of(network, places);
    let Rendering { reservations, hosts } = rendering(network, leases);
    let mut wanted: HashMap<PathBuf, String> = HashMap::new();
    wanted.extend(reservations.into_iter().map(|(name, text)| (own.reservations().join(name), text)));
    wanted.extend(hosts.into_iter().map(|(name, text)| (own.hosts().join(name), text)));
    for role in Role::ALL {
        let text = config(network, together, role, own.path(), &resolvers(places));
        wanted.extend(text.map(|text| (own.config(role), text)));
    }
    let mut stale = Vec::new();
    for folder in [own.reservations(), own.hosts()] {
        stale.extend(names(&folder)?.into_iter().map(|n| folder.join(n)).filter(|p| !wanted.contains_key(p)));
    }
    for (path, text) in wanted {
        if read(&path)?.as_deref() != Some(text.as_str()) {
            stale.push(path);
        }
    }
    stale.sort();
    Ok(stale)
}

/// Makes the guests' files those of `leases`, no more and no less.
///
/// # Errors
/// A file that can't be written or removed, or the folder not yet made by [`write_static`].
pub fn write_all(network: &Network, places: &Places, leases: &[Lease]) -> Result<Written> {
    let own = Folder::of(network, places);
    let Rendering { reservations, hosts } = rendering(network, leases);
    let mut written = Written::Unchanged;
    // Strays first: an address is free before its new holder's line is read.
    for name in names(&own.reservations())? {
        if !reservations.contains_key(&name) {
            written = written.max(own.remove_reservation(&own.reservations().join(name))?);
        }
    }
    for (name, text) in &reservations {
        written = written.max(own.put_reservation(&own.reservations().join(name), text)?);
    }
    Ok(written.max(shared::put_all(&own, &hosts)?))
}

#[cfg(test)]
mod tests;
