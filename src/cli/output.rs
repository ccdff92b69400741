//! Printing: tables for people, JSON for programs, faults on standard error.

use std::io::Write;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::model::{Fault, Kind, Result};

/// Prints a fault, its hint, and the failures of the clean-up.
pub(super) fn fault(fault: &Fault) {
    let mut err = std::io::stderr().lock();
    // A reader that has gone away can't be told.
    let _ = writeln!(err, "error: {}", printable(&fault.to_string()));
    if let Some(hint) = fault.hint_text() {
        let _ = writeln!(err, "hint: {}", printable(hint));
    }
    for other in fault.others() {
        let _ = writeln!(err, "also: {}", printable(&other.to_string()));
        if let Some(hint) = other.hint_text() {
            let _ = writeln!(err, "hint: {}", printable(hint));
        }
    }
}

/// Says something that a person should know although the command went on.
pub(super) fn warning(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "warning: {}", printable(text));
}

/// Prints a line.
pub(super) fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    written(writeln!(out, "{text}"))
}

/// Prints bytes as they are.
pub(super) fn raw(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    written(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Prints a value as JSON, indented.
pub(super) fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Fault::failed("the answer can't be written as JSON").because(e))?;
    line(&text)
}

/// Prints the JSON schema of a promised format.
pub(super) fn schema<T: schemars::JsonSchema>() -> Result<()> {
    line(&schema_text::<T>()?)
}

/// The JSON schema of a promised format, as it is printed and kept in docs/reference/.
pub(super) fn schema_text<T: schemars::JsonSchema>() -> Result<String> {
    // Of what is written, not of what would be read: every field is there.
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
    let schema = settings.into_generator().into_root_schema_for::<T>();
    serde_json::to_string_pretty(&schema)
        .map_err(|e| Fault::failed("the schema can't be written as JSON").because(e))
}

/// Prints rows under a heading. Text from outside has its control characters replaced.
pub(super) fn table(heading: &[&str], cells: Vec<Vec<String>>) -> Result<()> {
    line(&rows(heading, cells).join("\n"))
}

/// The lines of such a table.
pub(super) fn rows(heading: &[&str], cells: Vec<Vec<String>>) -> Vec<String> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading.iter().copied());
    for row in cells {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    let text = table.to_string();
    // The first column begins at the edge, and no line has white space at its end.
    text.lines().map(|l| l.strip_prefix(' ').unwrap_or(l).trim_end().to_owned()).collect()
}

/// Replaces control characters: a name must not move the cursor of who reads it.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A dash for what is not there.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

fn written(result: std::io::Result<()>) -> Result<()> {
    match result {
        // `hybrid-hook leases | head` is no failure.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Fault::new(Kind::Failed, "cannot write to standard output").because(e)),
        Ok(()) => Ok(()),
    }
}

/// Whether docs/reference/NAME.schema.json is what `--schema` prints; `UPDATE_SCHEMAS=1` makes it so.
#[cfg(test)]
pub(super) fn schema_is_kept<T: schemars::JsonSchema>(name: &str) -> Result<()> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs/reference")
        .join(format!("{name}.schema.json"));
    let now = schema_text::<T>()? + "\n";
    let io = |e: std::io::Error| Fault::failed(path.display().to_string()).because(e);
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(io)?;
        std::fs::write(&path, &now).map_err(io)?;
    }
    let kept = std::fs::read_to_string(&path).map_err(io)?;
    assert!(kept == now, "{} is not current: UPDATE_SCHEMAS=1 cargo test writes it", path.display());
    Ok(())
}
