//! `hybrid-hook resolve`.

use clap::Args;

use crate::model::{Fault, NetworkName, Result};
use crate::ops;
use crate::ops::resolve::{Resolution, Source, Who, Wish};

use super::{Surroundings, output};

#[derive(Debug, Args)]
pub(super) struct Resolve {
    /// A bare name, a full name, or an address
    name: String,
    /// Who asks: host, vm:NAME or container:NAME
    #[arg(long = "as", value_name = "WHO", default_value = "host")]
    who: Who,
    /// Network [default: the one whose zone or subnet it is]
    #[arg(long)]
    network: Option<NetworkName>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

impl Resolve {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        let wish = Wish { name: self.name.clone(), who: self.who.clone(), network: self.network.clone() };
        let found = ops::resolve::resolve(&around.context()?, &wish, around.deadline())?;
        if self.json {
            output::json(&found)?;
        } else {
            print(&found)?;
        }
        match (found.works, found.source) {
            (true, _) => Ok(()),
            (false, Source::Nobody) => {
                Err(Fault::missing(format!("nobody answers to {}: {}", found.name, found.detail)))
            }
            (false, _) => Err(Fault::failed(format!("{} is not resolved for {}", found.name, found.asker))
                .hint("the parts of the way that do not work are marked; hybrid-hook doctor tells more")),
        }
    }
}

fn print(found: &Resolution) -> Result<()> {
    let source = match found.source {
        Source::Registry => "the registry",
        Source::Host => "the network itself",
        Source::Upstream => "outside the zone",
        Source::Nobody => "nobody",
    };
    let answers = if found.answers.is_empty() { "-".to_owned() } else { found.answers.join(" ") };
    for (what, value) in [
        ("name", found.name.clone()),
        ("network", found.network.to_string()),
        ("asked by", found.asker.clone()),
        ("answer", answers),
        ("source", format!("{source}: {}", found.detail)),
    ] {
        output::line(&output::printable(&format!("{what:<10} {value}")))?;
    }
    output::line("way")?;
    for hop in &found.path {
        let works = match hop.works {
            Some(true) => "works",
            Some(false) => "FAILS",
            None => "?",
        };
        output::line(&output::printable(&format!("  {works:<6} {}: {}", hop.what, hop.detail)))?;
    }
    Ok(())
}
