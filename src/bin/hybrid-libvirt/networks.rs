//! Libvirt networks: read, make ours stand, remove ours.

use hybrid_hook::host::libvirt::LibvirtNetwork;
use hybrid_hook::model::{DockerName, Fault, InterfaceName, Invalid, Kind, Result, Uuid};
use virt::connect::Connect;
use virt::error::ErrorNumber;
use virt::network::Network as Handle;
use virt::sys;

use crate::trouble::{is_gone, trouble};
use crate::{domains, xml};

/// Every network. One that goes while we look is left out.
pub(crate) fn list(connection: &Connect) -> Result<Vec<LibvirtNetwork>> {
    Ok(all(connection)?.into_iter().map(|(network, _)| network).collect())
}

fn all(connection: &Connect) -> Result<Vec<(LibvirtNetwork, Handle)>> {
    let mut networks = Vec::new();
    let handles =
        connection.list_all_networks(0).map_err(|e| trouble("cannot list libvirt's networks", &e))?;
    for handle in handles {
        match describe(&handle) {
            Ok(network) => networks.push((network, handle)),
            Err(fault) if fault.kind() == Kind::Missing => {}
            Err(fault) => return Err(fault),
        }
    }
    networks.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    Ok(networks)
}

fn describe(handle: &Handle) -> Result<LibvirtNetwork> {
    let failed = |e| trouble("cannot read a libvirt network", &e);
    let text = handle.get_xml_desc(0).map_err(failed)?;
    let facts = xml::network_facts(&text);
    let persistent = handle.is_persistent().map_err(failed)?;
    Ok(LibvirtNetwork {
        name: handle.get_name().map_err(failed)?,
        uuid: handle
            .get_uuid_string()
            .map_err(failed)?
            .parse()
            .map_err(|e: Invalid| Fault::failed(e.to_string()))?,
        active: handle.is_active().map_err(failed)?,
        autostart: persistent && handle.get_autostart().map_err(failed)?,
        persistent,
        forward: facts.forward,
        bridge: facts.bridge,
        subnets: facts.subnets,
        xml: text,
    })
}

/// A step to make our network stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Take it out of service, and define it no more: it has another name.
    Remove,
    /// Take it out of service: it is on another bridge.
    Stop,
    /// Define it, new or again.
    Define,
    /// Put it into service.
    Start,
    /// Have it started with the daemon.
    Autostart,
}

/// What stands of our network: as it is in service, and as it is defined.
#[derive(Debug, Clone, Copy)]
struct Standing<'a> {
    network: &'a LibvirtNetwork,
    defined_bridge: Option<&'a str>,
}

/// The steps from what stands to what should. Pure.
fn plan(standing: Option<Standing<'_>>, name: &str, bridge: &str) -> Vec<Step> {
    let Some(Standing { network, defined_bridge }) = standing else {
        return vec![Step::Define, Step::Start, Step::Autostart];
    };
    if network.name != name {
        return vec![Step::Remove, Step::Define, Step::Start, Step::Autostart];
    }
    let right = |b: Option<&str>, forward: Option<&str>| b == Some(bridge) && forward == Some("bridge");
    let live_wrong = network.active && !right(network.bridge.as_deref(), network.forward.as_deref());
    let mut steps = Vec::new();
    if live_wrong {
        steps.push(Step::Stop);
    }
    if !network.persistent || !right(defined_bridge, network.forward.as_deref()) {
        steps.push(Step::Define);
    }
    if live_wrong || !network.active {
        steps.push(Step::Start);
    }
    if !network.autostart {
        steps.push(Step::Autostart);
    }
    steps
}

