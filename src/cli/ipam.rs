//! `hybrid-hook ipam`: what systemd starts when Docker asks for an address.

use std::path::PathBuf;

use clap::Args;

use crate::host::docker::plugin;
use crate::model::Result;
use crate::{ipam, logging};

use super::Surroundings;

#[derive(Debug, Args)]
pub(super) struct Ipam {
    /// Where to listen when systemd hands over no socket
    #[arg(long, default_value = plugin::SOCKET)]
    socket: PathBuf,
}

impl Ipam {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        logging::start_on_stderr();
        ipam::run(around.context()?, &self.socket)
    }
}
