//! Links: whether the bridges stand as they should, in a look that costs a few milliseconds and asks only
//! the kernel.

use std::collections::{BTreeMap, BTreeSet};

use crate::deadline::Deadline;
use crate::host::bridge;
use crate::model::{InterfaceName, NetworkName, Result};

use super::{Context, surroundings};

/// What a look at the bridges of all networks that are up found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    /// The bridges: their index where they are there, and whether they have a carrier.
    pub bridges: BTreeMap<NetworkName, Seen>,
    /// What is not as it should be, in words; `apply` mends it.
    pub trouble: BTreeSet<String>,
}

/// A bridge as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub bridge: InterfaceName,
    /// Its index; `None` while it is not there.
    pub index: Option<u32>,
    /// Whether a port of it carries frames.
    pub carrier: bool,
}

/// Looks. `left` are the indexes of devices that were ports a moment ago: one that is still there and on no
/// bridge was taken off by somebody.
///
/// # Errors
/// The kernel does not answer, or our own files can't be read.
pub fn look(context: &Context, left: &BTreeSet<u32>, deadline: Deadline) -> Result<Look> {
    let mut look = Look::default();
    for network in surroundings::up_networks(context)?.0 {
        let state = bridge::read(&network.bridge, deadline)?;
        // Docker says whether it is gone for good.
        let away = network.follows.is_some() && state.is_none();
        let deviations = if away { Vec::new() } else { bridge::deviations(&network, state.as_ref())? };
        for deviation in deviations {
            let bridge::Deviation { what, is, should_be } = deviation;
            look.trouble.insert(format!("{what}: {is}, should be {should_be}"));
        }
        let seen = Seen {
            bridge: network.bridge,
            index: state.as_ref().map(|s| s.index),
            carrier: state.is_some_and(|s| s.carrier),
        };
        look.bridges.insert(network.name, seen);
    }
    if !left.is_empty() {
        for (index, name) in bridge::on_no_bridge(left, deadline)? {
            look.trouble.insert(format!("{name} (device {index}) was taken off its bridge"));
        }
    }
    Ok(look)
}
