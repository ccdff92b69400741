//! The steps of `install`, each with its undo.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::place::{HOOKS, KINDS, Standing, Style, taken};
use super::record::{self, Record, add};
use super::site::{Site, UnitFile};
use super::state::{UNIT_FOLDER, UnitStanding, look, standing, unit_standing};
use super::{DHCP_UNIT, DNSMASQ_UNIT, IPAM_SOCKET, IPAM_UNIT, NET_UNIT, Report, WATCH_UNIT, files};
use crate::deadline::Deadline;
use crate::host::libvirt::daemons::{Daemon, Told};
use crate::host::systemd::Verb;
use crate::model::{Fault, Result};
use crate::places::Places;

/// Where one of these was rewritten, the service is started anew.
const OF_THE_SERVICE: [&str; 3] = [WATCH_UNIT, DNSMASQ_UNIT, DHCP_UNIT];

/// A clean-up gets so long, however late it is.
const UNDO: Duration = Duration::from_secs(30);

/// Where a link is made before it is moved into its place. libvirt looks into `qemu.d`, not here.
const ASIDE: &str = ".hybrid-hook.new";

/// How to undo a step.
#[derive(Debug)]
enum Undo {
    Folder(PathBuf),
    Link(PathBuf),
    Relink { path: PathBuf, target: PathBuf },
    File(PathBuf),
    Rewrite { path: PathBuf, bytes: Vec<u8> },
    Reload,
    Disable(String),
    Stop(String),
}

/// An install on its way.
struct Work<'a> {
    site: &'a Site<'a>,
    /// What is written down: its state before, and now.
    before: Option<Record>,
    record: Record,
    undo: Vec<Undo>,
    /// The folders made for the record itself, outer first.
    record_folders: Vec<PathBuf>,
    told: Vec<Daemon>,
    /// Whether libvirt has to look again.
    hooks_changed: bool,
    report: Report,
}

/// Installs what is missing, or nothing.
pub(super) fn install(site: &Site<'_>, deadline: Deadline) -> Result<Report> {
    site.check()?;
    let style = Style::of(site.libvirt);
    // Everything is looked at before anything is touched.
    for kind in KINDS {
        let hook = style.hook(kind);
        if standing(site, &hook)? == Standing::Other {
            return Err(taken(&hook, kind, style, &site.executable));
        }
    }
    let before = Record::load(site.root)?;
    let record = before.clone().unwrap_or_default();
    let mut work = Work {
        site,
        before,
        record,
        undo: Vec::new(),
        record_folders: Vec::new(),
        told: Vec::new(),
        hooks_changed: false,
        report: Report::default(),
    };
    match work.run(style, deadline) {
        Ok(()) => Ok(work.report),
        Err(fault) => Err(work.take_back(fault)),
    }
}

