//! systemd's unit files: which are enabled, which run.

use super::process::{run, run_ok};
use crate::deadline::Deadline;
use crate::model::Result;

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

/// Whether systemd runs the host (sd_booted(3)).
#[must_use]
pub fn available() -> bool {
    std::path::Path::new("/run/systemd/system").is_dir()
}

/// Does it; fails in systemd's words.
pub fn command(verb: Verb, unit: &str, deadline: Deadline) -> Result<()> {
    run_ok("systemctl", &["--no-ask-password", verb.word(), "--", unit], b"", deadline)
        .map(drop)
        .map_err(|fault| fault.hint(format!("systemctl status {unit} tells more")))
}

/// Makes systemd read its unit files again.
pub fn reload(deadline: Deadline) -> Result<()> {
    run_ok("systemctl", &["--no-ask-password", "daemon-reload"], b"", deadline).map(drop)
}

/// Whether a unit starts at boot.
pub fn is_enabled(unit: &str, deadline: Deadline) -> Result<bool> {
    Ok(run("systemctl", &["--quiet", "is-enabled", "--", unit], b"", deadline)?.success())
}

/// Whether a unit runs, or is about to.
pub fn is_active(unit: &str, deadline: Deadline) -> Result<bool> {
    Ok(run("systemctl", &["--quiet", "is-active", "--", unit], b"", deadline)?.success())
}
