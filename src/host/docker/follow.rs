//! Docker networks that somebody else made, to be followed: read, never changed.

use super::spec::Pool;
use super::{Docker, DockerNetwork};
use crate::deadline::Deadline;
use crate::host::bridge;
use crate::model::{DockerId, DockerName, Fault, Followed, Result};

/// The option by which a Docker network has another MTU than 1500.
const MTU_OPTION: &str = "com.docker.network.driver.mtu";

/// Docker's own network for containers that name none.
const DOCKERS_OWN: &str = "bridge";

impl Docker {
    /// What there is to know of a Docker network that is to be followed.
    ///
    /// # Errors
    /// Missing: there is none of that name, or its bridge isn't there. Refused: VMs can't be on it, or it is
    /// one of ours.
    pub fn to_follow(&self, name: &DockerName, deadline: Deadline) -> Result<Followed> {
        let there = self.read_network(name, deadline)?.ok_or_else(|| {
            Fault::missing(format!("Docker has no network {name}"))
                .hint("docker network ls shows them; docker compose up makes a project's")
        })?;
        check(name, &there)?;
        let id: DockerId = there.id.parse()?;
        let no = |why: &str| Fault::refused(format!("Docker network {name} can't be followed: {why}"));
        let ipv4 = |pool: &&Pool| pool.subnet.network().is_ipv4();
        let pool = there.pools.iter().find(ipv4).ok_or_else(|| {
            no("it has no IPv4 subnet").hint("VMs get IPv4 addresses there; give it a subnet")
        })?;
        let bridge = there.bridge().map_or_else(|| id.default_bridge(), ToOwned::to_owned).parse()?;
        let state = bridge::read(&bridge, deadline)?.ok_or_else(|| {
            Fault::missing(format!("the bridge {bridge} of Docker network {name} is not there"))
                .hint("is that Docker on this host, and not in a namespace of its own (rootless)?")
        })?;
        // Docker does without where it was told to (inhibit_ipv4, isolated gateways).
        let address = state.addresses.iter().map(|a| a.net.addr()).find(|a| pool.subnet.contains(a));
        let address = address.ok_or_else(|| {
            no(&format!("its bridge {bridge} has no address, so nobody could answer DHCP and names there"))
        })?;
        Ok(Followed {
            name: name.clone(),
            id,
            bridge,
            subnet: pool.subnet,
            gateway: pool.gateway.unwrap_or(address),
            address,
            range: pool.range,
            excluded: pool.excluded.clone(),
            internal: there.internal,
            mtu: there.options.get(MTU_OPTION).and_then(|mtu| mtu.parse().ok()),
        })
    }

    /// Whether the network with this id is there. Its name may be another's by now.
    pub fn has_network(&self, id: &DockerId, deadline: Deadline) -> Result<bool> {
        let what = "look for a Docker network";
        match self.ask(what, deadline, self.client.inspect_network(id.as_str(), None))? {
            Ok(there) => Ok(there.id.as_deref() == Some(id.as_str())),
            Err(said) if said.status == 404 => Ok(false),
            Err(said) => Err(said.fault(what)),
        }
    }
}

/// Whether VMs can be on a Docker network, by what it is.
fn check(name: &DockerName, there: &DockerNetwork) -> Result<()> {
    if let Some(ours) = &there.ours {
        return Err(Fault::refused(format!("Docker network {name} is that of network {ours}"))
            .hint(format!("name that one: --network {ours}")));
    }
    let no = |why: String| Err(Fault::refused(format!("Docker network {name} can't be followed: {why}")));
    if there.driver != "bridge" {
        let driver = if there.driver.is_empty() { "none" } else { &there.driver };
        return no(format!("its driver is {driver}, and only one on a bridge can hold a VM's port"));
    }
    if name.as_str() == DOCKERS_OWN {
        return no("it is Docker's own, on which containers have no names".to_owned())
            .map_err(|f: Fault| f.hint("docker network create NAME, and connect the containers to it"));
    }
    if there.ipam_driver != "default" {
        return no(format!("the addresses are given by {:?} and not by Docker", there.ipam_driver));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(change: impl FnOnce(&mut DockerNetwork)) -> String {
        let mut network = DockerNetwork {
            driver: "bridge".to_owned(),
            ipam_driver: "default".to_owned(),
            ..DockerNetwork::default()
        };
        change(&mut network);
        let Ok(name) = "shop_default".parse() else { return "name".to_owned() };
        check(&name, &network).err().map(|f| f.to_string()).unwrap_or_default()
    }

    #[test]
    fn only_somebody_else_s_bridge_is_followed() {
        assert_eq!(why(|_| {}), "");
        assert!(why(|n| n.driver = "macvlan".to_owned()).contains("macvlan"));
        assert!(why(|n| n.driver = "host".to_owned()).contains("host"));
        assert!(why(|n| n.driver = String::new()).contains("none"));
        assert!(why(|n| n.ours = "hybrid".parse().ok()).contains("network hybrid"));
        assert!(why(|n| n.ipam_driver = "dhcp".to_owned()).contains("dhcp"));
    }
}
