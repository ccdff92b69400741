//! `hybrid-hook attach` and `hybrid-hook detach`.

use std::net::IpAddr;

use clap::Args;

use crate::host::libvirt::DomainRef;
use crate::model::{
    BlockSize, DnsLabel, DockerName, Kind, MacAddress, NetworkName, NicRequest, Result, Selector,
};
use crate::ops;

use super::{Surroundings, output};

/// What is wished for a NIC; the same words as in a domain's metadata.
#[derive(Debug, Args)]
pub(super) struct Wishes {
    /// Network
    #[arg(long, default_value = NetworkName::DEFAULT)]
    pub(super) network: NetworkName,
    /// A fixed address
    #[arg(long)]
    pub(super) ip: Option<IpAddr>,
    /// Host name in the network's zone [default: made from the domain's name]
    #[arg(long)]
    pub(super) hostname: Option<DnsLabel>,
    /// The NIC's MAC address: of the NIC that is meant, or of the one that is made
    #[arg(long)]
    pub(super) mac: Option<MacAddress>,
    /// More host names, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub(super) aliases: Vec<DnsLabel>,
    /// Groups, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub(super) groups: Vec<DnsLabel>,
    /// Containers to have beside it: label=K[=V] or name=N, ',' is and, space is or
    #[arg(long)]
    pub(super) containers: Option<Selector>,
    /// Addresses beside its own, for what runs inside it: 2, 4, … 64
    #[arg(long)]
    pub(super) block: Option<BlockSize>,
}

impl Wishes {
    pub(super) fn request(&self) -> NicRequest {
        NicRequest {
            network: self.network.clone(),
            docker: None,
            mac: self.mac,
            ip: self.ip,
            hostname: self.hostname.clone(),
            aliases: self.aliases.clone(),
            groups: self.groups.clone(),
            containers: self.containers.clone(),
            block: self.block,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Attach {
    /// Domain, by name or UUID
    domain: String,
    #[command(flatten)]
    wishes: Wishes,
    /// A Docker network that exists, such as a Compose project's, instead of a network of ours
    #[arg(long, conflicts_with = "network")]
    docker_network: Option<DockerName>,
}

impl Attach {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        let domain = DomainRef::from_words(&self.domain);
        let (context, deadline) = (around.context()?, around.deadline());
        let mut request = self.wishes.request();
        let mut made = None;
        if let Some(docker) = &self.docker_network {
            let followed = ops::follow::follow(&context, docker, None, deadline)?;
            request.network = followed.network.name;
            made = (!followed.existed).then(|| request.network.clone());
        }
        let attached = ops::attach::attach(&context, &domain, &request, deadline).map_err(|fault| {
            // What came for this domain alone goes with it.
            let undone = made.map(|name| ops::follow::remove_if_unused(&context, &name, around.deadline()));
            match undone {
                Some(Err(other)) => fault.and(other),
                _ => fault,
            }
        })?;
        let network = &attached.nic.network;
        let name = output::printable(&attached.domain);
        if let Some(size) = self.wishes.block.filter(|_| attached.lease.is_some() && !attached.unchanged) {
            output::warning(&format!(
                "it has the block of {size} addresses from its next start at the latest"
            ));
        }
        output::line(&match (&attached.lease, attached.unchanged) {
            (_, true) => format!("domain {name} is on network {network} already; nothing was changed"),
            (Some(lease), _) if self.wishes.ip.is_some_and(|ip| ip != lease.address) => format!(
                "domain {name} is on network {network} with {}, and with {} from its next start",
                lease.address,
                output::or_dash(self.wishes.ip.as_ref())
            ),
            (Some(lease), _) => format!("domain {name} is on network {network} with {}", lease.address),
            (None, _) => format!(
                "domain {name} is on network {network} from its next start, with NIC {}",
                attached.nic.mac
            ),
        })
    }
}

#[derive(Debug, Args)]
pub(super) struct Detach {
    /// Domain, by name or UUID
    domain: String,
    /// Network
    #[arg(long, default_value = NetworkName::DEFAULT)]
    network: NetworkName,
    /// The Docker network that it was put on, there or gone
    #[arg(long, conflicts_with = "network")]
    docker_network: Option<DockerName>,
}

impl Detach {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        let domain = DomainRef::from_words(&self.domain);
        let (context, deadline) = (around.context()?, around.deadline());
        let network = match &self.docker_network {
            Some(docker) => ops::follow::name_of(&context, docker)?,
            None => self.network.clone(),
        };
        let detached = match ops::attach::detach(&context, &domain, &network, deadline) {
            // Docker's network went, and ours with it: what the domain has of it goes all the same.
            Err(fault) if fault.kind() == Kind::Missing && self.docker_network.is_some() => {
                ops::attach::detach_gone(&domain, &network, deadline)?
            }
            done => {
                let done = done?;
                if !ops::follow::remove_if_unused(&context, &network, deadline)?
                    && let Some(docker) = &self.docker_network
                {
                    output::warning(&format!(
                        "other NICs are on Docker network {docker}: network {network} stays"
                    ));
                }
                done
            }
        };
        output::line(&match detached {
            Some(ops::attach::TakenOff { domain, kept: None }) => {
                format!("domain {} is off network {network}", output::printable(&domain))
            }
            Some(ops::attach::TakenOff { domain, kept: Some(why) }) => {
                let hint = why.hint_text().map(|hint| format!("; {hint}")).unwrap_or_default();
                output::warning(&format!("{why}{hint}"));
                format!("domain {} is off network {network} from its next start", output::printable(&domain))
            }
            None => format!("domain {domain} was not on network {network}; nothing was changed"),
        })
    }
}
