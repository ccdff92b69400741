//! The steps of `uninstall`: on past a failure, and a thing that is gone is fine.

use std::path::Path;

use super::place::{KINDS, Standing, Style};
use super::record::{self, Record};
use super::site::Site;
use super::state::{UNIT_FOLDER, UnitStanding, standing, unit_standing};
use super::{DHCP_UNIT, DNSMASQ_UNIT, IPAM_SOCKET, IPAM_UNIT, NET_UNIT, Report, WATCH_UNIT, files};
use crate::deadline::Deadline;
use crate::host::libvirt::daemons::{Daemon, Told};
use crate::host::systemd::Verb;
use crate::model::{Fault, NetworkName, Result};
use crate::places::Places;

/// Every running instance of dnsmasq's templates.
const DNSMASQ_INSTANCES: [(&str, &str); 2] =
    [(DNSMASQ_UNIT, "hybrid-hook-dnsmasq@*.service"), (DHCP_UNIT, "hybrid-hook-dhcp@*.service")];

/// What there is to remove where nothing is written down: what is ours beyond doubt.
fn recognise(site: &Site<'_>) -> Result<Record> {
    let mut record = Record::default();
    for style in [Style::Folders, Style::MainFiles] {
        for kind in KINDS {
            let hook = style.hook(kind);
            if let Standing::Ours | Standing::Moved(_) = standing(site, &hook)? {
                record.links.push(hook);
            }
        }
    }
    for unit in site.units {
        if unit_standing(site, unit)? == UnitStanding::Ours {
            record.units.push(Path::new(UNIT_FOLDER).join(unit.name));
        }
    }
    Ok(record)
}

/// Removes what was installed.
pub(super) fn uninstall(site: &Site<'_>, deadline: Deadline) -> Result<Report> {
    site.check_user()?;
    let record = match Record::load(site.root)? {
        Some(record) => record,
        None => recognise(site)?,
    };
    let mut away = Away { site, report: Report::default(), faults: Vec::new() };
    away.services(&record, deadline);
    let unit_files = record.units.iter().filter(|path| away.file(path)).count();
    if unit_files > 0 && site.host.systemd() {
        away.attempt(site.host.reload(deadline));
    }
    let hooks = record.links.iter().filter(|path| away.hook(path)).count();
    if hooks > 0 {
        for daemon in site.host.daemons() {
            if away.attempt(site.host.tell(&daemon, deadline)) == Some(Told::Yes) {
                let Daemon { name, pid, .. } = daemon;
                away.report.done.push(format!("told {name} (pid {pid}) to look for its hooks"));
            }
        }
    }
    if let Some(fault) = away.fault() {
        return Err(fault);
    }
    // The record goes last: until here it can be done again.
    away.attempt(files::remove(&site.path(record::FILE)));
    for folder in record.folders.iter().rev() {
        away.folder(folder);
    }
    if let Some(fault) = away.fault() {
        return Err(fault);
    }
    away.report.notes.extend(networks(site).map(|name| {
        format!("the file and the leases of network {name} are kept: hybrid-hook network delete {name} removes them")
    }));
    Ok(away.report)
}

/// The networks that have a file.
fn networks(site: &Site<'_>) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(site.path(Places::default().networks())).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|e| Some(e.file_name().to_str()?.strip_suffix(".toml")?.to_owned()))
        .filter(|name| name.parse::<NetworkName>().is_ok())
        .collect();
    names.sort();
    names.into_iter()
}

/// An uninstall on its way. It goes on after a failure.
struct Away<'a> {
    site: &'a Site<'a>,
    report: Report,
    faults: Vec<Fault>,
}

impl Away<'_> {
    fn attempt<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|fault| self.faults.push(fault)).ok()
    }

    fn fault(&mut self) -> Option<Fault> {
        let mut faults = std::mem::take(&mut self.faults).into_iter();
        let first = faults.next()?;
        Some(faults.fold(first, Fault::and))
    }

    fn did(&mut self, line: String) {
        self.report.changed = true;
        self.report.done.push(line);
    }

    /// Stops and disables what we started and enabled, and whatever has a file of ours that goes.
    fn services(&mut self, record: &Record, deadline: Deadline) {
        if !self.site.host.systemd() {
            return;
        }
        let goes = |unit: &str| record.units.contains(&Path::new(UNIT_FOLDER).join(unit));
        let noted = |list: &[String], unit: &str| list.iter().any(|u| u == unit);
        // The socket first: a question would start its service again.
        for unit in [WATCH_UNIT, IPAM_SOCKET, IPAM_UNIT, NET_UNIT] {
            if goes(unit) || noted(&record.started, unit) {
                self.unless(self.site.host.is_active(unit, deadline), Verb::Stop, unit, "stopped", deadline);
            }
            if goes(unit) {
                // Fails where it did not fail.
                let _ = self.site.host.command(Verb::ResetFailed, unit, deadline);
            }
            // A socket's service is not enabled, and systemd says that it is.
            if unit != IPAM_UNIT && (goes(unit) || noted(&record.enabled, unit)) {
                self.unless(
                    self.site.host.is_enabled(unit, deadline),
                    Verb::Disable,
                    unit,
                    "disabled",
                    deadline,
                );
            }
        }
        for (_, instances) in DNSMASQ_INSTANCES.iter().filter(|(unit, _)| goes(unit)) {
            let result = self.site.host.command(Verb::Stop, instances, deadline);
            self.attempt(result);
        }
    }

    fn unless(&mut self, is: Result<bool>, verb: Verb, unit: &str, word: &str, deadline: Deadline) {
        if self.attempt(is) == Some(true) {
            let result = self.site.host.command(verb, unit, deadline);
            if self.attempt(result).is_some() {
                self.did(format!("{word} {unit}"));
            }
        }
    }

    fn file(&mut self, path: &Path) -> bool {
        let removed = self.attempt(files::remove(&self.site.path(path))).unwrap_or(false);
        if removed {
            self.did(format!("removed {}", path.display()));
        }
        removed
    }

    /// A hook that is no link of ours any more was put there by somebody else.
    fn hook(&mut self, path: &Path) -> bool {
        match self.attempt(standing(self.site, path)) {
            Some(Standing::Ours | Standing::Moved(_)) => self.file(path),
            Some(Standing::Other) => {
                self.report.notes.push(format!("{} is another tool's now, and left", path.display()));
                false
            }
            Some(Standing::Absent) | None => false,
        }
    }

    fn folder(&mut self, path: &Path) {
        match self.attempt(files::remove_folder(&self.site.path(path))) {
            Some(true) => self.did(format!("removed the folder {}", path.display())),
            Some(false) => self.report.notes.push(format!("{} is left: it is not empty", path.display())),
            None => {}
        }
    }
}
