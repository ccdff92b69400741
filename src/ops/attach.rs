//! Attach and detach: a domain gets a NIC on a network, or loses it; defined, running or both.

use crate::deadline::Deadline;
use crate::domain_xml::{self, Domain, NicPlan};
use crate::host::Change;
use crate::host::libvirt::{Affects, Detached, DomainRef, DomainText, Libvirt};
use crate::model::{
    Fault, Lease, LeaseState, MacAddress, Network, NetworkName, NicRequest, Origin, Owner, Result,
};
use crate::registry::networks;

use super::claim::Granted;
use super::release::Which;
use super::{Context, claim, delegation, release, render};

/// The running domain alone.
const LIVE: Affects = Affects { live: true, config: false };

/// What was done to a domain.
#[derive(Debug)]
pub struct Attached {
    /// The domain's name.
    pub domain: String,
    /// The NIC.
    pub nic: NicPlan,
    /// Its lease where the domain runs; one that doesn't claims at its start.
    pub lease: Option<Lease>,
    /// Nothing needed to be done.
    pub unchanged: bool,
}

/// Gives a domain a NIC on a network, with our metadata. Again changes nothing; other wishes change
/// the metadata alone.
pub fn attach(
    context: &Context,
    domain: &DomainRef,
    request: &NicRequest,
    deadline: Deadline,
) -> Result<Attached> {
    let network = networks::load(&context.places, &request.network)?;
    let running_network = super::is_up(context, &network.name)?;
    if let Some(ip) = request.ip {
        network.may_lease_to_vm(ip).map_err(|unfit| claim::refused(&network.name, &unfit.into()))?;
    }
    if network.follows.is_some() && request.containers.is_some() {
        return Err(Fault::refused(format!(
            "network {} is on Docker network {}, and who is on that is its project's to say",
            network.name, network.docker_network
        ))
        .hint("leave --containers out, and name that network in the project's compose file"));
    }
    let libvirt = Libvirt::find()?;
    let text = libvirt.domain_to_edit(domain, deadline)?;
    let mut plugged = None;
    // The running half first: it is the one that can be refused for its address.
    if let Some(live) = &text.live {
        if !running_network {
            return Err(Fault::refused(format!("network {} is down", network.name))
                .hint(format!("hybrid-hook network up {}", network.name)));
        }
        plugged = Some(plug(context, &libvirt, &network, request, &text, live, deadline)?);
    }
    if let Some(inactive) = &text.inactive {
        // The same MAC in both halves.
        let mut request = request.clone();
        if let Some(done) = &plugged {
            request.mac = Some(done.attached.nic.mac);
        }
        let defined = define(&libvirt, &network, &request, &text, inactive, deadline).map_err(|fault| {
            let late = deadline.at_least(super::UNDO);
            let undone = plugged.as_ref().map(|p| undo(context, &libvirt, &network, &text, p, late));
            match undone {
                Some(Err(other)) => fault.and(other),
                _ => fault,
            }
        })?;
        return Ok(match plugged {
            Some(Plugged { mut attached, .. }) => {
                attached.unchanged &= defined.unchanged;
                attached
            }
            None => defined,
        });
    }
    plugged
        .map(|p| p.attached)
        .ok_or_else(|| Fault::failed(format!("domain {domain} is neither defined nor running")))
}

/// Writes NIC and metadata into the definition, where they are not in it yet.
fn define(
    libvirt: &Libvirt,
    network: &Network,
    request: &NicRequest,
    text: &DomainText,
    inactive: &str,
    deadline: Deadline,
) -> Result<Attached> {
    let new = domain_xml::add(inactive.as_bytes(), network, request)?;
    let nic = nic_of(&new, network)?;
    let unchanged = new == inactive.as_bytes();
    if !unchanged {
        libvirt.define(&text_of(new)?, Some(inactive), deadline)?;
    }
    Ok(Attached { domain: text.domain.name.clone(), nic, lease: None, unchanged })
}

/// What was done to a running domain, with what its undo needs.
struct Plugged {
    attached: Attached,
    granted: Granted,
    /// The NIC is new.
    made: bool,
    /// The metadata is not what it was.
    noted: bool,
}

