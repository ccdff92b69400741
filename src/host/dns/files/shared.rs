//! The files in which guests' names stand, a few for all: who changes one keeps the others' lines.
//!
//! dnsmasq throws away an address and its name while another file has them, and does not come back to them when
//! that one changes. So an address stands in one file at any moment: what leaves a file goes first, also where
//! all ends right.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use super::super::render::named_in;
use super::{Folder, Written, names, read, remove};
use crate::model::{MacAddress, Result};

/// So many files have all guests' names, each those of the MACs with the same last hexadecimal digit. Few
/// enough to walk, and each small enough to write and to read again at each change.
pub(super) const SHARED: usize = 16;

/// Files by name, with their text.
pub(super) type Texts = BTreeMap<String, String>;

/// The name of the file that has a guest's names, among those of others.
pub(super) fn file_name(mac: MacAddress) -> String {
    let [.., last] = mac.octets();
    format!("{:x}", usize::from(last) % SHARED)
}

/// Makes the lines of one guest those of `text`, and takes its addresses from whoever had them.
pub(super) fn put(own: &Folder, mac: MacAddress, text: &str) -> Result<Written> {
    let is = texts(own, |name| name.len() == 1)?;
    let addresses: HashSet<_> = text.lines().map(address).collect();
    let mut wanted = is.clone();
    for text in wanted.values_mut() {
        if addresses.iter().any(|address| text.contains(address)) {
            *text = only(text, |line| !addresses.contains(address(line)));
        }
    }
    let name = file_name(mac);
    let mut lines = lines_by_mac(wanted.get(&name).map(String::as_str).unwrap_or_default());
    lines.remove(&mac);
    if !text.is_empty() {
        lines.insert(mac, text.to_owned());
    }
    wanted.insert(name, lines.into_values().collect());
    write(own, &is, &wanted)
}

/// Makes the files `wanted`, no more and no less.
pub(super) fn put_all(own: &Folder, wanted: &Texts) -> Result<Written> {
    write(own, &texts(own, |_| true)?, wanted)
}

fn texts(own: &Folder, which: impl Fn(&str) -> bool) -> Result<Texts> {
    let folder = own.hosts();
    let mut texts = Texts::new();
    for name in names(&folder)?.into_iter().filter(|name| which(name)) {
        if let Some(text) = read(&folder.join(&name))? {
            texts.insert(name, text);
        }
    }
    Ok(texts)
}

fn write(own: &Folder, is: &Texts, wanted: &Texts) -> Result<Written> {
    let mut written = Written::Unchanged;
    for (name, text) in steps(is, wanted) {
        let path = own.hosts().join(name);
        // None is left that would be empty.
        let changed = if text.is_empty() { remove(&path)? } else { own.put(&path, &text)? };
        written = written.max(if changed { Written::Seen } else { Written::Unchanged });
    }
    Ok(written)
}

/// What to write, one after the other, so that `is` becomes `wanted`: first every file without what leaves it.
fn steps(is: &Texts, wanted: &Texts) -> Vec<(String, String)> {
    let mut steps = Vec::new();
    let mut now = is.clone();
    for (name, text) in &mut now {
        let wanted = wanted.get(name).map(String::as_str).unwrap_or_default();
        if wanted == text {
            continue;
        }
        let (lines, holders): (HashSet<_>, HashSet<_>) =
            wanted.lines().map(|line| (line, holder(line))).unzip();
        let left = only(text, |line| {
            lines.contains(line) || (named_in(line).is_some() && holders.contains(&holder(line)))
        });
        if left != *text {
            steps.push((name.clone(), left.clone()));
            *text = left;
        }
    }
    for (name, text) in wanted {
        if now.get(name).map(String::as_str).unwrap_or_default() != text {
            steps.push((name.clone(), text.clone()));
        }
    }
    steps
}

fn address(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

/// Which guest has which address.
fn holder(line: &str) -> (&str, Option<MacAddress>) {
    (address(line), named_in(line))
}

fn only(text: &str, keep: impl Fn(&str) -> bool) -> String {
    let mut kept = String::with_capacity(text.len());
    for line in text.lines().filter(|line| keep(line)) {
        let _ = writeln!(kept, "{line}");
    }
    kept
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

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[(&str, &str, &str)]) -> Texts {
        let mut texts = Texts::new();
        for (address, name, digit) in lines {
            let line = format!("{address} {name}.hybrid.internal {name} # 52:54:00:00:00:0{digit}\n");
            texts.entry((*digit).to_owned()).or_default().push_str(&line);
        }
        texts
    }

    /// Makes the steps, and sees that no address ever stands in two files.
    fn made(is: &Texts, wanted: &Texts) -> Vec<(String, String)> {
        let steps = steps(is, wanted);
        let mut now = is.clone();
        for (name, text) in &steps {
            now.insert(name.clone(), text.clone());
            let of = |text: &String| text.lines().map(|l| address(l).to_owned()).collect::<HashSet<_>>();
            let all: Vec<_> = now.values().flat_map(of).collect();
            assert_eq!(all.len(), all.iter().collect::<HashSet<_>>().len(), "{now:?}");
        }
        now.retain(|_, text| !text.is_empty());
        assert_eq!(now, *wanted);
        steps
    }

    #[test]
    fn an_address_leaves_one_file_before_it_comes_into_another() {
        let (a, b) = (("10.0.1.5", "a", "1"), ("10.0.1.6", "b", "2"));
        // Moved up, moved down, changed places.
        made(&texts(&[a, b]), &texts(&[("10.0.1.5", "a", "2"), ("10.0.1.6", "b", "3")]));
        made(&texts(&[a, b]), &texts(&[("10.0.1.5", "new", "0")]));
        made(&texts(&[a, b]), &texts(&[("10.0.1.6", "a", "1"), ("10.0.1.5", "b", "2")]));
        made(&Texts::new(), &texts(&[a, b]));
        made(&texts(&[a, b]), &Texts::new());
        assert_eq!(made(&texts(&[a, b]), &texts(&[a, b])), []);
    }

    #[test]
    fn a_guest_renamed_is_never_without_a_name() {
        let steps = made(&texts(&[("10.0.1.5", "a", "1")]), &texts(&[("10.0.1.5", "z", "1")]));
        assert_eq!(steps.len(), 1);
    }
}
