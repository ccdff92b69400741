//! A thread with one job, done when it is called; calls that come while it works are one more round.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::{Fault, Result};

/// Longer than any deadline of a job.
const STUCK: Duration = Duration::from_secs(180);

/// A thread with one job.
pub(super) struct Worker {
    calls: SyncSender<()>,
    /// Seconds since 1970 when the job began; 0 while it rests.
    busy_since: Arc<AtomicU64>,
}

impl Worker {
    /// Starts the thread. It ends with the process: every job can be cut off at any point.
    pub(super) fn start(name: &str, job: impl Fn() -> Vec<Fault> + Send + 'static) -> Result<Self> {
        let (calls, called) = sync_channel::<()>(1);
        let busy_since = Arc::new(AtomicU64::new(0));
        let busy = Arc::clone(&busy_since);
        let what = name.to_owned();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let mut said: Vec<String> = Vec::new();
                while called.recv().is_ok() {
                    busy.store(now(), Ordering::Relaxed);
                    let faults: Vec<String> =
                        job().iter().flat_map(Fault::each).map(ToString::to_string).collect();
                    busy.store(0, Ordering::Relaxed);
                    // What stays wrong is said once, not every minute.
                    for fault in faults.iter().filter(|f| !said.contains(f)) {
                        log::error!("{what}: {fault}");
                    }
                    if faults.is_empty() && !said.is_empty() {
                        log::info!("{what}: in order again");
                    }
                    said = faults;
                }
            })
            .map_err(|e| Fault::failed(format!("cannot start the thread {name}")).because(e))?;
        Ok(Self { calls, busy_since })
    }

    /// Asks for a round. One that is asked for already is enough.
    pub(super) fn call(&self) {
        let _ = self.calls.try_send(());
    }

    /// Whether its job has run for longer than it can.
    pub(super) fn is_stuck(&self) -> bool {
        match self.busy_since.load(Ordering::Relaxed) {
            0 => false,
            since => now().saturating_sub(since) > STUCK.as_secs(),
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_secs())
}
