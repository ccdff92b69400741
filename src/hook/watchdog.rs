//! The end of a hook call that takes too long, whatever holds it up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::deadline::Deadline;

/// Somebody answers libvirt by now: the call itself, or we.
static ANSWERING: AtomicBool = AtomicBool::new(false);

/// How long an answer that has begun may take: libvirt reads it as it comes.
const ANSWER: Duration = Duration::from_secs(1);

/// Must be called before anything is printed. When the deadline was first, it does not return: there
/// must be one answer, and no half of a second one.
pub(super) fn answer_begins() {
    while ANSWERING.swap(true, Ordering::SeqCst) {
        std::thread::sleep(ANSWER);
    }
}

/// Ends the process when the deadline passes, with the exit code that the failure table gives a
/// time-out of this operation. What is on disk is whole at any moment, so ending is safe.
pub(super) fn start(deadline: Deadline, refuse: bool, what: String) {
    std::thread::spawn(move || {
        std::thread::sleep(deadline.left());
        if ANSWERING.swap(true, Ordering::SeqCst) {
            // Cut off it must not look like a whole one.
            std::thread::sleep(ANSWER);
            std::process::exit(1);
        }
        let line =
            format!("hybrid-hook: {what} was not done in time; hint: hybrid-hook doctor tells what is slow");
        log::error!("{line}");
        if refuse {
            eprintln!("{line}");
        }
        std::process::exit(i32::from(refuse));
    });
}
