//! dnsmasq's process: a systemd unit for each network, or, where there is no systemd or no unit of ours, a
//! daemon.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::files::{Folder, read, remove};
use super::leases::without_stale;
use super::render::pid_file_of;
use crate::deadline::Deadline;
use crate::host::process::run_ok;
use crate::host::{Change, systemd};
use crate::model::{Fault, Kind, Network, NetworkName, Result};
use crate::places::Places;

/// Where a dnsmasq that was just started must have read its config and bound its sockets. It takes some 5 ms.
const START: Duration = Duration::from_secs(5);
/// How long one may take to end after SIGTERM, before SIGKILL.
const END: Duration = Duration::from_secs(2);

/// The systemd unit of a network's dnsmasq.
#[must_use]
pub fn unit(network: &NetworkName) -> String {
    format!("hybrid-hook-dnsmasq@{network}.service")
}

/// How a network's dnsmasq is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsState {
    /// Its process, if it runs.
    pub pid: Option<u32>,
    /// systemd restarts it when it dies.
    pub supervised: bool,
    /// It runs with the config that is in its folder now.
    pub config_current: bool,
    /// A reservation was changed or removed and it has not been told.
    pub reload_needed: bool,
    /// It has a socket for DNS (UDP port 53). `None`: only root can know.
    pub dns: Option<bool>,
    /// It has a socket for DHCP (UDP port 67 or, on a network with IPv6 only, 547). `None`: only root can
    /// know.
    pub dhcp: Option<bool>,
}

impl DnsState {
    /// Whether its process is there.
    #[must_use]
    pub fn running(&self) -> bool {
        self.pid.is_some()
    }
}

/// A dnsmasq that was seen to be this network's.
struct Running {
    pid: u32,
    handle: OwnedFd,
    /// Its parent restarts it; it is not to be ended behind its back.
    supervised: bool,
}

/// Reads how a network's dnsmasq is; changes nothing.
///
/// # Errors
/// Its folder can't be read.
pub fn state(network: &Network, places: &Places) -> Result<DnsState> {
    let own = Folder::of(network, places);
    let running = find(&own)?;
    let ports = running.as_ref().and_then(|r| ports(r.pid));
    let dhcp = if network.ipv4.as_ref().is_some_and(|f| f.address.is_some()) { 67 } else { 547 };
    let has = |port| ports.as_ref().map(|ports| ports.contains(&port));
    Ok(DnsState {
        config_current: match &running {
            Some(r) => current(&own, r.pid)?,
            None => false,
        },
        reload_needed: own.reload_needed().exists(),
        supervised: running.as_ref().is_some_and(|r| r.supervised),
        dns: has(53),
        dhcp: has(dhcp),
        pid: running.map(|r| r.pid),
    })
}

/// Makes a network's dnsmasq run with the files that are in its folder now: starts it, or starts it again
/// when it has older ones. Where [`super::write_static`] wrote no config because it can't serve, it is
/// stopped.
///
/// # Errors
/// [`Kind::Missing`] where dnsmasq is not installed; else it did not start, in its words where there are
/// any.
pub fn ensure_running(network: &Network, places: &Places, deadline: Deadline) -> Result<Change> {
    let own = Folder::of(network, places);
    if read(&own.config())?.is_none() {
        return stop(network, places, deadline);
    }
    let running = find(&own)?;
    if let Some(r) = &running
        && current(&own, r.pid)?
        && !own.reload_needed().exists()
    {
        return Ok(Change::None);
    }
    restart(network, &own, running, places, deadline)?;
    Ok(Change::Made)
}

/// Makes a dnsmasq that runs read changed and removed reservations. It is started again; its leases are
/// kept. Nothing where it doesn't run.
///
/// # Errors
/// It did not come back.
pub fn reload(network: &Network, places: &Places, deadline: Deadline) -> Result<Change> {
    let own = Folder::of(network, places);
    let Some(running) = find(&own)? else { return Ok(Change::None) };
    restart(network, &own, Some(running), places, deadline)?;
    Ok(Change::Made)
}

/// Ends a network's dnsmasq. Its files stay.
///
/// # Errors
/// It did not end.
pub fn stop(network: &Network, places: &Places, deadline: Deadline) -> Result<Change> {
    let own = Folder::of(network, places);
    let ran = find(&own)?.is_some();
    // Also where no process is seen: systemd may be about to start it again.
    if by_systemd(network, places, deadline)? {
        systemd::stop(&unit(&network.name), deadline)?;
    }
    if let Some(running) = find(&own)? {
        end(network, &running, deadline)?;
    }
    forget_pid_files(&own)?;
    Ok(if ran { Change::Made } else { Change::None })
}

