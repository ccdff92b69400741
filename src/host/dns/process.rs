//! dnsmasq's processes: each a systemd unit, or, where there is no systemd or no unit of ours, a daemon.

mod ports;

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::files::{Folder, read, remove};
use super::leases::without_stale;
use super::render::pid_file_of;
use super::role::Role;
use crate::deadline::Deadline;
use crate::host::process::run_ok;
use crate::host::{Change, systemd};
use crate::model::{Fault, Kind, Network, Result};
use crate::places::Places;

/// Where a dnsmasq that was just started must have read its config and bound its sockets. It takes some 5 ms.
const START: Duration = Duration::from_secs(5);
/// How long one may take to end after SIGTERM, before SIGKILL.
const END: Duration = Duration::from_secs(2);

/// How a network's dnsmasqs are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsState {
    /// The one that answers for names; its socket is UDP port 53.
    pub names: DnsmasqState,
    /// The one that gives addresses; its socket is UDP port 67 or, on a network with IPv6 only, 547.
    pub addresses: DnsmasqState,
    /// A reservation was changed or removed and the one for addresses has not been told.
    pub reload_needed: bool,
}

impl DnsState {
    /// Both, each with what it is for.
    #[must_use]
    pub fn each(&self) -> [(Role, &DnsmasqState); 2] {
        Role::ALL.map(|role| (role, self.of(role)))
    }

    /// The one for `role`.
    #[must_use]
    pub fn of(&self, role: Role) -> &DnsmasqState {
        match role {
            Role::Names => &self.names,
            Role::Addresses => &self.addresses,
        }
    }

    /// Whether one of them is there.
    #[must_use]
    pub fn any_running(&self) -> bool {
        self.each().iter().any(|(_, daemon)| daemon.pid.is_some())
    }
}

/// How one dnsmasq is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsmasqState {
    /// Its process, if it runs.
    pub pid: Option<u32>,
    /// systemd restarts it when it dies.
    pub supervised: bool,
    /// It runs with the config that is in its folder now.
    pub config_current: bool,
    /// It has the socket that it is for. `None`: only root can know.
    pub socket: Option<bool>,
}

/// A dnsmasq that was seen to be this network's.
struct Running {
    pid: u32,
    handle: OwnedFd,
    /// Its parent restarts it; it is not to be ended behind its back.
    supervised: bool,
}

/// Reads how a network's dnsmasqs are; changes nothing.
///
/// # Errors
/// Their folder can't be read.
pub fn state(network: &Network, places: &Places) -> Result<DnsState> {
    Ok(DnsState {
        names: Dnsmasq::of(network, Role::Names, places).state()?,
        addresses: Dnsmasq::of(network, Role::Addresses, places).state()?,
        reload_needed: Folder::of(network, places).reload_needed().exists(),
    })
}

/// Makes a network's dnsmasqs run with the files that are in their folder now: starts one, or starts it again
/// when it has older ones. Where [`super::write_static`] wrote no config because it can't serve, it is
/// stopped.
///
/// # Errors
/// [`Kind::Missing`] where dnsmasq is not installed; else one did not start, in its words where there are
/// any. The other one was started all the same.
pub fn ensure_running(network: &Network, places: &Places, deadline: Deadline) -> Result<Change> {
    each(network, places, |dnsmasq| dnsmasq.ensure_running(deadline))
}

/// Makes the dnsmasq that gives addresses read changed and removed reservations, if it runs. It is started
/// again; its leases are kept.
///
/// # Errors
/// It did not come back.
pub fn reload(network: &Network, places: &Places, deadline: Deadline) -> Result<Change> {
    let dnsmasq = Dnsmasq::of(network, Role::Addresses, places);
    let Some(running) = dnsmasq.find()? else { return Ok(Change::None) };
    dnsmasq.restart(Some(running), deadline)?;
    Ok(Change::Made)
}

/// Ends a network's dnsmasqs. Their files stay.
///
/// # Errors
/// One did not end; the other one did all the same.
pub fn stop(network: &Network, places: &Places, deadline: Deadline) -> Result<Change> {
    each(network, places, |dnsmasq| dnsmasq.stop(deadline))
}

/// Does it to both; the first fault, if any, after that.
fn each(
    network: &Network,
    places: &Places,
    mut act: impl FnMut(&Dnsmasq<'_>) -> Result<Change>,
) -> Result<Change> {
    let [first, second] = Role::ALL.map(|role| act(&Dnsmasq::of(network, role, places)));
    Ok(first?.or(second?))
}

/// One of a network's dnsmasqs, running or not.
struct Dnsmasq<'a> {
    network: &'a Network,
    role: Role,
    places: &'a Places,
    own: Folder,
}

