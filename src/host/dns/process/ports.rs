//! Which ports a process has, by proc(5).

use std::collections::HashSet;
use std::fs;

/// The UDP ports that a process is bound to; `None` where we may not look.
pub(super) fn of(pid: u32) -> Option<HashSet<u16>> {
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
}
