//! What `doctor --json` prints: a promised format. Fields, checks and versions are only ever added.

use schemars::JsonSchema;
use serde::Serialize;

/// The version of the format. It goes up when a field changes its meaning or goes.
pub const FORMAT: u32 = 1;

/// Everything that `doctor` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Diagnosis {
    /// The version of this format: 1.
    pub format: u32,
    /// No check fails.
    pub healthy: bool,
    /// Whether it was run by root: others can't make every check.
    pub root: bool,
    /// What runs here.
    pub versions: Versions,
    /// The checks, always in the same order.
    pub checks: Vec<Check>,
}

/// What runs here; null where it isn't there, or did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Versions {
    /// This program.
    pub hybrid_hook: String,
    /// The kernel.
    pub kernel: Option<String>,
    /// nftables.
    pub nft: Option<String>,
    /// dnsmasq.
    pub dnsmasq: Option<String>,
    /// Docker, and the API that we speak with it.
    pub docker: Option<String>,
    /// libvirt's daemon.
    pub libvirt: Option<String>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Check {
    /// Its name, which never changes.
    pub id: String,
    /// What is checked.
    pub title: String,
    /// How it came out.
    pub status: Status,
    /// What was found, or why nothing could be.
    pub detail: String,
    /// What mends it, in this order: commands, or what to do first.
    pub mend: Vec<String>,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It could not be made, or there is nothing to check.
    Skipped,
    /// All is well.
    Ok,
    /// It works, and may not for long or for all.
    Warn,
    /// It does not work.
    Fail,
}