/// Makes our network stand: defined, in service, autostarted. `false`: it did already.
pub(crate) fn ensure(
    connection: &Connect,
    name: &DockerName,
    uuid: Uuid,
    bridge: &InterfaceName,
) -> Result<bool> {
    let networks = all(connection)?;
    check_name_is_ours(&networks, name, uuid)?;
    let ours = networks.iter().find(|(n, _)| n.uuid == uuid);
    let before = ours.map(|(n, handle)| defined(n, handle)).transpose()?.flatten();
    let facts = before.as_deref().map(xml::network_facts);
    let standing = ours.map(|(network, _)| Standing {
        network,
        defined_bridge: facts.as_ref().and_then(|f| f.bridge.as_deref()),
    });
    let steps = plan(standing, name.as_str(), bridge.as_str());
    if let Some((network, _)) = ours
        && (steps.contains(&Step::Remove) || steps.contains(&Step::Stop))
    {
        check_unused(connection, &network.name, "changed", "detach it first: hybrid-hook detach")?;
    }

    let mut handle = ours.map(|(_, handle)| handle.clone());
    let mut done = Vec::new();
    for step in &steps {
        let result = take(connection, *step, &mut handle, || xml::network(name, uuid, bridge));
        if let Err(fault) = result {
            return Err(undo(connection, &done, handle.as_ref(), before.as_deref(), fault));
        }
        done.push(*step);
    }
    Ok(!steps.is_empty())
}

fn take(
    connection: &Connect,
    step: Step,
    handle: &mut Option<Handle>,
    text: impl Fn() -> String,
) -> Result<()> {
    match step {
        Step::Remove => handle.take().map_or(Ok(()), |h| take_away(&h)),
        Step::Define => {
            let fresh = Handle::define_xml(connection, &text())
                .map_err(|e| trouble("libvirt does not take the network", &e))?;
            *handle = Some(fresh);
            Ok(())
        }
        Step::Stop => with(handle, "stop", |h| h.destroy()),
        Step::Start => with(handle, "start", |h| h.create().map(drop)),
        Step::Autostart => with(handle, "autostart", |h| h.set_autostart(true).map(drop)),
    }
}

fn with(
    handle: &Option<Handle>,
    verb: &str,
    call: impl FnOnce(&Handle) -> Result<(), virt::error::Error>,
) -> Result<()> {
    let Some(handle) = handle else { return Ok(()) };
    call(handle).map_err(|e| trouble(&format!("cannot {verb} the libvirt network"), &e))
}

/// Back to what stood, as far as it goes; what doesn't is said, too.
fn undo(
    connection: &Connect,
    done: &[Step],
    handle: Option<&Handle>,
    before: Option<&str>,
    mut fault: Fault,
) -> Fault {
    let mut also = |result: Result<(), virt::error::Error>, what: &str| {
        if let Err(e) = result {
            let taken = std::mem::replace(&mut fault, Fault::failed(""));
            fault = taken.and(trouble(what, &e));
        }
    };
    let was_made = done.contains(&Step::Define) && before.is_none() || done.contains(&Step::Remove);
    if was_made && let Some(handle) = handle {
        if done.contains(&Step::Start) {
            also(handle.destroy(), "cannot stop the libvirt network again");
        }
        if done.contains(&Step::Define) {
            also(handle.undefine(), "cannot undefine the libvirt network again");
        }
    }
    let Some(before) = before.filter(|_| !done.is_empty()) else { return fault };
    match Handle::define_xml(connection, before) {
        Ok(old) => {
            if done.contains(&Step::Stop) || done.contains(&Step::Remove) {
                also(old.create().map(drop), "cannot start the former libvirt network again");
                also(old.set_autostart(true).map(drop), "cannot autostart the former libvirt network");
            }
        }
        Err(e) => also(Err(e), "cannot define the former libvirt network again"),
    }
    fault
}

/// Removes our network. `false`: it was gone already.
pub(crate) fn remove(connection: &Connect, name: &DockerName, uuid: Uuid, force: bool) -> Result<bool> {
    let networks = all(connection)?;
    let Some((network, handle)) = networks.iter().find(|(n, _)| n.uuid == uuid) else {
        // Somebody else's of that name is none of our business unless it was meant.
        check_name_is_ours(&networks, name, uuid)?;
        return Ok(false);
    };
    if !force {
        check_unused(
            connection,
            &network.name,
            "removed",
            "detach it first: hybrid-hook detach; or use --force",
        )?;
    }
    take_away(handle)?;
    Ok(true)
}

