//! The network hook: ports of libvirt networks come and go. It never stops anything.

use crate::deadline::Deadline;
use crate::domain_xml::Port;
use crate::host::bridge;
use crate::logging;
use crate::model::{ClaimRequest, DnsLabel, LeaseState, Network, Origin, Owner, Result};
use crate::ops::release::Which;
use crate::ops::{self, Context};
use crate::places::Places;
use crate::registry::lock;

use super::{Answer, watchdog};

/// The operations that we know. Every other is answered with 0 at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A port was made for a NIC; also for every port when the daemon starts.
    PortCreated,
    /// A NIC's port is gone.
    PortDeleted,
    /// The network itself started, was changed or stopped.
    Lifecycle,
}

impl Operation {
    /// The operation of this name; `plugged` and `unplugged` are those of libvirt before 6.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "port-created" | "plugged" => Self::PortCreated,
            "port-deleted" | "unplugged" => Self::PortDeleted,
            "start" | "started" | "updated" | "stopped" => Self::Lifecycle,
            _ => return None,
        })
    }
}

/// Answers one call; always without a refusal.
#[must_use]
pub fn answer(operation_name: &str, xml: &[u8]) -> Answer {
    let Some(operation) = Operation::named(operation_name) else { return Answer::default() };
    let Ok(port) = Port::read(xml) else { return Answer::default() };
    let places = Places::from_environment();
    let (networks, _) = super::networks(&places);
    let ours = |n: &&Network| {
        port.network == n.libvirt_network.as_str() || port.bridge.as_deref() == Some(n.bridge.as_str())
    };
    let Some(network) = networks.iter().find(ours) else { return Answer::default() };
    logging::start();
    let deadline = super::deadline();
    watchdog::start(deadline, false, format!("{operation_name} of network {}", network.name));
    let done = Context::new(places)
        .and_then(|context| act(&context, operation, operation_name, port, network, deadline));
    if let Err(fault) = done {
        for fault in fault.each() {
            log::error!("{operation_name} on network {}: {fault}", network.name);
        }
    }
    Answer::default()
}

fn act(
    context: &Context,
    operation: Operation,
    operation_name: &str,
    port: Port,
    network: &Network,
    deadline: Deadline,
) -> Result<()> {
    let (Some(id), Some(mac)) = (port.owner, port.mac) else {
        log::info!("libvirt network {:?}: {operation_name}", port.network);
        return Ok(());
    };
    let lock = deadline.at_most(lock::patience());
    match operation {
        Operation::PortCreated => {
            let hostname = port.owner_name.as_deref().and_then(DnsLabel::from_any);
            let owner = Owner { id, origin: Origin::Domain, name: port.owner_name };
            // A lease that the qemu hook wrote knows more than the port does.
            match ops::claim::held(context, &network.name, mac, &owner.id, lock)? {
                Some(lease) if lease.state_now(&context.boot) == LeaseState::Active => return Ok(()),
                // The NIC was unplugged, and is back: its address is in use again, all else as it was. One that does
                // not fit any more is claimed anew.
                Some(lease) if network.may_lease_to_vm(lease.address).is_ok() => {
                    let lease = ops::claim::note_running(context, &network.name, mac, &owner, None, lock)?;
                    if let Some(lease) = lease {
                        ops::render::lease(context, network, &lease, deadline)?;
                        ops::wake::wake(&context.places);
                        return Ok(());
                    }
                }
                _ => {}
            }
            let request = ClaimRequest {
                hostname,
                // `prepare` comes before a domain's ports: this NIC was plugged in, and nobody has probed.
                probe: true,
                ..ClaimRequest::of(owner, mac)
            };
            let granted = ops::claim::claim(context, &network.name, request, lock)?;
            ops::render::lease(context, &granted.network, &granted.lease, deadline)?;
            ops::wake::wake(&context.places);
        }
        Operation::PortDeleted => {
            // A NIC that is changed while the guest runs gets a new port before its old one goes, and keeps
            // its tap. One that is unplugged loses its tap first.
            if bridge::has_tap_of(&network.bridge, mac, deadline)? {
                return Ok(());
            }
            // A NIC that was unplugged from a running domain: no qemu hook tells of it.
            let which = Which { owner: id, macs: vec![mac], generation: None };
            ops::release::release(context, &network.name, &which, false, lock)?;
            ops::wake::wake(&context.places);
        }
        Operation::Lifecycle => log::info!("libvirt network {:?}: {operation_name}", port.network),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Host, soon};
    use super::*;

    const VM: &str = "c7a5fdbd-edaf-9455-926a-d65c16db1809";

    fn port(host: &Host, operation: Operation) -> Result<()> {
        let port = Port {
            network: "hybrid-net".into(),
            bridge: None,
            owner: Some(VM.parse()?),
            owner_name: Some("db".into()),
            mac: Some("52:54:00:00:00:01".parse()?),
        };
        let network = host.networks.first().ok_or_else(|| crate::model::Fault::failed("no network"))?;
        act(&host.context, operation, "port", port, network, soon())
    }

    #[test]
    fn a_nic_that_is_plugged_in_again_has_its_lease_as_it_was() -> Result<()> {
        let host = Host::new()?;
        let name = "hybrid".parse()?;
        port(&host, Operation::PortCreated)?;
        // As by `attach` with wishes: a port knows nothing of these.
        crate::registry::Registry::of(&host.context.places, &name).change(soon(), |_, leases| {
            for mut lease in leases.all()? {
                lease.aliases = vec!["pg".parse()?];
                lease.containers = Some("label=a".parse()?);
                leases.put(lease)?;
            }
            Ok(())
        })?;
        let before = host.leases()?;
        port(&host, Operation::PortDeleted)?;
        assert_eq!(host.told()?, ["10.0.1.128 01 idle"]);
        port(&host, Operation::PortCreated)?;
        assert_eq!(host.told()?, ["10.0.1.128 01 active"]);
        let after = host.leases()?;
        let kept = |l: &crate::model::Lease| {
            (l.hostname.clone(), l.aliases.clone(), l.containers.clone(), l.generation, l.since)
        };
        assert_eq!(after.iter().map(kept).collect::<Vec<_>>(), before.iter().map(kept).collect::<Vec<_>>());
        assert!(after.iter().all(|l| l.running && l.boot.as_ref() == Some(&host.context.boot)));
        Ok(())
    }
}
