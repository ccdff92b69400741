//! A network's surroundings: everything outside the registry that is rendered from it, in order.

use std::collections::HashSet;

use crate::deadline::Deadline;
use crate::host::bridge::PortKind;
use crate::host::docker::{Docker, plugin};
use crate::host::libvirt::Libvirt;
use crate::host::{Change, bridge, dns, firewall, resolver, sysctl};
use crate::model::naming;
use crate::model::setting::Setting;
use crate::model::{Fault, Kind, Lease, Network, NetworkName, Result};
use crate::registry::{Registry, networks, status};

use super::{Context, containers, render};

/// The step that has the host ask our resolver.
const HOST_NAMES: &str = "host's resolver";

/// One thing that was looked at and, where needed, made.
#[derive(Debug)]
pub struct Step {
    /// What it is, such as `bridge hybr0`.
    pub what: String,
    /// What became of it.
    pub outcome: Outcome,
}

impl Step {
    /// Whether something was made.
    #[must_use]
    pub fn was_made(&self) -> bool {
        matches!(self.outcome, Outcome::Made)
    }
}

/// What became of a step.
#[derive(Debug)]
pub enum Outcome {
    /// It stood as it should.
    Unchanged,
    /// It was made, or made right.
    Made,
    /// It is not there to be asked; the next `apply` makes up for it. Where things are taken away nothing does, and
    /// the hint has the command.
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
    /// Whether things were taken away, not made.
    pub lowered: bool,
    /// The steps, in their order.
    pub steps: Vec<Step>,
}

