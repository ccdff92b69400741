//! The bridge, its ports and addresses, by netlink (rtnetlink(7)).
//!
//! A bridge that we make carries our mark in its alias (`IFLA_IFALIAS`): `hybrid-hook:NETWORK`. The
//! alias comes in a second message, so a bridge without an alias but with the MAC that we derive
//! from the network's name is ours too: a crash between the two messages leaves nothing foreign.
//! An address that we add carries the mark [`ADDRESS_PROTOCOL`], which tells it from a person's on
//! an adopted bridge.
//!
//! Reading needs no right; changing needs `CAP_NET_ADMIN`.

mod decode;
mod deviation;
mod ensure;
mod events;
mod netlink;
mod plan;
mod port;
mod read;
mod route;
mod veth;

pub use decode::{Address, Counters, Peer, PortKind, PortState};
pub use deviation::{Deviation, deviations};
pub use ensure::{ensure, remove, take_over};
pub use events::{LinkEvent, watch_events};
pub use port::{PortBrief, enslave, has_tap_of, pin, port, put_back};
pub use read::{BridgeState, FdbEntry, FdbKind, Link, Port, links, on_no_bridge, read};
pub use route::{Route, Uplinks, routes, taken, uplinks};
pub use veth::{HostVeth, host_veth_of, host_veths_of, inside_macs};

pub(super) use netlink::talk;

/// The `IFA_PROTO` of the addresses that we add: who put it there, as the kernel keeps it since
/// 5.18 (`ip address show` prints it as `proto 0x68`). Older kernels forget it.
pub const ADDRESS_PROTOCOL: u8 = 0x68;

/// What a bridge of ours begins its alias with; the network's name follows.
pub const ALIAS_PREFIX: &str = "hybrid-hook:";
