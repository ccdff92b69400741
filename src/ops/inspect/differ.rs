//! What of a network is not as it should be, and the command that mends it. Pure.

mod daemons;

use super::look::{Facts, NetworkFacts};
use super::record::{Difference, Part, Unseen};
use crate::host::bridge;
use crate::host::dns;
use crate::host::firewall::TableState;
use crate::model::difference::differences;
use crate::model::{Fault, Kind, LeaseRecord, LeaseState};
use daemons::{compare_dns, compare_docker, compare_libvirt, compare_names};
pub(in crate::ops) use daemons::{libvirt_network, serves};

/// The command that makes a rendering anew.
pub(super) const APPLY: &str = "hybrid-hook apply";

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) differences: Vec<Difference>,
    pub(super) unseen: Vec<Unseen>,
}

impl Findings {
    pub(super) fn differs(
        &mut self,
        part: Part,
        what: impl Into<String>,
        is: impl Into<String>,
        should_be: impl Into<String>,
        mend: impl Into<String>,
    ) {
        let (what, is, should_be, mend) = (what.into(), is.into(), should_be.into(), mend.into());
        self.differences.push(Difference { part, what, is, should_be, mend });
    }

    /// A fault that says how something is: its hint is the way to mend it.
    fn is_faulty(&mut self, part: Part, what: impl Into<String>, fault: &Fault, should_be: &str, mend: &str) {
        self.differs(part, what, fault.to_string(), should_be, fault.hint_text().unwrap_or(mend));
    }

    pub(super) fn cannot_see(
        &mut self,
        part: Part,
        what: impl Into<String>,
        why: impl Into<String>,
        needs_root: bool,
    ) {
        self.unseen.push(Unseen { part, what: what.into(), why: why.into(), needs_root });
    }
}

/// Compares one network.
pub(super) fn network(facts: &Facts, of: &NetworkFacts) -> Findings {
    let mut found = Findings::default();
    if !of.up {
        leftovers(of, &mut found);
        return found;
    }
    compare_file(of, &mut found);
    let bridge_in_order = compare_bridge(of, &mut found);
    let bridge = of.bridge.as_ref().ok().and_then(Option::as_ref);
    compare_leases(of, &mut found);
    compare_taps(of, &mut found);
    if bridge.is_some() {
        compare_settings(of, &mut found);
    }
    compare_nat(facts, of, &mut found);
    compare_dns(facts, of, bridge_in_order, &mut found);
    compare_names(facts, of, &mut found);
    compare_docker(facts, of, bridge, &mut found);
    compare_libvirt(facts, of, &mut found);
    found
}

/// What stands although the network is to be down.
fn leftovers(of: &NetworkFacts, found: &mut Findings) {
    let mend = format!("hybrid-hook network down {}", of.network.name);
    if let Ok(Some(bridge)) = &of.bridge
        && bridge.network() == Some(of.network.name.as_str())
    {
        found.differs(
            Part::Bridge,
            format!("bridge {}", of.network.bridge),
            "there",
            "gone: the network is down",
            &mend,
        );
    }
    if of.dns.as_ref().is_ok_and(dns::DnsState::any_running) {
        found.differs(Part::Dnsmasq, "dnsmasq", "running", "stopped: the network is down", &mend);
    }
}

/// A file that was edited, and is not in force yet.
fn compare_file(of: &NetworkFacts, found: &mut Findings) {
    let what = of.file.display().to_string();
    match &of.edited {
        Some(Ok(edited)) => {
            let is = format!("edited and not applied: {}", differences(&of.network, edited).join("; "));
            found.differs(Part::Files, what, is, "in force", APPLY);
        }
        Some(Err(fault)) => {
            let mend = format!("mend it, then {APPLY}; what was applied last is in force");
            found.is_faulty(Part::Files, &what, fault, "readable", &mend);
        }
        None => {}
    }
}

