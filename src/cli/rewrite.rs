//! `hybrid-hook rewrite`.

use std::io::Read;

use clap::Args;

use crate::domain_xml;
use crate::model::{Fault, Result};
use crate::registry::networks;

use super::attach::Wishes;
use super::{Surroundings, output};

#[derive(Debug, Args)]
pub(super) struct Rewrite {
    #[command(flatten)]
    wishes: Wishes,
    /// Take our NIC and metadata out instead
    #[arg(long)]
    remove: bool,
}

impl Rewrite {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        let mut xml = Vec::new();
        let limit = domain_xml::SIZE_LIMIT as u64 + 1;
        std::io::stdin()
            .lock()
            .take(limit)
            .read_to_end(&mut xml)
            .map_err(|e| Fault::failed("cannot read standard input").because(e))?;
        let new = if self.remove {
            // Works without the network's file: what was written must always be removable.
            domain_xml::remove(&xml, &self.wishes.network, self.wishes.mac)?
        } else {
            let network = networks::load(&around.places, &self.wishes.network)?;
            if let Some(ip) = self.wishes.ip {
                network
                    .may_lease_to_vm(ip)
                    .map_err(|unfit| crate::ops::claim::refused(&network.name, &unfit.into()))?;
            }
            domain_xml::add(&xml, &network, &self.wishes.request())?
        };
        output::raw(&new)
    }
}
