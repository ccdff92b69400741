//! Domains: read, define, change.

use hybrid_hook::host::libvirt::protocol::{
    Detached, Device, Domain, DomainRef, DomainText, METADATA_KEY, METADATA_NAMESPACE,
};
use hybrid_hook::model::{Fault, Invalid, Kind, OwnerId, Result};
use virt::connect::Connect;
use virt::domain::Domain as Handle;
use virt::sys;

use crate::trouble::{is_gone, trouble};
use crate::xml;

/// Every domain. One that goes while we look is left out.
pub(crate) fn list(connection: &Connect, with_xml: bool) -> Result<Vec<Domain>> {
    let mut domains = Vec::new();
    for handle in handles(connection)? {
        match describe(&handle, with_xml) {
            Ok(domain) => domains.push(domain),
            Err(fault) if fault.kind() == Kind::Missing => {}
            Err(fault) => return Err(fault),
        }
    }
    domains.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(domains)
}

/// One domain with its XML.
pub(crate) fn text(connection: &Connect, which: &DomainRef, secrets: bool) -> Result<DomainText> {
    let handle = find(connection, which)?;
    let domain = describe(&handle, false)?;
    let secure = if secrets { sys::VIR_DOMAIN_XML_SECURE } else { 0 };
    let read =
        |flags| handle.get_xml_desc(flags).map_err(|e| trouble(&format!("cannot read domain {which}"), &e));
    let inactive = domain.persistent.then(|| read(secure | sys::VIR_DOMAIN_XML_INACTIVE)).transpose()?;
    let live = domain.running.then(|| read(secure)).transpose()?;
    Ok(DomainText { domain, inactive, live })
}

/// Defines a domain, unless it changed since `replaces` was read.
pub(crate) fn define(connection: &Connect, text: &str, replaces: Option<&str>) -> Result<Domain> {
    if let Some(before) = replaces {
        let uuid: OwnerId = xml::text_at(before, &["domain", "uuid"])
            .ok_or_else(|| Fault::usage("the domain's XML that was read has no <uuid>"))?
            .trim()
            .parse()
            .map_err(|e: Invalid| Fault::from(e))?;
        let which = DomainRef::Uuid(uuid);
        let flags = sys::VIR_DOMAIN_XML_SECURE | sys::VIR_DOMAIN_XML_INACTIVE;
        let now = find(connection, &which)?
            .get_xml_desc(flags)
            .map_err(|e| trouble(&format!("cannot read domain {which}"), &e))?;
        if now != before {
            return Err(Fault::refused(format!("domain {which} was changed by somebody else meanwhile"))
                .hint("do it again: it starts from the domain as it is now"));
        }
    }
    let handle = Handle::define_xml_flags(connection, text, 0)
        .map_err(|e| trouble("libvirt does not take the domain", &e))?;
    describe(&handle, false)
}

/// Adds a device, wherever it is not yet. `false`: it was there already.
///
/// libvirt itself takes a second NIC with the same MAC, and then can remove neither.
pub(crate) fn attach(connection: &Connect, device: &Device) -> Result<bool> {
    let handle = find_to_change(connection, &device.domain, device.live, device.config)?;
    let mac = xml::mac_of_nic(&device.xml);
    // What is not a NIC is never taken for there already.
    let live = device.live && !has_nic(&handle, mac.as_deref(), 0)?.unwrap_or(false);
    let config =
        device.config && !has_nic(&handle, mac.as_deref(), sys::VIR_DOMAIN_XML_INACTIVE)?.unwrap_or(false);
    if !live && !config {
        return Ok(false);
    }
    handle
        .attach_device_flags(&device.xml, affects(live, config))
        .map_err(|e| trouble(&format!("cannot add the device to domain {}", device.domain), &e))?;
    Ok(true)
}

/// Removes a device, wherever it is. A NIC is known by its MAC.
///
/// libvirt waits 5 s for the running guest to let go, and calls it a success if it doesn't: that is
/// what `pending` tells.
pub(crate) fn detach(connection: &Connect, device: &Device) -> Result<Detached> {
    let handle = find_to_change(connection, &device.domain, device.live, device.config)?;
    let mac = xml::mac_of_nic(&device.xml);
    // What is not a NIC is never taken for gone already.
    let live = device.live && has_nic(&handle, mac.as_deref(), 0)?.unwrap_or(true);
    let config =
        device.config && has_nic(&handle, mac.as_deref(), sys::VIR_DOMAIN_XML_INACTIVE)?.unwrap_or(true);
    if !live && !config {
        return Ok(Detached { changed: false, pending: false });
    }
    match handle.detach_device_flags(&device.xml, affects(live, config)) {
        Ok(_) => {}
        // QEMU waits for the guest since an earlier call.
        Err(e) if live && !config && e.message().contains("already in the process of unplug") => {}
        Err(e) => {
            return Err(trouble(&format!("cannot remove the device from domain {}", device.domain), &e));
        }
    }
    let pending = live && has_nic(&handle, mac.as_deref(), 0)?.unwrap_or(false);
    Ok(Detached { changed: true, pending })
}