impl Report {
    fn of(network: &NetworkName) -> Self {
        Self { network: network.clone(), lowered: false, steps: Vec::new() }
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
        self.steps.iter().any(Step::was_made)
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

    /// What may be left of what was to be taken away, each with the command that finishes it.
    #[must_use]
    pub fn left_behind(&self) -> Vec<String> {
        self.left_of(|_| true)
    }

    /// As [`Report::left_behind`], of the things that may be there at all.
    pub(super) fn left_of(&self, may_be_there: impl Fn(&str) -> bool) -> Vec<String> {
        let left = |step: &Step| match &step.outcome {
            Outcome::Later(fault) if self.lowered && may_be_there(&step.what) => {
                let command = fault.hint_text().unwrap_or("hybrid-hook inspect");
                Some(format!("{} may be left: {fault}; once it answers: {command}", step.what))
            }
            _ => None,
        };
        self.steps.iter().filter_map(left).collect()
    }

    /// The things that were made, or tried, or stood: not those that had to wait.
    pub(super) fn reached(&self) -> HashSet<String> {
        let reached = self.steps.iter().filter(|s| !matches!(s.outcome, Outcome::Later(_)));
        reached.map(|s| s.what.clone()).collect()
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
    if network.follows.is_some()
        && let Ok(None) = bridge::read(&network.bridge, deadline)
    {
        // Docker makes its bridge when it starts. One whose network is gone is taken away by `follow`.
        report.later(format!("bridge {}", network.bridge), not_there(network));
        return report;
    }
    let steps: [(String, &dyn Fn() -> Result<Change>); 4] = [
        (format!("bridge {}", network.bridge), &|| own_bridge(network, extent, deadline)),
        ("forwarding".to_owned(), &|| forwarding(context, network, deadline)),
        ("NAT".to_owned(), &|| nat(context, deadline)),
        ("DHCP and DNS".to_owned(), &|| names(context, network, deadline)),
    ];
    for (what, step) in steps {
        let done = step();
        // The device is somebody else's: nothing is to be changed on it.
        let foreign = done.as_ref().is_err_and(|fault| fault.kind() == Kind::Refused);
        report.add(what, done);
        if report.has_failed() && (stop_early || (foreign && report.steps.len() == 1)) {
            return report;
        }
    }
    match host_names(context, network, deadline) {
        Ok(change) => report.add(HOST_NAMES, Ok(change)),
        Err(fault) => report.later(HOST_NAMES, fault),
    }
    if extent == Extent::Whole {
        let what = format!("Docker network {}", network.docker_network);
        // One question tells whether it hangs; nothing after it waits for it again.
        let docker = match Docker::connect(deadline.at_most(super::ASK)) {
            Ok(docker) => {
                if network.follows.is_none() {
                    let ready = plugin::check_there(network);
                    report.add(what, ready.and_then(|()| docker.ensure_network(network, deadline)));
                }
                Some(docker)
            }
            Err(fault) => {
                report.later(what, fault);
                None
            }
        };
        if stop_early && report.has_failed() {
            return report;
        }
        let what = format!("libvirt network {}", network.libvirt_network);
        match libvirt(deadline) {
            Ok(libvirt) => report.add(what, libvirt.ensure_network(network, deadline)),
            Err(fault) => report.later(what, fault),
        }
        report.add("ports", put_ports_back(context, network, docker.as_ref(), deadline));
        if report.changed()
            && let Ok(Change::Made) = host_names(context, network, deadline)
        {
            // A port gave the bridge its carrier, and only with one is our resolver asked.
            report.add(HOST_NAMES, Ok(Change::Made));
        }
    }
    report
}

/// Takes all of it away. What is gone already is fine; every step has its chance.
pub(super) fn lower(context: &Context, network: &Network, deadline: Deadline) -> Report {
    let mut report = Report { lowered: true, ..Report::of(&network.name) };
    let what = format!("libvirt network {}", network.libvirt_network);
    match libvirt(deadline) {
        Ok(libvirt) => report.add(what, libvirt.remove_network(network, true, deadline)),
        Err(fault) => {
            let name = &network.libvirt_network;
            report.later(what, fault.hint(format!("virsh net-destroy {name}; virsh net-undefine {name}")));
        }
    }
    let what = format!("Docker network {}", network.docker_network);
    if network.follows.is_none() {
        match Docker::connect(deadline.at_most(super::ASK)) {
            Ok(docker) => report.add(what, docker.remove_network(network, true, deadline)),
            Err(fault) => {
                // Docker makes a bridge that is not there at its start, for each of its networks.
                let bridge = if network.adopt {
                    String::new()
                } else {
                    format!("; ip link delete {}", network.bridge)
                };
                report
                    .later(what, fault.hint(format!("docker network rm {}{bridge}", network.docker_network)));
            }
        }
    }
    // Nobody is to ask who is about to go.
    report.add(HOST_NAMES, forget_host_names(context, network, deadline));
    report.add("DHCP and DNS", dns::stop(network, &context.places, deadline));
    report.add("NAT", nat(context, deadline));
    report.add("forwarding", restore_forwarding(context, network, deadline));
    report.add(format!("bridge {}", network.bridge), bridge::remove(network, deadline));
    report
}

/// The network's bridge. dockerd, at its start, makes one for each of its networks where there is none: what it made in
/// the place of ours becomes ours again.
fn own_bridge(network: &Network, extent: Extent, deadline: Deadline) -> Result<Change> {
    let done = bridge::ensure(network, deadline);
    let foreign = done.as_ref().is_err_and(|fault| fault.kind() == Kind::Refused);
    if !foreign || network.adopt || extent == Extent::Boot {
        return done;
    }
    let docker = Docker::connect(deadline.at_most(super::ASK))
        .and_then(|docker| docker.read_network(&network.docker_network, deadline));
    // One with a way to the outside was made by a person.
    let is_dockers = bridge::read(&network.bridge, deadline).is_ok_and(|state| {
        state.is_some_and(|b| b.ports.iter().all(|p| matches!(p.kind, PortKind::Tap | PortKind::Veth)))
    });
    match docker {
        Ok(Some(there))
            if is_dockers
                && there.ours.as_ref() == Some(&network.name)
                && there.bridge() == Some(network.bridge.as_str()) =>
        {
            if bridge::take_over(network, deadline).is_ok() {
                bridge::ensure(network, deadline)
            } else {
                done
            }
        }
        _ => done,
    }
}

fn not_there(network: &Network) -> Fault {
    Fault::missing(format!(
        "the bridge {} of Docker network {} is not there",
        network.bridge, network.docker_network
    ))
    .hint("systemctl start docker")
}

/// libvirt, if its daemon answers.
fn libvirt(deadline: Deadline) -> Result<Libvirt> {
    let libvirt = Libvirt::find()?;
    match libvirt.version(deadline.at_most(super::ASK))?.unreachable {
        None => Ok(libvirt),
        Some(why) => Err(Fault::missing(format!("libvirt does not answer: {why}"))),
    }
}

/// Forwarding for the bridge and the uplinks; the kernel's former settings are remembered.
fn forwarding(context: &Context, network: &Network, deadline: Deadline) -> Result<Change> {
    let mut uplinks = bridge::uplinks(deadline)?;
    // Remembered before they are changed: a crash between the two must not lose the former values.
    let mut status = status::load(&context.places, &network.name)?;
    // After a boot a router may not have advertised itself yet, and would not be heard later.
    let heard = status.settings.iter().filter(|s| s.key.name == sysctl::Name::AcceptRaForwarding);
    uplinks.advertised.extend(heard.map(|s| s.key.interface.clone()));
    let readings = sysctl::read(network, &uplinks)?;
    let mut before = Vec::new();
    for reading in readings.iter().filter(|r| r.key.interface != network.bridge || network.adopt) {
        if let Some(value) = reading.now.clone().filter(|now| *now != reading.wanted) {
            before.push(Setting { key: reading.key.clone(), value });
        }
    }
    before.extend(sysctl::beside(&readings)?);
    before.retain(|new| !status.settings.iter().any(|s| s.key == new.key));
    status.settings.extend(before);
    status::store(&context.places, &network.name, &status)?;
    Ok(sysctl::ensure(network, &uplinks, deadline)?.change)
}

/// Puts the kernel's settings back, unless another network of ours still needs them: then that one
/// remembers what was there before either.
fn restore_forwarding(context: &Context, network: &Network, deadline: Deadline) -> Result<Change> {
    let mut status = status::load(&context.places, &network.name)?;
    let mut settings = std::mem::take(&mut status.settings);
    for other in up_networks(context)?.0.iter().filter(|n| n.name != network.name) {
        let needs = sysctl::read(other, &bridge::uplinks(deadline)?)?;
        let (passed_on, rest) =
            settings.into_iter().partition::<Vec<_>, _>(|s| sysctl::needs(&needs, &s.key));
        settings = rest;
        if !passed_on.is_empty() {
            let mut theirs = status::load(&context.places, &other.name)?;
            theirs.settings.extend(passed_on);
            status::store(&context.places, &other.name, &theirs)?;
        }
    }
    let change = sysctl::restore(&settings, deadline)?;
    status::store(&context.places, &network.name, &status)?;
    Ok(change)
}

/// The one table of all networks that are up.
fn nat(context: &Context, deadline: Deadline) -> Result<Change> {
    let (networks, unreadable) = up_networks(context)?;
    if !unreadable.is_empty() && firewall::may_stand(firewall::state(&networks, deadline))? {
        // What stands has the rules of a network whose file can't be read now: its guests keep them.
        return Ok(Change::None);
    }
    if networks.is_empty() { firewall::remove(deadline) } else { firewall::apply(&networks, deadline) }
}

/// The host itself asks for the network's names.
pub(super) fn host_names(context: &Context, network: &Network, deadline: Deadline) -> Result<Change> {
    resolver::ensure(network, &up_networks(context)?.0, deadline.at_most(super::ASK))
}

fn forget_host_names(context: &Context, network: &Network, deadline: Deadline) -> Result<Change> {
    let (up, _) = up_networks(context)?;
    let forgotten = resolver::remove(network, &up, deadline.at_most(super::ASK));
    Ok(forgotten?.or(resolver::keep_list_without_us(&context.places, &up)?))
}

/// dnsmasq's files as a whole, and the processes.
fn names(context: &Context, network: &Network, deadline: Deadline) -> Result<Change> {
    let (up, _) = up_networks(context)?;
    let kept = resolver::keep_list_without_us(&context.places, &up)?;
    let change = kept.or(dns::write_static(network, &up, &context.places)?);
    Ok(change.or(write_names(context, network, deadline)?).or(dns::ensure_running(
        network,
        &context.places,
        deadline,
    )?))
}

/// The other networks' resolvers learn that this one came or went, as the next `apply` of all would teach them.
/// The operation lock must not be held: theirs are taken, one after the other.
pub(super) fn tell_others(context: &Context, of: &NetworkName, deadline: Deadline) {
    let soon = deadline.at_most(super::ASK);
    let Ok((up, _)) = up_networks(context) else { return };
    for other in up.iter().filter(|n| n.name != *of) {
        if soon.passed() {
            return;
        }
        match super::apply::apply(context, Some(&other.name), Extent::Boot, soon) {
            Ok((reports, faults)) => {
                let failed = reports.into_iter().filter_map(|r| r.into_result().err());
                for fault in faults.into_iter().chain(failed) {
                    log::info!("network {} is not told of network {of} yet: {fault}", other.name);
                }
            }
            Err(fault) => log::info!("network {} is not told of network {of} yet: {fault}", other.name),
        }
    }
}

/// The leases as they are rendered: those that fit the network's file, each with the names that it has now.
pub(super) fn rendered(context: &Context, network: &Network, leases: Vec<Lease>) -> Vec<Lease> {
    let (leases, _) = naming::settle(leases, &context.boot);
    let now = context.now();
    let mut fitting: Vec<Lease> =
        leases.into_iter().filter(|l| network.may_lease(l.address).is_ok()).collect();
    for lease in &mut fitting {
        // By now the former holder's DHCP lease has ended.
        lease.handover = lease.handover.take().filter(|h| h.until > now);
    }
    fitting
}

/// Every lease's files, read from the registry under the lock of the files.
pub(super) fn write_names(context: &Context, network: &Network, deadline: Deadline) -> Result<Change> {
    let guard = render::lock(&context.places, &network.name, deadline)?;
    let leases = Registry::of(&context.places, &network.name).read()?;
    let fitting = rendered(context, network, leases);
    let written = dns::write_all(network, &context.places, &fitting)?;
    drop(guard);
    if written.needs_reload() {
        dns::reload(network, &context.places, deadline)?;
    }
    Ok(written.change())
}

/// Taps and containers' veths that lost their bridge go back on it.
fn put_ports_back(
    context: &Context,
    network: &Network,
    docker: Option<&Docker>,
    deadline: Deadline,
) -> Result<Change> {
    let leases = Registry::of(&context.places, &network.name).read()?;
    let mut ports: Vec<_> =
        leases.into_iter().filter(|l| l.boot.as_ref() == Some(&context.boot)).filter_map(|l| l.tap).collect();
    // The ports of a Docker network that we follow are Docker's.
    if let Some(docker) = docker.filter(|_| network.follows.is_none()) {
        ports.extend(containers::host_ports(network, docker, deadline)?);
    }
    let back = bridge::put_back(&network.bridge, &ports, deadline)?;
    Ok(if back.is_empty() { Change::None } else { Change::Made })
}

/// The networks that are to be up, and those that can't be read.
pub(super) fn up_networks(context: &Context) -> Result<(Vec<Network>, Vec<Fault>)> {
    networks_that(context, |name| Ok(status::load(&context.places, name)?.up))
}

/// The networks of which something holds, and those of which it can't be told.
pub(super) fn networks_that(
    context: &Context,
    holds: impl Fn(&NetworkName) -> Result<bool>,
) -> Result<(Vec<Network>, Vec<Fault>)> {
    let (all, mut faults) = networks::load_all(&context.places)?;
    let mut found = Vec::new();
    for network in all {
        match holds(&network.name) {
            Ok(true) => found.push(network),
            Ok(false) => {}
            Err(fault) => faults.push(fault),
        }
    }
    Ok((found, faults))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lowered: bool) -> Result<Report> {
        let mut report = Report { lowered, ..Report::of(&"hybrid".parse()?) };
        let silent = || Fault::missing("Docker does not answer").hint("docker network rm hybrid-net");
        report.later("Docker network hybrid-net", silent());
        report.add("bridge hybr0", Ok(Change::Made));
        Ok(report)
    }

    #[test]
    fn what_could_not_be_taken_away_is_told_with_its_command() -> Result<()> {
        let left = "Docker network hybrid-net may be left: Docker does not answer; once it answers: docker network rm \
                    hybrid-net";
        assert_eq!(report(true)?.left_behind(), [left]);
        // What had to wait while it was made is made up for by the next apply, and its undo has nothing to name.
        let made = report(false)?;
        assert_eq!(made.left_behind(), Vec::<String>::new());
        let reached = made.reached();
        assert_eq!(report(true)?.left_of(|what| reached.contains(what)), Vec::<String>::new());
        let tried = HashSet::from(["Docker network hybrid-net".to_owned()]);
        assert_eq!(report(true)?.left_of(|what| tried.contains(what)), [left]);
        Ok(())
    }
}
