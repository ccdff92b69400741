//! systemd: units of ours, started and stopped, and what we tell it of ourselves.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use super::process::{run, run_ok};
use crate::deadline::Deadline;
use crate::model::{Fault, Result};

/// Whether systemd runs the host (sd_booted(3)).
#[must_use]
pub fn available() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Whether systemd has a file for the unit, or for its template.
///
/// # Errors
/// systemd that does not answer.
pub fn knows(unit: &str, deadline: Deadline) -> Result<bool> {
    let output =
        run_ok("systemctl", &["show", "--property=LoadState", "--value", "--", unit], b"", deadline)?;
    Ok(String::from_utf8_lossy(&output).trim() == "loaded")
}

/// What is asked of systemd about a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Have it started at boot, as its file says.
    Enable,
    /// Have it started at boot no more.
    Disable,
    /// Start it and wait until it has.
    Start,
    /// Stop it and wait until it has; a pattern means all that are loaded.
    Stop,
    /// Stop and start it.
    Restart,
    /// Forget that it failed, so that nothing of it is left in systemd's memory.
    ResetFailed,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::ResetFailed => "reset-failed",
        }
    }
}

/// Starts a unit and waits until it has started; nothing if it runs.
///
/// # Errors
/// The unit fails to start, in systemd's words.
pub fn start(unit: &str, deadline: Deadline) -> Result<()> {
    command(Verb::Start, unit, deadline)
}

/// Stops a unit and waits until it has stopped; nothing if it doesn't run.
///
/// # Errors
/// systemd's refusal, in its words.
pub fn stop(unit: &str, deadline: Deadline) -> Result<()> {
    command(Verb::Stop, unit, deadline)
}

/// Stops a unit if it runs, and starts it.
///
/// # Errors
/// The unit fails to start, in systemd's words.
pub fn restart(unit: &str, deadline: Deadline) -> Result<()> {
    command(Verb::Restart, unit, deadline)
}

/// Does one thing with a unit.
///
/// # Errors
/// systemd's refusal, in its words.
pub fn command(verb: Verb, unit: &str, deadline: Deadline) -> Result<()> {
    run_ok("systemctl", &["--quiet", "--no-ask-password", verb.word(), "--", unit], b"", deadline)
        .map(drop)
        .map_err(|fault| fault.hint(format!("systemctl status {unit} tells more")))
}

/// Whether a unit starts at boot.
///
/// # Errors
/// systemd that does not answer.
pub fn is_enabled(unit: &str, deadline: Deadline) -> Result<bool> {
    Ok(run("systemctl", &["--quiet", "is-enabled", "--", unit], b"", deadline)?.success())
}

/// Whether a unit runs.
///
/// # Errors
/// systemd that does not answer.
pub fn is_active(unit: &str, deadline: Deadline) -> Result<bool> {
    // 3 when it is not active, 4 when there is no such unit (systemctl(1)).
    Ok(run("systemctl", &["--quiet", "is-active", "--", unit], b"", deadline)?.success())
}

/// Makes systemd read its unit files again.
///
/// # Errors
/// systemd's refusal, in its words.
pub fn daemon_reload(deadline: Deadline) -> Result<()> {
    run_ok("systemctl", &["--no-ask-password", "daemon-reload"], b"", deadline).map(|_| ())
}

/// What a service tells systemd of itself (sd_notify(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice<'a> {
    /// It has started.
    Ready,
    /// It is about to end.
    Stopping,
    /// It is alive.
    Watchdog,
    /// What it does, in one line for people.
    Status(&'a str),
}

impl Notice<'_> {
    fn text(&self) -> String {
        match self {
            Self::Ready => "READY=1".to_owned(),
            Self::Stopping => "STOPPING=1".to_owned(),
            Self::Watchdog => "WATCHDOG=1".to_owned(),
            // A line end would begin another assignment.
            Self::Status(text) => format!("STATUS={}", text.replace(['\n', '\r'], " ")),
        }
    }
}

/// Tells systemd; `false` where none listens (`NOTIFY_SOCKET` is not set). Never waits: a notice that the
/// socket can't take at once is lost.
///
/// # Errors
/// A socket that can't be reached.
pub fn notify(notice: Notice<'_>) -> Result<bool> {
    match std::env::var_os("NOTIFY_SOCKET").filter(|v| !v.is_empty()) {
        Some(socket) => notify_at(&socket, notice).map(|()| true),
        None => Ok(false),
    }
}

fn notify_at(socket: &OsStr, notice: Notice<'_>) -> Result<()> {
    let broken = |e: std::io::Error| Fault::failed("cannot tell systemd how the service is").because(e);
    // "@" begins a name in the abstract namespace (unix(7)).
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(Path::new(socket)),
    }
    .map_err(broken)?;
    let sender = UnixDatagram::unbound().map_err(broken)?;
    sender.set_nonblocking(true).map_err(broken)?;
    match sender.send_to_addr(notice.text().as_bytes(), &address) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
        Err(e) => Err(broken(e)),
    }
}

/// How often the watchdog wants to hear of us: half of what systemd allows (sd_watchdog_enabled(3)).
/// `None` where it watches nobody, or another process.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    let pid = std::env::var("WATCHDOG_PID").ok();
    let microseconds = std::env::var("WATCHDOG_USEC").ok();
    interval(microseconds.as_deref(), pid.as_deref(), std::process::id())
}

fn interval(microseconds: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let span = Duration::from_micros(microseconds?.parse().ok()?);
    (!span.is_zero()).then(|| span / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

    #[test]
    fn a_notice_arrives_at_a_path_and_at_an_abstract_name() -> Result {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("notify");
        let receiver = UnixDatagram::bind(&path)?;
        receiver.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut bytes = [0; 64];
        notify_at(path.as_os_str(), Notice::Status("two\nlines"))?;
        let length = receiver.recv(&mut bytes)?;
        assert_eq!(bytes.get(..length), Some(&b"STATUS=two lines"[..]));

        let name = format!("hybrid-hook-test-{}", std::process::id());
        let receiver = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        receiver.set_read_timeout(Some(Duration::from_secs(5)))?;
        notify_at(OsStr::new(&format!("@{name}")), Notice::Ready)?;
        let length = receiver.recv(&mut bytes)?;
        assert_eq!(bytes.get(..length), Some(&b"READY=1"[..]));
        Ok(())
    }

    #[test]
    fn a_socket_that_nobody_reads_does_not_hold_us_up() -> Result {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("notify");
        let _receiver = UnixDatagram::bind(&path)?;
        for _ in 0..10_000 {
            notify_at(path.as_os_str(), Notice::Watchdog)?;
        }
        Ok(())
    }

    #[test]
    fn the_watchdog_hears_twice_as_often_as_it_asks() {
        let half = Some(Duration::from_secs(15));
        assert_eq!(interval(Some("30000000"), None, 7), half);
        assert_eq!(interval(Some("30000000"), Some("7"), 7), half);
        assert_eq!(interval(Some("30000000"), Some("8"), 7), None);
        assert_eq!(interval(None, None, 7), None);
        assert_eq!(interval(Some("0"), None, 7), None);
    }
}
