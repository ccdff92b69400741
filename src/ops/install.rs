//! `install` and `uninstall`: our hooks among libvirt's, our units among systemd's.
//!
//! Other tools' hooks are never touched: ours are entries of their own in `qemu.d` and `network.d`,
//! which libvirt reads since 6.5; before, it is the main file, and only where there is none. What is
//! done is written down first (in `record.rs`), so that `uninstall` takes away just that, and a
//! crash in between leaves nothing that it doesn't know. Both can be done again at any time.

mod away;
mod files;
pub mod place;
mod record;
mod site;
pub mod state;
mod steps;
#[cfg(test)]
mod tests;
mod units;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::deadline::Deadline;
use crate::model::Result;
pub use site::{Host, Machine, Site, UnitFile};
pub use state::{Installation, state};
pub use units::UNITS;

/// The service that brings networks up at boot, before Docker and libvirt.
pub const NET_UNIT: &str = "hybrid-hook-net.service";
/// A network's dnsmasq that answers for names; started by its network, not by us.
pub const DNSMASQ_UNIT: &str = "hybrid-hook-dnsmasq@.service";
/// A network's dnsmasq that gives addresses; started by its network, not by us.
pub const DHCP_UNIT: &str = "hybrid-hook-dhcp@.service";
/// The socket on which Docker asks for addresses; before Docker, whoever answers.
pub const IPAM_SOCKET: &str = "hybrid-hook-ipam.socket";
/// Who answers there; started by the first question.
pub const IPAM_UNIT: &str = "hybrid-hook-ipam.service";
/// The service that follows Docker and libvirt.
pub const WATCH_UNIT: &str = "hybrid-hook.service";

/// What was done, in lines for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Whether anything was changed.
    pub changed: bool,
    /// What was done, in its order.
    pub done: Vec<String>,
    /// What was not done or is left, and why.
    pub notes: Vec<String>,
}

/// Installs what is missing: hooks, units, and a word to libvirt's daemons.
///
/// `root` is `/`, or another folder with a host's files in it: then only files are put there, and
/// neither systemd nor a daemon is spoken to. Needs root. It takes seconds where a service is slow
/// to start.
///
/// # Errors
/// - `Refused`: our executable is where AppArmor lets no libvirt run it, or others may write it; the
///   place of a hook is taken by another tool's.
/// - `Failed`: what systemd or the kernel says. Whatever was done before is undone.
pub fn install(root: &Path, deadline: Deadline) -> Result<Report> {
    steps::install(&Site::at(root, &UNITS, deadline)?, deadline)
}

/// Removes what `install` installed, and nothing else; a thing that is gone already is fine.
/// Networks, leases and configuration stay.
///
/// # Errors
/// `Failed`: the first thing that could not be removed; the others follow it. What can be removed
/// is, and it can be done again.
pub fn uninstall(root: &Path, deadline: Deadline) -> Result<Report> {
    away::uninstall(&Site::at(root, &UNITS, deadline)?, deadline)
}
