//! What was installed, written down before it is done.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files;
use crate::host::libvirt::daemons::Daemon;
use crate::model::{Fault, Result};

/// Its file on the host.
pub(super) const FILE: &str = "/var/lib/hybrid-hook/install.json";

/// The version of its format.
const FORMAT: u32 = 1;

/// What `install` did, for `uninstall`. Paths are those on the host, whatever root they are under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    format: u32,
    /// Folders that we made, outer first.
    pub(super) folders: Vec<PathBuf>,
    /// Our hooks.
    pub(super) links: Vec<PathBuf>,
    /// Unit files that we wrote.
    pub(super) units: Vec<PathBuf>,
    /// Units that were not enabled before.
    pub(super) enabled: Vec<String>,
    /// Units that did not run before.
    pub(super) started: Vec<String>,
    /// Daemons that were told to look for hooks.
    pub(super) told: Vec<Daemon>,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            format: FORMAT,
            folders: Vec::new(),
            links: Vec::new(),
            units: Vec::new(),
            enabled: Vec::new(),
            started: Vec::new(),
            told: Vec::new(),
        }
    }
}

impl Record {
    /// What is written down; `None` where nothing is. `Failed` where it can't be read or is of
    /// another version.
    pub(super) fn load(root: &Path) -> Result<Option<Self>> {
        let path = files::under(root, Path::new(FILE));
        let Some(bytes) = files::read(&path)? else { return Ok(None) };
        let bad = |why: String| {
            Fault::failed(format!("{} can't be understood: {why}", path.display()))
                .hint("remove it: what was installed is recognised without it, too")
        };
        let record: Self = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        if record.format != FORMAT {
            return Err(bad(format!("it has format {}, we know {FORMAT}", record.format)));
        }
        Ok(Some(record))
    }

    /// Writes it down, durably: what comes next may crash.
    pub(super) fn save(&self, root: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|e| Fault::failed("cannot write down what is installed").because(e))?;
        files::write(&files::under(root, Path::new(FILE)), &text, 0o600)
    }
}

/// Adds what is not there yet; whether it was added.
pub(super) fn add<T: PartialEq>(list: &mut Vec<T>, item: T) -> bool {
    let new = !list.contains(&item);
    if new {
        list.push(item);
    }
    new
}
