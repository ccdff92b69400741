//! Leases: what the registry says, or for who may not read it, what was published.

use crate::model::{Kind, LeaseRecord, NetworkName, Result};
use crate::registry::{Registry, networks, snapshot};

use super::Context;

/// The leases of one network or of all, in the order of addresses.
pub fn list(context: &Context, only: Option<&NetworkName>) -> Result<Vec<LeaseRecord>> {
    let names = match only {
        Some(name) => vec![name.clone()],
        None => networks::names(&context.places)?,
    };
    let mut records = Vec::new();
    for name in &names {
        records.extend(of_network(context, name)?);
    }
    Ok(records)
}

fn of_network(context: &Context, name: &NetworkName) -> Result<Vec<LeaseRecord>> {
    let network = networks::load(&context.places, name)?;
    match Registry::of(&context.places, name).read() {
        Ok(leases) => Ok(LeaseRecord::all(&network, &leases, &context.boot)),
        // An ordinary user may not open the registry; the snapshot is for them.
        Err(fault) if fault.kind() == Kind::Failed && !crate::places::is_root() => {
            match snapshot::read(&context.places, name)? {
                Some(snapshot) => Ok(snapshot.leases),
                None => Err(fault),
            }
        }
        Err(fault) => Err(fault),
    }
}