impl Work<'_> {
    fn run(&mut self, style: Style, deadline: Deadline) -> Result<()> {
        for kind in KINDS {
            self.hook(style, kind)?;
        }
        let rewritten = self.unit_files(deadline)?;
        if self.site.host.systemd() {
            for unit in [NET_UNIT, IPAM_SOCKET, WATCH_UNIT] {
                self.service(unit, &rewritten, deadline)?;
            }
            if rewritten.iter().any(|r| r == IPAM_UNIT) {
                // The next question starts it as its file says now.
                self.site.host.command(Verb::Stop, IPAM_UNIT, deadline)?;
            }
        } else if self.site.root == Path::new("/") {
            self.report.notes.push(
                "systemd does not run here: start `hybrid-hook watch` yourself, and `hybrid-hook apply` at boot"
                    .to_owned(),
            );
        }
        self.tell_daemons(deadline)
    }

    fn hook(&mut self, style: Style, kind: &str) -> Result<()> {
        let hook = style.hook(kind);
        self.folders(&hook)?;
        let target = self.site.executable.clone();
        match standing(self.site, &hook)? {
            Standing::Other => return Err(taken(&hook, kind, style, &target)),
            Standing::Ours => self.note(|r| add(&mut r.links, hook.clone()))?,
            Standing::Absent => {
                self.note(|r| add(&mut r.links, hook.clone()))?;
                self.link(&target, &hook)?;
                self.hooks_changed = true;
                self.did(Undo::Link(hook.clone()), format!("linked {}", hook.display()));
            }
            Standing::Moved(before) => {
                self.note(|r| add(&mut r.links, hook.clone()))?;
                self.link(&target, &hook)?;
                self.did(
                    Undo::Relink { path: hook.clone(), target: before },
                    format!("turned {} to {}", hook.display(), target.display()),
                );
            }
        }
        // A libvirt that was upgraded would run both.
        let former = match style {
            Style::Folders => Style::MainFiles,
            Style::MainFiles => Style::Folders,
        }
        .hook(kind);
        if let Standing::Ours | Standing::Moved(_) = standing(self.site, &former)? {
            let target = files::look(&self.site.path(&former))?.1.unwrap_or(target);
            files::remove(&self.site.path(&former))?;
            self.hooks_changed = true;
            self.did(
                Undo::Relink { path: former.clone(), target },
                format!("removed {}, which this libvirt does not need", former.display()),
            );
        }
        Ok(())
    }

    /// Writes our unit files; the names of those that had another text of ours before.
    fn unit_files(&mut self, deadline: Deadline) -> Result<Vec<String>> {
        let mut rewritten = Vec::new();
        // Undone last: after the files.
        let (first_undo, mut touched) = (self.undo.len(), false);
        for unit in self.site.units {
            let path = Path::new(UNIT_FOLDER).join(unit.name);
            match unit_standing(self.site, unit)? {
                UnitStanding::Packaged => {}
                UnitStanding::Ours => self.note(|r| add(&mut r.units, path.clone()))?,
                UnitStanding::Absent => {
                    self.folders(&path)?;
                    self.note(|r| add(&mut r.units, path.clone()))?;
                    self.write_unit(unit, &path)?;
                    self.did(Undo::File(path.clone()), format!("wrote {}", path.display()));
                    touched = true;
                }
                UnitStanding::Changed if self.record.units.contains(&path) => {
                    let bytes = files::read(&self.site.path(&path))?.unwrap_or_default();
                    self.write_unit(unit, &path)?;
                    self.did(
                        Undo::Rewrite { path: path.clone(), bytes },
                        format!("wrote {} again", path.display()),
                    );
                    rewritten.push(unit.name.to_owned());
                    touched = true;
                }
                UnitStanding::Changed | UnitStanding::Masked => {
                    self.report
                        .notes
                        .push(format!("{} is somebody else's, and left as it is", path.display()));
                }
            }
        }
        if touched && self.site.host.systemd() {
            self.undo.insert(first_undo, Undo::Reload);
            self.site.host.reload(deadline)?;
        }
        Ok(rewritten)
    }

    fn write_unit(&self, unit: &UnitFile<'_>, path: &Path) -> Result<()> {
        files::write(&self.site.path(path), self.site.text(unit).as_bytes(), 0o644)
    }

    /// Has a service started at boot and now.
    fn service(&mut self, name: &str, rewritten: &[String], deadline: Deadline) -> Result<()> {
        let Some(unit) = self.site.units.iter().find(|u| u.name == name) else { return Ok(()) };
        if matches!(unit_standing(self.site, unit)?, UnitStanding::Masked | UnitStanding::Absent) {
            return Ok(());
        }
        let host = &self.site.host;
        if !host.is_enabled(name, deadline)? {
            self.note(|r| add(&mut r.enabled, name.to_owned()))?;
            host.command(Verb::Enable, name, deadline)?;
            self.did(Undo::Disable(name.to_owned()), format!("enabled {name}"));
        }
        if !host.is_active(name, deadline)? {
            self.note(|r| add(&mut r.started, name.to_owned()))?;
            // What fails to start may have started in part.
            self.undo.push(Undo::Stop(name.to_owned()));
            host.command(Verb::Start, name, deadline)?;
            // One whose conditions aren't met (no network yet) stays as it is, and that is no failure.
            if host.is_active(name, deadline)? {
                self.report.changed = true;
                self.report.done.push(format!("started {name}"));
            }
        } else if name == WATCH_UNIT && rewritten.iter().any(|r| OF_THE_SERVICE.contains(&r.as_str())) {
            // At its start it looks at all networks: a dnsmasq that ran by a unit of before is started anew. The
            // one that brings networks up must not be restarted: it would take them down under their guests.
            host.command(Verb::Restart, name, deadline)?;
            self.report.done.push(format!("restarted {name}"));
        }
        Ok(())
    }

    fn tell_daemons(&mut self, deadline: Deadline) -> Result<()> {
        let daemons = look(self.site, deadline)?.daemons;
        for state in &daemons {
            if state.sees_hooks && !self.hooks_changed {
                continue;
            }
            let Daemon { name, pid, .. } = &state.daemon;
            match self.site.host.tell(&state.daemon, deadline)? {
                Told::Yes => {
                    self.told.push(state.daemon.clone());
                    self.note(|r| add(&mut r.told, state.daemon.clone()))?;
                    self.report.changed = true;
                    self.report.done.push(format!("told {name} (pid {pid}) to look for its hooks"));
                }
                Told::Starting => self
                    .report
                    .notes
                    .push(format!("{name} (pid {pid}) is starting, and finds its hooks by itself")),
                Told::Gone => {}
            }
        }
        // Those that ended are of no interest, and the list must not grow for ever.
        let mut told = self.record.told.clone();
        told.retain(|t| daemons.iter().any(|d| d.daemon == *t));
        if told != self.record.told {
            self.note(|r| {
                r.told = told;
                true
            })?;
        }
        Ok(())
    }

    /// Makes the folders above a path.
    fn folders(&mut self, path: &Path) -> Result<()> {
        for folder in files::missing_folders(self.site.root, path) {
            self.note(|r| add(&mut r.folders, folder.clone()))?;
            files::make_folder(&self.site.path(&folder), 0o755)?;
            self.did(Undo::Folder(folder.clone()), format!("made the folder {}", folder.display()));
        }
        Ok(())
    }

    fn link(&self, target: &Path, hook: &Path) -> Result<()> {
        files::link(target, &self.site.path(hook), &self.site.path(Path::new(HOOKS).join(ASIDE)))
    }

    /// Writes down what comes next; nothing if it stands there already.
    fn note(&mut self, change: impl FnOnce(&mut Record) -> bool) -> Result<()> {
        if !change(&mut self.record) {
            return Ok(());
        }
        for folder in files::missing_folders(self.site.root, Path::new(record::FILE)) {
            let mode = if folder == Places::default().state { 0o700 } else { 0o755 };
            files::make_folder(&self.site.path(&folder), mode)?;
            add(&mut self.record.folders, folder.clone());
            self.record_folders.push(folder);
        }
        self.record.save(self.site.root)
    }

    fn did(&mut self, undo: Undo, line: String) {
        self.undo.push(undo);
        self.report.changed = true;
        self.report.done.push(line);
    }

    /// Undoes everything, last first; what can't be undone is added to the fault.
    fn take_back(mut self, fault: Fault) -> Fault {
        let deadline = Deadline::after(UNDO);
        let mut fault = fault;
        let mut also = |result: Result<()>| {
            if let Err(other) = result {
                let first = std::mem::replace(&mut fault, Fault::failed(""));
                fault = first.and(other);
            }
        };
        while let Some(step) = self.undo.pop() {
            also(self.step_back(step, deadline));
        }
        for daemon in &self.told {
            also(self.site.host.tell(daemon, deadline).map(drop));
        }
        also(match &self.before {
            Some(before) => before.save(self.site.root),
            None => files::remove(&self.site.path(record::FILE)).map(drop),
        });
        for folder in self.record_folders.iter().rev() {
            also(files::remove_folder(&self.site.path(folder)).map(drop));
        }
        fault
    }

    fn step_back(&self, step: Undo, deadline: Deadline) -> Result<()> {
        let host = &self.site.host;
        match step {
            Undo::Folder(path) => files::remove_folder(&self.site.path(path)).map(drop),
            Undo::Link(path) | Undo::File(path) => files::remove(&self.site.path(path)).map(drop),
            Undo::Relink { path, target } => self.link(&target, &path),
            Undo::Rewrite { path, bytes } => files::write(&self.site.path(path), &bytes, 0o644),
            Undo::Reload => host.reload(deadline),
            Undo::Disable(unit) => host.command(Verb::Disable, &unit, deadline),
            Undo::Stop(unit) => {
                host.command(Verb::Stop, &unit, deadline)?;
                // Fails where it did not fail.
                let _ = host.command(Verb::ResetFailed, &unit, deadline);
                Ok(())
            }
        }
    }
}