/// Whether a domain has a NIC of this MAC, with the flag INACTIVE in its definition; `None` without a MAC.
fn has_nic(handle: &Handle, mac: Option<&str>, flags: sys::virDomainXMLFlags) -> Result<Option<bool>> {
    let Some(mac) = mac else { return Ok(None) };
    match handle.get_xml_desc(flags) {
        Ok(text) => Ok(Some(xml::macs_of_nics(&text).iter().any(|m| m.eq_ignore_ascii_case(mac)))),
        Err(e) if is_gone(&e) => Ok(Some(false)),
        Err(e) => Err(trouble("cannot read a domain", &e)),
    }
}

/// Sets our metadata element, or removes it.
pub(crate) fn set_metadata(
    connection: &Connect,
    which: &DomainRef,
    element: Option<&str>,
    live: bool,
    config: bool,
) -> Result<()> {
    let element = element.map(|e| xml::without_prefix(e, METADATA_NAMESPACE)).transpose()?;
    find_to_change(connection, which, live, config)?
        .set_metadata(
            i32::try_from(sys::VIR_DOMAIN_METADATA_ELEMENT).unwrap_or(2),
            element.as_deref(),
            Some(METADATA_KEY),
            Some(METADATA_NAMESPACE),
            affects(live, config),
        )
        .map_err(|e| trouble(&format!("cannot set the metadata of domain {which}"), &e))?;
    Ok(())
}

/// Names of the domains that name this libvirt network in a NIC, running or defined.
pub(crate) fn users_of_network(connection: &Connect, network: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for handle in handles(connection)? {
        let texts = [0, sys::VIR_DOMAIN_XML_INACTIVE].map(|flags| handle.get_xml_desc(flags));
        let mut uses = false;
        for text in texts {
            match text {
                Ok(text) => uses |= xml::uses_network(&text, network),
                Err(e) if is_gone(&e) => {}
                Err(e) => return Err(trouble("cannot read a domain", &e)),
            }
        }
        if uses {
            names.push(handle.get_name().map_err(|e| trouble("cannot read a domain's name", &e))?);
        }
    }
    names.sort();
    Ok(names)
}

fn handles(connection: &Connect) -> Result<Vec<Handle>> {
    connection.list_all_domains(0).map_err(|e| trouble("cannot list the domains", &e))
}

fn find(connection: &Connect, which: &DomainRef) -> Result<Handle> {
    match which {
        DomainRef::Name(name) => Handle::lookup_by_name(connection, name),
        DomainRef::Uuid(uuid) => Handle::lookup_by_uuid_string(connection, uuid.as_str()),
    }
    .map_err(|error| {
        if is_gone(&error) {
            Fault::missing(format!("libvirt has no domain {which}")).hint("virsh list --all shows them")
        } else {
            trouble(&format!("cannot find domain {which}"), &error)
        }
    })
}

fn describe(handle: &Handle, with_xml: bool) -> Result<Domain> {
    let failed = |e| trouble("cannot read a domain", &e);
    let uuid = handle
        .get_uuid_string()
        .map_err(failed)?
        .parse()
        .map_err(|e: Invalid| Fault::failed(e.to_string()))?;
    let persistent = handle.is_persistent().map_err(failed)?;
    Ok(Domain {
        uuid,
        name: handle.get_name().map_err(failed)?,
        id: handle.get_id(),
        running: handle.is_active().map_err(failed)?,
        // Both are errors for a transient domain; some drivers have neither.
        managed_save: persistent && handle.has_managed_save(0).unwrap_or(false),
        autostart: persistent && handle.get_autostart().unwrap_or(false),
        persistent,
        xml: with_xml.then(|| handle.get_xml_desc(0)).transpose().map_err(failed)?,
    })
}

/// A domain in the state that the change needs.
fn find_to_change(connection: &Connect, which: &DomainRef, live: bool, config: bool) -> Result<Handle> {
    // Neither would mean "whichever it is now" to libvirt: never what was meant.
    if !live && !config {
        return Err(Fault::usage("neither the running domain nor its definition is to change"));
    }
    let handle = find(connection, which)?;
    let failed = |e| trouble(&format!("cannot read domain {which}"), &e);
    if live && !handle.is_active().map_err(failed)? {
        return Err(Fault::refused(format!("domain {which} is not running"))
            .hint("change its definition only: it takes effect at its next start"));
    }
    if config && !handle.is_persistent().map_err(failed)? {
        return Err(Fault::refused(format!("domain {which} is transient: it has no definition"))
            .hint("change it only while it runs"));
    }
    Ok(handle)
}

fn affects(live: bool, config: bool) -> sys::virDomainModificationImpact {
    let live = if live { sys::VIR_DOMAIN_AFFECT_LIVE } else { 0 };
    let config = if config { sys::VIR_DOMAIN_AFFECT_CONFIG } else { 0 };
    live | config
}
