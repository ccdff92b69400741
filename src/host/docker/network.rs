//! The Docker network on our bridge: make it, read it back, remove it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bollard::models::{EndpointResource, IpamConfig, NetworkDisconnectRequest, NetworkInspect};
use ipnet::IpNet;
use rustix::net::{AddressFamily, SocketType, netdevice, socket};

use super::spec::{BRIDGE_OPTION, LABEL, Pool, Spec};
use super::{Docker, Said, one_line};
use crate::deadline::Deadline;
use crate::host::Change;
use crate::model::{DockerName, Fault, InterfaceName, MacAddress, Network, NetworkName, OwnerId, Result};

/// How long a network that changes under our hands is looked at again.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// A Docker network as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DockerNetwork {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Which network of ours it was made for, by its label; `None`: it is somebody else's.
    pub ours: Option<NetworkName>,
    /// Its driver, such as `bridge`.
    pub driver: String,
    /// Its driver's options.
    pub options: BTreeMap<String, String>,
    /// Whether it has IPv4; `None` when Docker is older than 28 and does not say (it has).
    pub ipv4: Option<bool>,
    /// Whether it has IPv6.
    pub ipv6: bool,
    /// Whether Docker keeps its containers from the world.
    pub internal: bool,
    /// Who gives out its addresses: `default` is Docker itself.
    pub ipam_driver: String,
    /// Its subnets, gateways and ranges.
    pub pools: Vec<Pool>,
    /// Who is on it now: endpoints of running containers, and stale ones.
    pub endpoints: Vec<Endpoint>,
}

impl DockerNetwork {
    /// The kernel's bridge that it was told to use.
    #[must_use]
    pub fn bridge(&self) -> Option<&str> {
        self.options.get(BRIDGE_OPTION).map(String::as_str)
    }
}

/// A container's end on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The container; `None` for an endpoint whose container is gone.
    pub container: Option<OwnerId>,
    /// The container's name, as Docker says it.
    pub container_name: String,
    /// Its id with Docker.
    pub endpoint_id: String,
    /// Its MAC.
    pub mac: Option<MacAddress>,
    /// Its IPv4 address.
    pub ipv4: Option<IpAddr>,
    /// Its IPv6 address.
    pub ipv6: Option<IpAddr>,
}

impl Docker {
    /// Reads a network by its exact name; `None` when there is none.
    pub fn read_network(&self, name: &DockerName, deadline: Deadline) -> Result<Option<DockerNetwork>> {
        let what = format!("read Docker network {name}");
        match self.ask(&what, deadline, self.client.inspect_network(name.as_str(), None))? {
            // Docker also takes the beginning of an id for a name.
            Ok(there) if there.name.as_deref() == Some(name.as_str()) => Ok(Some(read(there))),
            Ok(_) => Ok(None),
            Err(said) if said.status == 404 => Ok(None),
            Err(said) => Err(said.fault(&what)),
        }
    }

