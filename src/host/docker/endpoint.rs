//! A container's endpoint on our network: made, let go, its default route kept.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, EndpointIpamConfig, EndpointSettings, NetworkConnectRequest,
    NetworkDisconnectRequest,
};

use super::containers::{Attachment, attachment};
use super::network::is_gone;
use super::route::{
    DefaultRoute, change_default_routes, default_routes, steps_to_keep, steps_to_park, steps_to_restore,
};
use super::{ApiVersion, Docker, one_line};
use crate::deadline::Deadline;
use crate::host::Change;
use crate::model::{DnsLabel, Fault, MacAddress, Network, OwnerId, Result};

/// The driver option by which an endpoint that we made is known again, its value the network's name with us.
/// Docker keeps it with the container, over restarts, and drops it when a person disconnects the container.
const MARK: &str = "hybrid-hook.made";

/// How long putting a route back may take after the call's own deadline has passed.
const PUT_BACK: Duration = Duration::from_secs(2);

/// What an endpoint shall have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Want {
    /// A fixed address; none: Docker takes one from the container pool.
    pub ip: Option<IpAddr>,
    /// Its MAC. Docker before 25 makes it from the address and does not heed this.
    pub mac: Option<MacAddress>,
    /// Names that other containers on the network find it by, through Docker's resolver.
    pub aliases: Vec<DnsLabel>,
}

/// The endpoint that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointMade {
    /// Its id with Docker.
    pub endpoint_id: String,
    /// Its IPv4 address.
    pub ipv4: Option<IpAddr>,
    /// Its IPv6 address.
    pub ipv6: Option<IpAddr>,
    /// Its MAC.
    pub mac: Option<MacAddress>,
}

/// A container, as far as its networks go.
struct Inside {
    name: String,
    pid: Option<u32>,
    ours: bool,
    networks: BTreeMap<String, Attachment>,
}

impl Inside {
    fn read(there: &ContainerInspectResponse, network: &Network) -> Self {
        let networks = there.network_settings.as_ref().and_then(|s| s.networks.as_ref());
        Self {
            name: one_line(there.name.as_deref().unwrap_or("?").trim_start_matches('/'), 128),
            pid: pid_of(there),
            ours: marked(there, network),
            networks: networks.into_iter().flatten().map(|(n, e)| (n.clone(), attachment(e))).collect(),
        }
    }

    fn here(&self, network: &Network) -> Option<&Attachment> {
        self.networks.get(network.docker_network.as_str())
    }

    /// The gateways of its other networks, in the order in which Docker before 28 prefers them.
    fn other_gateways(&self, network: &Network) -> Vec<IpAddr> {
        let others = self.networks.iter().filter(|(name, _)| *name != network.docker_network.as_str());
        others.flat_map(|(_, a)| [a.gateway, a.gateway_v6]).flatten().collect()
    }

    /// Whether Docker before 28 gives, or would give, this container the default route of our network: its name
    /// sorts before every other that has a gateway.
    fn route_is_ours_by_name(&self, network: &Network) -> bool {
        let own = network.docker_network.as_str();
        self.networks
            .iter()
            .filter(|(name, a)| *name != own && (a.gateway.is_some() || a.gateway_v6.is_some()))
            .all(|(name, _)| own < name.as_str())
    }
}

/// The process that holds the container's namespaces, while it runs.
pub(super) fn pid_of(there: &ContainerInspectResponse) -> Option<u32> {
    let state = there.state.as_ref().filter(|s| s.running == Some(true))?;
    state.pid.and_then(|p| u32::try_from(p).ok()).filter(|p| *p != 0)
}

/// Whether the container's endpoint on `network` bears our mark.
pub(super) fn marked(there: &ContainerInspectResponse, network: &Network) -> bool {
    let networks = there.network_settings.as_ref().and_then(|s| s.networks.as_ref());
    let options = networks
        .and_then(|n| n.get(network.docker_network.as_str()))
        .and_then(|e| e.driver_opts.as_ref())
        .and_then(|o| o.get(MARK));
    options.map(String::as_str) == Some(network.name.as_str())
}