/// Claims an address, then plugs the NIC into the running domain. A failure takes all of it back.
fn plug(
    context: &Context,
    libvirt: &Libvirt,
    network: &Network,
    request: &NicRequest,
    text: &DomainText,
    live: &str,
    deadline: Deadline,
) -> Result<Plugged> {
    let id = DomainRef::Uuid(text.domain.uuid.clone());
    let new = domain_xml::add(live.as_bytes(), network, request)?;
    let nic = nic_of(&new, network)?;
    let owner = Owner {
        id: text.domain.uuid.clone(),
        origin: Origin::Domain,
        name: Some(text.domain.name.chars().take(200).collect()),
    };
    let granted = claim_live(context, network, &nic, &owner, text, live, deadline)?;
    let has = granted.lease.address;
    // A guest that keeps its address for now has it in its memory: saved, it must come back to that.
    let new = if request.ip.is_some_and(|ip| ip != has) {
        let ip = granted.lease.fixed.then_some(has);
        domain_xml::add(live.as_bytes(), network, &NicRequest { ip, ..request.clone() })?
    } else {
        new
    };
    let mut plugged = Plugged {
        attached: Attached {
            domain: text.domain.name.clone(),
            lease: Some(granted.lease.clone()),
            unchanged: new == live.as_bytes() && !granted.changed,
            nic,
        },
        granted,
        made: false,
        noted: false,
    };
    let done = finish_plug(context, libvirt, network, &mut plugged, &new, &id, deadline);
    if let Err(fault) = done {
        let undone = undo(context, libvirt, network, text, &plugged, deadline.at_least(super::UNDO));
        return Err(match undone {
            Ok(()) => fault,
            Err(other) => fault.and(other),
        });
    }
    // libvirt named the tap when it plugged the NIC in.
    let mac = plugged.attached.nic.mac;
    let tap = libvirt
        .domain(&id, deadline)
        .ok()
        .and_then(|t| Domain::read(t.live?.as_bytes()).ok())
        .and_then(|d| d.nics.into_iter().find(|n| n.mac == Some(mac))?.target_dev?.parse().ok());
    claim::note_running(context, &network.name, mac, &owner, tap, deadline)?;
    super::wake::wake(&context.places);
    Ok(plugged)
}

/// The steps of [`plug`] after the claim. `plugged` tells how far it came.
fn finish_plug(
    context: &Context,
    libvirt: &Libvirt,
    network: &Network,
    plugged: &mut Plugged,
    new: &[u8],
    id: &DomainRef,
    deadline: Deadline,
) -> Result<()> {
    render::lease(context, network, &plugged.granted.lease, deadline)?;
    let element = domain_xml::metadata_xml(new)?;
    let device = domain_xml::interface_xml(network, plugged.attached.nic.mac);
    plugged.made = libvirt.attach(id, &device, LIVE, deadline)? == Change::Made;
    libvirt.set_metadata(id, element.as_deref(), LIVE, deadline)?;
    plugged.noted = true;
    Ok(())
}

/// What a NIC of a running domain gets. One that is there already uses its address, and nobody tells the guest of
/// another: that one comes with its next start.
fn claim_live(
    context: &Context,
    network: &Network,
    nic: &NicPlan,
    owner: &Owner,
    text: &DomainText,
    live: &str,
    deadline: Deadline,
) -> Result<Granted> {
    let there = Domain::read(live.as_bytes()).is_ok_and(|d| d.nics.iter().any(|n| n.mac == Some(nic.mac)));
    let wish = nic.claim(owner.clone());
    if there
        && let Some(held) = claim::held(context, &network.name, nic.mac, &owner.id, deadline)?
        && held.state_now(&context.boot) == LeaseState::Active
        && wish.ip != Some(held.address)
    {
        if let Some(taken) = claim::in_the_way(context, &network.name, &wish, deadline)? {
            return Err(taken);
        }
        if let (Some(ip), None) = (wish.ip, &text.inactive) {
            return Err(Fault::refused(format!(
                "domain {:?} uses {} and is transient: there is no next start at which it could have {ip}",
                text.domain.name, held.address
            ))
            .hint("detach it and attach it anew, or define it"));
        }
        return claim::change_wishes(context, &network.name, &wish, deadline);
    }
    claim::claim(context, &network.name, wish, deadline)
}

