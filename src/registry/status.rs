//! What is to be so with a network: up or down, and what we made for it outside the registry.

use serde::{Deserialize, Serialize};

use crate::model::network_file::one_line;
use crate::model::setting::Setting;
use crate::model::{Fault, InterfaceName, NetworkName, Result};
use crate::places::Places;

use super::durable::{self, Care};

const FORMAT: u32 = 1;

/// A network's status. Written under its operation lock only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    format: u32,
    /// Whether it is to be up.
    pub up: bool,
    /// The bridge that was made for it, should the file name another one since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<InterfaceName>,
    /// What the kernel's settings were before us, to be put back.
    #[serde(default, rename = "setting", skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Setting>,
}

impl Default for Status {
    fn default() -> Self {
        Self { format: FORMAT, up: false, bridge: None, settings: Vec::new() }
    }
}

/// Reads a network's status; the default where none was written.
pub fn load(places: &Places, name: &NetworkName) -> Result<Status> {
    let path = places.status_file(name);
    let Some(text) = durable::read_text(&path)? else { return Ok(Status::default()) };
    let damaged = |why: String| {
        Fault::failed(format!("{} can't be read: {why}", path.display()))
            .hint(format!("remove it, then run: hybrid-hook network up {name}"))
    };
    let status: Status = toml::from_str(&text).map_err(|e| damaged(one_line(&e)))?;
    match status.format {
        FORMAT => Ok(status),
        other => Err(damaged(format!("it has format {other} and this program knows {FORMAT}"))),
    }
}

/// Writes it durably, where it differs from what is there.
pub fn store(places: &Places, name: &NetworkName, status: &Status) -> Result<()> {
    let path = places.status_file(name);
    durable::make_folder(&places.state, 0o700)?;
    durable::make_folder(&places.state.join("networks"), 0o700)?;
    durable::make_folder(&places.network_state(name), 0o700)?;
    let text =
        toml::to_string(status).map_err(|e| Fault::failed("a status can't be written as TOML").because(e))?;
    if durable::read_text(&path)?.as_deref() == Some(text.as_str()) {
        return Ok(());
    }
    durable::replace(&path, text.as_bytes(), 0o600, Care::Durable).map(drop)
}
