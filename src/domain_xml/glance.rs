//! The hook's first look: is this domain any of ours? It must cost other people's domains next to
//! nothing, so it checks little and builds nothing.

use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::document::NAMESPACE;
use super::parse::bom_length;
use crate::model::Network;

/// What a first look shows. It may see too much, in a comment or a foreign element; never too little.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Glance {
    /// Our namespace stands somewhere in the text.
    pub mentions_us: bool,
    /// Bridges that a `<source>` names, raw, as often as they stand there.
    pub bridges: Vec<String>,
    /// libvirt networks that a `<source>` names, raw.
    pub networks: Vec<String>,
    /// The look ended early, at something that is no XML: the lists may lack something.
    pub broken: bool,
}

impl Glance {
    /// Looks at a domain's XML.
    #[must_use]
    pub fn of(xml: &[u8]) -> Self {
        let mut glance = Self { mentions_us: contains(xml, NAMESPACE.as_bytes()), ..Self::default() };
        let text = match std::str::from_utf8(xml.get(bom_length(xml)..).unwrap_or_default()) {
            Ok(text) => text,
            Err(_) => return Self { broken: true, ..glance },
        };
        let mut reader = Reader::from_str(text);
        let config = reader.config_mut();
        config.check_end_names = false;
        config.allow_unmatched_ends = true;
        config.allow_dangling_amp = true;
        loop {
            match reader.read_event() {
                Ok(Event::Start(tag) | Event::Empty(tag)) if tag.name().0 == "source" => glance.source(&tag),
                Ok(Event::Eof) => return glance,
                Ok(_) => {}
                Err(_) => return Self { broken: true, ..glance },
            }
        }
    }

    /// Whether it may concern one of these networks: by metadata, or by an interface on one of them.
    /// A broken one does when our namespace is in it.
    #[must_use]
    pub fn concerns<'n>(&self, networks: impl IntoIterator<Item = &'n Network>) -> bool {
        self.mentions_us
            || networks.into_iter().any(|network| {
                self.bridges.iter().any(|b| b == network.bridge.as_str())
                    || self.networks.iter().any(|n| n == network.libvirt_network.as_str())
            })
    }

    /// The names of bridges and libvirt networks that stand in it.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.bridges.iter().chain(&self.networks).map(String::as_str).collect()
    }

    fn source(&mut self, tag: &BytesStart<'_>) {
        for attribute in tag.attributes().with_checks(false) {
            let Ok(attribute) = attribute else {
                self.broken = true;
                return;
            };
            let list = match attribute.key.0 {
                "bridge" => &mut self.bridges,
                "network" => &mut self.networks,
                _ => continue,
            };
            match quick_xml::escape::unescape(&attribute.value) {
                Ok(value) => list.push(value.into_owned()),
                Err(_) => self.broken = true,
            }
        }
    }
}

/// Whether `needle` is somewhere in `hay`. std has this for text only, and a broken XML is none.
fn contains(hay: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else { return true };
    let mut hay = hay;
    while let Some(at) = hay.iter().position(|b| b == first) {
        hay = hay.get(at + 1..).unwrap_or_default();
        if hay.starts_with(rest) {
            return true;
        }
    }
    false
}
