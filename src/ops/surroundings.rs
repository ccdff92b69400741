//! A network's surroundings: everything outside the registry that is rendered from it, in order.

use crate::deadline::Deadline;
use crate::host::docker::Docker;
use crate::host::libvirt::Libvirt;
use crate::host::{Change, bridge, dns, firewall, sysctl};
use crate::model::{Fault, Lease, Network, NetworkName, Result};
use crate::registry::{Registry, networks, status};

use super::{Context, render};

/// One thing that was looked at and, where needed, made.
#[derive(Debug)]
pub struct Step {
    /// What it is, such as `bridge hybr0`.
    pub what: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a step.
#[derive(Debug)]
pub enum Outcome {
    /// It stood as it should.
    Unchanged,
    /// It was made, or made right.
    Made,
    /// It is not there to be asked; the next `apply` makes up for it.
    Later(Fault),
    /// It failed.
    Failed(Fault),
}

/// How much is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Bridge, kernel settings, NAT and DNS: what must be there before Docker and libvirt start, and
    /// asks neither.
    Boot,
    /// Everything.
    Whole,
}

/// What was done for one network.
#[derive(Debug)]
pub struct Report {
    /// The network.
    pub network: NetworkName,
    /// The steps, in their order.
    pub steps: Vec<Step>,
}

impl Report {
    fn of(network: &NetworkName) -> Self {
        Self { network: network.clone(), steps: Vec::new() }
    }

    fn add(&mut self, what: impl Into<String>, result: Result<Change>) {
        let outcome = match result {
            Ok(Change::None) => Outcome::Unchanged,
            Ok(Change::Made) => Outcome::Made,
            Err(fault) => Outcome::Failed(fault),
        };
        self.steps.push(Step { what: what.into(), outcome });
    }

    fn later(&mut self, what: impl Into<String>, fault: Fault) {
        self.steps.push(Step { what: what.into(), outcome: Outcome::Later(fault) });
    }

    /// Whether anything was made.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.steps.iter().any(|s| matches!(s.outcome, Outcome::Made))
    }

    /// The report where nothing failed; else one fault with the others beside it.
    pub fn into_result(self) -> Result<Self> {
        if !self.has_failed() {
            return Ok(self);
        }
        let failed = |step: Step| match step.outcome {
            Outcome::Failed(fault) => Some(fault),
            _ => None,
        };
        let faults = self.steps.into_iter().filter_map(failed).reduce(Fault::and);
        Err(faults.unwrap_or_else(|| Fault::failed(format!("network {}", self.network))))
    }

    /// Whether a step failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.steps.iter().any(|s| matches!(s.outcome, Outcome::Failed(_)))
    }
}

/// Renders all of it. `stop_early` ends at the first failure, for a caller that then undoes; without
/// it every step has its chance. The operation lock must be held.
pub(super) fn raise(
    context: &Context,
    network: &Network,
    extent: Extent,
    stop_early: bool,
    deadline: Deadline,
) -> Report {
    let mut report = Report::of(&network.name);
    let steps: [(String, &dyn Fn() -> Result<Change>); 4] = [
        (format!("bridge {}", network.bridge), &|| bridge::ensure(network, deadline)),
        ("forwarding".to_owned(), &|| forwarding(context, network, deadline)),
        ("NAT".to_owned(), &|| nat(context, deadline)),
        ("DHCP and DNS".to_owned(), &|| names(context, network, deadline)),
    ];
    for (what, step) in steps {
        report.add(what, step());
        if stop_early && report.has_failed() {
            return report;
        }
    }
    if extent == Extent::Whole {
        let what = format!("Docker network {}", network.docker_network);
        match Docker::connect(deadline) {
            Ok(docker) => report.add(what, docker.ensure_network(network, deadline)),
            Err(fault) => report.later(what, fault),
        }
        if stop_early && report.has_failed() {
            return report;
        }
        let what = format!("libvirt network {}", network.libvirt_network);
        match Libvirt::find().and_then(|l| l.version(deadline).map(|_| l)) {
            Ok(libvirt) => report.add(what, libvirt.ensure_network(network, deadline)),
            Err(fault) => report.later(what, fault),
        }
        report.add("ports", put_ports_back(context, network, deadline));
    }
    report
}

