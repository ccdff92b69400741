//! `hybrid-hook watch`.

use clap::Args;

use crate::model::Result;
use crate::{logging, watch};

use super::Surroundings;

#[derive(Debug, Args)]
pub(super) struct Watch {}

impl Watch {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        // Under systemd standard error goes to the journal; with a terminal a person reads it.
        logging::start_on_stderr();
        watch::run(around.context()?)
    }
}
