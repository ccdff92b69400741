//! Gives a domain a NIC on a network of ours and the metadata that asks for its address.

use super::document::{Document, Element, NAMESPACE};
use super::domain::{Domain, Teaming, cut, interfaces};
use super::metadata::{BEFORE, Entry, MADE, MADE_NIC, NETWORK, NETWORKS, Notes, entries, networks};
use super::parse::{bom_length, parse};
use super::plan::match_nics;
use super::remove::remove;
use super::splice::{Edits, Layout, Was, escape, set_attribute};
use crate::model::{DnsLabel, Fault, Invalid, MacAddress, Network, NicRequest, Result};

/// The prefix of our namespace where we choose it.
const PREFIX: &str = "hybrid:";

/// A domain's XML with a NIC on `network` and our metadata for it; every other byte stays.
///
/// A NIC that is on the network already is used (with `wish.mac` the one that has it), else one is
/// made: of type bridge (network, where ours follows one of Docker's), model virtio, with `wish.mac` or the MAC of [`MacAddress::of_nic`]. What
/// `wish` leaves out stays as earlier metadata has it. Doing it twice is doing it once.
///
/// # Errors
/// XML that can't be read; metadata that is wrong already, or has notes with which [`remove`] would
/// not give these bytes back; a `wish.mac` whose NIC is elsewhere; no `wish.mac` where the domain has
/// several entries for the network.
pub fn add(xml: &[u8], network: &Network, wish: &NicRequest) -> Result<Vec<u8>> {
    let docker = network.follows.as_ref().map(|_| network.docker_network.clone());
    let wish = &NicRequest { docker, ..wish.clone() };
    let bom = bom_length(xml);
    let document = parse(xml)?;
    let domain = Domain::of(&document, bom)?;
    if let Some(invalid) = domain.requests.iter().find_map(|r| r.as_ref().err()) {
        let fault = Fault::refused(format!("its metadata is wrong already: {invalid}"));
        return Err(fault.hint("correct it, or take it out with hybrid-hook rewrite --remove"));
    }
    let list = entries(&document);
    let choice = choose(&domain, network, &list, wish.mac)?;
    let edits = edits_for(&document, network, &choice, wish);
    if edits.is_empty() {
        return Ok(xml.to_vec());
    }
    let mut result = xml.get(..bom).unwrap_or_default().to_vec();
    result.extend_from_slice(edits.apply(document.text)?.as_bytes());
    check(&result, network, choice.mac())?;
    // Our own notes always lead back. One that was edited, or cut, may not, and is not built upon.
    if let Some(note) = networks(&document).and_then(|top| document.value(top, BEFORE))
        && choice.entry.is_none()
        && remove(&result, &network.name, choice.mac())? != xml
    {
        let note = Invalid::new("note \"before\" on <networks>", &note, "is not as hybrid-hook wrote it");
        return Err(Fault::refused(format!("its metadata is wrong already: {note}"))
            .hint("take that attribute out of the metadata with virsh edit"));
    }
    Ok(result)
}

/// The result is read as libvirt and our hooks will read it, before anybody defines it.
fn check(result: &[u8], network: &Network, mac: Option<MacAddress>) -> Result<()> {
    let wrong = |why: String| Fault::failed(format!("the rewritten domain XML would be wrong: {why}"));
    let domain = Domain::read(result).map_err(|e| wrong(e.to_string()))?;
    if let Some(invalid) = domain.requests.iter().find_map(|r| r.as_ref().err()) {
        return Err(wrong(invalid.to_string()));
    }
    let asked = domain.requests.iter().flatten().any(|r| r.network == network.name);
    let there = match_nics(&domain, network).iter().any(|nic| mac.is_none() || nic.mac == mac);
    if asked && there { Ok(()) } else { Err(wrong("the NIC or its metadata is missing".to_owned())) }
}

/// Which entry and which NIC are meant.
struct Choice<'e, 'd> {
    entry: Option<&'e Entry<'d>>,
    nic: Chosen,
}

enum Chosen {
    /// One that is on the network; it may have no MAC yet.
    There(Option<MacAddress>),
    /// One to be made.
    New(MacAddress),
}

