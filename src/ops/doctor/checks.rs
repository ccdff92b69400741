//! The checks. Pure.

use super::look::Beyond;
use super::record::{Check, Status};
use super::{firewall, ports};
use crate::model::overlap::{self, Taken};
use crate::model::{Fault, Kind};
use crate::ops::inspect::host::{INSTALL, move_to_usr_bin, unsafe_places};
use crate::ops::inspect::look::{Facts, NetworkFacts};
use crate::ops::inspect::{Difference, HookState, Inspection, Part, Unseen};
use crate::ops::names::{Asker, Works};

/// Every check, in the order in which trouble builds on trouble.
pub(super) fn all(facts: &Facts, inspection: &Inspection, beyond: &Beyond) -> Vec<Check> {
    let seen = Seen { facts, inspection };
    vec![
        seen.files(),
        seen.service(),
        seen.hooks(),
        seen.executable(),
        seen.bridge(beyond),
        seen.part(
            "guests",
            "guests are on their bridges",
            Part::Guests,
            "every port and lease has its guest",
        ),
        seen.part("routing", "NAT and forwarding", Part::Routing, "as the networks' files say"),
        seen.part("dnsmasq", "dnsmasq runs with what the registry says", Part::Dnsmasq, "it does"),
        seen.names(),
        ports::check(facts, beyond),
        firewall::input(facts, beyond),
        firewall::forward(facts, beyond),
        firewall::br_netfilter(facts, beyond),
        seen.part("docker", "the Docker networks", Part::Docker, "there, as they should be"),
        seen.part("libvirt", "the libvirt networks", Part::Libvirt, "there, as they should be"),
        overlap(facts, beyond),
        ipv6(facts, beyond),
    ]
}

/// A check and what it found so far.
#[derive(Debug)]
pub(super) struct Finding {
    id: &'static str,
    title: &'static str,
    status: Status,
    details: Vec<String>,
    mend: Vec<String>,
}

impl Finding {
    pub(super) fn new(id: &'static str, title: &'static str) -> Self {
        Self { id, title, status: Status::Ok, details: Vec::new(), mend: Vec::new() }
    }

    /// Notes trouble; the worst of a check is its status. What mends two things is said once.
    pub(super) fn note(
        &mut self,
        status: Status,
        detail: impl Into<String>,
        mend: impl IntoIterator<Item = String>,
    ) {
        self.status = self.status.max(status);
        self.details.push(detail.into());
        for command in mend {
            if !self.mend.contains(&command) {
                self.mend.push(command);
            }
        }
    }

    /// The check, with `fine` for its detail where there was no trouble.
    pub(super) fn or(mut self, fine: impl Into<String>) -> Check {
        if self.details.is_empty() {
            self.details.push(fine.into());
        }
        Check {
            id: self.id.to_owned(),
            title: self.title.to_owned(),
            status: self.status,
            detail: self.details.join("; "),
            mend: self.mend,
        }
    }

    /// A check that could not be made.
    pub(super) fn skipped(self, why: impl Into<String>, mend: Option<String>) -> Check {
        Check { status: Status::Skipped, ..Self { mend: mend.into_iter().collect(), ..self }.or(why) }
    }
}

/// The word for a check that needs root, and how to get it.
pub(super) fn needs_root(finding: Finding) -> Check {
    finding.skipped("only root can look at it", Some(super::AS_ROOT.to_owned()))
}

/// The networks that are to be up; none: there is nothing to check.
pub(super) fn up(facts: &Facts) -> Vec<&NetworkFacts> {
    facts.networks.iter().filter(|n| n.up).collect()
}

pub(super) const NONE_UP: &str = "no network is up";

struct Seen<'a> {
    facts: &'a Facts,
    inspection: &'a Inspection,
}

