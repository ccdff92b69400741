//! The files in which guests' names stand, a few for all: who changes one keeps the others' lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::render::named_in;
use super::{Folder, Written, read, remove};
use crate::model::{MacAddress, Result};

/// So many files have all guests' names, each those of the MACs with the same last hexadecimal digit. Few
/// enough to walk, and each small enough to write and to read again at each change.
pub(super) const SHARED: usize = 16;

/// The name of the file that has a guest's names, among those of others.
pub(super) fn file_name(mac: MacAddress) -> String {
    let [.., last] = mac.octets();
    format!("{:x}", usize::from(last) % SHARED)
}

/// Makes the lines of one guest in the file that it shares those of `text`.
pub(super) fn put(own: &Folder, mac: MacAddress, text: &str) -> Result<Written> {
    let name = file_name(mac);
    let mut lines = lines_by_mac(&read(&own.hosts().join(&name))?.unwrap_or_default());
    lines.remove(&mac);
    if !text.is_empty() {
        lines.insert(mac, text.to_owned());
    }
    put_file(own, &name, &lines.into_values().collect::<String>())
}

/// The lines of a shared file, each guest's together. What is no guest's is not ours.
fn lines_by_mac(text: &str) -> BTreeMap<MacAddress, String> {
    let mut lines = BTreeMap::<_, String>::new();
    for line in text.lines() {
        if let Some(mac) = named_in(line) {
            let _ = writeln!(lines.entry(mac).or_default(), "{line}");
        }
    }
    lines
}

/// Makes a shared file's text `text`; none is left that would be empty.
pub(super) fn put_file(own: &Folder, name: &str, text: &str) -> Result<Written> {
    let path = own.hosts().join(name);
    let changed = if text.is_empty() { remove(&path)? } else { own.put(&path, text)? };
    Ok(if changed { Written::Seen } else { Written::Unchanged })
}
