//! `hybrid-hook leases`.

use clap::Args;

use crate::model::{LeaseRecord, NetworkName, Result};
use crate::ops;

use super::output::or_dash;
use super::{Surroundings, output};

#[derive(Debug, Args)]
pub(super) struct Leases {
    /// Network; without it, every network
    #[arg(long)]
    network: Option<NetworkName>,
    /// Print an array of leases as JSON
    #[arg(long)]
    json: bool,
}

impl Leases {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        let context = around.context()?;
        let records = ops::leases::list(&context, self.network.as_ref())?;
        if self.json {
            return output::json(&records);
        }
        if records.is_empty() {
            return output::line("no leases");
        }
        let rows = records.iter().map(row).collect();
        output::table(&["NETWORK", "ADDRESS", "STATE", "MAC", "HOST NAME", "OWNER", "KIND", "SINCE"], rows)
    }
}

fn row(record: &LeaseRecord) -> Vec<String> {
    let kind = match (record.reserved, record.fixed) {
        (true, _) => "reserved",
        (false, true) => "fixed",
        (false, false) => "dynamic",
    };
    vec![
        record.network.to_string(),
        record.address.to_string(),
        record.state.to_string(),
        or_dash(record.mac),
        or_dash(record.hostname.as_ref()),
        record.owner_name.clone().unwrap_or_else(|| or_dash(record.owner.as_ref())),
        kind.to_owned(),
        record.since.clone(),
    ]
}
