//! Takes a network out of a domain again: metadata, and the NIC where it came with it.

use std::ops::Range;

use super::document::{Document, Element};
use super::domain::{Nic, Source, Teaming, interfaces};
use super::metadata::{BEFORE, Entry, Notes, entries, networks};
use super::parse::{bom_length, parse};
use super::splice::{Edits, is_blank_without, restore, set_attribute, with_space};
use crate::model::{MacAddress, NetworkName, Result};

/// A domain's XML without `network`: the bytes that it had before [`super::add`]. With `mac` only
/// that NIC's entry goes. A NIC that was there before stays, as does everything else. Where libvirt
/// or a person has laid the text out anew since, our elements go and the rest stays as it is now. A
/// domain that has nothing of it comes back unchanged.
///
/// # Errors
/// XML that can't be read. Wrong metadata is no error: this is the way to be rid of it.
pub fn remove(xml: &[u8], network: &NetworkName, mac: Option<MacAddress>) -> Result<Vec<u8>> {
    let document = parse(xml)?;
    let list = entries(&document);
    let (gone, stay): (Vec<_>, Vec<_>) = list.iter().partition(|entry| {
        entry.name.as_deref().map(str::trim) == Some(network.as_str()) && (mac.is_none() || entry.mac == mac)
    });
    let (Some(top), false) = (networks(&document), gone.is_empty()) else { return Ok(xml.to_vec()) };
    let mut edits = Edits::default();
    let mut notes = Notes::of(&document);

    remove_nics(&document, &mut edits, &mut notes, &gone);
    if !stay.iter().any(|entry| entry.made) {
        notes.devices = None;
    }

    let ranges = spans(&document, gone.iter().map(|entry| entry.element));
    if !is_blank_without(&document, top, &ranges) {
        ranges.into_iter().for_each(|range| edits.delete(range));
        set_attribute(&mut edits, &document, top, BEFORE, notes.text().as_deref());
    } else if let Some(was) = notes.networks.take() {
        restore(&mut edits, &document, top, was, &ranges);
        set_attribute(&mut edits, &document, top, BEFORE, notes.text().as_deref());
    } else {
        remove_networks(&document, &mut edits, &notes, top);
    }

    let bom = bom_length(xml);
    let mut result = xml.get(..bom).unwrap_or_default().to_vec();
    result.extend_from_slice(edits.apply(document.text)?.as_bytes());
    Ok(result)
}

fn spans<'d>(document: &Document<'_>, elements: impl Iterator<Item = &'d Element>) -> Vec<Range<usize>> {
    elements.map(|e| with_space(document.text, e.span())).collect()
}

/// The NICs that were made with the entries that go.
fn remove_nics(document: &Document<'_>, edits: &mut Edits, notes: &mut Notes, gone: &[&Entry<'_>]) {
    let macs: Vec<MacAddress> = gone.iter().filter(|e| e.made).filter_map(|e| e.mac).collect();
    let made: Vec<&Element> = interfaces(document)
        .filter(|element| {
            let nic = Nic::of(document, element, 0, 0);
            nic.mac.is_some_and(|mac| macs.contains(&mac))
                && nic.source != Source::Other
                && !matches!(nic.teaming, Some(Teaming::Transient { .. }))
        })
        .collect();
    for devices in document.named(&document.domain, "devices") {
        let inside = devices.content();
        let here = made.iter().copied().filter(|nic| inside.contains(&nic.start.start));
        let ranges = spans(document, here);
        if ranges.is_empty() {
            continue;
        }
        match notes.devices.filter(|_| is_blank_without(document, devices, &ranges)) {
            Some(was) => {
                restore(edits, document, devices, was, &ranges);
                notes.devices = None;
            }
            None => ranges.into_iter().for_each(|range| edits.delete(range)),
        }
    }
}

/// Our whole element, and `<metadata>` where that came with it.
fn remove_networks(document: &Document<'_>, edits: &mut Edits, notes: &Notes, top: &Element) {
    let range = with_space(document.text, top.span());
    let around = document
        .named(&document.domain, "metadata")
        .find(|metadata| metadata.content().contains(&top.start.start));
    match (around, notes.metadata) {
        (Some(metadata), Some(was)) if is_blank_without(document, metadata, std::slice::from_ref(&range)) => {
            restore(edits, document, metadata, was, &[range]);
        }
        _ => edits.delete(range),
    }
}