impl Choice<'_, '_> {
    fn mac(&self) -> Option<MacAddress> {
        match self.nic {
            Chosen::There(mac) => mac,
            Chosen::New(mac) => Some(mac),
        }
    }
}

fn choose<'e, 'd>(
    domain: &Domain,
    network: &Network,
    list: &'e [Entry<'d>],
    mac: Option<MacAddress>,
) -> Result<Choice<'e, 'd>> {
    let name = &network.name;
    let own: Vec<&Entry<'d>> =
        list.iter().filter(|e| e.request.as_ref().is_ok_and(|r| r.network == *name)).collect();
    let on = match_nics(domain, network);
    let first = on.first().and_then(|nic| nic.mac);
    let entry = match (mac, own.as_slice()) {
        (_, []) => None,
        (None, [only]) => Some(*only),
        (None, several) => {
            let macs: Vec<String> = several.iter().filter_map(|e| e.mac).map(|m| m.to_string()).collect();
            return Err(Fault::refused(format!("domain {:?} has several NICs on {name}", cut(&domain.name)))
                .hint(format!("choose one with --mac: {}", macs.join(", "))));
        }
        (Some(mac), entries) => {
            let by_mac = entries.iter().find(|e| e.mac == Some(mac));
            match (by_mac, entries.iter().find(|e| e.mac.is_none())) {
                (Some(entry), _) => Some(*entry),
                (None, Some(nameless)) if first == Some(mac) => Some(*nameless),
                (None, Some(_)) => {
                    return Err(Fault::refused(format!(
                        "domain {:?} has metadata for {name} without a mac, so a second NIC can't be told from it",
                        cut(&domain.name)
                    ))
                    .hint("give that entry the mac of its NIC first"));
                }
                (None, None) => None,
            }
        }
    };
    let nic = match mac {
        Some(mac) => there_or_new(domain, network, mac)?,
        None => {
            let known = entry.and_then(|e| e.mac);
            let by_mac = on.iter().find(|nic| known.is_some() && nic.mac == known);
            // A cloned domain has new MACs and the old metadata: the NIC on the network is meant.
            match (by_mac.or(on.first()), known) {
                (Some(nic), _) => Chosen::There(nic.mac),
                (None, Some(mac)) => there_or_new(domain, network, mac)?,
                (None, None) => Chosen::New(free_mac(domain, network)),
            }
        }
    };
    Ok(Choice { entry, nic })
}

/// The NIC with a MAC, which must not be on another network.
fn there_or_new(domain: &Domain, network: &Network, mac: MacAddress) -> Result<Chosen> {
    if match_nics(domain, network).iter().any(|nic| nic.mac == Some(mac)) {
        return Ok(Chosen::There(Some(mac)));
    }
    match domain.nics.iter().find(|nic| nic.mac == Some(mac)) {
        None => Ok(Chosen::New(mac)),
        // A pair's other half may be elsewhere.
        Some(nic) if matches!(nic.teaming, Some(Teaming::Transient { .. })) => Ok(Chosen::New(mac)),
        Some(nic) => Err(Fault::refused(format!(
            "the NIC {mac} of domain {:?} is {}, not on {}",
            cut(&domain.name),
            nic.whereabouts(),
            network.name
        ))
        .hint("choose another --mac for a second NIC, or set that NIC's <source> first")),
    }
}

/// The MAC that this domain always gets on this network, unless one of its NICs has it already.
fn free_mac(domain: &Domain, network: &Network) -> MacAddress {
    let mut name = domain.name.clone();
    loop {
        let mac = MacAddress::of_nic(&network.name, &name);
        if !domain.nics.iter().any(|nic| nic.mac == Some(mac)) {
            return mac;
        }
        // There are finitely many NICs, and each turn draws another address.
        name.push('+');
    }
}

