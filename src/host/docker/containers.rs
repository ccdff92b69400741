//! The containers that Docker has, as it lists them.
//!
//! The list comes from Docker's own copy of every container's state and never waits for one that hangs; inspecting
//! a container does. So nothing here inspects unless it must, and then each for a moment only.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use bollard::errors::Error as ApiError;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum as State, EndpointSettings};
use bollard::query_parameters::ListContainersOptionsBuilder;
use futures_util::StreamExt;

use super::inside::pid_of;
use super::looks::{Look, Looks};
use super::{Docker, one_line};
use crate::deadline::Deadline;
use crate::model::attach::ContainerView;
use crate::model::{Fault, MacAddress, Network, OwnerId, Result};

/// How long one container may take to be inspected before it is left out: it may be stuck.
const INSPECT: Duration = Duration::from_millis(700);

/// The longest label key and value that are kept, in bytes; Docker has no limit.
const LABEL_LIMIT: usize = 64 << 10;

/// What is listed, and what was skipped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The containers, running or not.
    pub containers: Vec<Container>,
    /// One line for each thing that could not be read.
    pub notes: Vec<String>,
    /// Only those that run could be read: of the others nothing is known.
    pub running_only: bool,
}

impl Listing {
    /// The id of every container that Docker has; `None` where those that are stopped could not be read.
    #[must_use]
    pub fn ids(&self) -> Option<HashSet<OwnerId>> {
        (!self.running_only).then(|| self.containers.iter().map(|c| c.id.clone()).collect())
    }
}

/// How a container has its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkMode {
    /// A namespace of its own, on Docker's networks.
    Own,
    /// The host's namespace: it can't be connected to a network.
    Host,
    /// A namespace with nothing in it: Docker connects it to nothing.
    None,
    /// Another container's namespace.
    Shared,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: OwnerId,
    /// Its name without the leading slash, as Docker says it.
    pub name: String,
    /// Its labels, raw: text from outside.
    pub labels: BTreeMap<String, String>,
    /// Whether it runs (a paused one does).
    pub running: bool,
    /// How it has its network.
    pub mode: NetworkMode,
    /// The network that it was created with, by name or id, as Docker says it; `default` for Docker's own.
    pub created_on: String,
    /// The Docker networks that it is on, by name. A stopped one's are those it comes back to.
    pub networks: BTreeMap<String, Attachment>,
}

/// A container's place on one network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attachment {
    /// The network's id.
    pub network_id: String,
    /// The endpoint's id; `None` while the container is stopped. A restart changes it.
    pub endpoint_id: Option<String>,
    /// Its IPv4 address.
    pub ipv4: Option<IpAddr>,
    /// Its IPv6 address.
    pub ipv6: Option<IpAddr>,
    /// Its MAC.
    pub mac: Option<MacAddress>,
    /// The network's IPv4 gateway; none on an internal network.
    pub gateway: Option<IpAddr>,
    /// The network's IPv6 gateway.
    pub gateway_v6: Option<IpAddr>,
    /// Whether we made it, by our mark on it; `false` until [`Docker::containers_on`] has looked.
    pub ours: bool,
    /// Names that other containers find it by there, raw; `None` until [`Docker::containers_on`] has looked, and
    /// where it could not.
    pub aliases: Option<Vec<String>>,
}

impl Attachment {
    fn see(&mut self, look: Look) {
        self.ours = look.ours;
        self.aliases = Some(look.aliases);
    }
}

impl Container {
    /// What the decision about attachments needs to know.
    #[must_use]
    pub fn view(&self) -> ContainerView {
        // A running one without an endpoint is not on the network: Docker keeps the entry of a failed call.
        let on = self.networks.iter().filter(|(_, a)| !self.running || a.endpoint_id.is_some());
        let on = on.map(|(name, a)| {
            (name.clone(), crate::model::attach::On { endpoint_id: a.endpoint_id.clone(), ours: a.ours })
        });
        ContainerView {
            id: self.id.clone(),
            name: self.name.clone(),
            labels: self.labels.clone(),
            running: self.running,
            connectable: self.mode == NetworkMode::Own,
            on: on.collect(),
        }
    }
}

