//! The end of a hook call that takes too long, whatever holds it up.

use crate::deadline::Deadline;

/// Ends the process when the deadline passes, with the exit code that the failure table gives a
/// time-out of this operation. What is on disk is whole at any moment, so ending is safe.
pub(super) fn start(deadline: Deadline, refuse: bool, what: String) {
    std::thread::spawn(move || {
        std::thread::sleep(deadline.left());
        let line =
            format!("hybrid-hook: {what} was not done in time; hint: hybrid-hook doctor tells what is slow");
        log::error!("{line}");
        if refuse {
            eprintln!("{line}");
        }
        std::process::exit(i32::from(refuse));
    });
}
