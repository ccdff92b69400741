//! The networks' files: `NAME.toml` in the configuration folder, a person's, comments kept.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::model::network_file::NetworkFile;
use crate::model::{Fault, Kind, Network, NetworkName, Result};
use crate::places::Places;

use super::durable::{self, io_fault};

/// What stands at the top of a file that we write.
const HEADER: &str = "# A network of hybrid-hook. Edit it, then run: hybrid-hook apply\n";

/// Reads one network. Kind::Missing when there is none of that name.
pub fn load(places: &Places, name: &NetworkName) -> Result<Network> {
    let path = places.network_file(name);
    let Some(text) = durable::read_text(&path)? else { return Err(unknown(places, name)) };
    parse(&path, &text, name)
}

fn parse(path: &Path, text: &str, name: &NetworkName) -> Result<Network> {
    let shown = path.display();
    let file =
        NetworkFile::parse(text).map_err(|why| Fault::failed(format!("{shown} can't be used: {why}")))?;
    file.network(name).map_err(|e| Fault::failed(format!("{shown} can't be used: {e}")))
}

fn unknown(places: &Places, name: &NetworkName) -> Fault {
    let known = names(places).unwrap_or_default();
    let known = match known.as_slice() {
        [] => "there is none yet".to_owned(),
        some => format!("there are: {}", some.iter().map(NetworkName::as_str).collect::<Vec<_>>().join(", ")),
    };
    Fault::missing(format!("there is no network {name:?} ({known})", name = name.as_str()))
        .hint(format!("hybrid-hook network create {name}"))
}

/// The names of all networks, in order. Files whose name is no network's name are passed over.
pub fn names(places: &Places) -> Result<Vec<NetworkName>> {
    let folder = places.networks();
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io_fault("list", &folder, e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| io_fault("list", &folder, e))?;
        if let Some(name) = entry.file_name().to_str().and_then(|n| n.strip_suffix(".toml")?.parse().ok()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Whether a network's file may name one of these bridges or libvirt networks. The files are read and
/// not parsed: it is asked for every domain of others, and must cost them next to nothing. It may say
/// yes for too many, never for too few; also where a file can't be read, so that the caller finds out.
#[must_use]
pub fn may_name(places: &Places, names_of_others: &[&str]) -> bool {
    let Ok(all) = names(places) else { return true };
    all.iter().any(|name| {
        let Ok(text) = std::fs::read_to_string(places.network_file(name)) else { return true };
        let (bridge, net) = (name.default_bridge(), name.default_net());
        // What is written with an escape is not seen in the text.
        text.contains('\\')
            || names_of_others.iter().any(|n| *n == bridge.as_str() || *n == net.as_str() || text.contains(n))
    })
}

/// Reads every network; those that can't be read come as faults beside the others.
pub fn load_all(places: &Places) -> Result<(Vec<Network>, Vec<Fault>)> {
    let (mut networks, mut faults) = (Vec::new(), Vec::new());
    for name in names(places)? {
        match load(places, &name) {
            Ok(network) => networks.push(network),
            // Deleted since it was listed.
            Err(fault) if fault.kind() == Kind::Missing => {}
            Err(fault) => faults.push(fault),
        }
    }
    Ok((networks, faults))
}

/// Writes a new network's file. `false` when there is one already: it is left as it is.
pub fn create(places: &Places, name: &NetworkName, file: &NetworkFile) -> Result<bool> {
    durable::make_folder(&places.config, 0o755)?;
    durable::make_folder(&places.networks(), 0o755)?;
    let path = places.network_file(name);
    let body = toml_edit::ser::to_string_pretty(file)
        .map_err(|e| Fault::failed(format!("network {name} can't be written as TOML")).because(e))?;
    // Written aside and linked into place: either the whole file appears, or another was first.
    let aside = places.networks().join(format!("{}{}-{name}", durable::ASIDE, std::process::id()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&aside)
        .and_then(|mut f| {
            f.set_permissions(std::fs::Permissions::from_mode(0o644))?;
            f.write_all(format!("{HEADER}{body}").as_bytes())?;
            f.sync_all()
        })
        .map_err(|e| io_fault("write", &aside, e))
        .and_then(|()| match std::fs::hard_link(&aside, &path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(io_fault("write", &path, e)),
        });
    let _ = std::fs::remove_file(&aside);
    let created = written?;
    durable::sync_folder(&places.networks())?;
    Ok(created)
}

/// Removes a network's file.
pub fn delete(places: &Places, name: &NetworkName) -> Result<()> {
    durable::remove(&places.network_file(name))
}