fn edits_for(
    document: &Document<'_>,
    network: &Network,
    choice: &Choice<'_, '_>,
    wish: &NicRequest,
) -> Edits {
    let mut edits = Edits::default();
    let layout = Layout::of(document);
    let mut notes = Notes::of(document);
    if let Chosen::New(mac) = choice.nic
        && let Some(was) = insert_nic(document, &layout, &mut edits, network, mac)
    {
        notes.devices = Some(was);
    }
    match choice.entry {
        Some(entry) => {
            edit_entry(document, &mut edits, entry, choice, wish, &mut notes);
            if let Some(top) = networks(document) {
                set_attribute(&mut edits, document, top, BEFORE, notes.text().as_deref());
            }
        }
        None => insert_entry(document, &layout, &mut edits, notes, &new_entry(network, choice, wish)),
    }
    edits
}

/// The `<interface>` that puts a NIC with `mac` on a network: as [`add`] writes it, in one line, for
/// plugging it into a running domain (`virsh attach-device`).
#[must_use]
pub fn interface_xml(network: &Network, mac: MacAddress) -> String {
    interface(network, mac, "", "")
}

/// As [`interface_xml`], on a libvirt network that may be gone.
#[must_use]
pub fn interface_on(libvirt_network: &str, mac: MacAddress) -> String {
    of_libvirt(libvirt_network, mac, "", "")
}

fn of_libvirt(name: &str, mac: MacAddress, lead: &str, inner: &str) -> String {
    format!(
        "<interface type='network'>{inner}<mac address='{mac}'/>{inner}<source network='{}'/>\
         {inner}<model type='virtio'/>{lead}</interface>",
        escape(name)
    )
}

fn interface(network: &Network, mac: MacAddress, lead: &str, inner: &str) -> String {
    if network.follows.is_some() {
        // Docker's bridge has another name each time it is made; libvirt's network keeps its own.
        return of_libvirt(network.libvirt_network.as_str(), mac, lead, inner);
    }
    format!(
        "<interface type='bridge'>{inner}<mac address='{mac}'/>{inner}<source bridge='{}'/>\
         {inner}<model type='virtio'/>{lead}</interface>",
        escape(network.bridge.as_str())
    )
}

/// Behind the last interface, so that the order of the others, which guests name them by, stays.
fn insert_nic(
    document: &Document<'_>,
    layout: &Layout<'_, '_>,
    edits: &mut Edits,
    network: &Network,
    mac: MacAddress,
) -> Option<Was> {
    let write = |lead: &str| interface(network, mac, lead, &layout.deeper(lead));
    let domain = &document.domain;
    if let Some(last) = interfaces(document).last() {
        let inside = |devices: &&Element| devices.content().contains(&last.start.start);
        let parent = document.named(domain, "devices").find(inside).unwrap_or(domain);
        layout.follow(edits, last, parent, write);
        return None;
    }
    match document.child(domain, "devices") {
        // Of one with white space alone, that stays behind anyway and needs no note.
        Some(devices) => layout.append(edits, devices, write).filter(|was| *was != Was::Blank),
        None => {
            layout.append(edits, domain, |lead| {
                let inner = layout.deeper(lead);
                format!("<devices>{inner}{}{lead}</devices>", write(&inner))
            });
            Some(Was::None)
        }
    }
}

