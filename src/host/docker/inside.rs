//! One container as inspected: its networks, its process, whether we connected it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bollard::models::{ContainerInspectResponse, EndpointSettings};

use super::containers::{Attachment, attachment};
use super::one_line;
use crate::model::Network;

/// The driver option by which an endpoint that we made is known again, its value the network's name with us.
/// Docker keeps it with the container, over restarts, and drops it when a person disconnects the container.
pub(super) const MARK: &str = "hybrid-hook.made";

/// A container, as far as its networks go.
pub(super) struct Inside {
    /// Its name, for messages.
    pub(super) name: String,
    /// The process that holds its network namespace, while it runs.
    pub(super) pid: Option<u32>,
    /// Whether its endpoint on the network bears our mark.
    pub(super) ours: bool,
    /// Its networks, by name.
    pub(super) networks: BTreeMap<String, Attachment>,
}

impl Inside {
    pub(super) fn read(there: &ContainerInspectResponse, network: &Network) -> Self {
        let networks = there.network_settings.as_ref().and_then(|s| s.networks.as_ref());
        Self {
            name: one_line(there.name.as_deref().unwrap_or("?").trim_start_matches('/'), 128),
            pid: pid_of(there),
            ours: marked(there, network),
            networks: networks.into_iter().flatten().map(|(n, e)| (n.clone(), attachment(e))).collect(),
        }
    }

    pub(super) fn here(&self, network: &Network) -> Option<&Attachment> {
        self.networks.get(network.docker_network.as_str())
    }

    /// The gateways of its other networks, in the order in which Docker before 28 prefers them.
    pub(super) fn other_gateways(&self, network: &Network) -> Vec<IpAddr> {
        let others = self.networks.iter().filter(|(name, _)| *name != network.docker_network.as_str());
        others.flat_map(|(_, a)| [a.gateway, a.gateway_v6]).flatten().collect()
    }

    /// Whether Docker before 28 gives, or would give, this container the default route of our network: its name
    /// sorts before every other that has a gateway.
    pub(super) fn route_is_ours_by_name(&self, network: &Network) -> bool {
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
    let options =
        on(there, network).and_then(|e| e.driver_opts.as_ref()).and_then(|options| options.get(MARK));
    options.map(String::as_str) == Some(network.name.as_str())
}

/// The names that other containers find it by on `network`, without the short id that Docker adds.
pub(super) fn aliases(there: &ContainerInspectResponse, network: &Network) -> Vec<String> {
    let id = there.id.as_deref().unwrap_or_default();
    let names = on(there, network).and_then(|e| e.aliases.as_ref()).into_iter().flatten();
    names.filter(|name| !(name.len() == 12 && id.starts_with(name.as_str()))).take(64).cloned().collect()
}

/// The id of its endpoint on `network`.
pub(super) fn endpoint(there: &ContainerInspectResponse, network: &Network) -> Option<String> {
    on(there, network).and_then(|e| e.endpoint_id.clone()).filter(|id| !id.is_empty())
}

fn on<'a>(there: &'a ContainerInspectResponse, network: &Network) -> Option<&'a EndpointSettings> {
    let networks = there.network_settings.as_ref()?.networks.as_ref()?;
    networks.get(network.docker_network.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network_file::NetworkFile;
    use crate::model::{Fault, Result};

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