impl Docker {
    /// Connects a running container to the network, its default route kept: by `GwPriority` where Docker has it
    /// (28), else by putting it back. A container without a default route gets none. One that we connected already
    /// is left as it is.
    ///
    /// # Errors
    /// Missing: the container or the Docker network is gone, or it does not run. Refused: somebody else connected
    /// it; the address is taken; it has no network namespace of its own.
    pub fn connect_container(
        &self,
        network: &Network,
        container: &OwnerId,
        want: &Want,
        deadline: Deadline,
    ) -> Result<EndpointMade> {
        let Some(inside) = self.inside(container, network, deadline)? else {
            return Err(Fault::missing(format!("container {container} is gone")));
        };
        let Some(pid) = inside.pid else {
            return Err(Fault::missing(format!("container {} does not run", inside.name)));
        };
        if let Some(here) = inside.here(network) {
            if inside.ours && here.endpoint_id.is_some() {
                return Ok(made(here));
            }
            return Err(Fault::refused(format!(
                "container {} is on Docker network {} already, and not by us",
                inside.name, network.docker_network
            )));
        }
        let what = format!("connect container {} to {}", inside.name, network.docker_network);
        let request = self.connect_request(network, container, want);
        let call = self.client.connect_network(network.docker_network.as_str(), request);
        let before = default_routes(pid, deadline)?;
        let moves = self.version.api < ApiVersion::GATEWAY_PRIORITY && inside.route_is_ours_by_name(network);
        self.around(pid, &before, moves, deadline, || self.call(&what, deadline, call)).map_err(
            |(fault, done)| {
                if !done {
                    return fault;
                }
                // Connected, but its route is wrong: better not at all.
                match self.disconnect_now(network, container, Deadline::after(PUT_BACK)) {
                    Ok(()) => fault,
                    Err(also) => fault.and(also),
                }
            },
        )?;
        let after = self.inside(container, network, deadline)?;
        match after.as_ref().and_then(|a| a.here(network)).filter(|a| a.endpoint_id.is_some()) {
            Some(here) => Ok(made(here)),
            None => Err(Fault::failed(format!("container {} left the network again at once", inside.name))),
        }
    }

    /// Takes a container off the network, if the endpoint that it has there is the one of that id. Its default
    /// route stays, unless it went through us.
    pub fn disconnect_container(
        &self,
        network: &Network,
        container: &OwnerId,
        endpoint_id: &str,
        deadline: Deadline,
    ) -> Result<Change> {
        let Some(inside) = self.inside(container, network, deadline)? else { return Ok(Change::None) };
        let here = inside.here(network).cloned().unwrap_or_default();
        if here.endpoint_id.as_deref() != Some(endpoint_id) {
            return Ok(Change::None);
        }
        let gateways = [here.gateway, here.gateway_v6];
        let mut before = Vec::new();
        if let Some(pid) = inside.pid {
            before = default_routes(pid, deadline)?;
            // What goes through us ends with us; Docker finds it another way.
            before.retain(|r| r.gateway.is_none() || !gateways.contains(&r.gateway));
        }
        let disconnect = || self.disconnect_now(network, container, deadline);
        match inside.pid {
            // Docker believes that the route is ours and would put another in its place, where one stands.
            Some(pid)
                if self.version.api < ApiVersion::GATEWAY_PRIORITY
                    && inside.route_is_ours_by_name(network)
                    && !before.is_empty() =>
            {
                self.around(pid, &before, true, deadline, disconnect).map_err(|(fault, _)| fault)?;
            }
            _ => disconnect()?,
        }
        Ok(Change::Made)
    }