fn restart(
    network: &Network,
    own: &Folder,
    running: Option<Running>,
    places: &Places,
    deadline: Deadline,
) -> Result<()> {
    // Before the start: what is changed from here on is noted anew.
    remove(&own.reload_needed())?;
    // So that the next one to appear is the new process's.
    forget_pid_files(own)?;
    let started = start_again(network, own, running, places, deadline);
    if started.is_err() {
        own.note_reload()?;
    }
    started
}

fn start_again(
    network: &Network,
    own: &Folder,
    running: Option<Running>,
    places: &Places,
    deadline: Deadline,
) -> Result<()> {
    let supervised = match &running {
        Some(r) if r.supervised => true,
        _ => by_systemd(network, places, deadline)?,
    };
    if let Some(r) = running
        && !r.supervised
    {
        end(network, &r, deadline)?;
    }
    let unit = unit(&network.name);
    if supervised && without_stale(own)?.is_some() {
        systemd::stop(&unit, deadline)?;
    }
    // It has ended: nothing is written to its record meanwhile.
    if let Some(record) = without_stale(own)? {
        own.put(&own.leases(), &record)?;
    }
    if supervised {
        systemd::restart(&unit, deadline)?;
    } else {
        daemon(network, own, deadline)?;
    }
    wait_for_start(network, own, supervised, deadline.at_most(START))
}

/// Whether systemd is to run it: it runs the host, our unit is installed, and the unit means this folder.
fn by_systemd(network: &Network, places: &Places, deadline: Deadline) -> Result<bool> {
    Ok(places.run == Places::default().run
        && systemd::available()
        && systemd::knows(&unit(&network.name), deadline)?)
}

fn daemon(network: &Network, own: &Folder, deadline: Deadline) -> Result<()> {
    // Debian's place, which a person's PATH need not have.
    let usual = "/usr/sbin/dnsmasq";
    let program = if Path::new(usual).exists() { usual } else { "dnsmasq" };
    let log = format!("--log-facility={}", own.path().join("log").display());
    // It answers when its sockets are bound, and then goes on in the background.
    run_ok(program, &[config_argument(own), log], b"", deadline).map(|_| ()).map_err(|fault| {
        if fault.kind() == Kind::Missing {
            fault.hint("install dnsmasq (Debian and Ubuntu: apt install dnsmasq-base)")
        } else {
            Fault::failed(format!("dnsmasq of network {} does not start", network.name)).because(fault)
        }
    })
}

fn wait_for_start(network: &Network, own: &Folder, supervised: bool, deadline: Deadline) -> Result<()> {
    loop {
        if let Some(pid) = config_pid(own)?
            && inspect(own, pid).is_some()
        {
            return Ok(());
        }
        if deadline.passed() {
            let fault = Fault::failed(format!("dnsmasq of network {} did not start in time", network.name));
            return Err(if supervised {
                fault.hint(format!("journalctl -u {} tells why", unit(&network.name)))
            } else {
                fault.hint(format!("{} tells why", own.path().join("log").display()))
            });
        }
        std::thread::sleep(Duration::from_millis(1).min(deadline.left()));
    }
}

/// Ends one process, by its handle, so that no other can be hit.
fn end(network: &Network, running: &Running, deadline: Deadline) -> Result<()> {
    for (signal, span) in [(Signal::TERM, END), (Signal::KILL, END)] {
        match pidfd_send_signal(&running.handle, signal) {
            Ok(()) => {}
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(e) => {
                let what =
                    format!("cannot stop dnsmasq of network {} (process {})", network.name, running.pid);
                return Err(Fault::failed(what).because(e));
            }
        }
        if ended(&running.handle, deadline.at_most(span)) {
            return Ok(());
        }
    }
    let what = format!("dnsmasq of network {} (process {}) did not end in time", network.name, running.pid);
    Err(Fault::failed(what))
}

/// Waits for a process's end: its handle becomes readable then (pidfd_open(2)).
fn ended(handle: &OwnedFd, deadline: Deadline) -> bool {
    loop {
        let left = deadline.left();
        let span = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN)], Some(&span)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn config_argument(own: &Folder) -> String {
    format!("--conf-file={}", own.config().display())
}

/// The process that says it has read the config that is in the folder now.
fn config_pid(own: &Folder) -> Result<Option<u32>> {
    let Some(text) = read(&own.config())? else { return Ok(None) };
    let Some(path) = pid_file_of(&text) else { return Ok(None) };
    Ok(read(path)?.and_then(|text| text.trim().parse().ok()))
}

