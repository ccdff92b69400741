//! `hybrid-hook apply`.

use std::collections::HashSet;
use std::time::Duration;

use clap::Args;

use crate::model::{Fault, NetworkName, Result};
use crate::ops::surroundings::Extent;
use crate::ops::{self, surroundings::Report};

use super::{Surroundings, network, output};

/// How long the containers beside VMs may take.
const CONTAINERS: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub(super) struct Apply {
    /// Network; without it, every network that is up
    network: Option<NetworkName>,
    /// Only what must be there before Docker and libvirt start; asks neither
    #[arg(long)]
    boot: bool,
    /// Say also what stood as it should
    #[arg(long, short)]
    verbose: bool,
}

impl Apply {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        let context = around.context()?;
        let deadline = around.deadline();
        let extent = if self.boot { Extent::Boot } else { Extent::Whole };
        let (reports, mut faults) = ops::apply::apply(&context, self.network.as_ref(), extent, deadline)?;
        let changed = reports.iter().any(Report::changed);
        let count = reports.len();
        for report in reports {
            if !report.has_failed() {
                network::say(&report, self.verbose)?;
            }
            faults.extend(report.into_result().err());
        }
        if !self.boot {
            faults.extend(ops::settle::garbage(&context, deadline));
            // A Docker that hangs was waited for above.
            let round = ops::settle::containers(&context, deadline.at_most(CONTAINERS));
            for note in &round.notes {
                output::warning(&note.to_string());
            }
            faults.extend(round.faults);
        }
        // A file that can't be read is in the way of each of them, and is told once.
        let mut said = HashSet::new();
        faults.retain(|fault| said.insert(fault.to_string()));
        if let Some(fault) = faults.into_iter().reduce(Fault::and) {
            return Err(fault);
        }
        output::line(match (count, changed) {
            (0, _) => "no network is to be up",
            (_, true) => "done",
            (_, false) => "everything is as it should be",
        })
    }
}
