//! The containers that we connected to a network. No other connection is ever ended by us.

use serde::{Deserialize, Serialize};

use crate::model::network_file::one_line;
use crate::model::{Fault, NetworkName, OwnerId, Result};
use crate::places::Places;

use super::durable::{self, Care};

const FORMAT: u32 = 1;

/// A connection of a container that we made, or are about to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// The container's id.
    pub container: OwnerId,
    /// Docker's id of the endpoint; none while the call is under way, so that a crash in the middle
    /// does not leave a connection that nobody lets go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    #[serde(default, rename = "endpoint", skip_serializing_if = "Vec::is_empty")]
    endpoints: Vec<Endpoint>,
}

/// Reads them; none where nothing was written.
pub fn load(places: &Places, name: &NetworkName) -> Result<Vec<Endpoint>> {
    let path = places.endpoints_file(name);
    let Some(text) = durable::read_text(&path)? else { return Ok(Vec::new()) };
    let damaged = |why: String| Fault::failed(format!("{} can't be read: {why}", path.display()));
    let file: File = toml::from_str(&text).map_err(|e| damaged(one_line(&e)))?;
    match file.format {
        FORMAT => Ok(file.endpoints),
        other => Err(damaged(format!("it has format {other} and this program knows {FORMAT}"))),
    }
}

/// Writes them durably. The containers' lock must be held.
pub fn store(places: &Places, name: &NetworkName, endpoints: &[Endpoint]) -> Result<()> {
    let path = places.endpoints_file(name);
    if endpoints.is_empty() {
        return durable::remove(&path);
    }
    let file = File { format: FORMAT, endpoints: endpoints.to_vec() };
    let text =
        toml::to_string(&file).map_err(|e| Fault::failed("endpoints can't be written as TOML").because(e))?;
    durable::replace(&path, text.as_bytes(), 0o600, Care::Durable).map(drop)
}
