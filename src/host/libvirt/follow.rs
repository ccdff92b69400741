//! libvirt's events, as they come.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Event, Libvirt, cannot_load};
use crate::model::{Fault, Result};

/// The first pause before the helper is started again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// The longest line that the helper may print. A domain's name is the only long thing in it.
const LONGEST_LINE: u64 = 1 << 20;

/// A helper that runs and tells what happens; dropping this ends it.
///
/// The helper connects again by itself when libvirt's daemon restarts; when the helper itself ends,
/// it is started again, after pauses of half a second up to a minute. Either way an [`Event::Gap`]
/// comes first and an [`Event::Ready`] after: at each `Ready`, list what stands.
///
/// **NEVER FROM A HOOK**, as [`super::Libvirt`] says.
#[derive(Debug)]
pub struct Events {
    child: Arc<Mutex<Slot>>,
    /// Dropped with this: wakes the thread out of its pause.
    _stop: Sender<()>,
}

/// The helper that runs now, and whether another may be started.
#[derive(Debug, Default)]
struct Slot {
    child: Option<Child>,
    stopped: bool,
}

impl Events {
    /// Starts the helper; fails where it can't be run at all.
    pub(super) fn follow(libvirt: Libvirt, to: Sender<Event>) -> Result<Self> {
        let slot = Arc::new(Mutex::new(Slot { child: Some(start(&libvirt)?), stopped: false }));
        let (stop, stopped) = channel();
        let shared = Arc::clone(&slot);
        std::thread::Builder::new()
            .name("libvirt-events".into())
            .spawn(move || run(&libvirt, &shared, &to, &stopped))
            .map_err(|e| {
                end(&slot);
                Fault::failed("cannot start a thread for libvirt's events").because(e)
            })?;
        Ok(Self { child: slot, _stop: stop })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        end(&self.child);
    }
}

/// A poisoned lock holds nothing that could be half done.
fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends our own child, if it still runs, and lets no other be started. The thread sees its output
/// end and reaps it.
fn end(slot: &Mutex<Slot>) {
    let mut slot = lock(slot);
    slot.stopped = true;
    if let Some(child) = &mut slot.child {
        // A child that was reaped is known to be gone: kill() sends nothing then.
        let _ = child.kill();
    }
}

/// The helper lives as long as its standard input is open, so it never outlives us, however we end.
fn start(libvirt: &Libvirt) -> Result<Child> {
    let mut arguments = libvirt.arguments();
    arguments.push("events");
    Command::new(&libvirt.helper)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Fault::missing(format!("the program {} is not installed", libvirt.helper.display()))
            }
            _ => Fault::failed(format!("cannot run {}", libvirt.helper.display())).because(e),
        })
}

fn run(libvirt: &Libvirt, slot: &Mutex<Slot>, to: &Sender<Event>, stopped: &Receiver<()>) {
    let mut pause = PAUSES.0;
    loop {
        let stdout = lock(slot).child.as_mut().and_then(|c| c.stdout.take());
        let heard = stdout.map(|out| pass_on(BufReader::new(out), to)).unwrap_or_default();
        if heard.ready {
            pause = PAUSES.0;
        }
        let reason = ended(slot, heard.listener_gone);
        if heard.listener_gone || lock(slot).stopped || to.send(Event::Gap { reason }).is_err() {
            return;
        }
        // Nothing is ever sent: this ends at once when our owner is dropped.
        if stopped.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        pause = (pause * 2).min(PAUSES.1);
        let mut slot = lock(slot);
        if slot.stopped {
            return;
        }
        // What can't be run now is tried again after a pause.
        slot.child = start(libvirt).ok();
    }
}

/// Reaps the child whose output ended, and says why it did. It may have closed its output and live
/// on: it is of no use then, and is ended.
fn ended(slot: &Mutex<Slot>, listener_gone: bool) -> String {
    let Some(mut child) = lock(slot).child.take() else {
        return "hybrid-libvirt can't be run".to_owned();
    };
    drop(child.stdin.take());
    if listener_gone || !ends_soon(&mut child) {
        let _ = child.kill();
    }
    match child.wait() {
        Ok(status) => cannot_load(status.code())
            .map_or_else(|| format!("hybrid-libvirt ended ({status})"), |fault| fault.to_string()),
        Err(e) => format!("hybrid-libvirt ended ({e})"),
    }
}