impl<'a> Dnsmasq<'a> {
    fn of(network: &'a Network, role: Role, places: &'a Places) -> Self {
        Self { network, role, places, own: Folder::of(network, places) }
    }

    fn state(&self) -> Result<DnsmasqState> {
        let running = self.find()?;
        let port = match self.role {
            Role::Names => 53,
            Role::Addresses if self.network.ipv4.as_ref().is_some_and(|f| f.address.is_some()) => 67,
            Role::Addresses => 547,
        };
        Ok(DnsmasqState {
            config_current: match &running {
                Some(r) => self.current(r.pid)?,
                None => false,
            },
            supervised: running.as_ref().is_some_and(|r| r.supervised),
            socket: running.as_ref().and_then(|r| ports::of(r.pid)).map(|ports| ports.contains(&port)),
            pid: running.map(|r| r.pid),
        })
    }

    fn ensure_running(&self, deadline: Deadline) -> Result<Change> {
        if read(&self.own.config(self.role))?.is_none() {
            return self.stop(deadline);
        }
        let running = self.find()?;
        if let Some(r) = &running
            && self.current(r.pid)?
            && !self.reload_needed()
            && (r.supervised || !self.by_systemd(deadline)?)
        {
            return Ok(Change::None);
        }
        self.restart(running, deadline)?;
        Ok(Change::Made)
    }

    fn stop(&self, deadline: Deadline) -> Result<Change> {
        let ran = self.find()?.is_some();
        // Also where no process is seen: systemd may be about to start it again.
        if self.by_systemd(deadline)? {
            systemd::stop(&self.unit(), deadline)?;
        }
        if let Some(running) = self.find()? {
            self.end(&running, deadline)?;
        }
        self.own.forget_pid_files(self.role)?;
        Ok(if ran { Change::Made } else { Change::None })
    }

    fn unit(&self) -> String {
        self.role.unit(&self.network.name)
    }

    /// For messages.
    fn name(&self) -> String {
        format!("dnsmasq for {} of network {}", self.role.protocol(), self.network.name)
    }

    fn reload_needed(&self) -> bool {
        self.role == Role::Addresses && self.own.reload_needed().exists()
    }

    fn restart(&self, running: Option<Running>, deadline: Deadline) -> Result<()> {
        // First, so that after a crash the old process counts as one with another config. And so that the next
        // one to appear is the new process's.
        self.own.forget_pid_files(self.role)?;
        if self.role == Role::Addresses {
            // Before the start: what is changed from here on is noted anew.
            remove(&self.own.reload_needed())?;
        }
        let started = self.start_again(running, deadline);
        if started.is_err() && self.role == Role::Addresses {
            self.own.note_reload()?;
        }
        started
    }

    fn start_again(&self, running: Option<Running>, deadline: Deadline) -> Result<()> {
        let supervised = match &running {
            Some(r) if r.supervised => true,
            _ => self.by_systemd(deadline)?,
        };
        if let Some(r) = running
            && !r.supervised
        {
            self.end(&r, deadline)?;
        }
        if self.role == Role::Addresses && without_stale(&self.own)?.is_some() {
            if supervised {
                systemd::stop(&self.unit(), deadline)?;
            }
            // It has ended: nothing is written to its record meanwhile.
            if let Some(record) = without_stale(&self.own)? {
                self.own.put(&self.own.leases(), &record)?;
            }
        }
        if supervised {
            systemd::restart(&self.unit(), deadline)?;
        } else {
            self.daemon(deadline)?;
        }
        self.wait_for_start(supervised, deadline.at_most(START))
    }

    /// Whether systemd is to run it: it runs the host, our unit is installed, and the unit means this folder.
    fn by_systemd(&self, deadline: Deadline) -> Result<bool> {
        Ok(self.places.run == Places::default().run
            && systemd::available()
            && systemd::knows(&self.unit(), deadline)?)
    }

    fn daemon(&self, deadline: Deadline) -> Result<()> {
        // Debian's place, which a person's PATH need not have.
        let usual = "/usr/sbin/dnsmasq";
        let program = if Path::new(usual).exists() { usual } else { "dnsmasq" };
        let log = format!("--log-facility={}", self.log().display());
        // It answers when its sockets are bound, and then goes on in the background.
        run_ok(program, &[self.config_argument(), log], b"", deadline).map(|_| ()).map_err(|fault| {
            if fault.kind() == Kind::Missing {
                fault.hint("install dnsmasq (Debian and Ubuntu: apt install dnsmasq-base)")
            } else {
                Fault::failed(format!("{} does not start", self.name())).because(fault)
            }
        })
    }

