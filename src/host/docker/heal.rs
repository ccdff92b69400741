//! Stopped containers and the network that they come back to.
//!
//! A stopped container holds its networks by id: where one was removed and made again under the same name, the
//! container does not start ("network … not found", 20.10 to 28.5). Taking it off and connecting it again, with the
//! same wishes, mends that; only a container that was *created* with the network's id can't be mended.

use bollard::models::{EndpointSettings, NetworkConnectRequest, NetworkDisconnectRequest};

use super::Docker;
use super::inside::marked;
use super::network::is_gone;
use crate::deadline::Deadline;
use crate::model::{Fault, Network, OwnerId, Result};

impl Docker {
    /// Makes stopped containers that were on an earlier Docker network of this name find the one that is there now,
    /// with the address, names and options that they asked for. Returns their names.
    ///
    /// # Errors
    /// Failed, for the first container that could not be mended; the others are.
    pub fn heal_containers(&self, network: &Network, deadline: Deadline) -> Result<Vec<String>> {
        let name = &network.docker_network;
        let Some(there) = self.read_network(name, deadline)? else { return Ok(Vec::new()) };
        let mut healed = Vec::new();
        let mut first: Option<Fault> = None;
        for container in self.containers(deadline)?.containers {
            let stale = container.networks.get(name.as_str()).is_some_and(|a| {
                // Empty: by name alone, which is well.
                !a.network_id.is_empty() && a.network_id != there.id
            });
            if container.running || !stale {
                continue;
            }
            match self.reconnect(network, &container.id, deadline) {
                Ok(()) => healed.push(container.name),
                Err(fault) if first.is_none() => {
                    first = Some(
                        Fault::failed(format!("container {} does not find network {name}", container.name))
                            .because(fault)
                            .hint(format!(
                                "docker network disconnect -f {name} {0} && docker network connect {name} {0}",
                                container.name
                            )),
                    );
                }
                Err(_) => {}
            }
        }
        first.map_or(Ok(healed), Err)
    }

    /// Takes a stopped container off and connects it again with the same wishes.
    fn reconnect(&self, network: &Network, container: &OwnerId, deadline: Deadline) -> Result<()> {
        let name = network.docker_network.as_str();
        let look = self.client.inspect_container(container.as_str(), None);
        let there = match self.ask("inspect a container", deadline, look)? {
            Ok(there) => there,
            Err(said) if said.status == 404 => return Ok(()),
            Err(said) => return Err(said.fault("inspect it")),
        };
        let networks = there.network_settings.and_then(|s| s.networks).unwrap_or_default();
        let Some(was) = networks.get(name) else { return Ok(()) };
        let wishes = wishes(was, container);
        self.take_off(name, container, deadline)?;
        let request =
            NetworkConnectRequest { container: container.to_string(), endpoint_config: Some(wishes) };
        self.call("connect it again", deadline, self.client.connect_network(name, request))
    }

    /// Takes stopped containers that we connected off a network that is about to go. Those that a person put there
    /// are the person's.
    pub(super) fn let_go_of_stopped(&self, network: &Network, id: &str, deadline: Deadline) -> Result<()> {
        let name = network.docker_network.as_str();
        for container in self.containers(deadline)?.containers {
            if container.running || container.networks.get(name).is_none_or(|a| a.network_id != id) {
                continue;
            }
            let look = self.client.inspect_container(container.id.as_str(), None);
            if let Ok(there) = self.ask("inspect a container", deadline, look)?
                && marked(&there, network)
            {
                self.take_off(name, &container.id, deadline)?;
            }
        }
        Ok(())
    }

    /// The containers that were created with this network's id, and can never start without just that one.
    pub(super) fn bound_by_id(&self, id: &str, deadline: Deadline) -> Result<Vec<String>> {
        let all = self.containers(deadline)?.containers;
        Ok(all.into_iter().filter(|c| c.created_on == id).map(|c| c.name).collect())
    }

    fn take_off(&self, network: &str, container: &OwnerId, deadline: Deadline) -> Result<()> {
        let request = NetworkDisconnectRequest { container: container.to_string(), force: Some(true) };
        let call = self.client.disconnect_network(network, request);
        match self.ask("take it off the network", deadline, call)? {
            Ok(()) => Ok(()),
            Err(said) if is_gone(&said) => Ok(()),
            Err(said) => Err(said.fault("take it off the network")),
        }
    }
}

/// What a container asked for on a network, without what Docker made of it.
fn wishes(was: &EndpointSettings, container: &OwnerId) -> EndpointSettings {
    // Docker before 25 adds the short id to the names, each time.
    let own = |alias: &String| !container.as_str().starts_with(alias.as_str());
    EndpointSettings {
        ipam_config: was.ipam_config.clone(),
        links: was.links.clone(),
        aliases: was.aliases.as_ref().map(|all| all.iter().filter(|a| own(a)).cloned().collect()),
        driver_opts: was.driver_opts.clone(),
        gw_priority: was.gw_priority.filter(|p| *p != 0),
        ..EndpointSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_kept_and_what_docker_made_is_not() -> Result<()> {
        let json = r#"{"IPAMConfig":{"IPv4Address":"10.0.1.50"},"Aliases":["db","abababababab"],"NetworkID":"old",
            "EndpointID":"e","Gateway":"10.0.1.1","DriverOpts":{"k":"v"},"GwPriority":-100,"MacAddress":"02:42:00:00:00:01"}"#;
        let was: EndpointSettings = serde_json::from_str(json).map_err(|e| Fault::failed(e.to_string()))?;
        let id = "ab".repeat(32).parse()?;
        let got = serde_json::to_value(wishes(&was, &id)).map_err(|e| Fault::failed(e.to_string()))?;
        let want = serde_json::json!({"IPAMConfig":{"IPv4Address":"10.0.1.50"},"Aliases":["db"],
            "DriverOpts":{"k":"v"},"GwPriority":-100});
        assert_eq!(got, want);
        Ok(())
    }
}
