//! Our unit files, as they are in `hook/systemd`.

use super::{DNSMASQ_UNIT, NET_UNIT, UnitFile, WATCH_UNIT};

/// The three units. They are in the executable, so that it can install itself from anywhere.
pub const UNITS: [UnitFile<'static>; 3] = [
    UnitFile { name: NET_UNIT, text: include_str!("../../../hook/systemd/hybrid-hook-net.service") },
    UnitFile { name: DNSMASQ_UNIT, text: include_str!("../../../hook/systemd/hybrid-hook-dnsmasq@.service") },
    UnitFile { name: WATCH_UNIT, text: include_str!("../../../hook/systemd/hybrid-hook.service") },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_enabled_says_when_it_is_wanted() {
        for unit in UNITS {
            let template = unit.name.contains('@');
            assert_eq!(unit.text.contains("WantedBy=multi-user.target"), !template, "{}", unit.name);
        }
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
