//! `hybrid-hook claim`.

use std::net::IpAddr;

use clap::Args;

use crate::model::{
    ClaimRequest, DnsLabel, LeaseRecord, MacAddress, NetworkName, Origin, Owner, OwnerId, Result, Selector,
};
use crate::ops;

use super::{Surroundings, output};

#[derive(Debug, Args)]
pub(super) struct Claim {
    /// Network
    #[arg(long, default_value = NetworkName::DEFAULT)]
    network: NetworkName,
    /// Who claims: a domain's UUID or a container's id
    #[arg(long)]
    owner: OwnerId,
    /// The NIC's MAC address
    #[arg(long)]
    mac: MacAddress,
    /// A fixed address; without it the one that the NIC has, or a free one
    #[arg(long)]
    ip: Option<IpAddr>,
    /// Host name in the network's zone
    #[arg(long)]
    hostname: Option<DnsLabel>,
    /// More host names, separated by commas
    #[arg(long, value_delimiter = ',')]
    aliases: Vec<DnsLabel>,
    /// Groups, separated by commas
    #[arg(long, value_delimiter = ',')]
    groups: Vec<DnsLabel>,
    /// Containers to have beside it: label=K[=V] or name=N, ',' is and, space is or
    #[arg(long)]
    containers: Option<Selector>,
    /// Do not ask the network whether a live host uses the address
    #[arg(long)]
    no_probe: bool,
    /// Print the lease as JSON
    #[arg(long)]
    json: bool,
}

impl Claim {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        let context = around.context()?;
        let deadline = around.lock_deadline();
        let request = ClaimRequest {
            owner: Owner { id: self.owner.clone(), origin: Origin::Hand, name: None },
            mac: self.mac,
            ip: self.ip,
            hostname: self.hostname.clone(),
            aliases: self.aliases.clone(),
            groups: self.groups.clone(),
            containers: self.containers.clone(),
            sole_nic: false,
            avoid: Vec::new(),
            probe: !self.no_probe,
        };
        let granted = ops::claim::claim(&context, &self.network, request, deadline)?;
        if granted.changed {
            ops::render::lease_by_hand(&context, &granted.network, &granted.lease, deadline)
                .unwrap_or_else(|fault| output::warning(&fault.to_string()));
        }
        let record = LeaseRecord::of(&granted.network, &granted.lease, &context.boot);
        if self.json {
            return output::json(&record);
        }
        output::line(&format!("{} on network {} for {}", record.address, record.network, self.mac))
    }
}
