//! libvirt's daemons on this host: which run, and telling them to look for hooks again.
//!
//! libvirt looks for hook files when a daemon starts and when it gets SIGHUP
//! (<https://libvirt.org/hooks.html>). They are found in `/proc`, not asked of systemd: they may run
//! without it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::deadline::Deadline;
use crate::model::{Fault, Result};

/// The daemons that run hooks of ours: the one of old, and the two that share its work since.
const NAMES: [&str; 3] = ["libvirtd", "virtqemud", "virtnetworkd"];

/// How long a daemon that has just started may take until it listens to signals.
const START: Duration = Duration::from_secs(5);

/// The age, in clock ticks, from which a daemon has its drivers. Before, it ignores the signal, and may
/// have looked for hooks already.
const GROWN: u64 = 2 * TICKS;

/// Clock ticks a second in `/proc` (USER_HZ): 100 on everything that runs libvirt.
pub const TICKS: u64 = 100;

/// A daemon that runs. A pid is used again after it; with the start it isn't.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Daemon {
    /// `libvirtd`, `virtqemud` or `virtnetworkd`.
    pub name: String,
    /// Its process.
    pub pid: i32,
    /// When it started: clock ticks since boot (proc_pid_stat(5), field 22).
    pub started: u64,
}

/// What came of telling a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It got the signal.
    Yes,
    /// It is still starting, and looks for hooks by itself then.
    Starting,
    /// It has ended meanwhile.
    Gone,
}

/// The daemons of this host: root's, in our PID namespace and with our root folder, so that none of a
/// container's is taken for one. An ordinary user can't see the latter two, and is shown all of root's.
#[must_use]
pub fn running() -> Vec<Daemon> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    let mut daemons: Vec<_> = pids.filter_map(|pid| look(pid).map(|(daemon, _)| daemon)).collect();
    daemons.sort_by_key(|d| d.pid);
    daemons
}

/// Tells a daemon to look for hooks again. It reloads nothing else that concerns a VM.
///
/// # Errors
/// Not allowed to: not root.
pub fn tell(daemon: &Daemon, deadline: Deadline) -> Result<Told> {
    let failed = |e: rustix::io::Errno| {
        let Daemon { name, pid, .. } = daemon;
        Fault::failed(format!("cannot send SIGHUP to {name} (pid {pid})")).because(std::io::Error::from(e))
    };
    let Some(pid) = Pid::from_raw(daemon.pid) else { return Ok(Told::Gone) };
    // The descriptor means this process and no later one of the same pid; so look again once we have it.
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(Told::Gone),
        other => other.map_err(failed)?,
    };
    let until = deadline.at_most(START);
    loop {
        match look(daemon.pid) {
            // SIGHUP ends a process that has no handler for it yet.
            Some((now, true)) if now == *daemon && is_grown(daemon.started, uptime()) => break,
            Some((now, _)) if now == *daemon => {}
            _ => return Ok(Told::Gone),
        }
        if until.passed() {
            return Ok(Told::Starting);
        }
        std::thread::sleep(Duration::from_millis(20).min(until.left()));
    }
    match pidfd_send_signal(handle, Signal::HUP) {
        Err(rustix::io::Errno::SRCH) => Ok(Told::Gone),
        other => other.map(|()| Told::Yes).map_err(failed),
    }
}

