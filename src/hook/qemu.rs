//! The qemu hook: a domain's life, from `prepare` to `release`.

use crate::deadline::Deadline;
use crate::domain_xml::{self, Domain, Glance, NicPlan, PlanFault};
use crate::host::bridge;
use crate::logging;
use crate::model::{Fault, LeaseState, Network, Origin, Owner, Result};
use crate::ops::release::Which;
use crate::ops::{self, Context};
use crate::places::Places;
use crate::registry::{lock, networks};

use super::{Answer, watchdog};

/// The operations that we know. Every other is answered with 0 at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Before anything of the domain exists.
    Prepare,
    /// The taps exist.
    Start,
    /// The guest runs.
    Started,
    /// It stopped; `release` follows.
    Stopped,
    /// All of it is gone.
    Release,
    /// A saved image is about to be loaded: a filter.
    Restore,
    /// A domain is about to come from another host: a filter.
    Migrate,
    /// The daemon found a running domain after its restart.
    Reconnect,
}

impl Operation {
    /// The operation of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "prepare" => Self::Prepare,
            "start" => Self::Start,
            "started" => Self::Started,
            "stopped" => Self::Stopped,
            "release" => Self::Release,
            "restore" => Self::Restore,
            "migrate" => Self::Migrate,
            "reconnect" => Self::Reconnect,
            _ => return None,
        })
    }

    /// Whether a failure may stop the domain.
    fn may_refuse(self) -> bool {
        matches!(self, Self::Prepare | Self::Start)
    }
}

/// Answers one call. `name` is the domain's as libvirt gave it; the XML has it too.
#[must_use]
pub fn answer(name: &str, operation: &str, xml: &[u8]) -> Answer {
    let Some(operation) = Operation::named(operation) else { return Answer::default() };
    let glance = Glance::of(xml);
    let places = Places::from_environment();
    if !glance.mentions_us && !networks::may_name(&places, &glance.names()) {
        return Answer::default();
    }
    let (networks, broken) = super::networks(&places);
    if !glance.concerns(&networks) {
        return Answer::default();
    }
    logging::start();
    let deadline = super::deadline();
    watchdog::start(deadline, operation.may_refuse(), format!("{operation:?} of domain {name:?}"));
    for fault in &broken {
        log::error!("{fault}");
    }
    let result =
        Context::new(places).and_then(|context| act(&context, operation, xml, &networks, broken, deadline));
    match result {
        Ok(output) => Answer { output, refusal: None },
        Err(fault) => {
            for fault in fault.each() {
                log::error!("{operation:?} of domain {name:?}: {fault}");
            }
            // `restore` and `migrate` only come back with the one failure that counts there.
            let counts =
                operation.may_refuse() || matches!(operation, Operation::Restore | Operation::Migrate);
            Answer { output: Vec::new(), refusal: counts.then_some(fault) }
        }
    }
}

fn act(
    context: &Context,
    operation: Operation,
    xml: &[u8],
    networks: &[Network],
    broken: Vec<Fault>,
    deadline: Deadline,
) -> Result<Vec<u8>> {
    match operation {
        Operation::Prepare => {
            let domain = Subject::read(xml, networks, broken)?;
            domain.claim(context, deadline)?;
        }
        Operation::Start => {
            let domain = Subject::read(xml, networks, broken)?;
            if !domain.holds_all(context, deadline.at_most(lock::patience()))? {
                domain.claim(context, deadline)?;
            }
            domain.pin_ports(networks, deadline);
        }
        Operation::Started | Operation::Reconnect => {
            let domain = Subject::read(xml, networks, broken)?;
            domain.note_running(context, deadline)?;
            ops::wake::wake(&context.places);
        }
        Operation::Release => {
            let released = match Subject::read(xml, networks, broken) {
                Ok(domain) => domain.release(context, deadline),
                // What it was to get can't be told any more, what it holds can: it runs no more.
                Err(fault) => match release_all(context, xml, networks, deadline) {
                    Ok(()) => Err(fault),
                    Err(other) => Err(fault.and(other)),
                },
            };
            ops::wake::wake(&context.places);
            released?;
        }
        // `release` follows at once and does it all.
        Operation::Stopped => {}
        Operation::Restore | Operation::Migrate => {
            return filter(context, operation, xml, networks, deadline);
        }
    }
    Ok(Vec::new())
}

