//! Our unit files, as they are in `hook/systemd`.

use super::{DHCP_UNIT, DNSMASQ_UNIT, IPAM_SOCKET, IPAM_UNIT, NET_UNIT, UnitFile, WATCH_UNIT};

/// The units. They are in the executable, so that it can install itself from anywhere.
pub const UNITS: [UnitFile<'static>; 6] = [
    UnitFile { name: NET_UNIT, text: include_str!("../../../hook/systemd/hybrid-hook-net.service") },
    UnitFile { name: DNSMASQ_UNIT, text: include_str!("../../../hook/systemd/hybrid-hook-dnsmasq@.service") },
    UnitFile { name: DHCP_UNIT, text: include_str!("../../../hook/systemd/hybrid-hook-dhcp@.service") },
    UnitFile { name: IPAM_SOCKET, text: include_str!("../../../hook/systemd/hybrid-hook-ipam.socket") },
    UnitFile { name: IPAM_UNIT, text: include_str!("../../../hook/systemd/hybrid-hook-ipam.service") },
    UnitFile { name: WATCH_UNIT, text: include_str!("../../../hook/systemd/hybrid-hook.service") },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_enabled_says_when_it_is_wanted() {
        for unit in UNITS {
            let wanted = unit.text.contains("WantedBy=multi-user.target")
                || unit.text.contains("WantedBy=sockets.target");
            // Their network and their socket start these.
            let started_otherwise = unit.name.contains('@') || unit.name == IPAM_UNIT;
            assert_eq!(wanted, !started_otherwise, "{}", unit.name);
        }
    }

    #[test]
    fn docker_finds_the_socket_where_it_looks() {
        let line = format!("ListenStream={}", crate::host::docker::plugin::SOCKET);
        let socket = UNITS.iter().find(|u| u.name == IPAM_SOCKET);
        assert!(socket.is_some_and(|u| u.text.lines().any(|l| l == line)));
    }

    #[test]
    fn units_run_the_executable_where_install_wants_it() {
        for line in UNITS.iter().flat_map(|u| u.text.lines()).filter(|l| l.contains("hybrid-hook ")) {
            if let Some(command) = line.strip_prefix("ExecStart=") {
                assert!(command.starts_with("/usr/bin/hybrid-hook "), "{line}");
            }
        }
    }
}
