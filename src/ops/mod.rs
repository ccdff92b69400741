//! The verbs. The only room that knows an order of steps; each step knows its undo.

pub mod apply;
pub mod attach;
pub mod claim;
pub mod containers;
pub mod delegation;
pub mod doctor;
mod edited;
pub mod follow;
pub mod gc;
mod in_use;
pub mod inspect;
pub mod install;
pub mod ipam;
pub mod leases;
pub mod links;
pub mod names;
pub mod network;
pub mod release;
pub mod render;
pub mod reserve;
pub mod resolve;
pub mod settle;
pub mod surroundings;
pub mod wake;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::{BootId, NetworkName, Result};
use crate::places::{self, Places};
use crate::registry::status;

/// A clean-up after a failure gets at least so long, however late it is.
const UNDO: Duration = Duration::from_secs(15);
/// A question to Docker or libvirt whose answer is only nice to have.
const ASK: Duration = Duration::from_secs(5);

/// What every verb needs to know of where and when it runs.
#[derive(Debug, Clone)]
pub struct Context {
    /// Where our files are.
    pub places: Places,
    /// Which boot of the host this is.
    pub boot: BootId,
}

impl Context {
    /// The context of this process.
    pub fn new(places: Places) -> Result<Self> {
        Ok(Self { places, boot: places::boot_id()? })
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
    }
}

/// Whether a network is to be up.
pub fn is_up(context: &Context, network: &NetworkName) -> Result<bool> {
    Ok(status::load(&context.places, network)?.up)
}