/// The daemon with this pid, and whether it catches SIGHUP.
fn look(pid: i32) -> Option<(Daemon, bool)> {
    let folder = Path::new("/proc").join(pid.to_string());
    let name = std::fs::read_to_string(folder.join("comm")).ok()?;
    let name = *NAMES.iter().find(|n| **n == name.trim_end())?;
    // A name is soon given; the program is not. Root alone may look.
    if let Ok(program) = std::fs::read_link(folder.join("exe"))
        && !is_program(&program, name)
    {
        return None;
    }
    let same_namespace = |at: &str| {
        let of = |who: &Path| std::fs::read_link(who.join(at)).ok();
        of(&folder).is_none_or(|theirs| Some(theirs) == of(Path::new("/proc/self")))
    };
    let root = |who: &Path| std::fs::metadata(who.join("root")).ok().map(|m| (m.dev(), m.ino()));
    let same_root = root(&folder).is_none_or(|theirs| Some(theirs) == root(Path::new("/proc/self")));
    if !same_namespace("ns/pid") || !same_root {
        return None;
    }
    let status = Status::read(&std::fs::read_to_string(folder.join("status")).ok()?)?;
    let started = started(&std::fs::read_to_string(folder.join("stat")).ok()?)?;
    let daemon = Daemon { name: name.to_owned(), pid, started };
    (status.user == 0).then_some((daemon, status.catches_hangup))
}

fn is_grown(started: u64, uptime: Option<u64>) -> bool {
    uptime.is_none_or(|now| now >= started + GROWN)
}

/// Clock ticks since boot (proc_uptime(5)).
fn uptime() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let (seconds, rest) = text.split_whitespace().next()?.split_once('.')?;
    let hundredths: u64 = rest.get(..2)?.parse().ok()?;
    Some(seconds.parse::<u64>().ok()? * TICKS + hundredths)
}

/// Whether a process's program is the daemon's; the kernel adds a word when an upgrade replaced the file.
fn is_program(program: &Path, name: &str) -> bool {
    let file = program.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
    file.strip_suffix(" (deleted)").unwrap_or(&file) == name
}

/// What we need of proc_pid_status(5).
#[derive(Debug, PartialEq, Eq)]
struct Status {
    /// The effective user.
    user: u32,
    /// Whether SIGHUP is among the signals that have a handler.
    catches_hangup: bool,
}

impl Status {
    fn read(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name));
        let user = field("Uid:")?.split_whitespace().nth(1)?.parse().ok()?;
        let caught = u64::from_str_radix(field("SigCgt:")?.trim(), 16).ok()?;
        Some(Self { user, catches_hangup: caught & 1 == 1 })
    }
}

/// Field 22 of proc_pid_stat(5). The second field, the name, may hold anything: count from its end.
fn started(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_whatever_a_process_calls_itself() {
        let stat = "465 (a) b) 7) S 1 465 465 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 18 0 12345 1 2";
        assert_eq!(started(stat), Some(12345));
        let text = "Name:\tlibvirtd\nUid:\t1000\t0\t0\t0\nSigCgt:\t0000000100004007\n";
        assert_eq!(Status::read(text), Some(Status { user: 0, catches_hangup: true }));
        let text = "Uid:\t0\t7\t0\t0\nSigCgt:\t0000000100004006\n";
        assert_eq!(Status::read(text), Some(Status { user: 7, catches_hangup: false }));
        assert_eq!(Status::read(""), None);
    }

    #[test]
    fn a_daemon_is_told_when_it_can_understand() {
        assert!(!is_grown(1_000, Some(1_199)));
        assert!(is_grown(1_000, Some(1_200)));
        assert!(uptime().is_some_and(|ticks| ticks > 0));
    }

    #[test]
    fn an_upgraded_daemon_is_still_the_daemon() {
        assert!(is_program(Path::new("/usr/sbin/libvirtd"), "libvirtd"));
        assert!(is_program(Path::new("/usr/sbin/libvirtd (deleted)"), "libvirtd"));
        assert!(!is_program(Path::new("/tmp/libvirtd2"), "libvirtd"));
    }

    #[test]
    fn a_process_that_is_not_a_daemon_is_never_told() -> Result<()> {
        let us = i32::try_from(std::process::id()).unwrap_or(0);
        let pretended = Daemon { name: "libvirtd".into(), pid: us, started: 1 };
        assert_eq!(tell(&pretended, Deadline::after(Duration::from_secs(1)))?, Told::Gone);
        Ok(())
    }
}
