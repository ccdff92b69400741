//! A container's endpoint on our network: made, let go, its default route kept.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use bollard::models::{
    EndpointIpamConfig, EndpointSettings, NetworkConnectRequest, NetworkDisconnectRequest,
};

use super::containers::Attachment;
use super::inside::{Inside, MARK};
use super::network::is_gone;
use super::room::check_room;
use super::route::{
    DefaultRoute, change_default_routes, default_routes, steps_to_keep, steps_to_park, steps_to_restore,
};
use super::{ApiVersion, Docker};
use crate::deadline::Deadline;
use crate::host::Change;
use crate::model::{DnsLabel, Fault, MacAddress, Network, OwnerId, Result};

/// How long putting a route back may take after the call's own deadline has passed.
const PUT_BACK: Duration = Duration::from_secs(2);

/// What an endpoint shall have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Want {
    /// A fixed address; none: Docker takes one from the container pool.
    pub ip: Option<IpAddr>,
    /// Its MAC. A wish: Docker takes it in the API since 25, but up to 28.5 was not seen to heed it when a running
    /// container is connected. [`EndpointMade::mac`] says which it became.
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
        let name = &network.docker_network;
        let Some(there) = self.read_network(name, deadline)? else {
            return Err(Fault::missing(format!("Docker network {name} is not there"))
                .hint(format!("hybrid-hook network up {}", network.name)));
        };
        let Some(inside) = self.inside(container, network, deadline)? else {
            return Err(Fault::missing(format!("container {container} is gone")));
        };
        let Some(pid) = inside.pid else {
            return Err(Fault::missing(format!("container {} does not run", inside.name)));
        };
        // An entry without an endpoint is what a failed call leaves; connecting replaces it.
        if let Some(here) = inside.here(network).filter(|h| h.endpoint_id.is_some()) {
            if inside.ours {
                return Ok(made(here));
            }
            return Err(Fault::refused(format!(
                "container {} is on Docker network {name} already, and not by us",
                inside.name
            )));
        }
        // Docker's own refusal leaves an entry in a running container that can keep it from starting again.
        let companion = want.ip.and_then(|ip| network.companion(ip)).map(IpAddr::from);
        check_room(&there, &want.ip.into_iter().chain(companion).collect::<Vec<_>>())?;
        if let Err(fault) = self.connect_now(network, container, want, &inside, pid, deadline) {
            self.scrub(network, container);
            return Err(fault);
        }
        let after = self.inside(container, network, deadline)?;
        match after.as_ref().and_then(|a| a.here(network)).filter(|a| a.endpoint_id.is_some()) {
            Some(here) => Ok(made(here)),
            None => Err(Fault::failed(format!("container {} left the network again at once", inside.name))),
        }
    }

    /// The call itself, the default route kept; undone when it can't be.
    fn connect_now(
        &self,
        network: &Network,
        container: &OwnerId,
        want: &Want,
        inside: &Inside,
        pid: u32,
        deadline: Deadline,
    ) -> Result<()> {
        let what = format!("connect container {} to {}", inside.name, network.docker_network);
        let request = self.connect_request(network, container, want);
        let call = self.client.connect_network(network.docker_network.as_str(), request);
        let before = default_routes(pid, deadline)?;
        let moves = self.version.api < ApiVersion::GATEWAY_PRIORITY && inside.route_is_ours_by_name(network);
        let done = self.around(pid, &before, moves, deadline, || self.call(&what, deadline, call));
        done.map_err(|(fault, done)| {
            if !done {
                return fault;
            }
            // Connected, but its route is wrong: better not at all.
            match self.disconnect_now(network, container, Deadline::after(PUT_BACK)) {
                Ok(()) => fault,
                Err(also) => fault.and(also),
            }
        })
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

    /// After a failed connect: takes away the entry that Docker keeps of it, where it can be. It goes only with an
    /// endpoint, so one is made and removed. As well as it can be: the first failure is what is told.
    fn scrub(&self, network: &Network, container: &OwnerId) {
        let deadline = Deadline::after(PUT_BACK);
        let left = |inside: &Inside| inside.here(network).is_some_and(|h| h.endpoint_id.is_none());
        let Ok(Some(inside)) = self.inside(container, network, deadline) else { return };
        let (Some(pid), true) = (inside.pid, left(&inside)) else { return };
        if self.connect_now(network, container, &Want::default(), &inside, pid, deadline).is_err() {
            return;
        }
        if let Ok(Some(after)) = self.inside(container, network, deadline)
            && let Some(endpoint) = after.here(network).and_then(|h| h.endpoint_id.clone())
        {
            let _ = self.disconnect_container(network, container, &endpoint, deadline);
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