/// The attributes of an entry, in the order in which we write them.
fn attributes_of(request: &NicRequest) -> [(&'static str, Option<String>); 8] {
    let list = |labels: &[DnsLabel]| {
        let words: Vec<&str> = labels.iter().map(DnsLabel::as_str).collect();
        Some(words.join(" ")).filter(|l| !l.is_empty())
    };
    [
        ("docker", request.docker.as_ref().map(ToString::to_string)),
        ("mac", request.mac.map(|m| m.to_string())),
        ("ip", request.ip.map(|i| i.to_string())),
        ("hostname", request.hostname.as_ref().map(ToString::to_string)),
        ("aliases", list(&request.aliases)),
        ("groups", list(&request.groups)),
        ("containers", request.containers.as_ref().map(ToString::to_string)),
        ("block", request.block.map(|b| b.to_string())),
    ]
}

/// The attributes of a new entry, its element's name left to who knows the prefix.
fn new_entry(network: &Network, choice: &Choice<'_, '_>, wish: &NicRequest) -> String {
    let request = NicRequest { mac: choice.mac(), ..wish.clone() };
    let mut text = format!(" name=\"{}\"", escape(network.name.as_str()));
    for (name, value) in attributes_of(&request) {
        if let Some(value) = value {
            text.push_str(&format!(" {name}=\"{}\"", escape(&value)));
        }
    }
    if matches!(choice.nic, Chosen::New(_)) {
        text.push_str(&format!(" {MADE}=\"{MADE_NIC}\""));
    }
    text
}

/// Changes the attributes that differ and no other.
fn edit_entry(
    document: &Document<'_>,
    edits: &mut Edits,
    entry: &Entry<'_>,
    choice: &Choice<'_, '_>,
    wish: &NicRequest,
    notes: &mut Notes,
) {
    let Ok(old) = &entry.request else { return };
    let keep = |new: &[DnsLabel], old: &[DnsLabel]| if new.is_empty() { old.to_vec() } else { new.to_vec() };
    let mut new = NicRequest {
        network: old.network.clone(),
        docker: wish.docker.clone(),
        mac: old.mac,
        ip: wish.ip.or(old.ip),
        hostname: wish.hostname.clone().or_else(|| old.hostname.clone()),
        aliases: keep(&wish.aliases, &old.aliases),
        groups: keep(&wish.groups, &old.groups),
        containers: wish.containers.clone().or_else(|| old.containers.clone()),
        block: wish.block.or(old.block),
    };
    let made = matches!(choice.nic, Chosen::New(_));
    // An entry that is right as a person wrote it is left alone.
    let stale = old.mac.is_some() && old.mac != choice.mac();
    if new != *old || made || stale || wish.mac.is_some() {
        new.mac = choice.mac().or(old.mac);
    }
    for ((name, before), (_, after)) in attributes_of(old).into_iter().zip(attributes_of(&new)) {
        if before != after {
            set_attribute(edits, document, entry.element, name, after.as_deref());
        }
    }
    if made {
        set_attribute(edits, document, entry.element, MADE, Some(MADE_NIC));
    } else if stale {
        // It names another NIC now, which nobody knows to be of our making.
        set_attribute(edits, document, entry.element, MADE, None);
        if !entries(document).iter().any(|other| other.made && other.element.start != entry.element.start) {
            notes.devices = None;
        }
    }
}

fn insert_entry(
    document: &Document<'_>,
    layout: &Layout<'_, '_>,
    edits: &mut Edits,
    mut notes: Notes,
    entry: &str,
) {
    if let Some(top) = networks(document) {
        let prefix = document.prefix(top);
        let was = layout.append(edits, top, |_| format!("<{prefix}{NETWORK}{entry}/>"));
        notes.networks = was.or(notes.networks);
        set_attribute(edits, document, top, BEFORE, notes.text().as_deref());
        return;
    }
    let write = |notes: &Notes, lead: &str| {
        let inner = layout.deeper(lead);
        let before = notes.text().map_or_else(String::new, |text| format!(" {BEFORE}=\"{text}\""));
        let declared = PREFIX.trim_end_matches(':');
        format!(
            "<{PREFIX}{NETWORKS} xmlns:{declared}=\"{NAMESPACE}\"{before}>\
             {inner}<{PREFIX}{NETWORK}{entry}/>{lead}</{PREFIX}{NETWORKS}>"
        )
    };
    let domain = &document.domain;
    if let Some(metadata) = document.child(domain, "metadata") {
        notes.metadata = match (&metadata.end, metadata.content().is_empty()) {
            (None, _) => Some(Was::Closed),
            (Some(_), true) => Some(Was::Empty),
            (Some(_), false) => None,
        };
        layout.append(edits, metadata, |lead| write(&notes, lead));
        return;
    }
    notes.metadata = Some(Was::None);
    let make = |lead: &str| {
        let inner = layout.deeper(lead);
        format!("<metadata>{inner}{}{lead}</metadata>", write(&notes, &inner))
    };
    match head(document) {
        Some(last) => layout.follow(edits, last, domain, make),
        None => {
            layout.append(edits, domain, make);
        }
    }
}

/// The last of the elements that libvirt writes before `<metadata>`.
fn head<'d>(document: &'d Document<'_>) -> Option<&'d Element> {
    ["name", "uuid", "genid", "title", "description"]
        .into_iter()
        .filter_map(|name| document.child(&document.domain, name))
        .max_by_key(|e| e.start.start)
}
