//! Which NICs of a domain get an address from which network, and with which wishes.

use super::domain::{Domain, Nic, Teaming, cut};
use crate::model::{
    ClaimRequest, DnsLabel, DockerName, Fault, InterfaceName, Invalid, Kind, MacAddress, Network,
    NetworkName, NicRequest, Owner,
};

/// What a NIC is to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicPlan {
    /// On which network.
    pub network: NetworkName,
    /// For which address.
    pub mac: MacAddress,
    /// What is wished, `mac` and, where there can be one, `hostname` filled in.
    pub request: NicRequest,
    /// It is the guest's only NIC (a teaming pair is one): DHCP gives it a route and a resolver.
    pub sole_nic: bool,
    /// The tap, from `start` on.
    pub tap: Option<InterfaceName>,
}

impl NicPlan {
    /// The claim of its owner for it.
    #[must_use]
    pub fn claim(&self, owner: Owner) -> ClaimRequest {
        let NicRequest { ip, hostname, aliases, groups, containers, .. } = self.request.clone();
        ClaimRequest {
            owner,
            mac: self.mac,
            ip,
            hostname,
            aliases,
            groups,
            containers,
            sole_nic: self.sole_nic,
            avoid: Vec::new(),
            probe: true,
        }
    }
}

/// Why a domain can't be served as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanFault {
    /// Our metadata is wrong.
    #[error("the metadata of domain {domain:?} is wrong: {invalid}")]
    Metadata {
        /// The domain.
        domain: String,
        /// What is wrong.
        invalid: Invalid,
    },
    /// The metadata names a network that isn't there.
    #[error("domain {domain:?} asks for {}", unknown(.network, .docker.as_ref()))]
    UnknownNetwork {
        /// The domain.
        domain: String,
        /// The network.
        network: NetworkName,
        /// The Docker network that it followed.
        docker: Option<DockerName>,
    },
    /// The metadata asks, but there is no NIC to give it to.
    #[error("domain {domain:?} asks for network {network} but {lack}")]
    NoNic {
        /// The domain.
        domain: String,
        /// The network.
        network: NetworkName,
        /// Which NIC is missing.
        lack: Lack,
    },
    /// A NIC of ours has no address that could be looked for.
    #[error("NIC {index} of domain {domain:?} is on network {network} but has no MAC address")]
    NoMac {
        /// The domain.
        domain: String,
        /// The network.
        network: NetworkName,
        /// The NIC's place, from 0.
        index: usize,
    },
    /// Two NICs of ours with one MAC.
    #[error("domain {domain:?} has two NICs with the MAC address {mac}, and they are no teaming pair")]
    SameMac {
        /// The domain.
        domain: String,
        /// The address.
        mac: MacAddress,
    },
}

/// Which NIC a domain lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// Any on the network.
    #[error("has no NIC on it")]
    Any,
    /// One with the MAC that the metadata names.
    #[error("has no NIC {0}")]
    Mac(MacAddress),
    /// One with that MAC on the network: it is elsewhere.
    #[error("its NIC {mac} is {whereabouts}")]
    Elsewhere {
        /// The MAC.
        mac: MacAddress,
        /// Where it is, such as `on bridge "br0"`.
        whereabouts: String,
    },
}

impl From<PlanFault> for Fault {
    fn from(fault: PlanFault) -> Self {
        let (kind, hint) = match &fault {
            PlanFault::Metadata { domain, .. } => {
                (Kind::Refused, format!("virsh edit {} shows it", argument(domain)))
            }
            PlanFault::UnknownNetwork { domain, docker: Some(docker), .. } => (
                Kind::Missing,
                format!(
                    "make it (docker compose up) and, where the service does not see it at once, run: \
                     hybrid-hook network follow {docker}; or take the domain off it: hybrid-hook detach {} \
                     --docker-network {docker}",
                    argument(domain)
                ),
            ),
            PlanFault::UnknownNetwork { network, .. } => (
                Kind::Missing,
                format!("hybrid-hook network list shows what there is; hybrid-hook network create {network}"),
            ),
            PlanFault::NoNic { domain, network, lack } => {
                let attach = format!("hybrid-hook attach {} --network {network}", argument(domain));
                let hint = match lack {
                    Lack::Any | Lack::Mac(_) => format!("{attach} gives it one"),
                    Lack::Elsewhere { .. } => format!(
                        "virsh edit {}: set the NIC's <source>, or name another mac in the metadata",
                        argument(domain)
                    ),
                };
                (Kind::Refused, hint)
            }
            PlanFault::NoMac { .. } | PlanFault::SameMac { .. } => {
                (Kind::Refused, "give each <interface> its own <mac address='52:54:00:…'/>".to_owned())
            }
        };
        Self::new(kind, fault.to_string()).hint(hint)
    }
}

/// A network that isn't there, by the name that a person knows it by.
fn unknown(network: &NetworkName, docker: Option<&DockerName>) -> String {
    match docker {
        Some(docker) => format!("Docker network {docker}, which is gone or was made anew since"),
        None => format!("network {network}, which does not exist"),
    }
}

