//! What `inspect --json` prints: a promised format. Fields are only ever added; what is not there or not
//! known is `null` or an empty list.

mod network;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

pub use network::*;

/// The version of the format. It goes up when a field changes its meaning or goes.
pub const FORMAT: u32 = 1;

/// Everything that `inspect` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Inspection {
    /// The version of this format: 1.
    pub format: u32,
    /// Nothing that could be looked at differs, here or on any network.
    pub in_order: bool,
    /// What concerns every network.
    pub host: HostRecord,
    /// The networks, by name.
    pub networks: Vec<NetworkRecord>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Difference {
    /// Which part of it all.
    pub part: Part,
    /// What, such as `bridge hybr0 MTU`.
    pub what: String,
    /// How it is.
    pub is: String,
    /// How it should be.
    pub should_be: String,
    /// The command that mends it, or what to do first.
    pub mend: String,
}

/// A part of a network or of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A network's file or the registry.
    Files,
    /// The service.
    Service,
    /// The hooks, and the daemons that run them.
    Hooks,
    /// The place of the hooks' executable.
    Executable,
    /// The bridge.
    Bridge,
    /// The guests' ports and leases.
    Guests,
    /// NAT and the kernel's settings.
    Routing,
    /// dnsmasq.
    Dnsmasq,
    /// Whether the host itself, and so containers, can ask for guests' names.
    Names,
    /// The Docker network.
    Docker,
    /// The libvirt network.
    Libvirt,
}

/// Something that could not be looked at. It may be as it should be or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Unseen {
    /// Which part of it all.
    pub part: Part,
    /// What.
    pub what: String,
    /// Why not.
    pub why: String,
    /// Root could look at it.
    pub needs_root: bool,
}

/// What concerns every network of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HostRecord {
    /// `hybrid-hook watch`.
    pub service: ServiceRecord,
    /// Our hooks with libvirt.
    pub hooks: Vec<HookRecord>,
    /// libvirt's daemons that run, and whether they know our hooks.
    pub hook_daemons: Vec<HookDaemonRecord>,
    /// Docker.
    pub docker: DaemonRecord,
    /// libvirt.
    pub libvirt: DaemonRecord,
    /// What differs.
    pub differences: Vec<Difference>,
    /// What could not be looked at.
    pub unseen: Vec<Unseen>,
}

/// The service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ServiceRecord {
    /// Whether one runs.
    pub running: bool,
    /// Its process.
    pub pid: Option<u32>,
    /// Whether its unit starts at boot; null without systemd.
    pub enabled: Option<bool>,
}

/// One of our hooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HookRecord {
    /// `qemu` or `network`.
    pub kind: String,
    /// Where libvirt looks for it.
    pub path: PathBuf,
    /// Where it leads, if it is a link.
    pub target: Option<PathBuf>,
    /// What is there.
    pub state: HookState,
}

/// What is in a hook's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HookState {
    /// A link to our executable.
    Ours,
    /// A link to where our executable no longer is.
    Dangling,
    /// Nothing.
    Absent,
    /// Another tool's.
    Other,
}

/// A daemon of libvirt's that runs hooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HookDaemonRecord {
    /// `libvirtd`, `virtqemud` or `virtnetworkd`.
    pub name: String,
    /// Its process.
    pub pid: i32,
    /// Whether it has looked for hooks since ours are there.
    pub sees_hooks: bool,
}

/// A daemon that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DaemonRecord {
    /// Whether it answers.
    pub state: DaemonState,
    /// Its version.
    pub version: Option<String>,
    /// Why it does not answer.
    pub detail: Option<String>,
}

/// Whether a daemon answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DaemonState {
    /// It does.
    Answers,
    /// It is not installed or does not run.
    Absent,
    /// It is there and did not answer in time, or refused to.
    Silent,
}
