//! `hybrid-hook man`.

use clap::Args;

use crate::model::{Fault, Result};

use super::output;

#[derive(Debug, Args)]
pub(super) struct Man {
    /// The command whose page to print, such as `network create`; without it the page of hybrid-hook
    command: Vec<String>,
}

impl Man {
    pub(super) fn run(&self) -> Result<()> {
        let mut command = super::command();
        let mut title = "hybrid-hook".to_owned();
        command.build();
        for word in &self.command {
            let Some(found) = command.find_subcommand(word) else {
                return Err(Fault::usage(format!("{title} has no command {word:?}")));
            };
            command = found.clone();
            title = format!("{title}-{word}");
        }
        let title: &'static str = Box::leak(title.into_boxed_str());
        let mut bytes = Vec::new();
        clap_mangen::Man::new(command.name(title))
            .render(&mut bytes)
            .map_err(|e| Fault::failed("the man page can't be made").because(e))?;
        output::raw(&bytes)
    }
}