    /// Puts a container's default route back where it does not belong to us: Docker before 28 moves it at each
    /// restart of the container. Nothing is remembered; the rule is: if a container that we connected has another
    /// network, its default route is not through our gateway. It goes through the other network that has a
    /// gateway and whose name sorts first, as Docker would choose without us; none has: it gets none.
    pub fn keep_route(&self, network: &Network, container: &OwnerId, deadline: Deadline) -> Result<Change> {
        let Some(inside) = self.inside(container, network, deadline)? else { return Ok(Change::None) };
        let (Some(pid), Some(here), true) = (inside.pid, inside.here(network), inside.ours) else {
            return Ok(Change::None);
        };
        let routes = default_routes(pid, deadline)?;
        let ours: Vec<IpAddr> = [here.gateway, here.gateway_v6].into_iter().flatten().collect();
        let steps =
            steps_to_keep(&routes, &ours, &inside.other_gateways(network), inside.networks.len() == 1);
        if steps.is_empty() {
            return Ok(Change::None);
        }
        change_default_routes(pid, &steps, deadline)?;
        Ok(Change::Made)
    }

    /// Does `call` with the default routes `before` out of Docker's way (when `park`), and puts them back whether it
    /// worked or not. The error says whether the call itself was done.
    fn around(
        &self,
        pid: u32,
        before: &[DefaultRoute],
        park: bool,
        deadline: Deadline,
        call: impl FnOnce() -> Result<()>,
    ) -> Result<(), (Fault, bool)> {
        if park {
            let parked = change_default_routes(pid, &steps_to_park(before), deadline);
            if let Err(fault) = parked {
                return Err((put_back(pid, before).err().map_or_else(|| fault, Fault::from), false));
            }
        }
        let done = call();
        match (done, put_back(pid, before)) {
            (Ok(()), Ok(())) => Ok(()),
            (Ok(()), Err(fault)) => Err((fault, true)),
            (Err(fault), Ok(())) => Err((fault, false)),
            (Err(fault), Err(also)) => Err((fault.and(also), false)),
        }
    }

    fn inside(&self, container: &OwnerId, network: &Network, deadline: Deadline) -> Result<Option<Inside>> {
        let what = format!("inspect container {container}");
        match self.ask(&what, deadline, self.client.inspect_container(container.as_str(), None))? {
            Ok(there) => Ok(Some(Inside::read(&there, network))),
            Err(said) if said.status == 404 => Ok(None),
            Err(said) => Err(said.fault(&what)),
        }
    }

    fn disconnect_now(&self, network: &Network, container: &OwnerId, deadline: Deadline) -> Result<()> {
        let what = format!("disconnect container {container} from {}", network.docker_network);
        let request = NetworkDisconnectRequest { container: container.to_string(), force: Some(false) };
        let call = self.client.disconnect_network(network.docker_network.as_str(), request);
        match self.ask(&what, deadline, call)? {
            Ok(()) => Ok(()),
            Err(said) if is_gone(&said) => Ok(()),
            Err(said) => Err(said.fault(&what)),
        }
    }

    fn connect_request(&self, network: &Network, container: &OwnerId, want: &Want) -> NetworkConnectRequest {
        let ipam = want.ip.map(|ip| EndpointIpamConfig {
            ipv4_address: ip.is_ipv4().then(|| ip.to_string()),
            ipv6_address: if ip.is_ipv6() {
                Some(ip.to_string())
            } else {
                network.companion(ip).map(|a| a.to_string())
            },
            link_local_ips: None,
        });
        let aliases: Vec<_> = want.aliases.iter().map(ToString::to_string).collect();
        let api = self.version.api;
        NetworkConnectRequest {
            container: container.to_string(),
            endpoint_config: Some(EndpointSettings {
                ipam_config: ipam,
                mac_address: want.mac.filter(|_| api >= ApiVersion::ENDPOINT_MAC).map(|m| m.to_string()),
                aliases: (!aliases.is_empty()).then_some(aliases),
                driver_opts: Some(HashMap::from([(MARK.to_owned(), network.name.to_string())])),
                gw_priority: (api >= ApiVersion::GATEWAY_PRIORITY).then_some(-100),
                ..EndpointSettings::default()
            }),
        }
    }
}

