//! What is installed, looked at: for `inspect` and `doctor`. Changes nothing; anybody may ask.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::place::{self, KINDS, Standing, Style};
use super::record::Record;
use super::site::{Site, UnitFile};
use super::{IPAM_SOCKET, NET_UNIT, UNITS, WATCH_UNIT, files};
use crate::deadline::Deadline;
use crate::host::libvirt::VersionNumber;
use crate::host::libvirt::daemons::{Daemon, TICKS};
use crate::model::Result;

/// Where unit files of ours go.
pub(super) const UNIT_FOLDER: &str = "/etc/systemd/system";

/// Where packages put them; one that is there is used as it is.
const PACKAGED_UNITS: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];

/// What is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Installation {
    /// Our executable.
    pub executable: PathBuf,
    /// Why libvirt can't run it from there, if it can't.
    pub unsafe_place: Option<String>,
    /// The version of libvirt, if there is one.
    pub libvirt: Option<VersionNumber>,
    /// Our hooks.
    pub hooks: Vec<HookState>,
    /// Our units.
    pub units: Vec<UnitState>,
    /// libvirt's daemons that run.
    pub daemons: Vec<DaemonState>,
}

/// One of our hooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HookState {
    /// `qemu` or `network`.
    pub kind: String,
    /// Where this libvirt looks for it.
    pub path: PathBuf,
    /// What is there.
    pub state: HookStanding,
}

/// What is in a hook's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HookStanding {
    /// Our executable, as it should be.
    Ours,
    /// A link to where our executable was before: `install` turns it.
    Moved,
    /// Nothing.
    Absent,
    /// Another tool's.
    Other,
}

/// One of our units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnitState {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: UnitStanding,
    /// Whether it starts at boot; none for a template or a socket's service, or without systemd.
    pub enabled: Option<bool>,
    /// Whether it runs; none for a template or a socket's service, or without systemd.
    pub active: Option<bool>,
}

/// Where a unit's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnitStanding {
    /// Ours, in `/etc/systemd/system`.
    Ours,
    /// A package's.
    Packaged,
    /// In `/etc/systemd/system`, with another text than ours: of another version, or a person's.
    Changed,
    /// A link there: masked, most often.
    Masked,
    /// Nowhere.
    Absent,
}

/// A daemon of libvirt's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DaemonState {
    /// Which.
    pub daemon: Daemon,
    /// Whether it has looked for hooks since ours are there. Only root can know it of all.
    pub sees_hooks: bool,
}

impl Installation {
    /// Whether libvirt runs our hooks.
    #[must_use]
    pub fn hooks_work(&self) -> bool {
        self.unsafe_place.is_none()
            && self.hooks.iter().all(|h| h.state == HookStanding::Ours)
            && self.daemons.iter().all(|d| d.sees_hooks)
    }
}

/// Looks at what is installed below `root`; see [`super::install`].
///
/// # Errors
/// `Failed`: a file that can't be looked at, a systemd that does not answer.
pub fn state(root: &Path, deadline: Deadline) -> Result<Installation> {
    look(&Site::at(root, &UNITS, deadline)?, deadline)
}

/// As [`state`], of a site.
pub(super) fn look(site: &Site<'_>, deadline: Deadline) -> Result<Installation> {
    let style = Style::of(site.libvirt);
    // An ordinary user can't read it; then the daemons' age alone tells.
    let told = Record::load(site.root).ok().flatten().map(|r| r.told).unwrap_or_default();
    let hooks = KINDS.iter().map(|kind| hook(site, style, kind)).collect::<Result<Vec<_>>>()?;
    let since = hooks_since(site, style);
    let daemons = site.host.daemons().into_iter().map(|daemon| {
        let sees_hooks = sees(&daemon, &told, since, boot_time());
        DaemonState { daemon, sees_hooks }
    });
    Ok(Installation {
        executable: site.executable.clone(),
        unsafe_place: place::unsafe_place(&site.executable),
        libvirt: site.libvirt,
        hooks,
        units: site.units.iter().map(|u| unit(site, u, deadline)).collect::<Result<_>>()?,
        daemons: daemons.collect(),
    })
}

