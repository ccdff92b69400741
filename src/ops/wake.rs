//! Wakes the service. Where none runs, a detached child does its work once.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::places::Places;

/// Tells that the registry changed: names, DHCP, Docker and the snapshot are to follow. Never waits
/// and never fails; the next `apply` makes up for a lost call.
pub fn wake(places: &Places) {
    if !nudge(places) {
        detach(places);
    }
}

/// As [`wake`], and nothing where no service runs; whether one does.
pub fn nudge(places: &Places) -> bool {
    let sent = UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.send_to(b"w", places.wake_socket())
    });
    match sent {
        Ok(_) => true,
        // A full queue means that it is awake.
        Err(e) => e.kind() == ErrorKind::WouldBlock,
    }
}

/// Starts the child, unless one is on its way. It has its own session and none of our descriptors:
/// libvirt reads a hook's pipes to their end.
fn detach(places: &Places) {
    let pending = places.settle_pending();
    if std::fs::OpenOptions::new().write(true).create_new(true).open(&pending).is_err() {
        let stale = std::fs::metadata(&pending)
            .and_then(|m| m.modified())
            .is_ok_and(|t| t.elapsed().is_ok_and(|age| age > Duration::from_secs(10)));
        // No folder: no network was ever up, and there is nothing to follow up.
        if !stale {
            return;
        }
    }
    let Ok(program) = std::env::current_exe() else { return };
    let child = Command::new(program)
        .arg("settle")
        .env("HYBRID_CONFIG_DIR", &places.config)
        .env("HYBRID_STATE_DIR", &places.state)
        .env("HYBRID_RUN_DIR", &places.run)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    // Not waited for: we end first, and process 1 takes it over.
    if let Err(error) = child {
        log::warn!("cannot start the work after the hook: {error}");
    }
}