impl Docker {
    /// Every container, running or not.
    pub fn containers(&self, deadline: Deadline) -> Result<Listing> {
        let list = |filters: Option<HashMap<String, Vec<String>>>| {
            let mut options = ListContainersOptionsBuilder::default().all(true);
            if let Some(filters) = &filters {
                options = options.filters(filters);
            }
            self.client.list_containers(Some(options.build()))
        };
        let (all, note) = self.call("list Docker's containers", deadline, async {
            match list(None).await {
                // A state that the library doesn't know fails the whole list; ask for those that we act on.
                Err(ApiError::JsonDataError { message, .. }) => {
                    let states = ["running", "paused"].map(str::to_owned).to_vec();
                    let some = list(Some(HashMap::from([("status".to_owned(), states)]))).await?;
                    Ok((
                        some,
                        Some(format!("only running containers could be read: {}", one_line(&message, 200))),
                    ))
                }
                other => Ok((other?, None)),
            }
        })?;
        let mut listing = read(all);
        listing.running_only = note.is_some();
        listing.notes.extend(note);
        Ok(listing)
    }

    /// As [`Docker::containers`], and for each running one that is on `network`: whether we connected it. Each endpoint
    /// is looked at once.
    pub fn containers_on(&self, network: &Network, deadline: Deadline) -> Result<Listing> {
        let mut listing = self.containers(deadline)?;
        let name = network.docker_network.as_str();
        let mut unseen = Vec::new();
        {
            let mut looks = Looks::of_process();
            looks.keep(&listing.containers);
            for container in listing.containers.iter_mut().filter(|c| c.running) {
                let Some(attachment) = container.networks.get_mut(name) else { continue };
                match attachment.endpoint_id.as_deref().and_then(|endpoint| looks.get(endpoint)) {
                    Some(look) => attachment.see(look.clone()),
                    None => unseen.push(container.id.clone()),
                }
            }
        }
        if unseen.is_empty() {
            return Ok(listing);
        }
        let mut seen: HashMap<OwnerId, Option<(Option<String>, Look)>> =
            self.call("inspect containers", deadline, async {
                let looks = unseen.into_iter().map(|id| async move {
                    let look = self.client.inspect_container(id.as_str(), None);
                    let look = match tokio::time::timeout(INSPECT, look).await {
                        Ok(Ok(there)) => Some(Look::at(&there, network)),
                        Ok(Err(ApiError::DockerResponseServerError { status_code: 404, .. })) => {
                            Some(Default::default())
                        }
                        Ok(Err(_)) | Err(_) => None,
                    };
                    (id, look)
                });
                Ok(futures_util::stream::iter(looks).buffer_unordered(8).collect().await)
            })?;
        let mut looks = Looks::of_process();
        for container in &mut listing.containers {
            let Some(attachment) = container.networks.get_mut(name) else { continue };
            match seen.remove(&container.id) {
                Some(Some((endpoint, look))) => {
                    if let Some(endpoint) = endpoint {
                        looks.note(endpoint, look.clone());
                    }
                    attachment.see(look);
                }
                Some(None) => listing.notes.push(format!(
                    "container {} could not be inspected and is left as it is",
                    container.name
                )),
                None => {}
            }
        }
        Ok(listing)
    }

    /// The process that holds a container's network namespace; `None` when it does not run or is gone.
    pub fn pid(&self, container: &OwnerId, deadline: Deadline) -> Result<Option<u32>> {
        let what = format!("inspect container {container}");
        match self.ask(&what, deadline, self.client.inspect_container(container.as_str(), None))? {
            Ok(there) => Ok(pid_of(&there)),
            Err(said) if said.status == 404 => Ok(None),
            Err(said) => Err(said.fault(&what)),
        }
    }

    /// A container's id by its name or the beginning of its id.
    ///
    /// # Errors
    /// Missing when there is none.
    pub fn find_container(&self, name: &crate::model::DockerName, deadline: Deadline) -> Result<OwnerId> {
        let what = format!("find container {name}");
        let there = self.call(&what, deadline, self.client.inspect_container(name.as_str(), None))?;
        let id = there.id.unwrap_or_default();
        id.parse().map_err(|e: crate::model::Invalid| Fault::failed(format!("cannot {what}")).because(e))
    }
}

fn read(all: Vec<ContainerSummary>) -> Listing {
    let mut listing = Listing::default();
    for summary in all {
        match container(summary, &mut listing.notes) {
            Ok(container) => listing.containers.push(container),
            Err(note) => listing.notes.push(note),
        }
    }
    listing.containers.sort_by(|a, b| (&a.name, a.id.as_str()).cmp(&(&b.name, b.id.as_str())));
    listing
}

