//! Our element in a domain's metadata:
//!
//! ```xml
//! <hybrid:networks xmlns:hybrid="urn:hybrid-hook:domain:1" before="metadata=none">
//!   <hybrid:network name="hybrid" mac="52:54:00:12:34:56" ip="10.0.1.200" hostname="db"
//!     aliases="pg" groups="backend" containers="label=app=shop" made="nic"/>
//! </hybrid:networks>
//! ```
//!
//! `before` and `made` are our own notes for taking it all out again: what the containers were like
//! before us, and that the interface came with the entry. Everything else is the owner's to write.

use std::net::IpAddr;

use super::document::{Document, Element, Space};
use super::parse::{XmlFault, parse};
use super::splice::{Was, escape};
use crate::model::{BlockSize, DnsLabel, DockerName, Invalid, MacAddress, NetworkName, NicRequest, Selector};

/// The element that libvirt keeps for us.
pub(super) const NETWORKS: &str = "networks";
/// One request in it.
pub(super) const NETWORK: &str = "network";
/// The note on an entry whose interface we made.
pub(super) const MADE: &str = "made";
/// Its only value.
pub(super) const MADE_NIC: &str = "nic";
/// The note on `networks` about what was there before.
pub(super) const BEFORE: &str = "before";

/// What a person may write on a `<hybrid:network>`.
const KNOWN: [&str; 9] =
    ["name", "docker", "mac", "ip", "hostname", "aliases", "groups", "containers", "block"];

/// How many entries are read: few enough to compare each with each.
const ENTRY_LIMIT: usize = 1024;

/// One `<hybrid:network>` and where it is.
#[derive(Debug)]
pub(super) struct Entry<'d> {
    pub(super) element: &'d Element,
    /// The attribute `name`, as it stands.
    pub(super) name: Option<String>,
    /// The attribute `mac`, if it is one.
    pub(super) mac: Option<MacAddress>,
    /// Whether its interface was made together with it.
    pub(super) made: bool,
    pub(super) request: Result<NicRequest, Invalid>,
}

/// What [`BEFORE`] says: the state that each container had before us and is to have after us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Notes {
    pub(super) metadata: Option<Was>,
    pub(super) devices: Option<Was>,
    pub(super) networks: Option<Was>,
}

impl Notes {
    /// Reads them; what they don't say, or say wrongly, was as it is.
    pub(super) fn of(document: &Document<'_>) -> Self {
        let text = networks(document).and_then(|top| document.value(top, BEFORE)).unwrap_or_default();
        let mut notes = Self::default();
        for (what, was) in text.split_whitespace().filter_map(|note| note.split_once('=')) {
            let was = Was::from_note(was);
            match what {
                "metadata" => notes.metadata = was,
                "devices" => notes.devices = was,
                "networks" => notes.networks = was,
                _ => {}
            }
        }
        notes
    }

