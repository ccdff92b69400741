//! Where Docker looks for our IPAM driver.

use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::model::{Fault, Ipam, Network, Result};

/// The driver's name with Docker, which is that of its socket.
pub const DRIVER: &str = "hybrid";

/// The driver's option that names the network of ours.
pub const NETWORK_OPTION: &str = "network";

/// Its socket, in the folder where Docker looks for plugins.
pub const SOCKET: &str = "/run/docker/plugins/hybrid.sock";

/// Whether somebody listens there, as far as this user may see. Never waits.
#[must_use]
pub fn listens(path: &Path) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let Ok(address) = SocketAddrUnix::new(path) else { return false };
    let Ok(socket) = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None) else { return false };
    // A full queue has somebody behind it. Who may not look at it (it is root's) can't say that nobody is there.
    matches!(connect(&socket, &address), Ok(()) | Err(Errno::AGAIN | Errno::ACCESS))
}

/// Refuses a network whose containers Docker asks us for, where nobody would answer. Docker itself would look for
/// the socket for up to 45 s, at each of its starts, and start no container on the network.
///
/// # Errors
/// Missing: nobody listens on the driver's socket.
pub fn check_there(network: &Network) -> Result<()> {
    if network.ipam == Ipam::Range || listens(Path::new(SOCKET)) {
        return Ok(());
    }
    Err(Fault::missing(format!(
        "network {} has ipam = \"hybrid\", and nobody listens on {SOCKET}, where Docker asks for addresses",
        network.name
    ))
    .hint("sudo hybrid-hook install"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_listens_or_nobody_does() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("s");
        assert!(!listens(&path));
        let listener = std::os::unix::net::UnixListener::bind(&path)?;
        assert!(listens(&path));
        drop(listener);
        assert!(!listens(&path));
        Ok(())
    }
}
