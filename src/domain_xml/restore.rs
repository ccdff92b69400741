//! The filter for libvirt's `restore` and `migrate`: a saved or migrated domain remembers the
//! bridge or network that its NIC was on; here that may have another name today.

use super::document::{Document, Element};
use super::domain::{Domain, Nic, interfaces};
use super::parse::{bom_length, parse};
use super::splice::{Edits, set_attribute};
use crate::model::{Network, NicRequest};

/// A domain's XML with the NICs that our metadata names back on their networks' bridges and libvirt
/// networks. Only the name in `<source>` changes: libvirt takes no other MAC, model or address on
/// this way. `None` when nothing changes, and for XML or metadata that can't be read: then the hook
/// prints nothing, and libvirt goes on with what it has.
///
/// A NIC is named by its MAC; metadata without one means the only NIC of a domain that has no other.
#[must_use]
pub fn restore_filter(xml: &[u8], networks: &[Network]) -> Option<Vec<u8>> {
    let bom = bom_length(xml);
    let document = parse(xml).ok()?;
    let domain = Domain::of(&document, bom).ok()?;
    let elements: Vec<&Element> = interfaces(&document).collect();
    let mut edits = Edits::default();
    let mut moved = Vec::new();
    for request in domain.requests.iter().flatten() {
        let Some(network) = networks.iter().find(|n| n.name == request.network) else { continue };
        let Some(nic) = strayed(&domain, network, request) else { continue };
        if let Some(element) = elements.get(nic.index)
            && !moved.contains(&nic.index)
        {
            bring_back(&document, &mut edits, element, nic, network);
            moved.push(nic.index);
        }
    }
    if edits.is_empty() {
        return None;
    }
    let mut result = xml.get(..bom).unwrap_or_default().to_vec();
    result.extend_from_slice(edits.apply(document.text).ok()?.as_bytes());
    Some(result)
}

/// The NIC that a request means, if it isn't on the network. It was when it was started, because
/// `prepare` refuses everything else.
fn strayed<'d>(domain: &'d Domain, network: &Network, request: &NicRequest) -> Option<&'d Nic> {
    match request.mac {
        Some(mac) => {
            let mut named = domain.nics.iter().filter(|nic| nic.mac == Some(mac));
            let first = named.next()?;
            // Which of a pair is meant can't be told, unless one is in its place.
            (!first.is_on(network) && named.next().is_none()).then_some(first)
        }
        None => match domain.nics.as_slice() {
            [only] if !only.is_on(network) => Some(only),
            _ => None,
        },
    }
}

fn bring_back(document: &Document<'_>, edits: &mut Edits, element: &Element, nic: &Nic, network: &Network) {
    let Some(source) = document.child(element, "source") else { return };
    let mut set = |attribute, name: &str| {
        if document.attribute(source, attribute).is_some() {
            set_attribute(edits, document, source, attribute, Some(name));
        }
    };
    // Both may stand there, and libvirt goes by the type.
    if nic.kind == "bridge" || nic.kind == "network" {
        set("network", network.libvirt_network.as_str());
        set("bridge", network.bridge.as_str());
    }
}
