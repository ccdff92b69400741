//! Processes killed at any moment. Each worker plays NICs of its own and knows what each may be:
//! what the last command that ended left, or what the killed one was about to.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::Outcome;
use super::host::{Dice, Host, mac, uuid};

const WORKERS: u64 = 4;
const KILLS_EACH: u64 = 125;
/// NICs of each worker.
const NICS: u64 = 3;

/// What a NIC may hold: its fixed address or any, and the state.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Holds {
    Nothing,
    Lease { fixed: Option<String>, state: &'static str },
}

#[test]
fn five_hundred_kills_leave_no_duplicate_and_every_block_readable() -> Outcome {
    let seed = Dice::seed();
    let host = Host::with(&[
        "--subnet",
        "10.0.0.0/22",
        "--vm-pool",
        "10.0.2.0-10.0.3.200",
        "--container-pool",
        "10.0.0.64/26",
    ])?;
    let over = AtomicBool::new(false);
    let results: Vec<Result<(u64, u64), String>> = std::thread::scope(|scope| {
        let vandal = scope.spawn(|| vandalise(&host, seed, &over));
        let workers: Vec<_> = (0..WORKERS)
            .map(|w| {
                scope.spawn({
                    let host = &host;
                    move || play(host, w, &mut Dice::new(seed + w)).map_err(|e| e.to_string())
                })
            })
            .collect();
        let results =
            workers.into_iter().map(|w| w.join().unwrap_or_else(|_| Err("panicked".into()))).collect();
        over.store(true, Ordering::Relaxed);
        let _ = vandal.join();
        results
    });
    let (mut died, mut done) = (0, 0);
    for result in results {
        let (killed, ended) = result.map_err(|e| format!("seed {seed}: {e}"))?;
        died += killed;
        done += ended;
    }
    assert_eq!(died, WORKERS * KILLS_EACH);
    assert!(done > 0, "every command was killed before it did anything: nothing was tested");
    host.check().map_err(|e| format!("seed {seed}: {e}"))?;

    // The next writer clears away what the killed ones left half-written.
    host.claim(999_999, 999_999, &["--no-probe"])?;
    let aside: Vec<_> = std::fs::read_dir(host.state().join("leases"))?
        .filter_map(|e| e.ok().map(|e| e.file_name().to_string_lossy().into_owned()))
        .filter(|name| !name.ends_with(".toml"))
        .collect();
    assert!(aside.is_empty(), "{aside:?}");
    // A cache made afresh says the same as the one that lived through it all.
    let before = host.leases()?;
    let again = host.claim(999_999, 999_999, &["--no-probe"])?;
    std::fs::remove_file(host.index())?;
    assert_eq!(host.claim(999_999, 999_999, &["--no-probe"])?, again);
    assert_eq!(host.leases()?, before);
    Ok(())
}

/// Removes, cuts and garbles the index now and then.
fn vandalise(host: &Host, seed: u64, over: &AtomicBool) {
    let mut dice = Dice::new(seed ^ 0xabcd);
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20 + dice.below(60)));
        let index = host.index();
        let _ = match dice.below(3) {
            0 => std::fs::remove_file(index),
            1 => {
                std::fs::OpenOptions::new().write(true).open(index).and_then(|f| f.set_len(dice.below(3000)))
            }
            _ => std::fs::write(index, dice.below(u64::MAX).to_le_bytes().repeat(200)),
        };
    }
}

/// Plays until this worker's commands were killed often enough. How many died, and how many ended.
fn play(host: &Host, worker: u64, dice: &mut Dice) -> Outcome<(u64, u64)> {
    let mut may_hold = vec![vec![Holds::Nothing]; NICS as usize];
    let (mut died, mut ended) = (0, 0);
    // What a command takes from start to end, learned on the way: kills are spread over all of it.
    let mut usual = Duration::from_millis(10);
    while died < KILLS_EACH {
        let which = dice.below(NICS);
        let number = worker * NICS + which;
        let (owner, mac) = (uuid(number), mac(number));
        let fixed = format!("10.0.1.{}", number * 2 + 1 + dice.below(2));
        let (args, then): (Vec<&str>, _) = match dice.below(5) {
            0 => (vec!["claim"], Holds::Lease { fixed: None, state: "active" }),
            1 | 2 => {
                (vec!["claim", "--ip", &fixed], Holds::Lease { fixed: Some(fixed.clone()), state: "active" })
            }
            3 => (vec!["release"], Holds::Lease { fixed: None, state: "idle" }),
            _ => (vec!["release", "--forget"], Holds::Nothing),
        };
        let mut child = host
            .command(&[args.as_slice(), &["--owner", &owner, "--mac", &mac]].concat())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let begun = std::time::Instant::now();
        let spare = dice.below(8) == 0;
        if !spare {
            std::thread::sleep(Duration::from_micros(dice.below(usual.as_micros() as u64 * 5 / 4 + 1)));
            let _ = child.kill();
        }
        let status = child.wait()?;
        let place = &mut may_hold[which as usize];
        match status.code() {
            None => {
                died += 1;
                place.push(then);
            }
            Some(code) => {
                ended += 1;
                usual = (usual * 3 + begun.elapsed()) / 4;
                match code {
                    0 => *place = vec![then],
                    // A release of what is not held.
                    4 => *place = vec![Holds::Nothing],
                    other => return Err(format!("{args:?}: exit {other}").into()),
                }
            }
        }
        let leases = host.leases()?;
        let is: Vec<&Value> = leases.iter().filter(|l| l["mac"] == mac.as_str()).collect();
        if is.len() > 1 || !place.iter().any(|holds| fits(holds, is.first().copied())) {
            return Err(format!("{args:?} {status}: {is:?} where it may be {place:?}").into());
        }
        // What it is now, it stays.
        if is.is_empty() {
            *place = vec![Holds::Nothing];
        }
    }
    Ok((died, ended))
}

fn fits(holds: &Holds, lease: Option<&Value>) -> bool {
    match (holds, lease) {
        (Holds::Nothing, None) => true,
        (Holds::Lease { fixed, state }, Some(lease)) => {
            lease["state"] == *state && fixed.as_deref().is_none_or(|address| lease["address"] == address)
        }
        _ => false,
    }
}
