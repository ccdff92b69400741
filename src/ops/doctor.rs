//! Doctor: the checks that explain most trouble, each with what mends it. Changes nothing.

mod checks;
mod firewall;
mod look;
mod ports;
mod record;
#[cfg(test)]
mod tests;

pub use record::*;

use super::Context;
use super::inspect;
use crate::model::Result;

/// What mends a check that was skipped because only root can make it.
pub const AS_ROOT: &str = "sudo hybrid-hook doctor";

/// Makes every check. Anybody may; what only root can see is skipped. Each check has a bound of its own:
/// a daemon that hangs costs three seconds and its own checks.
///
/// # Errors
/// `Failed`: the folder of the networks' files can't be listed.
pub fn doctor(context: &Context) -> Result<Diagnosis> {
    let asked = look::start();
    let (facts, inspection) = inspect::facts_and_record(context, None)?;
    let beyond = look::finish(asked, &facts);
    let checks = checks::all(&facts, &inspection, &beyond);
    let healthy = checks.iter().all(|c| c.status != Status::Fail);
    Ok(Diagnosis { format: record::FORMAT, healthy, root: facts.root, versions: beyond.versions, checks })
}