    /// Makes the network's Docker network, or makes one of ours right that differs and that nobody is on. Another
    /// one who does the same at the same time is no error. Stopped containers that know the network by name find the
    /// new one ([`Docker::heal_containers`]).
    ///
    /// # Errors
    /// Refused: somebody else's network has that name, bridge or subnet; ours differs and has guests; the container
    /// pool can't be told to Docker. Missing: the bridge (Docker would make its own, and delete it later), or a
    /// Docker that can do IPv6 alone.
    pub fn ensure_network(&self, network: &Network, deadline: Deadline) -> Result<Change> {
        let spec = Spec::of(network, self.version.api)?;
        let name = &network.docker_network;
        let what = format!("create Docker network {name}");
        let patience = deadline.at_most(PATIENCE);
        loop {
            let said = match self.read_network(name, deadline)? {
                Some(there) => {
                    check_ours(network, &there)?;
                    let differences = spec.differences(&there);
                    if differences.is_empty() {
                        return Ok(Change::None);
                    }
                    self.check_unused(&there, &differences, deadline)?;
                    match self.delete(&there.id, deadline)? {
                        Ok(()) => continue,
                        Err(said) if said.is_conflict() => said,
                        Err(said) => return Err(said.fault(&format!("make Docker network {name} anew"))),
                    }
                }
                None if !bridge_is_there(&network.bridge) => {
                    return Err(Fault::missing(format!(
                        "bridge {} is not there, and Docker would make one of its own",
                        network.bridge
                    ))
                    .hint(format!("hybrid-hook network up {}", network.name)));
                }
                None => match self.ask(&what, deadline, self.client.create_network(spec.request()))? {
                    Ok(_) => {
                        self.heal_containers(network, deadline)?;
                        return Ok(Change::Made);
                    }
                    // 409: the name is taken by now. 403: bridge or subnet are, perhaps by one who makes the same
                    // network just now and is not seen yet.
                    Err(said) if said.is_conflict() => match self.who_has_it(network, deadline)? {
                        Some(who) => return Err(said.fault(&what).hint(who)),
                        None => said,
                    },
                    Err(said) => return Err(said.fault(&what)),
                },
            };
            if patience.passed() {
                return Err(said.fault(&what));
            }
            std::thread::sleep(PAUSE.min(patience.left()));
        }
    }

    /// In what a Docker network is not as `network` says, each as `WHAT is X, not Y`; empty when it is equal.
    ///
    /// # Errors
    /// Refused: it is somebody else's. Else as [`Docker::ensure_network`]: what this Docker can't do.
    pub fn differences(&self, network: &Network, there: &DockerNetwork) -> Result<Vec<String>> {
        check_ours(network, there)?;
        Ok(Spec::of(network, self.version.api)?.differences(there))
    }

    /// Removes the network's Docker network, if it is there and ours. With `force` its guests are disconnected
    /// first. A stopped container that we had connected is let go as well: it could not start without the network.
    /// The bridge stays: it was there before Docker's network.
    ///
    /// # Errors
    /// Refused, naming them, when containers are on it and `force` is not set.
    pub fn remove_network(&self, network: &Network, force: bool, deadline: Deadline) -> Result<Change> {
        let name = &network.docker_network;
        let what = format!("remove Docker network {name}");
        let patience = deadline.at_most(PATIENCE);
        let mut change = Change::None;
        loop {
            let Some(there) = self.read_network(name, deadline)? else { return Ok(change) };
            if there.ours.as_ref() != Some(&network.name) {
                return Ok(change);
            }
            if !there.endpoints.is_empty() && !force {
                return Err(in_use(&there).hint("stop or disconnect them, or use --force"));
            }
            change = Change::Made;
            for endpoint in &there.endpoints {
                self.evict(&there, endpoint, deadline)?;
            }
            self.let_go_of_stopped(network, &there.id, deadline)?;
            match self.delete(&there.id, deadline)? {
                Ok(()) => return Ok(change),
                // Somebody joined since, or an endpoint takes its time to go.
                Err(said) if said.is_conflict() && !patience.passed() => {
                    std::thread::sleep(PAUSE.min(patience.left()));
                }
                Err(said) => return Err(said.fault(&what)),
            }
        }
    }

    /// Every subnet of every Docker network, with the network's name, to look for overlaps.
    pub fn all_subnets(&self, deadline: Deadline) -> Result<Vec<(String, IpNet)>> {
        let networks = self.call("list Docker's networks", deadline, self.client.list_networks(None))?;
        Ok(networks
            .into_iter()
            .flat_map(|n| {
                let name = one_line(n.name.as_deref().unwrap_or("?"), 128);
                let configs = n.ipam.and_then(|i| i.config).unwrap_or_default();
                configs.into_iter().filter_map(move |c| Some((name.clone(), Pool::read(&c)?.subnet)))
            })
            .collect())
    }

    /// Removes a network by its id; gone already is done.
    fn delete(&self, id: &str, deadline: Deadline) -> Result<Result<(), Said>> {
        let answer = self.ask("remove a Docker network", deadline, self.client.remove_network(id))?;
        Ok(match answer {
            Err(said) if said.status == 404 => Ok(()),
            other => other,
        })
    }

