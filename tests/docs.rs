//! The documents tell the truth as far as a program can see: links lead somewhere, commands and
//! options exist, every crate has its reason, every licence is one that we take.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

type Outcome = Result<(), Box<dyn Error>>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document, with its text.
fn documents() -> Result<Vec<(PathBuf, String)>, Box<dyn Error>> {
    let mut files = Vec::new();
    let mut folders = vec![root().join("docs"), root().join("vagrant-plugin"), root().join("tests")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                files.push(path);
            }
        }
    }
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        files.push(root().join(name));
    }
    files.sort();
    let mut list = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        list.push((file, text));
    }
    Ok(list)
}

fn none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}

/// A heading's anchor, as GitHub and GitLab make it.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn links_lead_to_files_and_headings_that_exist() -> Outcome {
    let documents = documents()?;
    let anchors: BTreeMap<&Path, BTreeSet<String>> = documents
        .iter()
        .map(|(file, text)| {
            (file.as_path(), text.lines().filter(|l| l.starts_with('#')).map(anchor).collect())
        })
        .collect();
    let mut wrong = Vec::new();
    for (file, text) in &documents {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.contains(char::is_whitespace) {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = file.parent().unwrap_or(root());
            let to = if path.is_empty() { file.clone() } else { folder.join(path) };
            let shown = || format!("{}: {target}", file.strip_prefix(root()).unwrap_or(file).display());
            let Ok(to) = to.canonicalize() else {
                wrong.push(shown());
                continue;
            };
            if !heading.is_empty() && !anchors.get(to.as_path()).is_some_and(|a| a.contains(heading)) {
                wrong.push(shown());
            }
        }
    }
    none("links that lead nowhere", &wrong);
    Ok(())
}

/// Command lines of ours in code, as words: `$ sudo hybrid-hook network up x` gives `network up x`.
fn command_lines(text: &str) -> Vec<Vec<String>> {
    let mut code = Vec::new();
    let mut fenced = false;
    let mut carried = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            match line.strip_suffix('\\') {
                Some(start) => carried.push_str(start),
                None => code.push(std::mem::take(&mut carried) + line),
            }
        } else {
            code.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    let mut lines = Vec::new();
    for piece in code {
        for part in piece.split(['|', ';', '<', '&', '(', ')']) {
            // A comment, but not a root prompt.
            let part = part.trim_start().trim_start_matches("# ").split(" #").next().unwrap_or_default();
            let words: Vec<&str> = part.split_whitespace().collect();
            if let Some(at) = words.iter().position(|w| *w == "hybrid-hook" || *w == "/usr/bin/hybrid-hook")
                && let Some(rest) = words.get(at + 1..)
                && rest.first().is_some_and(|w| w.starts_with(|c: char| c.is_ascii_lowercase()))
            {
                lines.push(rest.iter().map(|w| (*w).to_owned()).collect());
            }
        }
    }
    lines
}

fn help(words: &[&str]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_hybrid-hook")).args(words).arg("--help").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn commands_and_their_options_exist() -> Outcome {
    let mut wrong = BTreeSet::new();
    let mut seen = 0;
    for (file, text) in documents()? {
        // It tells of what was, too.
        if file.ends_with("CHANGELOG.md") {
            continue;
        }
        for line in command_lines(&text) {
            seen += 1;
            let words: Vec<&str> = line.iter().map(String::as_str).collect();
            let count = if words.first() == Some(&"network") { 2 } else { 1 };
            let verb: Vec<&str> = words
                .iter()
                .take(count)
                .copied()
                .take_while(|w| w.starts_with(|c: char| c.is_ascii_lowercase()))
                .collect();
            let shown = format!(
                "{}: hybrid-hook {}",
                file.strip_prefix(root()).unwrap_or(&file).display(),
                line.join(" ")
            );
            if verb.first() == Some(&"hook") {
                continue;
            }
            let Some(help) = help(&verb) else {
                wrong.insert(format!("{shown}: no such command"));
                continue;
            };
            for option in words.iter().filter(|w| w.starts_with("--")) {
                let option =
                    option.split('=').next().unwrap_or(option).trim_end_matches([',', '.', ']', '…']);
                if !help.contains(option) {
                    wrong.insert(format!("{shown}: no such option {option}"));
                }
            }
        }
    }
    assert!(seen > 20, "only {seen} command lines were found");
    none("commands that don't exist", &wrong.into_iter().collect::<Vec<_>>());
    Ok(())
}

/// The crates that Cargo.toml names, and whatever else is in its tables of dependencies.
fn crates() -> Result<BTreeSet<String>, Box<dyn Error>> {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml"))?.parse()?;
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    Ok(tables
        .iter()
        .filter_map(|table| manifest.get(*table)?.as_table())
        .flat_map(|table| table.keys().cloned())
        .collect())
}

#[test]
fn every_crate_has_one_line_that_says_why() -> Outcome {
    let text = fs::read_to_string(root().join("docs/dependencies.md"))?;
    let mut told = BTreeSet::new();
    let mut wrong = Vec::new();
    for line in text.lines().filter_map(|l| l.strip_prefix("| `")) {
        let name = line.split('`').next().unwrap_or_default().to_owned();
        if !told.insert(name.clone()) {
            wrong.push(format!("{name} is there twice"));
        }
    }
    let crates = crates()?;
    wrong.extend(crates.difference(&told).map(|name| format!("{name} has no line")));
    wrong.extend(told.difference(&crates).map(|name| format!("{name} is not in Cargo.toml")));
    none("docs/dependencies.md", &wrong);
    Ok(())
}

