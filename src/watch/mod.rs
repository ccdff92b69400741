//! The service: it holds no state of its own. What happens elsewhere, and the clock, only tell it
//! when to look; killed at any instant and started again, all is as it should be.

mod links;
mod sources;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::host::systemd::{self, Notice};
use crate::model::{Fault, Result};
use crate::ops::surroundings::Extent;
use crate::ops::{self, Context};
use crate::places;
use crate::registry::durable;
use crate::registry::lock::Lock;

use sources::News;
use worker::Worker;

/// Everything is looked at and put right so often, whatever was heard.
const PERIOD: Duration = Duration::from_secs(60);
/// So long after the last word of Docker its containers are looked at once more: it tells of a connection before its
/// list does.
const AGAIN: Duration = Duration::from_millis(300);
/// Names and DHCP: files only.
const NAMES_LIMIT: Duration = Duration::from_secs(5);
/// Containers: Docker may hang, and nothing else waits for it.
const CONTAINERS_LIMIT: Duration = Duration::from_secs(20);
/// All of it.
const APPLY_LIMIT: Duration = Duration::from_secs(60);

/// Runs until SIGTERM or SIGINT.
pub fn run(context: Context) -> Result<()> {
    if !places::is_root() {
        return Err(Fault::failed("the service changes the host's network and must be root")
            .hint("sudo hybrid-hook watch"));
    }
    durable::make_folder(&context.places.run, 0o755)?;
    let lock_path = context.places.run.join("watch.lock");
    let Some(_only) = Lock::try_take(&lock_path)? else {
        let pid = std::fs::read_to_string(&lock_path).unwrap_or_default();
        return Err(Fault::refused(format!(
            "another hybrid-hook watch runs already (process {})",
            pid.trim()
        ))
        .hint("that one does the work; systemctl status hybrid-hook shows it"));
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (news, heard) = channel();
    // First the ears, then the first look: nothing falls between.
    let _sources = sources::start(&context, &news, &stop)?;

    let names = Worker::start("names", {
        let context = context.clone();
        move || ops::settle::names(&context, Deadline::after(NAMES_LIMIT))
    })?;
    let host_names = Worker::start("host's resolver", {
        let context = context.clone();
        move || ops::settle::host_names(&context, Deadline::after(NAMES_LIMIT))
    })?;
    let containers = Worker::start("containers", {
        let context = context.clone();
        move || ops::settle::containers(&context, Deadline::after(CONTAINERS_LIMIT)).all()
    })?;
    let garbage = Worker::start("garbage", {
        let context = context.clone();
        move || ops::settle::garbage(&context, Deadline::after(CONTAINERS_LIMIT))
    })?;
    let everything = Worker::start("apply", {
        let context = context.clone();
        move || everything(&context)
    })?;

    everything.call();
    garbage.call();
    names.call();
    containers.call();
    tell(Notice::Ready);
    log::info!("hybrid-hook watch {} is ready", env!("CARGO_PKG_VERSION"));
    let beat = systemd::watchdog_interval().unwrap_or(PERIOD);
    let mut next = Instant::now() + PERIOD;
    let mut again: Option<Instant> = None;
    loop {
        let wait = again.map_or(next, |at| at.min(next)).saturating_duration_since(Instant::now()).min(beat);
        match heard.recv_timeout(wait) {
            Ok(News::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(News::Wake) => {
                names.call();
                containers.call();
            }
            Ok(News::Containers) => {
                containers.call();
                again = Some(Instant::now() + AGAIN);
            }
            Ok(News::HostNames) => host_names.call(),
            Ok(News::Domains) => {
                garbage.call();
                containers.call();
            }
            Ok(News::Everything) => {
                everything.call();
                garbage.call();
                containers.call();
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        // A worker that is stuck past all its deadlines is for systemd to end.
        if [&names, &host_names, &containers, &garbage, &everything].iter().all(|w| !w.is_stuck()) {
            tell(Notice::Watchdog);
        }
        if again.is_some_and(|at| Instant::now() >= at) {
            again = None;
            containers.call();
        }
        if Instant::now() >= next {
            next = Instant::now() + PERIOD;
            everything.call();
            garbage.call();
            containers.call();
        }
    }
    tell(Notice::Stopping);
    stop.store(true, Ordering::Relaxed);
    let _ = std::fs::remove_file(context.places.wake_socket());
    log::info!("hybrid-hook watch ends; bridges, leases and guests stay as they are");
    Ok(())
}

/// Tells systemd; without one there is nobody to tell.
fn tell(notice: Notice<'_>) {
    if let Err(fault) = systemd::notify(notice) {
        log::debug!("{fault}");
    }
}

/// What `hybrid-hook apply` does.
fn everything(context: &Context) -> Vec<Fault> {
    match ops::apply::apply(context, None, Extent::Whole, Deadline::after(APPLY_LIMIT)) {
        Ok((reports, mut faults)) => {
            for report in reports {
                // One that went with Docker's has said so.
                for step in report.steps.iter().filter(|s| s.was_made() && !report.lowered) {
                    log::info!("network {}: {}: made right", report.network, step.what);
                }
                faults.extend(report.into_result().err());
            }
            faults.extend(ops::follow::again(context, Deadline::after(APPLY_LIMIT)));
            faults
        }
        Err(fault) => vec![fault],
    }
}