/// Stops and undefines; what is gone already is fine.
fn take_away(handle: &Handle) -> Result<()> {
    let tolerate = |result: Result<(), virt::error::Error>, verb: &str| match result {
        Err(e) if !is_gone(&e) => Err(trouble(&format!("cannot {verb} the libvirt network"), &e)),
        _ => Ok(()),
    };
    let failed = |e| trouble("cannot read the libvirt network", &e);
    let or_gone = |result: Result<bool, virt::error::Error>| match result {
        Err(e) if is_gone(&e) => Ok(false),
        other => other.map_err(failed),
    };
    // In this order a failure leaves it defined, and the next try finds it.
    if or_gone(handle.is_active())? {
        tolerate(handle.destroy(), "stop")?;
    }
    if or_gone(handle.is_persistent())? {
        tolerate(handle.undefine(), "undefine")?;
    }
    Ok(())
}

/// The network as it is defined; none for a transient one.
fn defined(network: &LibvirtNetwork, handle: &Handle) -> Result<Option<String>> {
    if !network.persistent {
        return Ok(None);
    }
    let flags = if network.active { sys::VIR_NETWORK_XML_INACTIVE } else { 0 };
    handle
        .get_xml_desc(flags)
        // The test driver knows no such flag: there both are the same.
        .or_else(|e| if e.code() == ErrorNumber::InvalidArg { handle.get_xml_desc(0) } else { Err(e) })
        .map(Some)
        .map_err(|e| trouble("cannot read a libvirt network", &e))
}

fn check_name_is_ours(networks: &[(LibvirtNetwork, Handle)], name: &DockerName, uuid: Uuid) -> Result<()> {
    match networks.iter().find(|(n, _)| n.name == name.as_str()) {
        Some((other, _)) if other.uuid != uuid => Err(Fault::refused(format!(
            "libvirt has a network {name} already, which is not ours (UUID {})",
            other.uuid
        ))
        .hint(format!(
            "choose another name with --libvirt-network, or remove that one: virsh net-undefine {name}"
        ))),
        _ => Ok(()),
    }
}

fn check_unused(connection: &Connect, name: &str, verb: &str, hint: &str) -> Result<()> {
    let users = domains::users_of_network(connection, name)?;
    let Some(first) = users.first() else { return Ok(()) };
    let more = match users.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    Err(Fault::refused(format!("libvirt network {name} can't be {verb}: domain {first:?}{more} uses it"))
        .hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, bridge: &str) -> Result<LibvirtNetwork> {
        Ok(LibvirtNetwork {
            name: name.into(),
            uuid: "2404765c-db90-8c00-ac65-7d3d78677cc4".parse()?,
            active: true,
            autostart: true,
            persistent: true,
            forward: Some("bridge".into()),
            bridge: Some(bridge.into()),
            subnets: Vec::new(),
            xml: String::new(),
        })
    }

    fn steps(network: &LibvirtNetwork, defined_bridge: Option<&str>) -> Vec<Step> {
        plan(Some(Standing { network, defined_bridge }), "net", "hybr0")
    }

    #[test]
    fn what_stands_is_left_alone() -> Result<()> {
        assert_eq!(steps(&network("net", "hybr0")?, Some("hybr0")), []);
        assert_eq!(plan(None, "net", "hybr0"), [Step::Define, Step::Start, Step::Autostart]);
        Ok(())
    }

    #[test]
    fn only_what_is_missing_is_done() -> Result<()> {
        let good = network("net", "hybr0")?;
        let stopped = LibvirtNetwork { active: false, autostart: false, ..good.clone() };
        assert_eq!(steps(&stopped, Some("hybr0")), [Step::Start, Step::Autostart]);
        let transient = LibvirtNetwork { persistent: false, autostart: false, ..good.clone() };
        assert_eq!(steps(&transient, None), [Step::Define, Step::Autostart]);
        // Edited with virsh: it takes effect only at the network's next start.
        assert_eq!(steps(&good, Some("br9")), [Step::Define]);
        Ok(())
    }

    #[test]
    fn another_bridge_or_name_means_a_restart() -> Result<()> {
        let old = network("net", "hybr9")?;
        assert_eq!(steps(&old, Some("hybr9")), [Step::Stop, Step::Define, Step::Start]);
        assert_eq!(steps(&old, Some("hybr0")), [Step::Stop, Step::Start]);
        let renamed = network("old", "hybr0")?;
        assert_eq!(
            steps(&renamed, Some("hybr0")),
            [Step::Remove, Step::Define, Step::Start, Step::Autostart]
        );
        Ok(())
    }
}