impl<'a> Seen<'a> {
    fn differences(&self, part: Part) -> impl Iterator<Item = &'a Difference> {
        let networks = self.inspection.networks.iter().flat_map(|n| &n.differences);
        self.inspection.host.differences.iter().chain(networks).filter(move |d| d.part == part)
    }

    fn unseen(&self, part: Part) -> Option<&'a Unseen> {
        let networks = self.inspection.networks.iter().flat_map(|n| &n.unseen);
        self.inspection.host.unseen.iter().chain(networks).find(|u| u.part == part)
    }

    /// What `inspect` found to differ of a part.
    fn found(&self, finding: &mut Finding, part: Part) {
        for d in self.differences(part) {
            let detail = format!("{} is {}, should be {}", d.what, d.is, d.should_be);
            finding.note(Status::Fail, detail, [d.mend.clone()]);
        }
    }

    /// Who can resolve the networks' names, and who goes without one.
    fn names(&self) -> Check {
        let facts = self.facts;
        let mut finding = Finding::new("names", "the host and its guests resolve names");
        self.found(&mut finding, Part::Names);
        let seen: Vec<_> = up(facts).into_iter().filter_map(|of| Some((of, of.names.as_ref()?))).collect();
        if up(facts).is_empty() {
            return finding.skipped(NONE_UP, None);
        }
        if seen.is_empty() && self.differences(Part::Names).next().is_none() {
            return if facts.root {
                finding.skipped("the host's resolver could not be looked at", None)
            } else {
                needs_root(finding)
            };
        }
        for (of, names) in seen {
            let network = &of.network.name;
            for reach in names.reach.iter().filter(|r| r.works == Works::No) {
                let who = match reach.asker {
                    Asker::Host => "the host does",
                    Asker::Containers => "containers do",
                    Asker::Vms => "VMs do",
                };
                let detail = format!("{who} not resolve names of network {network}: {}", reach.path);
                finding.note(Status::Warn, detail, reach.mend.clone());
            }
            for clash in &names.clashes {
                let holder = clash.holder_in_words();
                let detail = format!(
                    "{} on network {network} is {holder}'s: {} goes without",
                    clash.name, clash.asker
                );
                finding.note(Status::Warn, detail, ["give one of the two another host name".to_owned()]);
            }
        }
        finding.or("they do")
    }

    fn part(&self, id: &'static str, title: &'static str, part: Part, fine: &str) -> Check {
        let mut finding = Finding::new(id, title);
        if up(self.facts).is_empty() && self.differences(part).next().is_none() {
            return finding.skipped(NONE_UP, None);
        }
        self.found(&mut finding, part);
        match self.unseen(part) {
            Some(unseen) if finding.details.is_empty() && unseen.needs_root => needs_root(finding),
            Some(unseen) if finding.details.is_empty() => {
                finding.skipped(format!("{}: {}", unseen.what, unseen.why), None)
            }
            _ => finding.or(fine),
        }
    }

    fn files(&self) -> Check {
        let mut finding = Finding::new("files", "the networks' files and the registry can be read");
        self.found(&mut finding, Part::Files);
        let count = self.facts.networks.len();
        let fine = match (count, self.facts.root) {
            (0, _) => "there is no network yet; hybrid-hook network create makes one".to_owned(),
            (1, true) => "one network".to_owned(),
            (_, true) => format!("{count} networks"),
            (_, false) => format!("{count} of the networks' files; the registry is root's"),
        };
        finding.or(fine)
    }

    fn service(&self) -> Check {
        let mut finding = Finding::new("service", "the service runs");
        if up(self.facts).is_empty() {
            return finding.skipped(NONE_UP, None);
        }
        self.found(&mut finding, Part::Service);
        let service = &self.inspection.host.service;
        if service.running && service.enabled == Some(false) {
            finding.note(
                Status::Warn,
                "it runs, and does not start at boot",
                ["systemctl enable hybrid-hook-net.service hybrid-hook.service".to_owned()],
            );
        }
        finding.or(service.pid.map_or_else(|| "it runs".to_owned(), |pid| format!("process {pid}")))
    }

    fn hooks(&self) -> Check {
        let mut finding = Finding::new("hooks", "libvirt's running daemon sees our hooks");
        if up(self.facts).is_empty() {
            return finding.skipped(NONE_UP, None);
        }
        if let Err(fault) = &self.facts.installation {
            return finding.skipped(fault.to_string(), None);
        }
        let daemons = &self.inspection.host.hook_daemons;
        let version = self.facts.installation.as_ref().ok().and_then(|i| i.libvirt);
        if daemons.is_empty() && version.is_none() {
            return finding.skipped("libvirt is not installed", None);
        }
        self.found(&mut finding, Part::Hooks);
        if finding.details.is_empty() && self.unseen(Part::Hooks).is_some() {
            return needs_root(finding);
        }
        let names: Vec<_> = daemons.iter().map(|d| format!("{} (pid {})", d.name, d.pid)).collect();
        finding.or(if names.is_empty() {
            "they are there; no daemon of libvirt's runs now".to_owned()
        } else {
            format!("{} looked for hooks since ours are there", names.join(", "))
        })
    }

    fn executable(&self) -> Check {
        let mut finding = Finding::new("executable", "libvirt may run the hooks' executable (AppArmor)");
        let ours = self.facts.hooks.iter().find(|h| h.state == HookState::Ours);
        let Some(ours) = ours else {
            return finding.skipped("there is no hook of ours", Some(INSTALL.to_owned()));
        };
        for (_, why) in unsafe_places(self.facts) {
            finding.note(Status::Fail, why, [move_to_usr_bin()]);
        }
        let target = ours.target.as_ref().unwrap_or(&ours.path);
        finding.or(target.display().to_string())
    }

    fn bridge(&self, beyond: &Beyond) -> Check {
        let mut finding = Finding::new("bridge", "the bridge, its address and its MTU");
        let up = up(self.facts);
        if up.is_empty() && self.differences(Part::Bridge).next().is_none() {
            return finding.skipped(NONE_UP, None);
        }
        self.found(&mut finding, Part::Bridge);
        for of in up.iter().filter(|of| of.network.nat) {
            let (bridge, mtu) = (&of.network.bridge, of.network.mtu);
            for (uplink, theirs) in
                beyond.uplinks.iter().filter(|(name, theirs)| name != bridge && *theirs < mtu)
            {
                finding.note(
                    Status::Warn,
                    format!(
                        "{bridge} has an MTU of {mtu} and the way out, {uplink}, one of {theirs}: \
                         large packets to the outside may get lost"
                    ),
                    [format!("write mtu = {theirs} in {}, then: hybrid-hook apply", of.file.display())],
                );
            }
        }
        let names: Vec<_> = up.iter().map(|of| of.network.bridge.as_str()).collect();
        finding.or(names.join(", "))
    }
}

