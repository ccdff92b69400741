//! A domain as far as we care: who it is, its NICs, what its metadata asks of us.

use std::ops::Range;

use super::document::{Document, Element};
use super::metadata;
use super::parse::{XmlFault, bom_length, parse};
use crate::model::{Invalid, MacAddress, Network, NicRequest, OwnerId};

/// How many interfaces are taken: far more than a guest can have, few enough to compare each with each.
const NIC_LIMIT: usize = 1024;

/// A libvirt domain, read from its XML (<https://libvirt.org/formatdomain.html>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Its name as it stands. It comes from outside and can be anything, `../../x` too.
    pub name: String,
    /// Its UUID; libvirt draws one when a definition has none.
    pub uuid: Option<OwnerId>,
    /// The number that it has while it runs.
    pub live_id: Option<u32>,
    /// Its title, for people.
    pub title: Option<String>,
    /// Its `<interface>` elements, in their order.
    pub nics: Vec<Nic>,
    /// What our metadata asks: an entry for each `<hybrid:network>`, in their order, each checked.
    pub requests: Vec<Result<NicRequest, Invalid>>,
}

/// One `<interface>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Its place among the domain's interfaces, from 0.
    pub index: usize,
    /// Its address; none where libvirt has yet to draw one, or where it is no unicast address.
    pub mac: Option<MacAddress>,
    /// The attribute `type`: `bridge`, `network`, `direct` and so on, as it stands.
    pub kind: String,
    /// What it is plugged into.
    pub source: Source,
    /// The host's side, such as `vnet3`, as it stands; libvirt names it between `prepare` and `start`.
    pub target_dev: Option<String>,
    /// The device model, such as `virtio`, as it stands.
    pub model: Option<String>,
    /// The device's alias, such as `net0` or `ua-own`, as it stands.
    pub alias: Option<String>,
    /// Its part in a pair of interfaces that the guest uses as one.
    pub teaming: Option<Teaming>,
    /// Where the element is in the bytes that were read.
    pub span: Range<usize>,
}

/// What an interface is plugged into. Names are raw: compare them, never use them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `type='bridge'`: a bridge of the host.
    Bridge(String),
    /// A libvirt network: `type='network'`, or the type of what is behind it while the domain runs.
    Network {
        /// The network's name.
        name: String,
        /// The bridge behind it; libvirt tells it from `start` on.
        bridge: Option<String>,
    },
    /// Something else, or a bridge or network without a name.
    Other,
}

/// The part of an interface in a teaming pair: one migrates, the other is fast
/// (<https://libvirt.org/formatdomain.html#teaming-a-virtio-hostdev-nic-pair>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Teaming {
    /// The one that always stays.
    Persistent,
    /// The one that is unplugged for a migration, and the alias of the one that stays.
    Transient {
        /// The persistent one's alias.
        persistent: Option<String>,
    },
}

impl Domain {
    /// Reads a domain. It may be the root, or inside of a status or snapshot file of libvirt's.
    ///
    /// # Errors
    /// What is not well-formed, not UTF-8, larger than [`super::SIZE_LIMIT`], nested deeper than
    /// [`super::DEPTH_LIMIT`], declares entities, or is no domain with a name. A fault in our
    /// metadata is none of these: it stands in [`Domain::requests`].
    pub fn read(xml: &[u8]) -> Result<Self, XmlFault> {
        Self::of(&parse(xml)?, bom_length(xml))
    }

    pub(super) fn of(document: &Document<'_>, offset: usize) -> Result<Self, XmlFault> {
        let domain = &document.domain;
        let text = |name| document.child(domain, name).map(|e| document.string(e));
        let Some(name) = text("name").filter(|n| !n.is_empty()) else {
            return Err(XmlFault::NotADomain { why: "it has no <name>".to_owned() });
        };
        if interfaces(document).nth(NIC_LIMIT).is_some() {
            return Err(XmlFault::NotADomain { why: format!("it has more than {NIC_LIMIT} interfaces") });
        }
        Ok(Self {
            name,
            uuid: text("uuid").and_then(|u| u.trim().parse().ok()),
            live_id: document.value(domain, "id").and_then(|id| id.parse().ok()),
            title: text("title"),
            nics: interfaces(document)
                .enumerate()
                .map(|(index, element)| Nic::of(document, element, index, offset))
                .collect(),
            requests: metadata::requests(document),
        })
    }
}