/// Whether an SPDX expression can be met with the licences in `allowed`. `/` is an old way to write OR.
fn acceptable(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let text = expression.trim();
    for (operator, all) in [(" OR ", false), ("/", false), (" AND ", true)] {
        let parts = split_outside(text, operator);
        if parts.len() > 1 {
            let mut met = parts.into_iter().map(|part| acceptable(part, allowed));
            return if all { met.all(|m| m) } else { met.any(|m| m) };
        }
    }
    match text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
        Some(inside) => acceptable(inside, allowed),
        None => allowed(text),
    }
}

fn split_outside<'t>(text: &'t str, operator: &str) -> Vec<&'t str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_i32, 0);
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if depth == 0 && at >= start && text[at..].starts_with(operator) {
            parts.push(&text[start..at]);
            start = at + operator.len();
        }
    }
    parts.push(&text[start..]);
    parts
}

#[test]
fn licences_are_those_that_we_take() -> Outcome {
    let deny: toml::Table = fs::read_to_string(root().join("deny.toml"))?.parse()?;
    let licences =
        deny.get("licenses").and_then(toml::Value::as_table).ok_or("deny.toml has no [licenses]")?;
    let strings = |value: Option<&toml::Value>| -> BTreeSet<String> {
        value
            .and_then(toml::Value::as_array)
            .map(|list| list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect())
            .unwrap_or_default()
    };
    let allow = strings(licences.get("allow"));
    let exceptions: Vec<(&str, BTreeSet<String>)> = licences
        .get("exceptions")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|e| Some((e.get("crate")?.as_str()?, strings(e.get("allow")))))
        .collect();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform"])
        .arg("x86_64-unknown-linux-gnu")
        .current_dir(root())
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata.get("packages").and_then(|p| p.as_array()).ok_or("no packages")?;
    assert!(packages.len() > 50, "only {} packages", packages.len());
    let mut wrong = Vec::new();
    for package in packages {
        let (name, licence) = (package["name"].as_str().unwrap_or("?"), package["license"].as_str());
        let own = exceptions.iter().find(|(n, _)| *n == name).map(|(_, list)| list);
        let allowed = |l: &str| allow.contains(l) || own.is_some_and(|list| list.contains(l));
        if !licence.is_some_and(|l| acceptable(l, &allowed)) {
            wrong.push(format!("{name}: {}", licence.unwrap_or("none named")));
        }
    }
    none("crates under licences that deny.toml does not list", &wrong);
    Ok(())
}

#[test]
fn a_licence_expression_is_read_as_it_is_meant() {
    let mit = |l: &str| l == "MIT";
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/Apache-2.0", true),
        ("MIT AND Unicode-3.0", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", false),
        ("(GPL-3.0 OR MIT) AND (MIT OR ISC)", true),
        ("MIT OR GPL-3.0 AND ISC", true),
        ("GPL-3.0 WITH MIT", false),
    ] {
        assert_eq!(acceptable(expression, &mit), met, "{expression}");
    }
}

#[test]
fn command_lines_are_found_in_code_alone() {
    let text = "hybrid-hook no\n`hybrid-hook leases --json` and `x`\n```console\n# hybrid-hook network up \\\n  x | sudo \
                hybrid-hook gc # why\n```\n";
    let lines: Vec<String> = command_lines(text).iter().map(|l| l.join(" ")).collect();
    assert_eq!(lines, ["leases --json", "network up x", "gc"]);
}

/// Every Rust file below a folder, with its text.
fn rust_files(folder: &Path) -> Result<Vec<(PathBuf, String)>, Box<dyn Error>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push((path.clone(), fs::read_to_string(&path)?));
            }
        }
    }
    Ok(files)
}

/// The rooms that a source text names after `crate::`; those in braces too.
fn rooms_named<'r>(text: &str, rooms: &'r BTreeSet<String>) -> BTreeSet<&'r String> {
    let mut named = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        let list = match rest.strip_prefix('{') {
            Some(inside) => inside.split('}').next().unwrap_or_default(),
            None => rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default(),
        };
        for word in list.split(',').map(|w| w.trim().split("::").next().unwrap_or_default()) {
            named.extend(rooms.get(word));
        }
    }
    named
}

#[test]
fn rooms_use_what_the_architecture_lets_them_use() -> Outcome {
    let text = fs::read_to_string(root().join("docs/architecture.md"))?;
    let table = text.split("| room | holds | may use |").nth(1).ok_or("no table of rooms")?;
    let mut may: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in table.lines().skip(2).take_while(|l| l.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [room, _, uses] = cells.as_slice() else { return Err(format!("not three cells: {line}").into()) };
        let uses = uses.split(',').map(|u| u.trim().to_owned()).filter(|u| !u.is_empty()).collect();
        may.insert(room.trim_matches('`').to_owned(), uses);
    }
    let rooms: BTreeSet<String> = may.keys().cloned().collect();
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(root().join("src"))? {
        let entry = entry?;
        if entry.path().is_dir() && entry.file_name() != "bin" {
            there.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    assert_eq!(there, rooms, "the rooms in src/ and in the table");
    let mut wrong = Vec::new();
    for (room, may_use) in &may {
        let mut used = BTreeSet::new();
        for (file, text) in rust_files(&root().join("src").join(room))? {
            for other in rooms_named(&text, &rooms).into_iter().filter(|other| *other != room) {
                if !may_use.contains(other) {
                    wrong.push(format!("{} uses {other}", file.strip_prefix(root())?.display()));
                }
                used.insert(other.clone());
            }
        }
        wrong.extend(may_use.difference(&used).map(|unused| format!("{room} does not use {unused}")));
    }
    none("docs/architecture.md has another table", &wrong);
    Ok(())
}