/// Makes the default routes what they were. It has a time of its own: the call's may have passed.
fn put_back(pid: u32, before: &[DefaultRoute]) -> Result<()> {
    let deadline = Deadline::after(PUT_BACK);
    let now = match default_routes(pid, deadline) {
        // A container that has ended meanwhile needs no route.
        Err(fault) if fault.kind() == crate::model::Kind::Missing => return Ok(()),
        now => now?,
    };
    let steps = steps_to_restore(before, &now);
    if steps.is_empty() {
        return Ok(());
    }
    change_default_routes(pid, &steps, deadline).map(|_| ())
}

fn made(here: &Attachment) -> EndpointMade {
    EndpointMade {
        endpoint_id: here.endpoint_id.clone().unwrap_or_default(),
        ipv4: here.ipv4,
        ipv6: here.ipv6,
        mac: here.mac,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network_file::NetworkFile;

    fn network() -> Result<Network> {
        let text = "format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n";
        Ok(NetworkFile::parse(text).map_err(Fault::failed)?.network(&"hybrid".parse()?)?)
    }

    fn inside(json: &str) -> Result<Inside> {
        let there = serde_json::from_str(json).map_err(|e| Fault::failed(e.to_string()))?;
        Ok(Inside::read(&there, &network()?))
    }

    fn networks(list: &[(&str, &str)]) -> String {
        let all: Vec<_> = list
            .iter()
            .map(|(name, gateway)| {
                format!(r#""{name}":{{"EndpointID":"e-{name}","Gateway":"{gateway}","IPAddress":""}}"#)
            })
            .collect();
        format!(
            r#"{{"Name":"/web","State":{{"Running":true,"Pid":42}},"NetworkSettings":{{"Networks":{{{}}}}}}}"#,
            all.join(",")
        )
    }

    #[test]
    fn names_decide_whose_route_docker_takes() -> Result<()> {
        let ours = |list: &[(&str, &str)]| -> Result<bool> {
            Ok(inside(&networks(list))?.route_is_ours_by_name(&network()?))
        };
        assert!(!ours(&[("bridge", "172.17.0.1")])?);
        assert!(ours(&[("shop_default", "172.18.0.1")])?);
        assert!(!ours(&[("shop", "172.18.0.1"), ("app", "172.19.0.1")])?);
        // An internal network has no gateway and no say.
        assert!(ours(&[("shop", "172.18.0.1"), ("app", "")])?);
        assert!(ours(&[("app", ""), ("hybrid-net", "10.0.1.1")])?);
        Ok(())
    }

    #[test]
    fn other_gateways_come_in_dockers_order() -> Result<()> {
        let there =
            inside(&networks(&[("z", "172.18.0.1"), ("hybrid-net", "10.0.1.1"), ("b", "172.19.0.1")]))?;
        let all: Vec<_> = there.other_gateways(&network()?).iter().map(ToString::to_string).collect();
        assert_eq!((all, there.pid), (vec!["172.19.0.1".to_owned(), "172.18.0.1".to_owned()], Some(42)));
        Ok(())
    }

    #[test]
    fn only_the_mark_of_this_network_is_ours() -> Result<()> {
        let with = |mark: &str| {
            let json = format!(
                r#"{{"NetworkSettings":{{"Networks":{{"hybrid-net":{{"DriverOpts":{{"hybrid-hook.made":"{mark}"}}}}}}}}}}"#
            );
            inside(&json).map(|i| i.ours)
        };
        assert!(with("hybrid")? && !with("lab")?);
        assert!(!inside(&networks(&[("hybrid-net", "")]))?.ours);
        assert_eq!(inside(r#"{"State":{"Running":false,"Pid":0}}"#)?.pid, None);
        Ok(())
    }
}