fn current(own: &Folder, pid: u32) -> Result<bool> {
    Ok(config_pid(own)? == Some(pid))
}

fn pid_files(own: &Folder) -> Result<Vec<PathBuf>> {
    let broken =
        |e: std::io::Error| Fault::failed(format!("cannot list {}", own.path().display())).because(e);
    let entries = match fs::read_dir(own.path()) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(broken(e)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(broken)?.path();
        if path.extension().is_some_and(|e| e == "pid") {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// dnsmasq can't remove them itself: it is no longer root when it ends.
fn forget_pid_files(own: &Folder) -> Result<()> {
    pid_files(own)?.iter().try_for_each(|path| remove(path).map(|_| ()))
}

/// The network's dnsmasq: by its pid files, else among all processes, should somebody have emptied the
/// folder under it.
fn find(own: &Folder) -> Result<Option<Running>> {
    for path in pid_files(own)? {
        let pid = read(&path)?.and_then(|text| text.trim().parse().ok());
        if let Some(running) = pid.and_then(|pid| inspect(own, pid)) {
            return Ok(Some(running));
        }
    }
    let processes =
        fs::read_dir("/proc").map_err(|e| Fault::failed("cannot list the processes in /proc").because(e))?;
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter(|pid| command_line(own, *pid).is_some()).find_map(|pid| inspect(own, pid)))
}

/// Whether a process is this network's dnsmasq, by its program and its config; with a handle that stays
/// its own.
fn inspect(own: &Folder, pid: u32) -> Option<Running> {
    let handle = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
    let supervised = command_line(own, pid)?;
    Some(Running { pid, handle, supervised })
}

/// Whether it is supervised, if `pid` is our dnsmasq.
fn command_line(own: &Folder, pid: u32) -> Option<bool> {
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let config = config_argument(own);
    if !words.split(|b| *b == 0).any(|word| word == config.as_bytes()) {
        return None;
    }
    // The program's file, not what it calls itself. Only root can read the link of another user's
    // process; another sees the kernel's short name.
    let program = match fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(path) => path.file_name()?.to_string_lossy().into_owned(),
        Err(_) => fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned(),
    };
    // " (deleted)" follows once the package was upgraded (proc(5)).
    if program.trim_end_matches(" (deleted)") != "dnsmasq" {
        return None;
    }
    Some(words.split(|b| *b == 0).any(|word| word == b"--keep-in-foreground"))
}

/// The UDP ports that a process is bound to; `None` where we may not look.
fn ports(pid: u32) -> Option<HashSet<u16>> {
    let sockets: HashSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut ports = HashSet::new();
    for table in ["udp", "udp6"] {
        // The process's own namespace, which may not be ours.
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        ports.extend(text.lines().filter_map(|line| bound(line, &sockets)));
    }
    Some(ports)
}

/// The port of a line of `/proc/net/udp` (proc(5)), if its socket is one of `sockets`.
fn bound(line: &str, sockets: &HashSet<String>) -> Option<u16> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    // local, remote, state, queues, timer, retransmits, uid, timeout, inode
    let inode = fields.nth(7)?;
    if !sockets.contains(inode) {
        return None;
    }
    u16::from_str_radix(local.rsplit(':').next()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Result, network};
    use super::*;

    #[test]
    fn the_port_of_an_own_socket_is_read() {
        let line = "  530: 0101000A:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000  \
                    65534        0 41707 2 0000000000000000 0";
        let own = HashSet::from(["41707".to_owned()]);
        assert_eq!(bound(line, &own), Some(53));
        assert_eq!(bound(line, &HashSet::new()), None);
        assert_eq!(bound("  sl  local_address rem_address   st", &own), None);
    }

    #[test]
    fn a_pid_file_that_names_another_process_is_not_believed() -> Result {
        let root = tempfile::tempdir()?;
        let places =
            Places { config: root.path().into(), state: root.path().into(), run: root.path().into() };
        let network = network("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?;
        super::super::write_static(&network, &places)?;
        let own = Folder::of(&network, &places);
        let text = read(&own.config())?.unwrap_or_default();
        // This test's own process: it runs, and it is no dnsmasq.
        let pid_file = pid_file_of(&text).ok_or("the config names a pid file")?;
        fs::write(pid_file, std::process::id().to_string())?;
        let state = state(&network, &places)?;
        assert_eq!((state.pid, state.config_current), (None, false));
        let soon = Deadline::after(Duration::from_secs(5));
        assert_eq!(stop(&network, &places, soon)?, Change::None);
        Ok(())
    }
}
