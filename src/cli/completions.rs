//! `hybrid-hook completions`.

use clap::Args;
use clap_complete::Shell;

use crate::model::Result;

use super::output;

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Result<()> {
        let mut bytes = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "hybrid-hook", &mut bytes);
        output::raw(&bytes)
    }
}