    /// Takes one endpoint off a network, its container alive or not.
    fn evict(&self, network: &DockerNetwork, endpoint: &Endpoint, deadline: Deadline) -> Result<()> {
        // An endpoint without a container goes by its own name, and only by force.
        let container =
            endpoint.container.as_ref().map_or(endpoint.container_name.as_str(), OwnerId::as_str).to_owned();
        let what = format!("disconnect container {} from {}", endpoint.container_name, network.name);
        let request = NetworkDisconnectRequest { container, force: Some(true) };
        match self.ask(&what, deadline, self.client.disconnect_network(&network.id, request))? {
            Ok(()) => Ok(()),
            Err(said) if is_gone(&said) => Ok(()),
            Err(said) => Err(said.fault(&what)),
        }
    }

    /// Refuses to make a network anew that somebody needs as it is.
    fn check_unused(&self, there: &DockerNetwork, differences: &[String], deadline: Deadline) -> Result<()> {
        let why = format!("it must be made anew ({})", differences.join("; "));
        if !there.endpoints.is_empty() {
            return Err(in_use(there).hint(format!("{why}: stop or disconnect them first")));
        }
        let bound = self.bound_by_id(&there.id, deadline)?;
        if bound.is_empty() {
            return Ok(());
        }
        Err(Fault::refused(format!("Docker network {} is bound by its id to {}", there.name, names(bound)))
            .hint(format!("{why}, and they could not start then: remove them first")))
    }

    /// Which other network has the bridge or the subnet that Docker says is taken, as a hint.
    fn who_has_it(&self, network: &Network, deadline: Deadline) -> Result<Option<String>> {
        for other in self.call("list Docker's networks", deadline, self.client.list_networks(None))? {
            let name = one_line(other.name.as_deref().unwrap_or("?"), 128);
            if name == network.docker_network.as_str() {
                continue;
            }
            let options = other.options.unwrap_or_default();
            if options.get(BRIDGE_OPTION).map(String::as_str) == Some(network.bridge.as_str()) {
                return Ok(Some(format!("Docker network {name} has bridge {} already", network.bridge)));
            }
            let configs = other.ipam.and_then(|i| i.config).unwrap_or_default();
            for subnet in configs.iter().filter_map(Pool::read).map(|p| p.subnet) {
                if let Some(mine) = network.overlapping(&subnet) {
                    return Ok(Some(format!("{mine} overlaps {subnet} of Docker network {name}")));
                }
            }
        }
        Ok(None)
    }
}

/// Whether Docker's no means that the container is not on that network (any more), or is gone.
pub(super) fn is_gone(said: &Said) -> bool {
    said.status == 404 || said.words.contains("is not connected to")
}

fn check_ours(network: &Network, there: &DockerNetwork) -> Result<()> {
    let name = &network.docker_network;
    match &there.ours {
        Some(of) if *of == network.name => Ok(()),
        Some(of) => Err(Fault::refused(format!("Docker network {name} belongs to network {of}"))
            .hint("choose another name with --docker-network")),
        None => Err(Fault::refused(format!("there is a Docker network {name} that is not ours"))
            .hint(format!("docker network rm {name}, or choose another name with --docker-network"))),
    }
}

fn in_use(there: &DockerNetwork) -> Fault {
    let all = there.endpoints.iter().map(|e| e.container_name.clone()).collect();
    Fault::refused(format!("Docker network {} has containers on it: {}", there.name, names(all)))
}

/// Some names for a message, the rest counted.
fn names(mut all: Vec<String>) -> String {
    all.sort_unstable();
    let more = all.len().saturating_sub(8);
    all.truncate(8);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", all.join(", "))
}

/// Whether the bridge is in our network namespace, which is dockerd's.
fn bridge_is_there(bridge: &InterfaceName) -> bool {
    socket(AddressFamily::INET, SocketType::DGRAM, None)
        .is_ok_and(|socket| netdevice::name_to_index(&socket, bridge.as_str()).is_ok())
}