/// What others take of our subnets.
fn overlap(facts: &Facts, beyond: &Beyond) -> Check {
    let mut finding = Finding::new("overlap", "nobody else has our subnets");
    if facts.networks.is_empty() {
        return finding.skipped("there is no network", None);
    }
    let mut unasked = Vec::new();
    let mut why_not = |fault: &Fault| {
        if fault.kind() != Kind::Missing {
            unasked.push(fault.to_string());
        }
    };
    let docker = match facts.docker.as_ref().and_then(|d| d.subnets.as_ref()) {
        Ok(subnets) => subnets.as_slice(),
        Err(fault) => {
            why_not(fault);
            &[]
        }
    };
    let libvirt = match facts.libvirt.as_ref().and_then(|l| l.networks.as_ref()) {
        Ok(networks) => networks.as_slice(),
        Err(fault) => {
            why_not(fault);
            &[]
        }
    };
    for of in &facts.networks {
        let network = &of.network;
        let mut taken: Vec<Taken> = Vec::new();
        let others = docker.iter().filter(|(name, _)| name != network.docker_network.as_str());
        let who = |name: &str| format!("Docker network {name:?}");
        taken.extend(others.map(|(name, subnet)| Taken { subnet: *subnet, who: who(name) }));
        for other in libvirt.iter().filter(|n| n.uuid != network.libvirt_uuid()) {
            let who = format!("libvirt network {:?}", other.name);
            taken.extend(other.subnets.iter().map(|subnet| Taken { subnet: *subnet, who: who.clone() }));
        }
        for other in facts.networks.iter().map(|n| &n.network).filter(|n| n.name != network.name) {
            let who = format!("network {}", other.name);
            taken.extend(other.families().map(|f| Taken { subnet: f.subnet, who: who.clone() }));
        }
        // Last: an address or a route is most often that of one of those.
        if let Some(Ok(routes)) = beyond.taken.get(&network.name) {
            taken.extend(routes.iter().cloned());
        }
        let Some(other) = overlap::first_overlap(network, &taken) else { continue };
        let mine = network.overlapping(&other.subnet).unwrap_or(other.subnet);
        let free = overlap::free_subnet(&mine, &taken).map_or_else(String::new, |f| format!(", such as {f}"));
        finding.note(
            Status::Fail,
            format!("{mine} of network {} overlaps {} of {}", network.name, other.subnet, other.who),
            [format!(
                "move the other one, or write a free subnet{free}, in {}, then: hybrid-hook apply",
                of.file.display()
            )],
        );
    }
    if finding.details.is_empty() && !unasked.is_empty() {
        return finding.skipped(unasked.join("; "), None);
    }
    finding.or("neither a route nor another network does")
}

fn ipv6(facts: &Facts, beyond: &Beyond) -> Check {
    let mut finding = Finding::new("ipv6", "IPv6 leaves the host where a network has it");
    let with: Vec<_> = up(facts).into_iter().filter(|n| n.network.nat && n.network.ipv6.is_some()).collect();
    if with.is_empty() {
        return finding.or("no network that is up has IPv6 with NAT");
    }
    for of in with.iter().filter(|n| !beyond.ipv6_forwards.contains(&n.network.name)) {
        finding.note(
            Status::Warn,
            format!(
                "guests of network {} have IPv6 among themselves only: before Linux 6.17 the host forwards it \
                 for all interfaces or for none",
                of.network.name
            ),
            ["sysctl -w net.ipv6.conf.all.forwarding=1".to_owned()],
        );
    }
    finding.or("it does")
}
