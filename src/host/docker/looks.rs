//! What was seen of containers' endpoints when they were inspected.
//!
//! Each look is a call, and each event asks for all containers of a network: with a thousand of them that takes longer
//! than the second in which a name is to be there. An endpoint's mark and aliases are those of its connection and stay
//! as they are until it goes, so one look at each is enough. It is a memory of this process and nothing depends on it.

use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use bollard::models::ContainerInspectResponse;

use super::containers::Container;
use super::inside::{aliases, endpoint, marked};
use crate::model::Network;

static SEEN: LazyLock<Mutex<Looks>> = LazyLock::new(Mutex::default);

/// How a container is on a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Look {
    /// Whether we connected it, by our mark.
    pub(super) ours: bool,
    /// Names that other containers find it by there, raw.
    pub(super) aliases: Vec<String>,
}

impl Look {
    /// What an inspected container tells, and the id of the endpoint that it is about.
    pub(super) fn at(there: &ContainerInspectResponse, network: &Network) -> (Option<String>, Self) {
        let look = Self { ours: marked(there, network), aliases: aliases(there, network) };
        (endpoint(there, network), look)
    }
}

/// The looks at endpoints, by their ids, which Docker makes at random.
#[derive(Debug, Default)]
pub(super) struct Looks(HashMap<String, Look>);

impl Looks {
    /// This process's.
    pub(super) fn of_process() -> MutexGuard<'static, Self> {
        SEEN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, endpoint: &str) -> Option<&Look> {
        self.0.get(endpoint)
    }

    pub(super) fn note(&mut self, endpoint: String, look: Look) {
        self.0.insert(endpoint, look);
    }

    /// Forgets the endpoints that none of these containers has any more.
    pub(super) fn keep(&mut self, containers: &[Container]) {
        let networks = containers.iter().flat_map(|c| c.networks.values());
        let there: HashSet<&str> = networks.filter_map(|n| n.endpoint_id.as_deref()).collect();
        self.0.retain(|endpoint, _| there.contains(endpoint.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::containers::{Attachment, NetworkMode};
    use super::*;

    type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

    fn inspected(text: &str) -> Result<ContainerInspectResponse> {
        Ok(serde_json::from_str(text)?)
    }

    #[test]
    fn a_look_is_at_one_endpoint() -> Result {
        let network =
            crate::model::network_file::NetworkFile::parse("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?
                .network(&"hybrid".parse()?)?;
        let there = inspected(
            r#"{"Id": "0123456789abcdef", "NetworkSettings": {"Networks": {"hybrid-net":
                {"EndpointID": "e1", "Aliases": ["web", "0123456789ab"]}, "other": {"EndpointID": "e2"}}}}"#,
        )?;
        let look = Look { ours: false, aliases: vec!["web".to_owned()] };
        assert_eq!(Look::at(&there, &network), (Some("e1".to_owned()), look));
        let gone = inspected(r#"{"NetworkSettings": {"Networks": {"hybrid-net": {"EndpointID": ""}}}}"#)?;
        assert_eq!(Look::at(&gone, &network).0, None);
        Ok(())
    }

    #[test]
    fn what_is_gone_is_forgotten() -> Result {
        let mut looks = Looks::default();
        for endpoint in ["e1", "e2"] {
            looks.note(endpoint.to_owned(), Look::default());
        }
        let on = Attachment { endpoint_id: Some("e2".to_owned()), ..Attachment::default() };
        looks.keep(&[Container {
            id: "ab".repeat(32).parse()?,
            name: "web".to_owned(),
            labels: std::collections::BTreeMap::new(),
            running: true,
            mode: NetworkMode::Own,
            created_on: String::new(),
            networks: [("any".to_owned(), on)].into(),
        }]);
        assert_eq!((looks.get("e1"), looks.get("e2")), (None, Some(&Look::default())));
        Ok(())
    }
}