fn compare_bridge(of: &NetworkFacts, found: &mut Findings) -> bool {
    let before = found.differences.len();
    let what = format!("bridge {}", of.network.bridge);
    if let Some(former) = &of.former_bridge {
        found.differs(
            Part::Bridge,
            "bridge",
            format!("{former}, as the file said before"),
            of.network.bridge.to_string(),
            APPLY,
        );
    }
    let deviations = match &of.bridge {
        Ok(state) => bridge::deviations(&of.network, state.as_ref()),
        Err(fault) if fault.kind() == Kind::Refused => {
            found.is_faulty(
                Part::Bridge,
                &what,
                fault,
                "a bridge",
                "remove or rename that device, then: hybrid-hook apply",
            );
            return false;
        }
        Err(fault) => {
            found.cannot_see(Part::Bridge, what, fault.to_string(), false);
            return false;
        }
    };
    match deviations {
        Ok(list) => {
            list.into_iter().for_each(|d| found.differs(Part::Bridge, d.what, d.is, d.should_be, APPLY))
        }
        Err(fault) => found.is_faulty(
            Part::Bridge,
            what,
            &fault,
            "this network's own",
            "name another bridge in the network's file",
        ),
    }
    found.differences.len() == before
}

/// Leases that the network's file, edited since, has no place for.
fn compare_leases(of: &NetworkFacts, found: &mut Findings) {
    let leases = match &of.leases {
        Ok(leases) => leases,
        Err(fault) => {
            found.is_faulty(
                Part::Files,
                "registry",
                fault,
                "readable",
                "restore it from a copy, or remove the file that is named",
            );
            return;
        }
    };
    let file = of.edited.as_ref().and_then(|edited| edited.as_ref().ok()).unwrap_or(&of.network);
    let held = |l: &&LeaseRecord| l.fixed || l.reserved || l.state == LeaseState::Active;
    for lease in leases.iter().filter(held) {
        let Err(unfit) = file.may_lease(lease.address) else { continue };
        let who = lease.owner_name.as_deref().map_or_else(|| "nobody".to_owned(), |n| format!("{n:?}"));
        found.differs(
            Part::Guests,
            format!("lease {} of {who}", lease.address),
            unfit.to_string(),
            "one that the network's file allows",
            format!("edit {} back, or stop the guest and release its address", of.file.display()),
        );
    }
}

fn compare_taps(of: &NetworkFacts, found: &mut Findings) {
    let bridge = &of.network.bridge;
    for (lease, brief) in &of.lost_taps {
        let Some(tap) = &lease.tap else { continue };
        let who = lease.owner_name.as_deref().map_or_else(String::new, |n| format!(" of vm {n:?}"));
        let what = format!("port {tap}{who}");
        match brief.as_ref().map(|b| b.master.as_deref()) {
            Some(None) => found.differs(Part::Guests, what, "on no bridge", format!("on {bridge}"), APPLY),
            Some(Some(other)) => found.differs(
                Part::Guests,
                what,
                format!("on {other}"),
                format!("on {bridge}"),
                format!("ip link set {tap} master {bridge}"),
            ),
            None => found.differs(
                Part::Guests,
                what,
                "gone while its lease is active",
                "there, or its lease idle",
                APPLY,
            ),
        }
    }
}

fn compare_settings(of: &NetworkFacts, found: &mut Findings) {
    match &of.settings {
        Ok(readings) => {
            for reading in readings {
                if let Some(now) = reading.now.as_deref().filter(|now| *now != reading.wanted) {
                    found.differs(
                        Part::Routing,
                        format!("sysctl {}", reading.key),
                        now,
                        reading.wanted,
                        APPLY,
                    );
                }
            }
        }
        Err(fault) => found.cannot_see(Part::Routing, "the kernel's settings", fault.to_string(), false),
    }
}

/// Our table, as it is called in words.
const NAT_TABLE: &str = "nftables table inet hybrid_hook (NAT)";

fn compare_nat(facts: &Facts, of: &NetworkFacts, found: &mut Findings) {
    if !of.network.nat {
        return;
    }
    match &facts.nat {
        Ok(TableState::Current) => {}
        Ok(TableState::Absent) => found.differs(Part::Routing, NAT_TABLE, "not there", "there", APPLY),
        Ok(TableState::Stale) => found.differs(
            Part::Routing,
            NAT_TABLE,
            "changed, or of another rendering",
            "as hybrid-hook renders it",
            APPLY,
        ),
        Err(fault) if fault.kind() == Kind::Missing => {
            found.is_faulty(Part::Routing, "NAT", fault, "on", "install nftables, then: hybrid-hook apply");
        }
        Err(fault) => found.cannot_see(Part::Routing, "NAT", fault.to_string(), !facts.root),
    }
}