fn hook(site: &Site<'_>, style: Style, kind: &str) -> Result<HookState> {
    let path = style.hook(kind);
    let state = match standing(site, &path)? {
        Standing::Ours => HookStanding::Ours,
        Standing::Moved(_) => HookStanding::Moved,
        Standing::Absent => HookStanding::Absent,
        Standing::Other => HookStanding::Other,
    };
    Ok(HookState { kind: kind.to_owned(), path, state })
}

/// What is in a hook's place.
pub(super) fn standing(site: &Site<'_>, path: &Path) -> Result<Standing> {
    let (exists, link) = files::look(&site.path(path))?;
    Ok(place::standing(exists, link.as_deref(), &site.executable))
}

fn unit(site: &Site<'_>, unit: &UnitFile<'_>, deadline: Deadline) -> Result<UnitState> {
    // A template has instances, which are their networks'; a socket's service runs when it is asked.
    let asked = site.host.systemd() && [NET_UNIT, IPAM_SOCKET, WATCH_UNIT].contains(&unit.name);
    Ok(UnitState {
        name: unit.name.to_owned(),
        file: unit_standing(site, unit)?,
        enabled: asked.then(|| site.host.is_enabled(unit.name, deadline)).transpose()?,
        active: asked.then(|| site.host.is_active(unit.name, deadline)).transpose()?,
    })
}

/// Where a unit's file is. One in /etc goes before a package's (systemd.unit(5)).
pub(super) fn unit_standing(site: &Site<'_>, unit: &UnitFile<'_>) -> Result<UnitStanding> {
    let path = site.path(Path::new(UNIT_FOLDER).join(unit.name));
    let (exists, link) = files::look(&path)?;
    if link.is_some() {
        return Ok(UnitStanding::Masked);
    }
    if exists {
        let same = files::read(&path)?.as_deref() == Some(site.text(unit).as_bytes());
        return Ok(if same { UnitStanding::Ours } else { UnitStanding::Changed });
    }
    let packaged = PACKAGED_UNITS.iter().any(|folder| site.path(Path::new(folder).join(unit.name)).exists());
    Ok(if packaged { UnitStanding::Packaged } else { UnitStanding::Absent })
}

/// Since when all our hooks are there, in seconds since 1970; `None`: they aren't.
fn hooks_since(site: &Site<'_>, style: Style) -> Option<u64> {
    let changed = |kind: &&str| {
        let meta = std::fs::symlink_metadata(site.path(style.hook(kind))).ok()?;
        u64::try_from(meta.ctime()).ok()
    };
    KINDS.iter().map(changed).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Whether a daemon has looked for hooks since: it was told, or it started later. In the same second
/// counts as earlier: to tell it once more harms nothing.
fn sees(daemon: &Daemon, told: &[Daemon], since: Option<u64>, boot: Option<u64>) -> bool {
    let Some(since) = since else { return false };
    told.contains(daemon) || boot.is_some_and(|boot| boot + daemon.started / TICKS > since)
}

/// When the host booted, in seconds since 1970 (proc_stat(5), `btime`).
fn boot_time() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_sees_hooks_that_it_was_told_of_or_found_at_its_start() {
        let daemon = Daemon { name: "libvirtd".into(), pid: 7, started: 1_000 };
        let again = Daemon { started: 9_000, ..daemon.clone() };
        let told = [daemon.clone()];
        assert!(sees(&daemon, &told, Some(500), Some(100)));
        assert!(!sees(&again, &told, Some(500), Some(100)), "another process of the same pid");
        assert!(sees(&again, &[], Some(189), Some(100)));
        assert!(!sees(&again, &[], Some(190), Some(100)));
        assert!(!sees(&daemon, &told, None, Some(100)), "there is nothing to see");
    }
}
