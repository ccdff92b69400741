//! The network hook: ports of libvirt networks come and go. It never stops anything.

use crate::domain_xml::Port;
use crate::logging;
use crate::model::{ClaimRequest, DnsLabel, Origin, Owner, Result};
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
    let ours = |n: &&crate::model::Network| {
        port.network == n.libvirt_network.as_str() || port.bridge.as_deref() == Some(n.bridge.as_str())
    };
    let Some(network) = networks.iter().find(ours) else { return Answer::default() };
    logging::start();
    let deadline = super::deadline();
    watchdog::start(deadline, false, format!("{operation_name} of network {}", network.name));
    let done = Context::new(places).and_then(|context| -> Result<()> {
        let (Some(id), Some(mac)) = (port.owner, port.mac) else {
            log::info!("libvirt network {:?}: {operation_name}", port.network);
            return Ok(());
        };
        let lock = deadline.at_most(lock::patience());
        match operation {
            Operation::PortCreated => {
                // A lease that the qemu hook wrote, or will write, knows more than the port does.
                if ops::claim::held(&context, &network.name, mac, &id, lock)?.is_some() {
                    return Ok(());
                }
                let request = ClaimRequest {
                    hostname: port.owner_name.as_deref().and_then(DnsLabel::from_any),
                    owner: Owner { id, origin: Origin::Domain, name: port.owner_name },
                    mac,
                    ip: None,
                    aliases: Vec::new(),
                    groups: Vec::new(),
                    containers: None,
                    sole_nic: false,
                    avoid: Vec::new(),
                    // `prepare` comes before a domain's ports: this NIC was plugged in, and nobody has probed.
                    probe: true,
                };
                let granted = ops::claim::claim(&context, &network.name, request, lock)?;
                ops::render::lease(&context, &granted.network, &granted.lease, deadline)?;
                ops::wake::wake(&context.places);
            }
            Operation::PortDeleted => {
                // A NIC that was unplugged from a running domain: no qemu hook tells of it.
                let which = Which { owner: id, macs: vec![mac], generation: None };
                ops::release::release(&context, &network.name, &which, false, lock)?;
                ops::wake::wake(&context.places);
            }
            Operation::Lifecycle => log::info!("libvirt network {:?}: {operation_name}", port.network),
        }
        Ok(())
    });
    if let Err(fault) = done {
        log::error!("{operation_name} on network {}: {fault}", network.name);
    }
    Answer::default()
}