fn container(summary: ContainerSummary, notes: &mut Vec<String>) -> Result<Container, String> {
    let raw = summary.id.unwrap_or_default();
    let id: OwnerId = raw
        .parse()
        .ok()
        .filter(OwnerId::is_container)
        .ok_or_else(|| format!("container {:?} skipped: no container id", one_line(&raw, 80)))?;
    // The first name is its own; links of old add others, with a slash inside.
    let name = summary
        .names
        .unwrap_or_default()
        .iter()
        .map(|n| n.strip_prefix('/').unwrap_or(n))
        .find(|n| !n.contains('/'))
        .map_or_else(|| id.as_str().chars().take(12).collect(), |n| one_line(n, 128));
    let mut labels = BTreeMap::new();
    for (key, value) in summary.labels.unwrap_or_default() {
        if key.len() > LABEL_LIMIT || value.len() > LABEL_LIMIT {
            notes.push(format!("container {name}: label {:?} is too long and skipped", one_line(&key, 80)));
        } else {
            labels.insert(key, value);
        }
    }
    let created_on = summary.host_config.and_then(|h| h.network_mode).unwrap_or_default();
    let mode = match created_on.as_str() {
        "host" => NetworkMode::Host,
        "none" => NetworkMode::None,
        mode if mode.starts_with("container:") => NetworkMode::Shared,
        _ => NetworkMode::Own,
    };
    let networks = summary.network_settings.and_then(|s| s.networks).unwrap_or_default();
    Ok(Container {
        id,
        name,
        labels,
        running: matches!(summary.state, Some(State::RUNNING | State::PAUSED)),
        mode,
        created_on,
        networks: networks.into_iter().map(|(name, there)| (name, attachment(&there))).collect(),
    })
}

/// An endpoint as Docker tells it; empty texts are "none".
pub(super) fn attachment(there: &EndpointSettings) -> Attachment {
    let address = |text: &Option<String>| text.as_deref().and_then(|t| t.parse().ok());
    Attachment {
        network_id: there.network_id.clone().unwrap_or_default(),
        endpoint_id: there.endpoint_id.clone().filter(|e| !e.is_empty()),
        ipv4: address(&there.ip_address),
        ipv6: address(&there.global_ipv6_address),
        mac: there.mac_address.as_deref().and_then(|m| m.parse().ok()),
        gateway: address(&there.gateway),
        gateway_v6: address(&there.ipv6_gateway),
        ours: false,
        aliases: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_containers_are_skipped_with_a_note_and_the_rest_is_read() -> Result<(), serde_json::Error> {
        let id = "ab".repeat(32);
        let long = "x".repeat(LABEL_LIMIT + 1);
        let json = format!(
            r#"[{{"Id":"../../x","Names":["/a"]}},{{}},
            {{"Id":"{id}","Names":["/other/alias","/web\u001b[1m"],"State":"running",
              "Labels":{{"k":"v","{long}":"1"}},"HostConfig":{{"NetworkMode":"shop"}},
              "NetworkSettings":{{"Networks":{{"shop":{{"EndpointID":"e","Gateway":"172.18.0.1","IPAddress":"172.18.0.2",
                "MacAddress":"nonsense","IPv6Gateway":""}}}}}}}},
            {{"Id":"{}","Names":null,"State":"exited","HostConfig":{{"NetworkMode":"host"}},
              "NetworkSettings":{{"Networks":{{"host":{{"EndpointID":""}}}}}}}}]"#,
            "cd".repeat(32)
        );
        let listing = read(serde_json::from_str(&json)?);
        assert_eq!(listing.notes.len(), 3, "{:?}", listing.notes);
        let [stopped, web] = listing.containers.as_slice() else {
            return Err(serde::de::Error::custom(format!("{listing:?}")));
        };
        assert_eq!(
            (stopped.name.as_str(), stopped.running, stopped.mode),
            ("cdcdcdcdcdcd", false, NetworkMode::Host)
        );
        assert_eq!(stopped.networks.get("host").and_then(|a| a.endpoint_id.clone()), None);
        assert_eq!((web.name.as_str(), web.running, web.mode), ("web [1m", true, NetworkMode::Own));
        let shop = web.networks.get("shop").cloned().unwrap_or_default();
        assert_eq!(shop.gateway.map(|g| g.to_string()).as_deref(), Some("172.18.0.1"));
        assert_eq!((shop.mac, shop.gateway_v6), (None, None));
        assert!(web.view().connectable && !stopped.view().connectable);
        assert_eq!(listing.ids().map(|ids| ids.len()), Some(2));
        assert_eq!(Listing { running_only: true, ..listing }.ids(), None);
        Ok(())
    }
}
