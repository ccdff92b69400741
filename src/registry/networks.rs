//! The networks' files: `NAME.toml` in the configuration folder, a person's, comments kept; and beside the leases a
//! copy of each that is in force, so that an edit counts once it was applied and not before.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::model::network_file::NetworkFile;
use crate::model::{Fault, Kind, Network, NetworkName, Result};
use crate::places::Places;

use super::durable::{self, Care, io_fault};

/// What stands at the top of a file that we write.
const HEADER: &str = "# A network of hybrid-hook. Edit it, then run: hybrid-hook apply\n";

/// A network's file as a person left it, in force or not.
#[derive(Debug, Clone)]
pub struct Written {
    /// What it says.
    pub network: Network,
    text: String,
}

/// Reads one network as it is in force: as its file was when it was last applied, also where the file can't be used
/// since. Without such a copy, as for a network that is down, the file itself counts. Kind::Missing when there is none
/// of that name.
pub fn load(places: &Places, name: &NetworkName) -> Result<Network> {
    let written = match as_written(places, name) {
        Err(fault) if fault.kind() == Kind::Missing => return Err(fault),
        written => written,
    };
    let Some(text) = applied_text(places, name)? else { return written.map(|w| w.network) };
    match written {
        Ok(written) if written.text == text => Ok(written.network),
        _ => parse_applied(places, name, &text),
    }
}

/// Reads a network's file as it stands: for what is about to apply it, and for what shows it to a person.
pub fn as_written(places: &Places, name: &NetworkName) -> Result<Written> {
    let path = places.network_file(name);
    let Some(text) = durable::read_text(&path)? else { return Err(unknown(places, name)) };
    Ok(Written { network: parse(&path, &text, name)?, text })
}

/// What a network's file says since, where that is not what is in force; or why it can't be used.
#[must_use]
pub fn edited(places: &Places, in_force: &Network) -> Option<Result<Network>> {
    match as_written(places, &in_force.name) {
        Ok(written) => Some(written.network).filter(|n| n != in_force).map(Ok),
        // Deleted since.
        Err(fault) if fault.kind() == Kind::Missing => None,
        Err(fault) => Some(Err(fault)),
    }
}

/// The copy that is in force, if there is one.
pub fn applied(places: &Places, name: &NetworkName) -> Result<Option<Network>> {
    applied_text(places, name)?.map(|text| parse_applied(places, name, &text)).transpose()
}

/// Whether a file is in force just as it was read, comments and all.
pub fn is_applied(places: &Places, written: &Written) -> Result<bool> {
    Ok(applied_text(places, &written.network.name)?.as_ref() == Some(&written.text))
}

/// Puts a file in force as it was read: what was edited since then is not in it.
pub fn put_in_force(places: &Places, written: &Written) -> Result<()> {
    let path = places.applied_file(&written.network.name);
    durable::make_folder(&places.state, 0o700)?;
    durable::make_folder(&places.state.join("networks"), 0o700)?;
    durable::make_folder(&places.network_state(&written.network.name), 0o700)?;
    durable::replace(&path, written.text.as_bytes(), 0o600, Care::Durable).map(drop)
}

/// Whether a network has a file in force: something of it may stand outside, also where it is to be down.
#[must_use]
pub fn is_in_force(places: &Places, name: &NetworkName) -> bool {
    places.applied_file(name).exists()
}

/// From now on the file itself counts.
pub fn forget_applied(places: &Places, name: &NetworkName) -> Result<()> {
    durable::remove(&places.applied_file(name))
}

fn applied_text(places: &Places, name: &NetworkName) -> Result<Option<String>> {
    let path = places.applied_file(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        // An ordinary user sees the files, and not the registry.
        Err(e) if e.kind() == ErrorKind::PermissionDenied && !crate::places::is_root() => Ok(None),
        Err(e) => Err(io_fault("read", &path, e)),
    }
}

fn parse_applied(places: &Places, name: &NetworkName, text: &str) -> Result<Network> {
    parse(&places.applied_file(name), text, name)
        .map_err(|fault| fault.hint(format!("hybrid-hook apply {name} makes it again")))
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
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
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

/// Whether a network may have one of these bridges or libvirt networks, by its file or by what is in force. The
/// files are read and not parsed: it is asked for every domain of others, and must cost them next to nothing. It
/// may say yes for too many, never for too few; also where a file can't be read, so that the caller finds out.
#[must_use]
pub fn may_name(places: &Places, names_of_others: &[&str]) -> bool {
    let Ok(all) = names(places) else { return true };
    all.iter().any(|name| {
        let Ok(text) = std::fs::read_to_string(places.network_file(name)) else { return true };
        let Ok(applied) = applied_text(places, name) else { return true };
        let (bridge, net) = (name.default_bridge(), name.default_net());
        let is_default = |n: &str| n == bridge.as_str() || n == net.as_str();
        // What is written with an escape is not seen in the text.
        let in_text = |text: &str| text.contains('\\') || names_of_others.iter().any(|n| text.contains(n));
        names_of_others.iter().any(|n| is_default(n))
            || in_text(&text)
            || applied.as_deref().is_some_and(in_text)
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
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(io_fault("write", &path, e)),
        });
    let _ = std::fs::remove_file(&aside);
    let created = written?;
    durable::sync_folder(&places.networks())?;
    Ok(created)
}

/// Removes a network's file. The copy goes first: left over, it would be in force for the next network of this name.
pub fn delete(places: &Places, name: &NetworkName) -> Result<()> {
    forget_applied(places, name)?;
    withdraw(places, name)
}

/// Removes a network's file alone, as it was before [`create`].
pub fn withdraw(places: &Places, name: &NetworkName) -> Result<()> {
    durable::remove(&places.network_file(name))
}
