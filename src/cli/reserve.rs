//! `hybrid-hook reserve`.

use std::net::IpAddr;

use clap::Args;

use crate::model::{DnsLabel, Fault, LeaseRecord, MacAddress, NetworkName, Result};
use crate::ops::{self, reserve::For};

use super::{Surroundings, output};

#[derive(Debug, Args)]
pub(super) struct Reserve {
    /// Network
    #[arg(long, default_value = NetworkName::DEFAULT)]
    network: NetworkName,
    /// The address
    #[arg(long)]
    ip: IpAddr,
    /// For the NIC with this MAC address
    #[arg(long, conflicts_with = "hostname")]
    mac: Option<MacAddress>,
    /// For the first guest of this host name
    #[arg(long)]
    hostname: Option<DnsLabel>,
    /// Take the reservation back
    #[arg(long, conflicts_with_all = ["mac", "hostname"])]
    remove: bool,
    /// Print the lease as JSON
    #[arg(long)]
    json: bool,
}

impl Reserve {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        let context = around.context()?;
        let deadline = around.lock_deadline();
        let (network, lease) = if self.remove {
            ops::reserve::unreserve(&context, &self.network, self.ip, deadline)?
        } else {
            let whom = match (self.mac, &self.hostname) {
                (Some(mac), _) => For::Mac(mac),
                (None, Some(hostname)) => For::Hostname(hostname.clone()),
                (None, None) => {
                    return Err(Fault::usage("a reservation is for somebody")
                        .hint("give --mac MAC or --hostname NAME"));
                }
            };
            ops::reserve::reserve(&context, &self.network, self.ip, &whom, deadline)?
        };
        ops::render::lease_by_hand(&context, &network, &lease, deadline)
            .unwrap_or_else(|fault| output::warning(&fault.to_string()));
        if self.json {
            return output::json(&LeaseRecord::of(&network, &lease, &context.boot));
        }
        let what = if self.remove { "is no longer reserved" } else { "is reserved" };
        output::line(&format!("{} on network {} {what}", lease.address, network.name))
    }
}