/// A network that is asked for and whose file can't be read is no unknown one: the file is named first.
fn with_broken(fault: PlanFault, broken: Vec<Fault>) -> Fault {
    let file = match &fault {
        PlanFault::UnknownNetwork { network, .. } => format!("/{network}.toml "),
        _ => return Fault::from(fault),
    };
    match broken.into_iter().find(|b| b.to_string().contains(&file)) {
        Some(unreadable) => unreadable,
        None => Fault::from(fault),
    }
}

/// A domain with NICs of ours.
struct Subject {
    owner: Owner,
    nics: Vec<NicPlan>,
}

impl Subject {
    fn read(xml: &[u8], networks: &[Network], broken: Vec<Fault>) -> Result<Self> {
        let domain =
            Domain::read(xml).map_err(|e| Fault::failed(format!("the domain's XML can't be used: {e}")))?;
        let id = domain.uuid.clone().ok_or_else(|| Fault::failed("the domain's XML has no usable <uuid>"))?;
        let nics = match domain_xml::plan(&domain, networks) {
            Ok(nics) => nics,
            Err(fault) => return Err(with_broken(fault, broken)),
        };
        let name = Some(domain.name.chars().take(200).collect());
        Ok(Self { owner: Owner { id, origin: Origin::Domain, name }, nics })
    }

    /// Claims an address for each NIC and writes its DHCP reservation. All or none.
    fn claim(&self, context: &Context, deadline: Deadline) -> Result<()> {
        let mut granted: Vec<ops::claim::Granted> = Vec::new();
        for nic in &self.nics {
            match self.claim_for(context, nic, deadline, &mut granted) {
                Ok(()) => {}
                Err(fault) => {
                    // The last first: what one claim left, another may have taken.
                    let undone =
                        granted.iter().rev().map(|one| ops::claim::undo(context, one, deadline).err());
                    let fault = undone.flatten().fold(fault, Fault::and);
                    if granted.iter().any(|one| one.changed) {
                        // Somebody may have seen it meanwhile.
                        ops::wake::wake(&context.places);
                    }
                    return Err(fault);
                }
            }
        }
        for one in &granted {
            log::info!(
                "domain {:?}: {} on network {} for {}",
                self.owner.name.as_deref().unwrap_or_default(),
                one.lease.address,
                one.network.name,
                one.lease.mac.map(|m| m.to_string()).unwrap_or_default(),
            );
            if let Err(fault) = ops::render::lease(context, &one.network, &one.lease, deadline) {
                log::error!("{} is claimed, its DHCP entry is not written: {fault}", one.lease.address);
            }
        }
        if granted.iter().any(|one| one.changed) {
            ops::wake::wake(&context.places);
        }
        Ok(())
    }

    /// What one NIC gets: its address and, where one is asked for, a block beside it.
    fn claim_for(
        &self,
        context: &Context,
        nic: &NicPlan,
        deadline: Deadline,
        granted: &mut Vec<ops::claim::Granted>,
    ) -> Result<()> {
        if !ops::is_up(context, &nic.network)? {
            return Err(Fault::refused(format!("network {} is down", nic.network))
                .hint(format!("hybrid-hook network up {}", nic.network)));
        }
        let request = nic.claim(self.owner.clone());
        granted.push(ops::claim::claim(context, &nic.network, request, deadline.at_most(lock::patience()))?);
        let wait = deadline.at_most(lock::patience());
        if let Some(wanted) = self.block(nic) {
            granted.extend(ops::delegation::claim(context, &nic.network, &wanted, wait)?);
        } else if let Err(fault) =
            ops::delegation::forget(context, &nic.network, &self.owner.id, nic.mac, wait)
        {
            log::warn!("the block that {} no longer asks for is kept: {fault}", nic.mac);
        }
        Ok(())
    }

    fn block(&self, nic: &NicPlan) -> Option<ops::delegation::Wanted> {
        nic.request.block.map(|size| ops::delegation::Wanted {
            owner: self.owner.clone(),
            nic: nic.mac,
            size,
            groups: nic.request.groups.clone(),
        })
    }

