//! The executable `hybrid-hook`: who called, and with which exit code it ends.

use std::process::ExitCode;

use hybrid_hook::{cli, hook};

fn main() -> ExitCode {
    // Hooks first, before anything is set up that a domain of others would pay for.
    match hook::Call::from_process() {
        Some(call) => call.answer(),
        None => cli::main(),
    }
}
