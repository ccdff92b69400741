//! The work after a hook, where no service does it. libvirt's hook has ended by now, or does not
//! wait for this process: it has a session of its own.

use std::time::Duration;

use clap::Args;

use crate::deadline::Deadline;
use crate::model::{Fault, Result};
use crate::{logging, ops};

use super::Surroundings;

#[derive(Debug, Args)]
pub(super) struct Settle {}

impl Settle {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        // The hook's process group must be able to end without us. It fails only for a group's leader.
        let _ = rustix::process::setsid();
        logging::start();
        let context = around.context()?;
        // A short pause gathers what comes together; what comes after the mark is gone starts another.
        std::thread::sleep(Duration::from_millis(20));
        let _ = std::fs::remove_file(around.places.settle_pending());
        let deadline = Deadline::after(Duration::from_secs(30));
        let mut faults = ops::settle::names(&context, deadline);
        faults.extend(ops::settle::host_names(&context, deadline));
        faults.extend(ops::settle::containers(&context, deadline).all());
        for fault in faults.iter().flat_map(Fault::each) {
            log::error!("{fault}");
        }
        Ok(())
    }
}
