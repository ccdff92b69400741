//! What the network hook gets: `<hookData>` with a network and, for a port, whose it is
//! (<https://libvirt.org/hooks.html>, "network").

use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use crate::model::{Invalid, MacAddress, OwnerId};

/// A port of a libvirt network, or only the network where the event is about that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Port {
    /// The libvirt network's name, from anyone.
    pub network: String,
    /// The bridge that the port is plugged into.
    pub bridge: Option<String>,
    /// The domain's UUID.
    pub owner: Option<OwnerId>,
    /// The domain's name, from anyone.
    pub owner_name: Option<String>,
    /// The NIC's MAC.
    pub mac: Option<MacAddress>,
}

impl Port {
    /// Reads the XML. Only what is asked for is checked: this hook never stops anything.
    pub fn read(xml: &[u8]) -> Result<Self, Invalid> {
        let bad = |why: String| Invalid::new("network hook XML", "", why);
        let xml = std::str::from_utf8(xml).map_err(|e| bad(e.to_string()))?;
        let mut reader = Reader::from_str(xml);
        let mut port = Self::default();
        let mut path: Vec<String> = Vec::new();
        loop {
            let event = reader.read_event().map_err(|e| bad(e.to_string()))?;
            match &event {
                Event::Start(element) => {
                    path.push(element.local_name().as_ref().to_owned());
                    if path.len() > 64 {
                        return Err(bad("is nested too deeply".to_owned()));
                    }
                    port.attributes(&path, element);
                }
                Event::Empty(element) => {
                    path.push(element.local_name().as_ref().to_owned());
                    port.attributes(&path, element);
                    path.pop();
                }
                Event::End(_) => {
                    path.pop();
                }
                Event::Text(text) => {
                    port.text(&path, text.trim());
                }
                // A name with entities comes in pieces; libvirt's names of ours have none.
                Event::Eof => break,
                _ => {}
            }
        }
        if port.network.is_empty() {
            return Err(bad("names no network".to_owned()));
        }
        Ok(port)
    }

    fn text(&mut self, path: &[String], text: &str) {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match path.as_slice() {
            [_, "network", "name"] | ["network", "name"] if self.network.is_empty() => {
                text.clone_into(&mut self.network);
            }
            [.., "networkport", "owner", "uuid"] => self.owner = text.parse().ok(),
            [.., "networkport", "owner", "name"] => self.owner_name = Some(text.to_owned()),
            _ => {}
        }
    }

    fn attributes(&mut self, path: &[String], element: &BytesStart<'_>) {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let value = |name: &str| {
            let attribute = element.try_get_attribute(name).ok().flatten()?;
            Some(attribute.value.into_owned())
        };
        match path.as_slice() {
            [.., "networkport", "mac"] => self.mac = value("address").and_then(|v| v.parse().ok()),
            [.., "networkport", "plug"] => self.bridge = value("bridge"),
            [_, "network", "bridge"] if self.bridge.is_none() => self.bridge = value("name"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_names_its_owner_and_bridge() -> Result<(), Invalid> {
        let xml = br#"<hookData>
  <network><name>hybrid-net</name><uuid>a1</uuid><forward mode='bridge'/><bridge name='hybr0'/></network>
  <networkport>
    <uuid>5d744f21-ba4a-4d6e-bdb2-30a35ff3207d</uuid>
    <owner><name>db</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid></owner>
    <mac address='52:54:00:00:00:01'/>
    <plug type='bridge' bridge='hybr0'/>
  </networkport>
</hookData>"#;
        let port = Port::read(xml)?;
        assert_eq!(port.network, "hybrid-net");
        assert_eq!(port.bridge.as_deref(), Some("hybr0"));
        assert_eq!(port.owner_name.as_deref(), Some("db"));
        assert_eq!(port.mac.map(|m| m.to_string()).as_deref(), Some("52:54:00:00:00:01"));
        assert!(port.owner.is_some());
        Ok(())
    }

    #[test]
    fn nonsense_names_no_network() {
        for xml in [&b""[..], b"<a/>", b"<hookData><network>", b"\xff\xfe", b"<a><b></a>"] {
            assert!(Port::read(xml).is_err());
        }
    }
}