    /// Whether `prepare` did its work: each NIC has an active lease.
    fn holds_all(&self, context: &Context, deadline: Deadline) -> Result<bool> {
        for nic in &self.nics {
            let held = ops::claim::held(context, &nic.network, nic.mac, &self.owner.id, deadline)?;
            if held.is_none_or(|l| l.state_now(&context.boot) != LeaseState::Active) {
                return Ok(false);
            }
            if let Some(wanted) = self.block(nic)
                && !ops::delegation::holds(context, &nic.network, &wanted)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The taps must be on our bridge, where libvirt put them: said, never changed. Each port gets
    /// its guest's MAC for good, so that no other port can draw its traffic.
    fn pin_ports(&self, networks: &[Network], deadline: Deadline) {
        for nic in &self.nics {
            let (Some(tap), Some(network)) = (&nic.tap, networks.iter().find(|n| n.name == nic.network))
            else {
                continue;
            };
            let done = match bridge::port(tap, deadline) {
                Ok(Some(port)) if port.master.as_deref() == Some(network.bridge.as_str()) => {
                    bridge::pin(tap, nic.mac, deadline)
                }
                Ok(Some(port)) => Err(Fault::failed(format!(
                    "tap {tap} is on {}, not on {}",
                    port.master.unwrap_or_else(|| "no bridge".to_owned()),
                    network.bridge
                ))),
                Ok(None) => Err(Fault::failed(format!("tap {tap} is not there"))),
                Err(fault) => Err(fault),
            };
            if let Err(fault) = done {
                log::warn!("domain {:?}: {fault}", self.owner.name.as_deref().unwrap_or_default());
            }
        }
    }

    fn note_running(&self, context: &Context, deadline: Deadline) -> Result<()> {
        for nic in &self.nics {
            ops::claim::note_running(
                context,
                &nic.network,
                nic.mac,
                &self.owner,
                nic.tap.clone(),
                deadline.at_most(lock::patience()),
            )?;
        }
        Ok(())
    }

    fn release(&self, context: &Context, deadline: Deadline) -> Result<()> {
        let mut faults = Vec::new();
        for nic in &self.nics {
            let block = nic.request.block.map(|size| size.macs(&nic.network, nic.mac));
            let macs = std::iter::once(nic.mac).chain(block.into_iter().flatten()).collect();
            let which = Which { owner: self.owner.id.clone(), macs, generation: None };
            match ops::release::release(
                context,
                &nic.network,
                &which,
                false,
                deadline.at_most(lock::patience()),
            ) {
                Ok(released) => {
                    for lease in released.idle {
                        log::info!("{} on network {} is idle", lease.address, nic.network);
                    }
                }
                // The other NICs are released all the same.
                Err(fault) => faults.push(fault),
            }
        }
        faults.into_iter().reduce(Fault::and).map_or(Ok(()), Err)
    }
}

/// Releases whatever a domain holds on any network, blocks included. Networks whose file or registry can't
/// be read do not keep the others from it.
fn release_all(context: &Context, xml: &[u8], networks: &[Network], deadline: Deadline) -> Result<()> {
    let domain =
        Domain::read(xml).map_err(|e| Fault::failed(format!("the domain's XML can't be used: {e}")))?;
    let id = domain.uuid.ok_or_else(|| Fault::failed("the domain's XML has no usable <uuid>"))?;
    let mut faults = Vec::new();
    for network in networks {
        match ops::release::release_all(context, &network.name, &id, deadline.at_most(lock::patience())) {
            Ok(idle) => {
                for lease in idle {
                    log::info!("{} on network {} is idle", lease.address, network.name);
                }
            }
            Err(fault) => faults.push(fault),
        }
    }
    faults.into_iter().reduce(Fault::and).map_or(Ok(()), Err)
}

/// `restore` and `migrate`: the NICs come back on the right bridge. Only an address that is another's
/// by now stops them; the XML is left alone where it can't be read.
fn filter(
    context: &Context,
    operation: Operation,
    xml: &[u8],
    networks: &[Network],
    deadline: Deadline,
) -> Result<Vec<u8>> {
    let filtered = domain_xml::restore_filter(xml, networks);
    // As it will be: a NIC that is not on our bridge now may be on it then.
    let domain = match Subject::read(filtered.as_deref().unwrap_or(xml), networks, Vec::new()) {
        Ok(domain) => domain,
        Err(fault) => {
            log::warn!("{operation:?}: addresses are not checked: {fault}");
            return Ok(filtered.unwrap_or_default());
        }
    };
    for nic in &domain.nics {
        let patience = deadline.at_most(lock::patience());
        let other = if nic.request.ip.is_some() {
            let request = nic.claim(domain.owner.clone());
            ops::claim::in_the_way(context, &nic.network, &request, patience)
        } else {
            ops::claim::taken_from(context, &nic.network, nic.mac)
        };
        match other {
            Ok(None) => {}
            Ok(Some(fault)) => return Err(fault),
            Err(fault) => log::warn!("{operation:?}: not checked: {fault}"),
        }
    }
    Ok(filtered.unwrap_or_default())
}

#[cfg(test)]
mod tests;