    /// The attribute's value; none when there is nothing to say.
    pub(super) fn text(&self) -> Option<String> {
        let parts = [("metadata", self.metadata), ("devices", self.devices), ("networks", self.networks)];
        let words: Vec<String> = parts
            .iter()
            .filter_map(|(what, was)| was.map(|was| format!("{what}={}", was.as_str())))
            .collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
}

/// Our top-level element: the first, as libvirt has it.
pub(super) fn networks<'d>(document: &'d Document<'_>) -> Option<&'d Element> {
    top_level(document).next()
}

fn top_level<'d>(document: &'d Document<'_>) -> impl Iterator<Item = &'d Element> {
    document
        .named(&document.domain, "metadata")
        .flat_map(|metadata| document.children(metadata))
        .filter(|e| e.space == Space::Ours)
}

/// The entries, each checked by itself and against those before it.
pub(super) fn entries<'d>(document: &'d Document<'_>) -> Vec<Entry<'d>> {
    let mut list: Vec<Entry<'d>> = Vec::new();
    let Some(networks) = networks(document).filter(|e| document.local(e) == NETWORKS) else { return list };
    for element in document.children(networks).take(ENTRY_LIMIT) {
        if element.space != Space::Ours || document.local(element) != NETWORK {
            continue;
        }
        let request = request(document, element).and_then(|request| {
            let twin = list.iter().filter_map(|e| e.request.as_ref().ok()).find(|other| {
                other.network == request.network
                    && (request.mac.is_none() || other.mac.is_none() || other.mac == request.mac)
            });
            match twin {
                None => Ok(request),
                Some(_) => Err(Invalid::new(
                    "metadata for network",
                    request.network.as_str(),
                    "is there twice; two NICs of one network need an entry with a mac each",
                )),
            }
        });
        list.push(Entry {
            element,
            name: document.value(element, "name"),
            mac: document.value(element, "mac").and_then(|m| m.parse().ok()),
            made: document.value(element, MADE).as_deref() == Some(MADE_NIC),
            request,
        });
    }
    list
}

/// What is asked, and everything that is wrong with how.
pub(super) fn requests(document: &Document<'_>) -> Vec<Result<NicRequest, Invalid>> {
    let mut list = Vec::new();
    for (index, top) in top_level(document).enumerate() {
        if index > 0 {
            list.push(Err(Invalid::new(
                "metadata element",
                document.slice(top.name.clone()),
                "is the second of our namespace; libvirt keeps one, so put all in one <networks>",
            )));
            continue;
        }
        if document.local(top) != NETWORKS {
            list.push(Err(unknown("metadata element", document.local(top), &[NETWORKS])));
            continue;
        }
        for attribute in document.attributes(top) {
            if !is_declaration(attribute.name) && attribute.name != BEFORE {
                // The note `before` is nobody's to write, so it is no suggestion.
                list.push(Err(Invalid::new("attribute of <networks>", attribute.name, "is not known")));
            }
        }
        if document.children(top).nth(ENTRY_LIMIT).is_some() {
            list.push(Err(Invalid::new("metadata element", NETWORKS, "holds more than 1024 elements")));
        }
        for child in document.children(top).take(ENTRY_LIMIT) {
            if child.space != Space::Ours || document.local(child) != NETWORK {
                list.push(Err(unknown("element in <networks>", document.local(child), &[NETWORK])));
            }
        }
        list.extend(entries(document).into_iter().map(|entry| entry.request));
    }
    list
}

/// Our element of a domain's metadata without its namespace, as `virsh metadata --set` and
/// virDomainSetMetadata take it beside [`super::NAMESPACE`] and a prefix; `None` where there is none.
///
/// # Errors
/// XML that can't be read.
pub fn metadata_xml(xml: &[u8]) -> Result<Option<String>, XmlFault> {
    let document = parse(xml)?;
    let write = |element: &Element| {
        let own = document.attributes(element).into_iter().filter(|a| !is_declaration(a.name));
        own.map(|a| format!(" {}=\"{}\"", a.name, escape(&a.value))).collect::<String>()
    };
    Ok(networks(&document).map(|top| {
        let inner: String =
            entries(&document).iter().map(|e| format!("<{NETWORK}{}/>", write(e.element))).collect();
        format!("<{NETWORKS}{}>{inner}</{NETWORKS}>", write(top))
    }))
}

fn request(document: &Document<'_>, element: &Element) -> Result<NicRequest, Invalid> {
    let mut name: Option<NetworkName> = None;
    let mut docker: Option<DockerName> = None;
    let mut mac: Option<MacAddress> = None;
    let mut ip: Option<IpAddr> = None;
    let mut hostname: Option<DnsLabel> = None;
    let mut aliases = Vec::new();
    let mut groups = Vec::new();
    let mut containers: Option<Selector> = None;
    let mut block: Option<BlockSize> = None;
    for attribute in document.attributes(element) {
        let value = attribute.value.trim();
        match attribute.name {
            "name" => name = Some(value.parse()?),
            "docker" => docker = Some(value.parse()?),
            "mac" => mac = Some(value.parse()?),
            "ip" => {
                ip =
                    Some(value.parse().map_err(|_| {
                        Invalid::new("address", value, "is neither an IPv4 nor an IPv6 address")
                    })?);
            }
            "hostname" => hostname = Some(value.parse()?),
            "aliases" => aliases = labels("alias", value)?,
            "groups" => groups = labels("group", value)?,
            "containers" => containers = Some(value.parse()?),
            "block" => block = Some(value.parse()?),
            MADE if value == MADE_NIC => {}
            MADE => return Err(Invalid::new("attribute made", value, "can only be \"nic\"")),
            name if is_declaration(name) => {}
            name => return Err(unknown("attribute of <network>", name, &KNOWN)),
        }
    }
    if let Some(child) = document.children(element).next() {
        return Err(Invalid::new("element in <network>", document.local(child), "is not known"));
    }
    let Some(network) = name else {
        return Err(Invalid::new("metadata element", NETWORK, "has no attribute name"));
    };
    Ok(NicRequest { network, docker, mac, ip, hostname, aliases, groups, containers, block })
}

/// A list with spaces or commas between; what is there twice counts once.
fn labels(what: &'static str, text: &str) -> Result<Vec<DnsLabel>, Invalid> {
    let mut list = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || c == ',').filter(|w| !w.is_empty()) {
        let label: DnsLabel = word.parse().map_err(|e: Invalid| Invalid { what, ..e })?;
        if !list.contains(&label) {
            list.push(label);
        }
    }
    Ok(list)
}

/// Namespace declarations and `xml:…` say nothing about the request.
fn is_declaration(attribute: &str) -> bool {
    attribute == "xmlns" || attribute.starts_with("xmlns:") || attribute.starts_with("xml:")
}

/// A name that we don't know, with the nearest one that we do.
fn unknown(what: &'static str, name: &str, known: &[&str]) -> Invalid {
    let nearest = known.iter().map(|k| (distance(name, k), *k)).min();
    let why = match nearest {
        Some((far, near)) if far <= 2 => format!("is not known; did you mean {near:?}?"),
        _ => format!("is not known; there are {}", known.join(", ")),
    };
    Invalid::new(what, name, why)
}

/// How many letters have to be added, dropped or changed to make one of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let changed = diagonal + usize::from(x != y);
            diagonal = *cell;
            left = changed.min(left + 1).min(diagonal + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
