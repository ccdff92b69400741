//! `hybrid-hook install` and `hybrid-hook uninstall`.

use std::path::Path;

use clap::Args;

use crate::model::{Fault, Result};
use crate::ops;
use crate::ops::install::Report;

use super::{Surroundings, network, output};

#[derive(Debug, Args)]
pub(super) struct Install {
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

impl Install {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        let report = ops::install::install(Path::new("/"), around.deadline())?;
        say(&report, self.json, "hybrid-hook is installed already; nothing was changed")
    }
}

#[derive(Debug, Args)]
pub(super) struct Uninstall {
    /// Leave the networks up; nobody brings them back after a reboot
    #[arg(long)]
    keep_networks: bool,
    /// Take the networks down even while guests are on them
    #[arg(long, conflicts_with = "keep_networks")]
    force: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

impl Uninstall {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        let deadline = around.deadline();
        if !crate::places::is_root() {
            return Err(Fault::failed("only root can uninstall").hint("sudo hybrid-hook uninstall"));
        }
        if !self.keep_networks {
            let reports = ops::network::all_down(&around.context()?, self.force, deadline)?;
            for report in &reports {
                network::say(report, false)?;
            }
        }
        let report = ops::install::uninstall(Path::new("/"), deadline)?;
        say(&report, self.json, "hybrid-hook is not installed; nothing was changed")
    }
}

fn say(report: &Report, json: bool, unchanged: &str) -> Result<()> {
    if json {
        return output::json(report);
    }
    for note in &report.notes {
        output::warning(note);
    }
    for done in &report.done {
        output::line(done)?;
    }
    if report.changed { Ok(()) } else { output::line(unchanged) }
}