/// All interfaces. libvirt takes those of every `<devices>`, should there be more than one.
pub(super) fn interfaces<'d>(document: &'d Document<'_>) -> impl Iterator<Item = &'d Element> {
    document.named(&document.domain, "devices").flat_map(|devices| document.named(devices, "interface"))
}

impl Nic {
    pub(super) fn of(document: &Document<'_>, element: &Element, index: usize, offset: usize) -> Self {
        let inner = |child, attribute| {
            document.child(element, child).and_then(|child| document.value(child, attribute))
        };
        let kind = document.value(element, "type").unwrap_or_default();
        // Of an interface that a running domain has on a network with a bridge, libvirt prints
        // `type='bridge'` and both names; its own status file has the bridge in `<actual>`.
        let actual = || {
            let source = document.child(document.child(element, "actual")?, "source")?;
            document.value(source, "bridge")
        };
        let source = match (inner("source", "network"), inner("source", "bridge")) {
            (Some(name), bridge) => Source::Network { name, bridge: bridge.or_else(actual) },
            (None, Some(bridge)) if kind == "bridge" => Source::Bridge(bridge),
            (None, _) => Source::Other,
        };
        let span = element.span();
        Self {
            index,
            mac: inner("mac", "address").and_then(|mac| mac.trim().parse().ok()),
            source,
            target_dev: inner("target", "dev"),
            model: inner("model", "type"),
            alias: inner("alias", "name"),
            teaming: match inner("teaming", "type").as_deref() {
                Some("persistent") => Some(Teaming::Persistent),
                Some("transient") => Some(Teaming::Transient { persistent: inner("teaming", "persistent") }),
                _ => None,
            },
            span: span.start + offset..span.end + offset,
            kind,
        }
    }

    /// Whether it is plugged into a network of ours: its bridge, or its libvirt network. With
    /// `type='bridge'` the bridge counts alone, as it does for libvirt.
    #[must_use]
    pub fn is_on(&self, network: &Network) -> bool {
        let (bridge, libvirt) = (network.bridge.as_str(), network.libvirt_network.as_str());
        match &self.source {
            Source::Bridge(on) => on == bridge,
            Source::Network { bridge: Some(on), .. } if self.kind == "bridge" => on == bridge,
            Source::Network { name, bridge: on } => name == libvirt || on.as_deref() == Some(bridge),
            Source::Other => false,
        }
    }

    /// Whether this and another are the two halves of one teaming pair.
    #[must_use]
    pub fn is_teamed_with(&self, other: &Self) -> bool {
        let half = |stays: &Self, goes: &Self| match (&stays.teaming, &goes.teaming) {
            (Some(Teaming::Persistent), Some(Teaming::Transient { persistent })) => {
                stays.alias.is_none() || persistent.is_none() || stays.alias == *persistent
            }
            _ => false,
        };
        half(self, other) || half(other, self)
    }

    /// What it is plugged into, in words for a message.
    #[must_use]
    pub fn whereabouts(&self) -> String {
        match &self.source {
            Source::Bridge(bridge) => format!("on bridge {:?}", cut(bridge)),
            Source::Network { name, .. } => format!("on libvirt network {:?}", cut(name)),
            Source::Other => format!("of type {:?}", cut(&self.kind)),
        }
    }
}

/// A name from outside, not longer than a line bears.
pub(super) fn cut(name: &str) -> String {
    let mut shown: String = name.chars().take(60).collect();
    if shown.len() < name.len() {
        shown.push('…');
    }
    shown
}
