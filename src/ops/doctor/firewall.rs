//! What of other people's firewalls is in the way. Pure.

use super::checks::{Finding, NONE_UP, needs_root, up};
use super::look::Beyond;
use super::record::{Check, Status};
use crate::host::firewall::{Obstacle, Stage};
use crate::ops::inspect::look::Facts;

/// Whether DHCP and DNS reach the host.
pub(super) fn input(facts: &Facts, beyond: &Beyond) -> Check {
    let finding = Finding::new("input", "the firewall lets DHCP and DNS in from the bridge (INPUT)");
    judge(finding, facts, beyond, &|o| o.stage == Stage::Input, "nothing stops them")
}

/// Whether what guests send to the outside gets there, and the answers back.
pub(super) fn forward(facts: &Facts, beyond: &Beyond) -> Check {
    let finding =
        Finding::new("forward", "the firewall lets guests out and answers in (FORWARD, DOCKER-USER)");
    judge(finding, facts, beyond, &|o| o.stage == Stage::Forward, "nothing stops them")
}

/// Whether bridged frames cross iptables, and get through.
pub(super) fn br_netfilter(facts: &Facts, beyond: &Beyond) -> Check {
    let finding = Finding::new("br_netfilter", "iptables lets traffic among guests through (br_netfilter)");
    let crosses = beyond.bridge_netfilter.is_some_and(|b| b.iptables || b.ip6tables);
    match (beyond.bridge_netfilter, crosses) {
        (None, _) => finding.or("not loaded: frames from guest to guest don't cross iptables"),
        (Some(_), false) => {
            finding.or("loaded and switched off: frames from guest to guest don't cross iptables")
        }
        (Some(_), true) => judge(
            finding,
            facts,
            beyond,
            &|o| o.among_guests,
            "on: frames from guest to guest cross iptables, and nothing stops them",
        ),
    }
}

fn judge(
    mut finding: Finding,
    facts: &Facts,
    beyond: &Beyond,
    concerns: &dyn Fn(&Obstacle) -> bool,
    fine: &str,
) -> Check {
    if up(facts).is_empty() {
        return finding.skipped(NONE_UP, None);
    }
    if !facts.root {
        return needs_root(finding);
    }
    match &beyond.obstacles {
        Ok(all) => {
            for obstacle in all.values().flatten().filter(|o| concerns(o)) {
                finding.note(Status::Fail, obstacle.what.clone(), obstacle.commands.iter().cloned());
            }
            finding.or(fine)
        }
        Err(fault) => finding.skipped(fault.to_string(), None),
    }
}