/// Takes back what [`plug`] did. A NIC that the guest keeps keeps its metadata and its lease.
fn undo(
    context: &Context,
    libvirt: &Libvirt,
    network: &Network,
    text: &DomainText,
    plugged: &Plugged,
    deadline: Deadline,
) -> Result<()> {
    let id = DomainRef::Uuid(text.domain.uuid.clone());
    let mac = plugged.attached.nic.mac;
    if plugged.made {
        let detached = libvirt.detach(&id, &domain_xml::interface_xml(network, mac), LIVE, deadline)?;
        let_go(detached, text, mac, &network.name)?;
    }
    let noted = match &text.live {
        Some(live) if plugged.noted => domain_xml::metadata_xml(live.as_bytes())
            .map_err(Fault::from)
            .and_then(|element| libvirt.set_metadata(&id, element.as_deref(), LIVE, deadline)),
        _ => Ok(()),
    };
    claim::undo(context, &plugged.granted, deadline)?;
    for lease in std::iter::once(&plugged.granted.lease).chain(&plugged.granted.replaced) {
        render::lease(context, network, lease, deadline)?;
    }
    super::wake::wake(&context.places);
    noted
}

/// What became of a domain that was taken off a network.
#[derive(Debug)]
pub struct TakenOff {
    /// The domain's name.
    pub domain: String,
    /// Why its NIC is still there, where the guest has not let go of it yet: it keeps its address meanwhile.
    pub kept: Option<Fault>,
}

/// Takes a domain off a network: NIC, metadata and lease. A NIC that was there before us stays.
/// `None` where it was not on it.
pub fn detach(
    context: &Context,
    domain: &DomainRef,
    name: &NetworkName,
    deadline: Deadline,
) -> Result<Option<TakenOff>> {
    let network = networks::load(&context.places, name)?;
    let libvirt = Libvirt::find()?;
    let text = libvirt.domain_to_edit(domain, deadline)?;
    let id = DomainRef::Uuid(text.domain.uuid.clone());
    let mut changed = detach_defined(&libvirt, &text, name, deadline)?;
    let mut kept = None;
    if let Some(live) = &text.live {
        let new = domain_xml::remove(live.as_bytes(), name, None)?;
        if new != live.as_bytes() {
            match nic_of(live.as_bytes(), &network) {
                // A NIC that remove left in place is the person's own.
                Ok(nic) if nic_of(&new, &network).is_err() => {
                    kept = unplug(context, &libvirt, &network, &text, nic.mac, deadline)?;
                }
                Ok(_) => {}
                // It went after an earlier call had given up on it.
                Err(_) => {
                    let macs = asked_macs(live.as_bytes(), name);
                    let which = Which { owner: text.domain.uuid.clone(), macs, generation: None };
                    release::release(context, name, &which, false, deadline)?;
                }
            }
            // Last: while the NIC is there, its metadata says that it is ours to take.
            if kept.is_none() {
                let element = domain_xml::metadata_xml(&new)?;
                libvirt.set_metadata(&id, element.as_deref(), LIVE, deadline)?;
            }
            changed = true;
        }
    }
    if changed && kept.is_none() {
        // Nobody can find a block again that is not asked for any more.
        let xml = text.live.as_ref().or(text.inactive.as_ref());
        let nics = xml.and_then(|xml| Domain::read(xml.as_bytes()).ok()).map(|d| d.nics).unwrap_or_default();
        for mac in nics.into_iter().filter_map(|nic| nic.mac) {
            delegation::forget(context, name, &text.domain.uuid, mac, deadline)?;
        }
    }
    super::wake::wake(&context.places);
    Ok(changed.then_some(TakenOff { domain: text.domain.name, kept }))
}