/// A domain's name where a person may copy the line into a shell; a stand-in where that would hurt.
pub(super) fn argument(domain: &str) -> &str {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+@:".contains(&b);
    if !domain.starts_with('-') && domain.bytes().all(plain) { domain } else { "DOMAIN" }
}

/// The NICs that are on a network of ours, in their order.
#[must_use]
pub fn match_nics<'d>(domain: &'d Domain, network: &Network) -> Vec<&'d Nic> {
    domain.nics.iter().filter(|nic| nic.is_on(network)).collect()
}

/// What each NIC on a network of ours is to get, in the order of the NICs; empty for a domain that
/// is none of ours. A NIC without metadata gets a dynamic address.
///
/// # Errors
/// See [`PlanFault`]: whatever is asked and can't be done is refused as a whole.
pub fn plan(domain: &Domain, networks: &[Network]) -> Result<Vec<NicPlan>, PlanFault> {
    let name = || cut(&domain.name);
    let mut wishes: Vec<(&Nic, &Network, Option<&NicRequest>)> = Vec::new();
    for request in &domain.requests {
        let request = request
            .as_ref()
            .map_err(|invalid| PlanFault::Metadata { domain: name(), invalid: invalid.clone() })?;
        let Some(network) = networks.iter().find(|n| n.name == request.network) else {
            let (network, docker) = (request.network.clone(), request.docker.clone());
            return Err(PlanFault::UnknownNetwork { domain: name(), network, docker });
        };
        let nic = meant(domain, network, request).map_err(|lack| PlanFault::NoNic {
            domain: name(),
            network: network.name.clone(),
            lack,
        })?;
        wishes.push((nic, network, Some(request)));
    }
    for network in networks {
        for nic in match_nics(domain, network) {
            if !wishes.iter().any(|(other, _, _)| other.index == nic.index) {
                wishes.push((nic, network, None));
            }
        }
    }
    wishes.sort_by_key(|(nic, _, _)| nic.index);
    // A transient half whose persistent half is here too is served by that: one address for both.
    let all = wishes.clone();
    wishes.retain(|(nic, network, request)| {
        request.is_some()
            || !matches!(nic.teaming, Some(Teaming::Transient { .. }))
            || !all.iter().any(|(other, on, _)| {
                on.name == network.name && other.mac == nic.mac && other.is_teamed_with(nic)
            })
    });

    let label = DnsLabel::from_any(&domain.name);
    // One name in a network is one NIC's: a label that a person chose comes before ours.
    let mut named: Vec<NetworkName> = wishes
        .iter()
        .filter_map(|(_, _, request)| *request)
        .filter(|request| request.hostname.is_some() && request.hostname == label)
        .map(|request| request.network.clone())
        .collect();
    let mut plans: Vec<(&Nic, NicPlan)> = Vec::new();
    for (nic, network, request) in wishes {
        let Some(mac) = nic.mac else {
            return Err(PlanFault::NoMac { domain: name(), network: network.name.clone(), index: nic.index });
        };
        if plans.iter().any(|(other, plan)| plan.mac == mac && !other.is_teamed_with(nic)) {
            return Err(PlanFault::SameMac { domain: name(), mac });
        }
        let first = match_nics(domain, network).first().is_some_and(|first| first.index == nic.index);
        let may_be_named = request.is_some() || first;
        let mut request = request.cloned().unwrap_or_else(|| NicRequest::on(network.name.clone()));
        request.mac = Some(mac);
        if request.hostname.is_none() && may_be_named && !named.contains(&network.name) {
            request.hostname.clone_from(&label);
            named.push(network.name.clone());
        }
        let sole_nic = domain.nics.iter().all(|o| o.index == nic.index || o.is_teamed_with(nic));
        let tap = nic.target_dev.as_deref().and_then(|dev| dev.parse().ok());
        plans.push((nic, NicPlan { network: network.name.clone(), mac, request, sole_nic, tap }));
    }
    Ok(plans.into_iter().map(|(_, plan)| plan).collect())
}

/// The NIC that a request means: the one with its MAC, else the first one on the network.
fn meant<'d>(domain: &'d Domain, network: &Network, request: &NicRequest) -> Result<&'d Nic, Lack> {
    let on = match_nics(domain, network);
    let Some(mac) = request.mac else {
        return on.first().copied().ok_or(Lack::Any);
    };
    // Of a teaming pair the half that stays.
    let transient = |nic: &Nic| matches!(nic.teaming, Some(Teaming::Transient { .. }));
    if let Some(nic) = on.iter().filter(|nic| nic.mac == Some(mac)).min_by_key(|nic| transient(nic)) {
        return Ok(nic);
    }
    Err(match domain.nics.iter().find(|nic| nic.mac == Some(mac)) {
        Some(nic) => Lack::Elsewhere { mac, whereabouts: nic.whereabouts() },
        None => Lack::Mac(mac),
    })
}
