//! Garbage: idle leases whose domain libvirt, or whose container Docker, no longer knows.

use std::collections::HashSet;

use crate::deadline::Deadline;
use crate::model::{Lease, LeaseState, Network, NetworkName, Origin, OwnerId, Result};
use crate::registry::Registry;

use super::Context;

/// A lease that became active this recently, in seconds, is not called idle: what libvirt said may be
/// older than it.
const SETTLED: u64 = 30;

/// Which owners exist. `None` where nobody could be asked: then nothing of that kind is freed.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Every domain that libvirt knows, running or not.
    pub domains: Option<HashSet<OwnerId>>,
    /// The running ones.
    pub running: Option<HashSet<OwnerId>>,
    /// Every container that Docker knows.
    pub containers: Option<HashSet<OwnerId>>,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Collected {
    /// Leases that are no more, as they were. A reserved one is a reservation for its host name again.
    pub freed: Vec<Lease>,
    /// Leases that were still marked active although their domain is not running.
    pub idled: Vec<Lease>,
}

impl Known {
    fn knows(&self, lease: &Lease) -> bool {
        let Some(owner) = &lease.owner else { return true };
        let set = match owner.origin {
            Origin::Container => &self.containers,
            // A claim by hand that was released: its owner may be a domain all the same.
            Origin::Domain | Origin::Hand => &self.domains,
        };
        set.as_ref().is_none_or(|set| set.contains(&owner.id))
    }

    fn is_stale_active(&self, lease: &Lease) -> bool {
        let Some(owner) = &lease.owner else { return false };
        owner.origin == Origin::Domain && self.running.as_ref().is_some_and(|set| !set.contains(&owner.id))
    }
}

/// Frees what nobody can come back to.
///
/// A lease that became idle is freed at once when its owner is unknown: nobody can be about to start
/// a domain that libvirt doesn't know. One that is active is only called idle when it has been so for
/// a while: a domain that started after libvirt was asked is not in the answer.
pub fn collect(
    context: &Context,
    name: &NetworkName,
    known: &Known,
    deadline: Deadline,
) -> Result<(Network, Collected)> {
    let now = context.now();
    let registry = Registry::of(&context.places, name);
    // Without a lock first: most of the time there is nothing to do.
    let worth = registry.read()?.iter().any(|l| verdict(context, known, l, now) != Verdict::Keep);
    registry.change(deadline, |network, leases| {
        let mut collected = Collected::default();
        if worth {
            for mut lease in leases.all()? {
                match verdict(context, known, &lease, now) {
                    Verdict::Keep => {}
                    Verdict::TurnBack => {
                        leases.put(lease.reservation(now).unwrap_or_else(|| lease.clone()))?;
                        collected.freed.push(lease);
                    }
                    Verdict::Free => {
                        leases.take(lease.address)?;
                        collected.freed.push(lease);
                    }
                    Verdict::Idle => {
                        lease.state = LeaseState::Idle;
                        lease.boot = None;
                        lease.running = false;
                        lease.tap = None;
                        lease.changed = now;
                        leases.put(lease.clone())?;
                        collected.idled.push(lease);
                    }
                }
            }
        }
        Ok((network.clone(), collected))
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    Idle,
    Free,
    TurnBack,
}

fn verdict(context: &Context, known: &Known, lease: &Lease, now: u64) -> Verdict {
    let settled = lease.changed + SETTLED <= now;
    match lease.state_now(&context.boot) {
        LeaseState::Active if settled && known.is_stale_active(lease) => Verdict::Idle,
        LeaseState::Idle if !lease.reserved && !known.knows(lease) => Verdict::Free,
        LeaseState::Idle if lease.reserved && lease.reserved_for.is_some() && !known.knows(lease) => {
            Verdict::TurnBack
        }
        // Active in another boot: written down as idle, so that a reader without our clock sees it too.
        LeaseState::Idle if lease.state == LeaseState::Active => Verdict::Idle,
        _ => Verdict::Keep,
    }
}
