//! The helper that links libvirt, so that nothing else has to: one request as JSON in, one answer as
//! JSON out. `hybrid_hook::host::libvirt` is its other side.
//!
//! `hybrid-libvirt [--connect URI]` reads the request from standard input; it can be given as an
//! argument, too, and `hybrid-libvirt domains` is short for one without fields. `hybrid-libvirt
//! events` prints what happens, a line each, until its standard input closes.
//!
//! Exit codes are those of `hybrid-hook`: 0 done, 1 failed, 2 wrong usage, 3 refused, 4 missing.

mod answer;
mod connection;
mod domains;
mod events;
mod networks;
mod trouble;
mod xml;

use std::io::{Read, Write};
use std::process::ExitCode;

use clap::Parser;
use hybrid_hook::host::libvirt::protocol::{Answer, Problem, Request};
use hybrid_hook::model::{Fault, Result};

/// The longest request. A domain's XML is far smaller.
const LONGEST_REQUEST: u64 = 64 << 20;

/// Asks libvirt, for hybrid-hook: JSON in, JSON out.
#[derive(Debug, Parser)]
#[command(name = "hybrid-libvirt", version)]
struct Call {
    /// The connection [default: LIBVIRT_DEFAULT_URI, else qemu:///system]
    #[arg(long, value_name = "URI")]
    connect: Option<String>,
    /// The request, as JSON or as the name of one without fields; none: read from standard input.
    /// `events` prints what happens until standard input closes
    request: Option<String>,
}

fn main() -> ExitCode {
    let call = Call::parse();
    // libvirt prints every error to stderr by itself otherwise; ours go into the answer.
    virt::error::clear_error_callback();
    let uri = connection::uri(call.connect);
    if call.request.as_deref() == Some("events") {
        return match events::run(&uri) {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => failed(&fault),
        };
    }
    match read(call.request).and_then(|request| answer::answer(&uri, request)) {
        Ok(answer) => print(&answer, ExitCode::SUCCESS),
        Err(fault) => failed(&fault),
    }
}

fn failed(fault: &Fault) -> ExitCode {
    print(&Answer::Error(Problem::from(fault)), ExitCode::from(fault.kind().exit_code()))
}

fn print(answer: &Answer, code: ExitCode) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let written = serde_json::to_writer(&mut out, answer)
        .map_err(std::io::Error::from)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    // Nobody is left to hear more about it.
    if written.is_ok() { code } else { ExitCode::FAILURE }
}

fn read(argument: Option<String>) -> Result<Request> {
    let text = match argument {
        Some(text) if text.starts_with('{') => text,
        Some(name) => serde_json::json!({ name: {} }).to_string(),
        None => {
            let mut text = String::new();
            std::io::stdin()
                .lock()
                .take(LONGEST_REQUEST)
                .read_to_string(&mut text)
                .map_err(|e| Fault::usage("cannot read the request").because(e))?;
            text
        }
    };
    parse(&text)
}

/// A request, with no NUL in any string of it: libvirt's strings end at one.
fn parse(text: &str) -> Result<Request> {
    let bad = |e: serde_json::Error| Fault::usage("the request makes no sense").because(e);
    let value: serde_json::Value = serde_json::from_str(text).map_err(bad)?;
    if holds_nul(&value) {
        return Err(Fault::usage("the request holds a NUL character"));
    }
    serde_json::from_value(value).map_err(bad)
}

fn holds_nul(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => text.contains('\0'),
        serde_json::Value::Array(items) => items.iter().any(holds_nul),
        serde_json::Value::Object(fields) => fields.values().any(holds_nul),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hybrid_hook::model::Kind;

    #[test]
    fn a_nul_never_reaches_libvirt() {
        let error = parse(r#"{"domain":{"domain":{"name":"a\u0000b"},"secrets":false}}"#).err();
        assert_eq!(error.map(|e| e.to_string()).as_deref(), Some("the request holds a NUL character"));
    }

    #[test]
    fn nonsense_is_wrong_usage() {
        for text in ["", "[]", "{}", "{\"version\":", r#"{"version":{}} {}"#] {
            assert_eq!(parse(text).err().map(|e| e.kind()), Some(Kind::Usage), "{text:?}");
        }
        assert_eq!(read(Some("networks".into())).ok(), Some(Request::Networks {}));
    }
}