    fn log(&self) -> PathBuf {
        self.own.path().join(format!("{}.log", self.role.stem()))
    }

    fn wait_for_start(&self, supervised: bool, deadline: Deadline) -> Result<()> {
        loop {
            if let Some(pid) = self.config_pid()?
                && self.inspect(pid).is_some()
            {
                return Ok(());
            }
            if deadline.passed() {
                let fault = Fault::failed(format!("{} did not start in time", self.name()));
                return Err(if supervised {
                    fault.hint(format!("journalctl -u {} tells why", self.unit()))
                } else {
                    fault.hint(format!("{} tells why", self.log().display()))
                });
            }
            std::thread::sleep(Duration::from_millis(1).min(deadline.left()));
        }
    }

    /// Ends one process, by its handle, so that no other can be hit.
    fn end(&self, running: &Running, deadline: Deadline) -> Result<()> {
        for (signal, span) in [(Signal::TERM, END), (Signal::KILL, END)] {
            match pidfd_send_signal(&running.handle, signal) {
                Ok(()) => {}
                Err(rustix::io::Errno::SRCH) => return Ok(()),
                Err(e) => {
                    let what = format!("cannot stop {} (process {})", self.name(), running.pid);
                    return Err(Fault::failed(what).because(e));
                }
            }
            if ended(&running.handle, deadline.at_most(span)) {
                return Ok(());
            }
        }
        let what = format!("{} (process {}) did not end in time", self.name(), running.pid);
        Err(Fault::failed(what))
    }

    fn config_argument(&self) -> String {
        format!("--conf-file={}", self.own.config(self.role).display())
    }

    /// The process that says it has read the config that is in the folder now.
    fn config_pid(&self) -> Result<Option<u32>> {
        let Some(text) = read(&self.own.config(self.role))? else { return Ok(None) };
        let Some(path) = pid_file_of(&text) else { return Ok(None) };
        Ok(read(path)?.and_then(|text| text.trim().parse().ok()))
    }

    fn current(&self, pid: u32) -> Result<bool> {
        Ok(self.config_pid()? == Some(pid))
    }

    /// By its pid files, else among all processes, should somebody have emptied the folder under it.
    fn find(&self) -> Result<Option<Running>> {
        for path in self.own.pid_files(self.role)? {
            let pid = read(&path)?.and_then(|text| text.trim().parse().ok());
            if let Some(running) = pid.and_then(|pid| self.inspect(pid)) {
                return Ok(Some(running));
            }
        }
        let processes = fs::read_dir("/proc")
            .map_err(|e| Fault::failed("cannot list the processes in /proc").because(e))?;
        let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(pids.filter(|pid| self.command_line(*pid).is_some()).find_map(|pid| self.inspect(pid)))
    }

    /// Whether a process is this one, by its program and its config; with a handle that stays its own.
    fn inspect(&self, pid: u32) -> Option<Running> {
        let handle = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
        let supervised = self.command_line(pid)?;
        Some(Running { pid, handle, supervised })
    }

    /// Whether it is supervised, if `pid` is our dnsmasq.
    fn command_line(&self, pid: u32) -> Option<bool> {
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let config = self.config_argument();
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

#[cfg(test)]
mod tests {
    use super::super::testing::{Result, network};
    use super::*;

    #[test]
    fn a_pid_file_that_names_another_process_is_not_believed() -> Result {
        let root = tempfile::tempdir()?;
        let places =
            Places { config: root.path().into(), state: root.path().into(), run: root.path().into() };
        let network = network("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?;
        super::super::write_static(&network, &[], &places)?;
        let own = Folder::of(&network, &places);
        for role in Role::ALL {
            let text = read(&own.config(role))?.unwrap_or_default();
            // This test's own process: it runs, and it is no dnsmasq.
            let pid_file = pid_file_of(&text).ok_or("the config names a pid file")?;
            fs::write(pid_file, std::process::id().to_string())?;
        }
        assert_eq!(state(&network, &places)?, DnsState::default());
        let soon = Deadline::after(Duration::from_secs(5));
        assert_eq!(stop(&network, &places, soon)?, Change::None);
        Ok(())
    }
}