fn ends_soon(child: &mut Child) -> bool {
    (0..50).any(|_| {
        let ended = !matches!(child.try_wait(), Ok(None));
        if !ended {
            std::thread::sleep(Duration::from_millis(10));
        }
        ended
    })
}

/// What came of listening to one helper.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    /// It was connected.
    ready: bool,
    /// Nobody wants to hear more.
    listener_gone: bool,
}

/// Sends on what is read, until it ends or makes no sense.
fn pass_on(mut from: impl BufRead, to: &Sender<Event>) -> Heard {
    let mut heard = Heard::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        match std::io::Read::take(&mut from, LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(1..) => {}
            Ok(0) | Err(_) => return heard,
        }
        let Ok(event) = serde_json::from_slice::<Event>(&line) else { return heard };
        heard.ready |= matches!(event, Event::Ready {});
        if to.send(event).is_err() {
            heard.listener_gone = true;
            return heard;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> std::io::Result<tempfile::TempPath> {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempfile()?;
        std::fs::write(file.path(), text)?;
        // Closed, because a file that is open for writing can't be run.
        Ok(file.into_temp_path())
    }

    /// Another test's fork may hold the new file open for writing for a moment: then it is busy.
    fn follow(helper: &std::path::Path, to: &Sender<Event>) -> Result<Events> {
        let mut tries = 0;
        loop {
            match Libvirt::with(helper.to_path_buf()).events(to.clone()) {
                Err(fault) if tries < 50 && fault.to_string().contains("busy") => tries += 1,
                other => return other,
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn lines_become_events_until_one_makes_no_sense() {
        let (to, from) = channel();
        let text = "{\"event\":\"ready\"}\n{\"event\":\"gap\",\"reason\":\"x\"}\n{\"event\":\"what\"}\n{\"event\":\"ready\"}\n";
        let heard = pass_on(text.as_bytes(), &to);
        drop(to);
        assert_eq!(heard, Heard { ready: true, listener_gone: false });
        let events: Vec<_> = from.iter().collect();
        assert_eq!(events, [Event::Ready {}, Event::Gap { reason: "x".into() }]);
    }

    #[test]
    fn a_helper_that_ends_is_started_again_with_a_gap_between() -> Result<(), Box<dyn std::error::Error>> {
        let helper = script("#!/bin/sh\necho '{\"event\":\"ready\"}'\nexit 7\n")?;
        let (to, from) = channel();
        let events = follow(&helper, &to)?;
        drop(to);
        let soon = Duration::from_secs(20);
        assert_eq!(from.recv_timeout(soon)?, Event::Ready {});
        let reason = "hybrid-libvirt ended (exit status: 7)".to_owned();
        assert_eq!(from.recv_timeout(soon)?, Event::Gap { reason });
        assert_eq!(from.recv_timeout(soon)?, Event::Ready {});
        drop(events);
        // The thread ends, and with it the sender.
        while from.recv_timeout(soon).is_ok() {}
        assert_eq!(from.recv_timeout(soon), Err(RecvTimeoutError::Disconnected));
        Ok(())
    }

    #[test]
    fn dropping_it_ends_the_child_and_the_thread() -> Result<(), Box<dyn std::error::Error>> {
        let helper = script("#!/bin/sh\necho '{\"event\":\"ready\"}'\nexec sleep 1000\n")?;
        let (to, from) = channel();
        let events = follow(&helper, &to)?;
        drop(to);
        let soon = Duration::from_secs(20);
        assert_eq!(from.recv_timeout(soon)?, Event::Ready {});
        let pid = lock(&events.child).child.as_ref().map(Child::id).ok_or("no child")?;
        drop(events);
        assert_eq!(from.recv_timeout(soon), Err(RecvTimeoutError::Disconnected));
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "reaped");
        Ok(())
    }
}
