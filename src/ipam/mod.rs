//! Docker's IPAM driver `hybrid`: a service of its own on a unix socket, because it must answer before
//! Docker and libvirt have started, and while either of them waits for us.
//!
//! systemd holds the socket and starts this on the first question: Docker, whose own start asks, is never
//! met by a missing socket. It keeps nothing in memory; killed at any instant and started again, it goes on.

mod protocol;
mod server;

use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::host::docker::plugin;
use crate::model::{Fault, Result};
use crate::ops::Context;
use crate::registry::durable::{self, io_fault};

/// Answers until SIGTERM or SIGINT: on the socket that systemd hands over as standard input, else on one of
/// its own at `path`.
///
/// # Errors
/// Refused: another one answers there. Failed: the socket can't be made.
pub fn run(context: Context, path: &Path) -> Result<()> {
    let listener = match handed_over() {
        Some(listener) => listener,
        None => listen(path)?,
    };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])
        .map_err(|e| Fault::failed("cannot listen to signals").because(e))?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.forever().next().is_some() {
                let _ = stop.send(true);
            }
        })
        .map_err(|e| Fault::failed("cannot start the thread signals").because(e))?;
    log::info!("hybrid-hook ipam {} is ready", env!("CARGO_PKG_VERSION"));
    let answer = move |path: &str, body: &[u8]| protocol::answer(&context, path, body);
    server::serve(listener, Arc::new(answer), stopped)
}

/// The listening socket that is our standard input (systemd.exec(5), `StandardInput=socket`).
fn handed_over() -> Option<UnixListener> {
    let input = std::io::stdin();
    rustix::net::sockopt::socket_acceptconn(&input).ok().filter(|listening| *listening)?;
    Some(UnixListener::from(input.as_fd().try_clone_to_owned().ok()?))
}

/// A socket that only root opens. What is left of one that is gone is replaced.
fn listen(path: &Path) -> Result<UnixListener> {
    if plugin::listens(path) {
        return Err(Fault::refused(format!("somebody answers at {} already", path.display()))
            .hint("systemctl status hybrid-hook-ipam.socket"));
    }
    if let Some(folder) = path.parent() {
        durable::make_folder(folder, 0o755)?;
    }
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(|e| io_fault("listen on", path, e))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|e| io_fault("set the permissions of", path, e))?;
    Ok(listener)
}
