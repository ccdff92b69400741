//! What a domain asks of one network, as its metadata says it.

use std::net::IpAddr;

use super::{BlockSize, DnsLabel, DockerName, MacAddress, NetworkName, Selector};

/// One `<hybrid:network>` element, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicRequest {
    /// The network.
    pub network: NetworkName,
    /// The Docker network that this one follows, so that a message can name it when it is gone.
    pub docker: Option<DockerName>,
    /// Which NIC is meant; none: the first one on the network.
    pub mac: Option<MacAddress>,
    /// A fixed address; none: dynamic.
    pub ip: Option<IpAddr>,
    /// The guest's name in the zone; none: made from the domain's name.
    pub hostname: Option<DnsLabel>,
    /// More names.
    pub aliases: Vec<DnsLabel>,
    /// Groups that policies name.
    pub groups: Vec<DnsLabel>,
    /// Containers to have beside it while it runs.
    pub containers: Option<Selector>,
    /// How many addresses it has beside its own, for what runs inside it.
    pub block: Option<BlockSize>,
}

impl NicRequest {
    /// A request that names only its network.
    #[must_use]
    pub fn on(network: NetworkName) -> Self {
        Self {
            network,
            docker: None,
            mac: None,
            ip: None,
            hostname: None,
            aliases: Vec::new(),
            groups: Vec::new(),
            containers: None,
            block: None,
        }
    }
}
