//! libvirt's call: a typed event, its effect, and the exit code that the failure table gives it.
//!
//! libvirt runs hooks with `object operation sub-operation extra` and XML on standard input
//! (<https://libvirt.org/hooks.html>). No hook ever talks to libvirt or Docker.

mod input;
pub mod network;
pub mod qemu;
#[cfg(test)]
mod testing;
mod watchdog;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::model::{Fault, Network};
use crate::places::{self, Places};
use crate::registry::networks;

/// A whole hook call, at most; libvirt itself would wait for ever.
const LIMIT: Duration = Duration::from_secs(8);
/// Domain XML is some kilobytes; more than this is not read.
const INPUT_LIMIT: usize = 16 << 20;

/// Which of libvirt's hooks was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A domain's life.
    Qemu,
    /// A network's life.
    Network,
}

/// One call by libvirt.
#[derive(Debug)]
pub struct Call {
    kind: Kind,
    /// The domain's or network's name, from anyone.
    object: OsString,
    operation: OsString,
}

/// How a hook call ends.
#[derive(Debug, Default)]
pub struct Answer {
    /// What libvirt reads as the new XML: for `restore` and `migrate` only.
    pub output: Vec<u8>,
    /// The reason for a refusal; libvirt shows it to the person. The exit code is 1.
    pub refusal: Option<Fault>,
}

impl Call {
    /// Whether this process was called as a hook: by its name (`qemu`, `network`), by its folder
    /// (`qemu.d`, `network.d`), or as `hybrid-hook hook qemu|network …`.
    #[must_use]
    pub fn from_process() -> Option<Self> {
        let mut args = std::env::args_os();
        let program = args.next()?;
        let path = Path::new(&program);
        let by_name = |name: &[u8]| match name {
            b"qemu" | b"qemu.d" => Some(Kind::Qemu),
            b"network" | b"network.d" => Some(Kind::Network),
            _ => None,
        };
        let folder = path.parent().and_then(Path::file_name).and_then(|f| by_name(f.as_bytes()));
        // A folder named `qemu` is somebody's; only the `.d` folders of libvirt count.
        let folder =
            folder.filter(|_| path.parent().is_some_and(|p| p.as_os_str().as_bytes().ends_with(b".d")));
        let name = path.file_name().and_then(|f| by_name(f.as_bytes()));
        let kind = match name.or(folder) {
            Some(kind) => kind,
            None => {
                let rest: Vec<OsString> = std::env::args_os().skip(1).take(2).collect();
                let [command, kind] = rest.as_slice() else { return None };
                let kind = match (command.as_bytes(), kind.as_bytes()) {
                    (b"hook", b"qemu") => Kind::Qemu,
                    (b"hook", b"network") => Kind::Network,
                    _ => return None,
                };
                args.next();
                args.next();
                kind
            }
        };
        Some(Self {
            kind,
            object: args.next().unwrap_or_default(),
            operation: args.next().unwrap_or_default(),
        })
    }

    /// Does what the call asks and gives the exit code. Whatever is not ours ends here with 0 at once.
    #[must_use]
    pub fn answer(self) -> ExitCode {
        // A session daemon runs the same hooks as an ordinary user.
        if !places::is_root() {
            return ExitCode::SUCCESS;
        }
        let operation = self.operation.to_string_lossy().into_owned();
        let known = match self.kind {
            Kind::Qemu => qemu::Operation::named(&operation).is_some(),
            Kind::Network => network::Operation::named(&operation).is_some(),
        };
        if !known {
            return ExitCode::SUCCESS;
        }
        let xml = input::read(INPUT_LIMIT, deadline());
        let answer = match self.kind {
            Kind::Qemu => qemu::answer(&self.object.to_string_lossy(), &operation, &xml),
            Kind::Network => network::answer(&operation, &xml),
        };
        watchdog::answer_begins();
        if !answer.output.is_empty() {
            use std::io::Write;
            // A filter that fails half-way must not look like a whole answer.
            let mut out = std::io::stdout().lock();
            if out.write_all(&answer.output).and_then(|()| out.flush()).is_err() {
                return ExitCode::FAILURE;
            }
        }
        match answer.refusal {
            None => ExitCode::SUCCESS,
            Some(fault) => {
                eprintln!("{}", one_line(&fault));
                ExitCode::FAILURE
            }
        }
    }
}

/// A fault in one line, as libvirt shows it in its error.
#[must_use]
pub fn one_line(fault: &Fault) -> String {
    let mut line = format!("hybrid-hook: {}", fault.on_one_line());
    if let Some(hint) = fault.hint_text() {
        line.push_str("; hint: ");
        line.push_str(hint);
    }
    line.replace(['\n', '\r'], " ")
}

/// The deadline of a whole call, `HYBRID_HOOK_TIMEOUT` in seconds where it is set.
fn deadline() -> Deadline {
    let seconds = std::env::var("HYBRID_HOOK_TIMEOUT").ok().and_then(|v| v.parse::<f64>().ok());
    let limit = seconds.filter(|s| *s > 0.0 && *s <= 60.0).map_or(LIMIT, Duration::from_secs_f64);
    Deadline::after(limit)
}

/// The networks that can be read; a broken one is logged and left out.
fn networks(places: &Places) -> (Vec<Network>, Vec<Fault>) {
    match networks::load_all(places) {
        Ok(all) => all,
        Err(fault) => (Vec::new(), vec![fault]),
    }
}
