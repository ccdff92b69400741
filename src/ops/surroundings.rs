//! A network's surroundings: everything outside the registry that is rendered from it, in order.

mod report;

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

pub use report::{Outcome, Report, Step};

/// The step that has the host ask our resolver.
const HOST_NAMES: &str = "host's resolver";

/// How much is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Bridge, kernel settings, NAT and DNS: what must be there before Docker and libvirt start, and
    /// asks neither.
    Boot,
    /// Everything.
    Whole,
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
    let bridge = own_bridge(network, extent, deadline);
    // Of a device that is somebody else's nothing is to be changed.
    let foreign = is_refused(&bridge);
    report.add(format!("bridge {}", network.bridge), bridge);
    if foreign || (stop_early && report.has_failed()) {
        return report;
    }
    let steps: [(&str, &dyn Fn() -> Result<Change>); 3] = [
        ("forwarding", &|| forwarding(context, network, deadline)),
        ("NAT", &|| nat(context, deadline)),
        ("DHCP and DNS", &|| names(context, network, deadline)),
    ];
    for (what, step) in steps {
        report.add(what, step());
        if stop_early && report.has_failed() {
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
    let may_be_dockers = !network.adopt && extent == Extent::Whole;
    if !(is_refused(&done) && may_be_dockers && is_dockers(network, deadline).unwrap_or(false)) {
        return done;
    }
    match bridge::take_over(network, deadline) {
        Ok(_) => bridge::ensure(network, deadline),
        Err(_) => done,
    }
}

fn is_refused<T>(done: &Result<T>) -> bool {
    done.as_ref().is_err_and(|fault| fault.kind() == Kind::Refused)
}

/// Whether Docker has our network on that bridge. One with a way to the outside was made by a person all the same.
fn is_dockers(network: &Network, deadline: Deadline) -> Result<bool> {
    let Some(state) = bridge::read(&network.bridge, deadline)? else { return Ok(false) };
    let is_guests = |port: &bridge::Port| matches!(port.kind, PortKind::Tap | PortKind::Veth);
    if !state.ports.iter().all(is_guests) {
        return Ok(false);
    }
    let docker = Docker::connect(deadline.at_most(super::ASK))?;
    let there = docker.read_network(&network.docker_network, deadline)?;
    Ok(there.is_some_and(|there| {
        there.ours.as_ref() == Some(&network.name) && there.bridge() == Some(network.bridge.as_str())
    }))
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
