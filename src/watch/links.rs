//! From the kernel's word about devices to what is to be looked at: a bridge, its address or a port gone is
//! mended within a second, and the host's resolver follows the bridge's carrier.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::host::bridge::{self, LinkEvent};
use crate::model::{NetworkName, Result};
use crate::ops::Context;
use crate::ops::links::{self, Look};

use super::sources::{News, thread};

/// Events come in bursts: a container's start is a dozen. So long after the first, one look. Also long
/// enough for a port that leaves because its device goes to be gone.
const GATHER: Duration = Duration::from_millis(150);
/// What `apply` could not mend is not tried again for each event, only so often.
const AGAIN: Duration = Duration::from_secs(30);
/// Which bridges are ours is read again so often while events come that are about none of them.
const FRESH: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(5);

/// Starts to listen.
pub(super) fn follow(context: &Context, news: Sender<News>) -> Result<()> {
    let (sender, events) = channel();
    bridge::watch_events(sender)?;
    let watcher = Watcher {
        context: context.clone(),
        look: Look::default(),
        at: Instant::now(),
        told: None,
        carriers: BTreeSet::new(),
    };
    thread("link-news", move || watcher.run(&events, &news))
}

struct Watcher {
    context: Context,
    /// The last look.
    look: Look,
    at: Instant,
    /// The trouble that was told last, and when.
    told: Option<(BTreeSet<String>, Instant)>,
    /// The bridges with a carrier, as they were told last.
    carriers: BTreeSet<NetworkName>,
}

impl Watcher {
    fn run(mut self, events: &Receiver<LinkEvent>, news: &Sender<News>) {
        self.look_again(&BTreeSet::new());
        // What came is about no bridge that the last look knew: one may have been made since.
        let mut unsure = false;
        loop {
            let event = if unsure {
                events.recv_timeout(FRESH.saturating_sub(self.at.elapsed()))
            } else {
                events.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            let mut left = BTreeSet::new();
            // Without waiting for the rest: who asks before the resolver is told waits for seconds.
            if event.as_ref().is_ok_and(|event| self.carrier_came(event))
                && news.send(News::HostNames).is_err()
            {
                return;
            }
            match event {
                Ok(event) if !self.concerns(&event, &mut left) => {
                    unsure = true;
                    continue;
                }
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            unsure = false;
            let until = Instant::now() + GATHER;
            loop {
                match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(event) => {
                        self.concerns(&event, &mut left);
                        if self.carrier_came(&event) && news.send(News::HostNames).is_err() {
                            return;
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            self.look_again(&left);
            if self.is_new_trouble() && news.send(News::Everything).is_err() {
                return;
            }
            if self.carriers_changed() && news.send(News::HostNames).is_err() {
                return;
            }
        }
    }

    /// Whether an event is about a bridge of ours. A port that left is noted in `left`.
    fn concerns(&self, event: &LinkEvent, left: &mut BTreeSet<u32>) -> bool {
        let ours = |index: u32| self.look.bridges.values().any(|b| b.index == Some(index));
        match event {
            LinkEvent::Gap => true,
            LinkEvent::Device { index, name, master, .. } => {
                ours(*index)
                    || master.is_some_and(ours)
                    || self.look.bridges.values().any(|b| b.bridge.as_str() == name)
            }
            LinkEvent::PortLeft { index, bridge } => {
                let from_ours = bridge.is_none_or(ours);
                if from_ours {
                    left.insert(*index);
                }
                from_ours
            }
            LinkEvent::AddressGone { index } => ours(*index),
        }
    }

    /// Whether an event says that a bridge of ours has a carrier by now.
    fn carrier_came(&mut self, event: &LinkEvent) -> bool {
        let LinkEvent::Device { index, carrier: true, .. } = event else { return false };
        let name =
            self.look.bridges.iter().find(|(_, b)| b.index == Some(*index)).map(|(name, _)| name.clone());
        name.is_some_and(|name| self.carriers.insert(name))
    }

    fn look_again(&mut self, left: &BTreeSet<u32>) {
        self.at = Instant::now();
        match links::look(&self.context, left, Deadline::after(LIMIT)) {
            Ok(look) => self.look = look,
            Err(fault) => log::debug!("the bridges can't be looked at: {fault}"),
        }
    }

    fn carriers_changed(&mut self) -> bool {
        let with = self.look.bridges.iter().filter(|(_, seen)| seen.carrier).map(|(name, _)| name.clone());
        let now: BTreeSet<NetworkName> = with.collect();
        let changed = now != self.carriers;
        self.carriers = now;
        changed
    }

    /// Whether something is wrong that was not told already.
    fn is_new_trouble(&mut self) -> bool {
        if self.look.trouble.is_empty() {
            self.told = None;
            return false;
        }
        let known = self
            .told
            .as_ref()
            .is_some_and(|(trouble, at)| *trouble == self.look.trouble && at.elapsed() < AGAIN);
        if !known {
            for trouble in &self.look.trouble {
                log::warn!("{trouble}");
            }
            self.told = Some((self.look.trouble.clone(), Instant::now()));
        }
        !known
    }
}
