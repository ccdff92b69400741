//! `hybrid-hook release`.

use clap::Args;

use crate::model::{Fault, LeaseRecord, MacAddress, NetworkName, OwnerId, Result};
use crate::ops::{self, release::Which};

use super::{Surroundings, output};

#[derive(Debug, Args)]
pub(super) struct Release {
    /// Network
    #[arg(long, default_value = NetworkName::DEFAULT)]
    network: NetworkName,
    /// Whose lease: a lease that has another owner by now is left alone
    #[arg(long)]
    owner: OwnerId,
    /// The NIC's MAC address
    #[arg(long)]
    mac: MacAddress,
    /// Only this generation of the lease
    #[arg(long)]
    generation: Option<u64>,
    /// Free the address at once instead of keeping it for its owner
    #[arg(long)]
    forget: bool,
    /// Print the lease as JSON
    #[arg(long)]
    json: bool,
}

impl Release {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        let context = around.context()?;
        let deadline = around.lock_deadline();
        let which = Which { owner: self.owner.clone(), macs: vec![self.mac], generation: self.generation };
        let released = ops::release::release(&context, &self.network, &which, self.forget, deadline)?;
        let Some(lease) = released.idle.iter().chain(&released.forgotten).next() else {
            let text = format!("{} holds no lease of {} on network {}", self.owner, self.mac, self.network);
            return Err(
                Fault::missing(text).hint(format!("hybrid-hook leases --network {} shows all", self.network))
            );
        };
        let rendered = if released.forgotten.is_empty() {
            ops::render::lease_by_hand(&context, &released.network, lease, deadline)
        } else {
            ops::render::forgotten_by_hand(&context, &released.network, self.mac, deadline)
        };
        rendered.unwrap_or_else(|fault| output::warning(&fault.to_string()));
        if self.json {
            return output::json(&LeaseRecord::of(&released.network, lease, &context.boot));
        }
        let what = match (released.forgotten.is_empty(), lease.reserved) {
            (true, _) => "is idle",
            (false, true) => "is reserved again",
            (false, false) => "is free",
        };
        output::line(&format!("{} on network {} {what}", lease.address, self.network))
    }
}