/// Takes all of it away. What is gone already is fine; every step has its chance.
pub(super) fn lower(context: &Context, network: &Network, deadline: Deadline) -> Report {
    let mut report = Report::of(&network.name);
    let what = format!("libvirt network {}", network.libvirt_network);
    match Libvirt::find().and_then(|l| l.version(deadline).map(|_| l)) {
        Ok(libvirt) => report.add(what, libvirt.remove_network(network, true, deadline)),
        Err(fault) => report.later(what, fault),
    }
    let what = format!("Docker network {}", network.docker_network);
    match Docker::connect(deadline) {
        Ok(docker) => report.add(what, docker.remove_network(network, true, deadline)),
        Err(fault) => report.later(what, fault),
    }
    report.add("DHCP and DNS", dns::stop(network, &context.places, deadline));
    report.add("NAT", nat(context, deadline));
    report.add("forwarding", restore_forwarding(context, network, deadline));
    report.add(format!("bridge {}", network.bridge), bridge::remove(network, deadline));
    report
}

/// Forwarding for the bridge and the uplinks, each uplink's former value remembered.
fn forwarding(context: &Context, network: &Network, deadline: Deadline) -> Result<Change> {
    let uplinks = bridge::uplinks(deadline)?;
    let mut status = status::load(&context.places, &network.name)?;
    for uplink in uplinks.iter().filter(|_| network.nat) {
        if !status.uplinks.contains_key(uplink)
            && let Some(before) = sysctl::forwarding(uplink)?
        {
            status.uplinks.insert(uplink.clone(), before);
        }
    }
    // Remembered before it is changed: a crash between the two must not lose the former value.
    status::store(&context.places, &network.name, &status)?;
    sysctl::ensure(network, &uplinks)
}

/// Puts each uplink's forwarding back, unless another network of ours still needs it.
fn restore_forwarding(context: &Context, network: &Network, deadline: Deadline) -> Result<Change> {
    let _ = deadline;
    let mut status = status::load(&context.places, &network.name)?;
    let others: Vec<_> = up_networks(context)?.0.into_iter().filter(|n| n.name != network.name).collect();
    let mut change = Change::None;
    for (uplink, before) in std::mem::take(&mut status.uplinks) {
        let mut needed = false;
        for other in &others {
            let mut theirs = status::load(&context.places, &other.name)?;
            if let Some(value) = theirs.uplinks.get_mut(&uplink) {
                // The other one remembers what was there before either of us.
                *value &= before;
                status::store(&context.places, &other.name, &theirs)?;
                needed = true;
            }
        }
        if !needed {
            change = change.or(sysctl::restore_forwarding(&uplink, before)?);
        }
    }
    status::store(&context.places, &network.name, &status)?;
    Ok(change)
}

/// The one table of all networks that are up.
fn nat(context: &Context, deadline: Deadline) -> Result<Change> {
    let (networks, _) = up_networks(context)?;
    if networks.is_empty() { firewall::remove(deadline) } else { firewall::apply(&networks, deadline) }
}

/// dnsmasq's files as a whole, and the process.
fn names(context: &Context, network: &Network, deadline: Deadline) -> Result<Change> {
    let change = dns::write_static(network, &context.places)?;
    Ok(change.or(write_names(context, network, deadline)?).or(dns::ensure_running(network, &context.places, deadline)?))
}

/// Every lease's files, read from the registry under the lock of the files.
pub(super) fn write_names(context: &Context, network: &Network, deadline: Deadline) -> Result<Change> {
    let guard = render::lock(&context.places, &network.name, deadline)?;
    let leases = Registry::of(&context.places, &network.name).read()?;
    let fitting: Vec<Lease> = leases.into_iter().filter(|l| network.may_lease(l.address).is_ok()).collect();
    let (change, reload) = dns::write_all(network, &context.places, &fitting)?;
    drop(guard);
    if reload.needed() {
        dns::reload(network, &context.places, deadline)?;
    }
    Ok(change)
}

/// Taps and containers' veths that lost their bridge go back on it.
fn put_ports_back(context: &Context, network: &Network, deadline: Deadline) -> Result<Change> {
    let leases = Registry::of(&context.places, &network.name).read()?;
    let mut ports: Vec<_> =
        leases.into_iter().filter(|l| l.boot.as_ref() == Some(&context.boot)).filter_map(|l| l.tap).collect();
    if let Ok(docker) = Docker::connect(deadline) {
        ports.extend(docker.host_ports(network, deadline)?);
    }
    bridge::put_back(&network.bridge, &ports, deadline)
}

/// The networks that are to be up, and those that can't be read.
pub(super) fn up_networks(context: &Context) -> Result<(Vec<Network>, Vec<Fault>)> {
    let (networks, mut faults) = networks::load_all(&context.places)?;
    let mut up = Vec::new();
    for network in networks {
        match status::load(&context.places, &network.name) {
            Ok(status) if status.up => up.push(network),
            Ok(_) => {}
            Err(fault) => faults.push(fault),
        }
    }
    Ok((up, faults))
}