/// As [`detach`], for a network that is gone: it followed one of Docker's. Its leases are gone with it.
///
/// # Errors
/// Missing: there is no such domain. Else libvirt's refusals.
pub fn detach_gone(domain: &DomainRef, name: &NetworkName, deadline: Deadline) -> Result<Option<TakenOff>> {
    let libvirt = Libvirt::find()?;
    let text = libvirt.domain_to_edit(domain, deadline)?;
    let id = DomainRef::Uuid(text.domain.uuid.clone());
    let mut changed = detach_defined(&libvirt, &text, name, deadline)?;
    let mut kept = None;
    if let Some(live) = &text.live {
        let new = domain_xml::remove(live.as_bytes(), name, None)?;
        if new != live.as_bytes() {
            let macs = |xml: &[u8]| -> Vec<MacAddress> {
                Domain::read(xml).map(|d| d.nics.iter().filter_map(|n| n.mac).collect()).unwrap_or_default()
            };
            let left = macs(&new);
            for mac in macs(live.as_bytes()).into_iter().filter(|mac| !left.contains(mac)) {
                let nic = domain_xml::interface_on(name.default_net().as_str(), mac);
                let detached = libvirt.detach(&id, &nic, LIVE, deadline)?;
                kept = let_go(detached, &text, mac, name).err().or(kept);
            }
            if kept.is_none() {
                libvirt.set_metadata(&id, domain_xml::metadata_xml(&new)?.as_deref(), LIVE, deadline)?;
            }
            changed = true;
        }
    }
    Ok(changed.then_some(TakenOff { domain: text.domain.name, kept }))
}

/// Takes the NIC and the metadata out of the definition. Whether any of it was there.
fn detach_defined(
    libvirt: &Libvirt,
    text: &DomainText,
    name: &NetworkName,
    deadline: Deadline,
) -> Result<bool> {
    let Some(inactive) = &text.inactive else { return Ok(false) };
    let new = domain_xml::remove(inactive.as_bytes(), name, None)?;
    if new == inactive.as_bytes() {
        return Ok(false);
    }
    libvirt.define(&text_of(new)?, Some(inactive), deadline)?;
    Ok(true)
}

/// Takes a NIC out of a running domain, and only when it is gone makes its lease idle. Why it is not gone, where the
/// guest keeps it.
fn unplug(
    context: &Context,
    libvirt: &Libvirt,
    network: &Network,
    text: &DomainText,
    mac: MacAddress,
    deadline: Deadline,
) -> Result<Option<Fault>> {
    let owner = text.domain.uuid.clone();
    let device = domain_xml::interface_xml(network, mac);
    let detached = libvirt.detach(&DomainRef::Uuid(owner.clone()), &device, LIVE, deadline)?;
    if let Err(kept) = let_go(detached, text, mac, &network.name) {
        return Ok(Some(kept));
    }
    let which = Which { owner, macs: vec![mac], generation: None };
    release::release(context, &network.name, &which, false, deadline).map(|_| None)
}

/// A guest that has not let go of its NIC still uses the address.
fn let_go(detached: Detached, text: &DomainText, mac: MacAddress, network: &NetworkName) -> Result<()> {
    if !detached.pending {
        return Ok(());
    }
    Err(Fault::failed(format!(
        "domain {:?} has not let go of its NIC {mac} on network {network} yet, and keeps its address",
        text.domain.name
    ))
    .hint("do it again when the system inside runs; the NIC is gone at the domain's next stop in any case"))
}

/// The MACs that a domain's metadata names for a network.
fn asked_macs(xml: &[u8], name: &NetworkName) -> Vec<MacAddress> {
    let requests = Domain::read(xml).map(|d| d.requests).unwrap_or_default();
    requests.iter().flatten().filter(|r| r.network == *name).filter_map(|r| r.mac).collect()
}

/// The NIC of a domain on a network.
fn nic_of(xml: &[u8], network: &Network) -> Result<NicPlan> {
    let mut domain =
        Domain::read(xml).map_err(|e| Fault::failed(format!("the domain's XML can't be used: {e}")))?;
    // What it asks of other networks is not looked at here.
    domain.requests.retain(|r| r.as_ref().map_or(true, |r| r.network == network.name));
    let plans = domain_xml::plan(&domain, std::slice::from_ref(network))?;
    let asked = domain.requests.iter().flatten().find(|r| r.network == network.name).and_then(|r| r.mac);
    plans.into_iter().find(|p| asked.is_none_or(|mac| mac == p.mac)).ok_or_else(|| {
        Fault::missing(format!("domain {:?} has no NIC on network {}", domain.name, network.name))
    })
}

fn text_of(xml: Vec<u8>) -> Result<String> {
    String::from_utf8(xml).map_err(|e| Fault::failed("the domain's XML is not UTF-8").because(e))
}
