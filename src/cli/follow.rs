//! `hybrid-hook network follow`.

use clap::Args;

use crate::model::{DockerName, NetworkName, Result};
use crate::ops;

use super::{Surroundings, network, output};

#[derive(Debug, Args)]
pub(super) struct Follow {
    /// Docker's network, such as a Compose project's: PROJECT_default
    docker_network: DockerName,
    /// Name of our network [default: made from Docker's]
    #[arg(long)]
    name: Option<NetworkName>,
    /// Print the network as JSON
    #[arg(long)]
    json: bool,
}

impl Follow {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        let context = around.context()?;
        let deadline = around.deadline();
        let done = ops::follow::follow(&context, &self.docker_network, self.name.as_ref(), deadline)?;
        if let Some(report) = &done.report {
            network::say(report, false)?;
        }
        if self.json {
            return output::json(&network::snapshot_of(&context, &done.network)?);
        }
        let (name, docker) = (&done.network.name, &self.docker_network);
        output::line(&match done.existed {
            true => format!("network {name} follows Docker network {docker} already"),
            false => {
                format!("network {name} follows Docker network {docker} on bridge {}", done.network.bridge)
            }
        })
    }
}