fn read(there: NetworkInspect) -> DockerNetwork {
    let label = there.labels.as_ref().and_then(|l| l.get(LABEL)).and_then(|v| v.parse().ok());
    let ipam = there.ipam.unwrap_or_default();
    let configs: Vec<IpamConfig> = ipam.config.unwrap_or_default();
    let mut endpoints: Vec<_> =
        there.containers.unwrap_or_default().into_iter().map(|(id, e)| endpoint(&id, &e)).collect();
    endpoints.sort_by(|a, b| (&a.container_name, &a.endpoint_id).cmp(&(&b.container_name, &b.endpoint_id)));
    DockerNetwork {
        id: there.id.unwrap_or_default(),
        name: there.name.unwrap_or_default(),
        ours: label,
        driver: one_line(&there.driver.unwrap_or_default(), 64),
        options: there.options.unwrap_or_default().into_iter().collect(),
        ipv4: there.enable_ipv4,
        ipv6: there.enable_ipv6.unwrap_or(false),
        internal: there.internal.unwrap_or(false),
        ipam_driver: one_line(ipam.driver.as_deref().unwrap_or("default"), 64),
        pools: configs.iter().filter_map(Pool::read).collect(),
        endpoints,
    }
}

fn endpoint(id: &str, there: &EndpointResource) -> Endpoint {
    let address = |text: &Option<String>| text.as_deref().and_then(|t| t.split('/').next()?.parse().ok());
    Endpoint {
        container: id.parse().ok().filter(OwnerId::is_container),
        container_name: one_line(there.name.as_deref().unwrap_or(id), 128),
        endpoint_id: there.endpoint_id.clone().unwrap_or_default(),
        mac: there.mac_address.as_deref().and_then(|m| m.parse().ok()),
        ipv4: address(&there.ipv4_address),
        ipv6: address(&there.ipv6_address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inspected_network_is_read_and_odd_parts_are_left_out() -> Result<(), serde_json::Error> {
        let id = "ab".repeat(32);
        let json = format!(
            r#"{{"Name":"hybrid-net","Id":"x","Driver":"bridge","EnableIPv6":false,
            "IPAM":{{"Config":[{{"Subnet":"10.0.1.0/24","IPRange":"10.0.1.64/26","Gateway":"10.0.1.1",
              "AuxiliaryAddresses":{{"a":"10.0.1.2","b":"nonsense"}}}},{{"Subnet":"nonsense"}},{{}}]}},
            "Containers":{{"{id}":{{"Name":"web\n1","EndpointID":"e1","MacAddress":"02:42:0a:00:01:40",
              "IPv4Address":"10.0.1.64/24","IPv6Address":""}},
              "ep-12":{{"Name":"gone","EndpointID":"e2","MacAddress":"","IPv4Address":null}}}},
            "Options":null,"Labels":{{"hybrid-hook.network":"hybrid"}}}}"#
        );
        let network = read(serde_json::from_str(&json)?);
        assert_eq!(network.ours.as_ref().map(NetworkName::as_str), Some("hybrid"));
        assert_eq!(network.pools.len(), 1);
        let [gone, web] = network.endpoints.as_slice() else {
            return Err(serde::de::Error::custom(format!("{network:?}")));
        };
        assert_eq!((gone.container.as_ref(), gone.container_name.as_str()), (None, "gone"));
        assert_eq!(web.container.as_ref().map(OwnerId::as_str), Some(id.as_str()));
        assert_eq!(web.container_name, "web 1");
        assert_eq!(web.ipv4.map(|a| a.to_string()).as_deref(), Some("10.0.1.64"));
        Ok(())
    }

    #[test]
    fn a_label_that_is_no_network_name_is_not_ours() -> Result<(), serde_json::Error> {
        let network = read(serde_json::from_str(r#"{"Labels":{"hybrid-hook.network":"../x"}}"#)?);
        assert_eq!(network.ours, None);
        Ok(())
    }
}
