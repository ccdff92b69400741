//! Many processes at once.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Outcome;
use super::host::{Host, ended, mac, uuid};

const CLAIMERS: usize = 64;
const CLAIMS: u64 = 2_000;
const CAPACITY: u64 = CLAIMS - 10;

#[test]
fn of_2000_claims_by_64_at_once_exactly_the_pool_s_capacity_is_given() -> Outcome {
    // 10.7.8.0 to 10.7.15.197: 7 × 256 + 198 = 1,990 addresses.
    let host = Host::in_memory()?;
    let pool = ["--subnet", "10.7.0.0/20", "--vm-pool", "10.7.8.0-10.7.15.197"];
    host.ok(&[&["network", "create", "--offline"], pool.as_slice()].concat())?;
    let next = AtomicU64::new(0);
    let given: Mutex<HashMap<String, u64>> = Mutex::default();
    let refused: Mutex<Vec<String>> = Mutex::default();
    let failed: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..CLAIMERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= CLAIMS {
                        return;
                    }
                    let (owner, mac) = (uuid(number), mac(number));
                    let args = ["claim", "--owner", &owner, "--mac", &mac, "--no-probe", "--json"];
                    // On a busy machine the queue may take longer than a person would wait.
                    let outcome = ended(host.command(&args).env("HYBRID_LOCK_TIMEOUT", "100"));
                    match outcome {
                        Ok(ran) if ran.code == 0 => {
                            let address = address_in(&ran.out);
                            let before = given.lock().map(|mut g| g.insert(address.clone(), number));
                            if !matches!(before, Ok(None)) {
                                note(&failed, format!("{address} was given twice: {before:?}, {number}"));
                            }
                        }
                        Ok(ran) if ran.code == 3 => note(&refused, ran.err),
                        Ok(ran) => note(&failed, format!("exit {}: {}", ran.code, ran.err)),
                        Err(error) => note(&failed, error.to_string()),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner()?;
    assert!(failed.is_empty(), "{failed:?}");
    let refused = refused.into_inner()?;
    assert_eq!(refused.len() as u64, CLAIMS - CAPACITY);
    for text in &refused {
        assert!(text.starts_with("error: pool full: all 1990 addresses of 10.7.8.0-10.7.15.197"), "{text}");
    }
    let given = given.into_inner()?;
    assert_eq!(given.len() as u64, CAPACITY);
    let leases = host.leases()?;
    let held: HashSet<&str> = leases.iter().filter_map(|l| l["address"].as_str()).collect();
    assert_eq!(held.len() as u64, CAPACITY);
    assert!(given.keys().all(|address| held.contains(address.as_str())));
    host.check()?;

    // One that is let go is the next one's.
    let last = given.get("10.7.9.77").copied().ok_or("10.7.9.77 was not given")?;
    host.release(last, last, &["--forget"])?;
    assert_eq!(host.claim(CLAIMS + 1, CLAIMS + 1, &["--no-probe"])?["address"], "10.7.9.77");
    Ok(())
}

fn note(list: &Mutex<Vec<String>>, text: String) {
    if let Ok(mut list) = list.lock() {
        list.push(text);
    }
}

fn address_in(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    value["address"].as_str().unwrap_or("none").to_owned()
}
