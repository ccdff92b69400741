//! Settle: what follows from the registry without touching bridge or firewall: names, DHCP, the
//! snapshot, containers beside VMs, garbage. The service does it when it is woken; without one, a
//! detached child does it once.

use std::cell::RefCell;

use crate::deadline::Deadline;
use crate::host::docker::Docker;
use crate::host::libvirt::Libvirt;
use crate::host::libvirt::protocol::DEFAULT_URI;
use crate::model::{Fault, Network, Result};

use super::gc::{self, Known};
use super::{Context, containers, network, surroundings, wake};

/// Names, DHCP and the snapshot of every network that is up. Asks neither Docker nor libvirt.
pub fn names(context: &Context, deadline: Deadline) -> Vec<Fault> {
    each(context, |network, _| {
        surroundings::write_names(context, network, deadline)?;
        network::publish(context, network, true)
    })
}

/// The host's resolver asks ours, for every network that is up.
pub fn host_names(context: &Context, deadline: Deadline) -> Vec<Fault> {
    each(context, |network, _| surroundings::host_names(context, network, deadline).map(drop))
}

/// What is to be told of a round of containers.
#[derive(Debug, Default)]
pub struct Round {
    /// What failed.
    pub faults: Vec<Fault>,
    /// What containers' labels ask for in vain, and what of them could not be read: nothing failed.
    pub notes: Vec<Fault>,
}

impl Round {
    /// All of it, for a log.
    #[must_use]
    pub fn all(self) -> Vec<Fault> {
        self.faults.into_iter().chain(self.notes).collect()
    }
}

/// Containers that VMs want beside them, and those that they no longer want.
pub fn containers(context: &Context, deadline: Deadline) -> Round {
    let mut round = Round::default();
    match Docker::connect(deadline.at_most(super::ASK)) {
        Ok(docker) => {
            let notes = RefCell::new(Vec::new());
            round.faults = each(context, |network, left| {
                // A network where much is to be done leaves time for those after it.
                let until = deadline.at_most(deadline.left() / left);
                notes.borrow_mut().extend(containers::attach(context, network, &docker, until)?);
                Ok(())
            });
            round.notes = notes.into_inner();
        }
        // Absent: there is nothing to attach. The next apply finds it.
        Err(fault) if fault.kind() == crate::model::Kind::Missing => {}
        Err(fault) => round.faults.push(fault),
    }
    round
}

/// Frees what nobody can come back to, as far as libvirt and Docker can be asked.
pub fn garbage(context: &Context, deadline: Deadline) -> Vec<Fault> {
    let known = known(deadline);
    each(context, |network, _| {
        let (network, collected) = gc::collect(context, &network.name, &known, deadline)?;
        for lease in &collected.freed {
            let what = if lease.reserved { "reserved again" } else { "free" };
            log::info!("{} on network {} is {what}: {} is gone", lease.address, network.name, lease.holder());
        }
        for lease in &collected.idled {
            log::info!(
                "{} on network {} is idle: {} does not run",
                lease.address,
                network.name,
                lease.holder()
            );
        }
        if collected.freed.is_empty() && collected.idled.is_empty() {
            return Ok(());
        }
        // Containers that came for such a VM are let go at once, by the service: there the call ends up.
        wake::nudge(&context.places);
        surroundings::write_names(context, &network, deadline)?;
        network::publish(context, &network, true)
    })
}

/// Which owners libvirt and Docker know now. Asked side by side: one that hangs does not hold up the
/// other's answer for long.
///
/// libvirt is this host's system daemon, whatever `LIBVIRT_DEFAULT_URI` says: only that one runs our hooks, and
/// another would not know whose leases these are.
#[must_use]
pub fn known(deadline: Deadline) -> Known {
    let ask = deadline.at_most(super::ASK);
    let mut known = Known::default();
    std::thread::scope(|scope| {
        let containers = scope.spawn(|| Docker::connect(ask).and_then(|d| d.containers(ask)));
        if let Ok(domains) = Libvirt::find().and_then(|l| l.connect(DEFAULT_URI).domains(false, ask)) {
            known.running = Some(domains.iter().filter(|d| d.running).map(|d| d.uuid.clone()).collect());
            known.domains = Some(domains.into_iter().map(|d| d.uuid).collect());
        }
        if let Ok(Ok(listing)) = containers.join() {
            known.containers = listing.ids();
        }
    });
    known
}

/// Does it for each network that is up; `act` is told how many there are to go, itself among them.
fn each(context: &Context, act: impl Fn(&Network, u32) -> Result<()>) -> Vec<Fault> {
    match surroundings::up_networks(context) {
        Ok((networks, mut faults)) => {
            let left = (1..=networks.len() as u32).rev();
            faults.extend(networks.iter().zip(left).filter_map(|(network, left)| act(network, left).err()));
            faults
        }
        Err(fault) => vec![fault],
    }
}
