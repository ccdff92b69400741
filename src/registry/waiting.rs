//! Docker networks that were followed and are gone: under which name each was, until it is there again or no
//! domain asks for it any more.

use crate::model::{DockerName, NetworkName, Result};
use crate::places::Places;

use super::durable::{self, Care, io_fault};

/// Notes that a Docker network was followed by the network `name`.
pub fn note(places: &Places, name: &NetworkName, docker: &DockerName) -> Result<()> {
    durable::make_folder(&places.state, 0o700)?;
    durable::make_folder(&places.waiting(), 0o700)?;
    let path = places.waiting().join(name.as_str());
    durable::replace(&path, format!("{docker}\n").as_bytes(), 0o600, Care::Durable).map(drop)
}

/// Every note: our network's name, and Docker's. One that can't be read counts as none.
pub fn all(places: &Places) -> Result<Vec<(NetworkName, DockerName)>> {
    let folder = places.waiting();
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io_fault("list", &folder, e)),
    };
    let mut notes = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| io_fault("list", &folder, e))?;
        let name = entry.file_name().to_str().and_then(|n| n.parse().ok());
        let docker = durable::read_text(&entry.path())?.and_then(|text| text.trim().parse().ok());
        notes.extend(name.zip(docker));
    }
    notes.sort();
    Ok(notes)
}

/// Forgets a note, there or not.
pub fn forget(places: &Places, name: &NetworkName) -> Result<()> {
    durable::remove(&places.waiting().join(name.as_str()))
}
