//! `hybrid-hook gc`.

use clap::Args;

use crate::model::{LeaseRecord, NetworkName, Result};
use crate::ops;
use crate::registry::networks;

use super::{Surroundings, output};

#[derive(Debug, Args)]
pub(super) struct Gc {
    /// Network; without it, every network
    #[arg(long)]
    network: Option<NetworkName>,
    /// Print the freed leases as JSON
    #[arg(long)]
    json: bool,
}

impl Gc {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        let context = around.context()?;
        let deadline = around.deadline();
        let known = ops::settle::known(deadline);
        if known.domains.is_none() {
            output::warning("libvirt can't be asked: no lease of a domain is freed");
        }
        if known.containers.is_none() {
            output::warning("Docker can't be asked: no lease of a container is freed");
        }
        let names = match &self.network {
            Some(name) => vec![name.clone()],
            None => networks::names(&around.places)?,
        };
        let mut freed = Vec::new();
        for name in &names {
            let (network, collected) = ops::gc::collect(&context, name, &known, deadline)?;
            if !collected.idled.is_empty() {
                // What came for such a VM is let go.
                ops::wake::nudge(&around.places);
            }
            for lease in &collected.freed {
                if let Some(mac) = lease.mac {
                    ops::render::forgotten_by_hand(&context, &network, mac, deadline)
                        .unwrap_or_else(|fault| output::warning(&fault.to_string()));
                }
                freed.push(LeaseRecord::of(&network, lease, &context.boot));
            }
        }
        if self.json {
            return output::json(&freed);
        }
        for record in &freed {
            let who = record.owner_name.clone().unwrap_or_else(|| output::or_dash(record.owner.as_ref()));
            let what = if record.reserved { "reserved again" } else { "free" };
            output::line(&format!(
                "{} on network {} is {what}; it was {}",
                record.address,
                record.network,
                output::printable(&who)
            ))?;
        }
        if freed.is_empty() { output::line("nothing to free") } else { Ok(()) }
    }
}
