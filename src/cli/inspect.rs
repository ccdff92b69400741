//! `hybrid-hook inspect`.

mod text;

use clap::Args;

use crate::model::{NetworkName, Result};
use crate::ops::inspect::{self, Inspection};

use super::{Surroundings, output};

#[derive(Debug, Args)]
#[command(after_help = "It changes nothing. Whatever differs is named with the command that mends it, \
                        `hybrid-hook apply` most often. Docker and libvirt are waited for three seconds; what \
                        could not be looked at is named. An ordinary user sees what the published leases and the \
                        kernel show.\n\n\
                        Exit codes: 0 also where something differs (`in_order` in the JSON tells; \
                        `hybrid-hook doctor` ends with 1), 4 no such network.")]
pub(super) struct Inspect {
    /// Network; without it, every network
    network: Option<NetworkName>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    /// Print the JSON schema of --json, and look at nothing
    #[arg(long, conflicts_with_all = ["json", "network"])]
    schema: bool,
}

impl Inspect {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        if self.schema {
            return output::schema::<Inspection>();
        }
        let inspection = inspect::inspect(&around.context()?, self.network.as_ref())?;
        if self.json {
            return output::json(&inspection);
        }
        output::line(&text::of(&inspection))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_that_is_kept_is_the_one_that_is_printed() -> Result<()> {
        output::schema_is_kept::<Inspection>("inspect")
    }
}
