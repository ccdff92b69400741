//! The host that is installed on, or a root that only holds its files.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::files;
use crate::deadline::Deadline;
use crate::host::libvirt::daemons::{self, Daemon, Told};
use crate::host::libvirt::{Libvirt, VersionNumber};
use crate::host::process;
use crate::host::systemd::{self, Verb};
use crate::model::{Fault, Result};
use crate::places::is_root;

/// A unit file of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitFile<'a> {
    /// Its name, such as `hybrid-hook.service`.
    pub name: &'a str,
    /// Its text, with our executable in `/usr/bin`.
    pub text: &'a str,
}

/// What is installed on.
pub struct Site<'a> {
    /// `/`, or a folder with a host's files.
    pub root: &'a Path,
    /// Our executable, as the host sees it.
    pub executable: PathBuf,
    /// Our unit files.
    pub units: &'a [UnitFile<'a>],
    /// Its libvirt, if there is one.
    pub libvirt: Option<VersionNumber>,
    /// What runs there.
    pub host: Box<dyn Host + 'a>,
}

/// What runs on the host: systemd and libvirt's daemons.
pub trait Host {
    /// Whether systemd runs it.
    fn systemd(&self) -> bool;
    /// Makes systemd read its unit files again.
    fn reload(&self, deadline: Deadline) -> Result<()>;
    /// Does something with a unit.
    fn command(&self, verb: Verb, unit: &str, deadline: Deadline) -> Result<()>;
    /// Whether a unit starts at boot.
    fn is_enabled(&self, unit: &str, deadline: Deadline) -> Result<bool>;
    /// Whether a unit runs.
    fn is_active(&self, unit: &str, deadline: Deadline) -> Result<bool>;
    /// libvirt's daemons that run.
    fn daemons(&self) -> Vec<Daemon>;
    /// Tells one to look for hooks again.
    fn tell(&self, daemon: &Daemon, deadline: Deadline) -> Result<Told>;
}

/// This machine.
#[derive(Debug, Clone, Copy)]
pub struct Machine;

impl Host for Machine {
    fn systemd(&self) -> bool {
        systemd::available()
    }
    fn reload(&self, deadline: Deadline) -> Result<()> {
        systemd::daemon_reload(deadline)
    }
    fn command(&self, verb: Verb, unit: &str, deadline: Deadline) -> Result<()> {
        systemd::command(verb, unit, deadline)
    }
    fn is_enabled(&self, unit: &str, deadline: Deadline) -> Result<bool> {
        systemd::is_enabled(unit, deadline)
    }
    fn is_active(&self, unit: &str, deadline: Deadline) -> Result<bool> {
        systemd::is_active(unit, deadline)
    }
    fn daemons(&self) -> Vec<Daemon> {
        daemons::running()
    }
    fn tell(&self, daemon: &Daemon, deadline: Deadline) -> Result<Told> {
        daemons::tell(daemon, deadline)
    }
}

/// A root in which nothing runs.
#[derive(Debug, Clone, Copy)]
struct FilesOnly;

impl Host for FilesOnly {
    fn systemd(&self) -> bool {
        false
    }
    fn reload(&self, _: Deadline) -> Result<()> {
        Ok(())
    }
    fn command(&self, _: Verb, _: &str, _: Deadline) -> Result<()> {
        Ok(())
    }
    fn is_enabled(&self, _: &str, _: Deadline) -> Result<bool> {
        Ok(false)
    }
    fn is_active(&self, _: &str, _: Deadline) -> Result<bool> {
        Ok(false)
    }
    fn daemons(&self) -> Vec<Daemon> {
        Vec::new()
    }
    fn tell(&self, _: &Daemon, _: Deadline) -> Result<Told> {
        Ok(Told::Gone)
    }
}

impl<'a> Site<'a> {
    /// The machine where `root` is `/`, else a root in which nothing runs, with our executable in its
    /// `/usr/bin` and a libvirt of today.
    pub fn at(root: &'a Path, units: &'a [UnitFile<'a>], deadline: Deadline) -> Result<Self> {
        if root != Path::new("/") {
            return Ok(Self {
                root,
                executable: "/usr/bin/hybrid-hook".into(),
                units,
                libvirt: None,
                host: Box::new(FilesOnly),
            });
        }
        let executable = std::env::current_exe()
            .map_err(|e| Fault::failed("cannot find our own executable").because(e))?;
        let libvirt = libvirt_version(deadline);
        Ok(Self { root, executable, units, libvirt, host: Box::new(Machine) })
    }

    /// A path of the host in this root.
    pub(super) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        files::under(self.root, path.as_ref())
    }

    /// A unit's text with our executable where it is: AppArmor allows other places than `/usr/bin`.
    pub(super) fn text(&self, unit: &UnitFile<'_>) -> String {
        unit.text.replace("=/usr/bin/hybrid-hook ", &format!("={} ", self.executable.display()))
    }

    /// Refuses who may not.
    pub(super) fn check_user(&self) -> Result<()> {
        if self.root == Path::new("/") && !is_root() {
            return Err(Fault::failed("to install or uninstall needs root").hint("run it with sudo"));
        }
        Ok(())
    }

    /// Refuses where it can't be installed at all.
    pub(super) fn check(&self) -> Result<()> {
        self.check_user()?;
        let meta = std::fs::metadata(self.path(&self.executable)).map_err(|e| {
            Fault::missing(format!("there is no executable {}", self.executable.display())).because(e)
        })?;
        super::place::check_executable(&self.executable, meta.mode())
    }
}

/// The libvirt of this machine. Its daemon's program says so without being started as a daemon; the
/// library is of the same version.
fn libvirt_version(deadline: Deadline) -> Option<VersionNumber> {
    ["/usr/sbin/libvirtd", "/usr/sbin/virtqemud"]
        .iter()
        .find_map(|program| {
            let output = process::run_ok(program, &["--version"], b"", deadline).ok()?;
            parse_version(&String::from_utf8_lossy(&output))
        })
        .or_else(|| Some(Libvirt::find().ok()?.version(deadline).ok()?.library))
}

/// From `libvirtd (libvirt) 9.0.0`.
fn parse_version(text: &str) -> Option<VersionNumber> {
    text.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemons_version_is_read() {
        assert_eq!(parse_version("libvirtd (libvirt) 9.0.0\n"), Some(VersionNumber::new(9, 0, 0)));
        assert_eq!(parse_version(""), None);
        assert_eq!(parse_version("libvirtd: error"), None);
    }
}
