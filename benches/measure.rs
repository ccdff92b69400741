//! Times processes for `benches/bench`: each from its start to its end, ours and its baseline by
//! turns, so that what else the machine does weighs on both alike.
//!
//! ```text
//! measure run ROUNDS INPUT CMD… -- CMD…      each command once a round, INPUT on standard input
//! measure sum ROUNDS BEFORE INPUT CMD… -- …  the commands' sum; BEFORE is run before each round, untimed
//! measure claim COUNT ROUNDS PROGRAM CNI FOLDER  a new claim among COUNT leases on network `bench`,
//!                                            and a new ADD of CNI's host-local among as many
//! ```
//! It prints medians in microseconds, one a line.

use std::error::Error;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hybrid_hook::model::pool::{address_at, ordinal};
use hybrid_hook::model::{Lease, LeaseState, NetworkName, Origin, Owner};
use hybrid_hook::places::Places;
use hybrid_hook::registry::block::{Block, BlockId};
use hybrid_hook::registry::networks;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const NETWORK: &str = "bench";

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["run", rounds, input, commands @ ..] => run(rounds.parse()?, input, &split(commands)),
        ["sum", rounds, before, input, commands @ ..] => {
            sum(rounds.parse()?, before, input, &split(commands))
        }
        ["claim", count, rounds, program, cni, folder] => {
            claim(count.parse()?, rounds.parse()?, program, cni, Path::new(folder))
        }
        _ => Err("see the head of benches/measure.rs".into()),
    }
}

/// Commands with `--` between them.
fn split<'a>(words: &[&'a str]) -> Vec<Vec<&'a str>> {
    words.split(|word| *word == "--").filter(|c| !c.is_empty()).map(<[&str]>::to_vec).collect()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn say(times: Vec<Duration>) {
    println!("{}", median(times).as_nanos() as f64 / 1000.0);
}

/// A process from start to end. Its exit code must be 0.
fn time(command: &mut Command) -> Outcome<Duration> {
    let begun = Instant::now();
    let status = command.status()?;
    let took = begun.elapsed();
    if !status.success() {
        return Err(format!("{command:?}: {status}").into());
    }
    Ok(took)
}

fn command(words: &[&str], input: &str) -> Outcome<Command> {
    let (program, args) = words.split_first().ok_or("no command")?;
    let mut command = Command::new(program);
    command.args(args).stdin(File::open(input)?).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

fn run(rounds: usize, input: &str, commands: &[Vec<&str>]) -> Outcome {
    let mut times = vec![Vec::new(); commands.len()];
    for round in 0..rounds + 3 {
        for (words, times) in commands.iter().zip(&mut times) {
            let took = time(&mut command(words, input)?)?;
            // The first ones fill the page cache.
            if round >= 3 {
                times.push(took);
            }
        }
    }
    times.into_iter().for_each(say);
    Ok(())
}

/// The commands of one start of a VM, one after the other; INPUT has `%` for the command's number.
fn sum(rounds: usize, before: &str, input: &str, commands: &[Vec<&str>]) -> Outcome {
    let mut sums = Vec::new();
    let mut times = vec![Vec::new(); commands.len()];
    for round in 0..rounds + 3 {
        time(Command::new("sh").args(["-c", before]).stdout(Stdio::null()).stderr(Stdio::null()))?;
        let mut whole = Duration::ZERO;
        for (number, (words, times)) in commands.iter().zip(&mut times).enumerate() {
            let took = time(&mut command(words, &input.replace('%', &number.to_string()))?)?;
            whole += took;
            if round >= 3 {
                times.push(took);
            }
        }
        if round >= 3 {
            sums.push(whole);
        }
    }
    say(sums);
    times.into_iter().for_each(say);
    Ok(())
}

/// A new claim of ours and a new ADD of CNI's host-local by turns, each taken back untimed.
fn claim(count: u64, rounds: u64, program: &str, cni: &str, folder: &Path) -> Outcome {
    let places = Places::from_environment();
    let network: NetworkName = NETWORK.parse()?;
    let pool = networks::load(&places, &network)?.key_family().ok_or("no addresses")?.vm_pool;
    let at = |number: u64| {
        address_at(ordinal(pool.first()) + u128::from(number), pool.first()).ok_or("the pool is too small")
    };
    fill(&places, &network, count, at)?;
    let peer = Path::new(cni).exists();
    if peer {
        fill_cni(folder, count, at)?;
    }
    let config = folder.join("config.json");
    if peer {
        fs::write(&config, cni_config(folder, at(0)?))?;
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds + 3 {
        let (owner, mac) = (uuid(count + round), mac(count + round));
        let words = |verb: &'static str, last: &'static str| {
            [verb, "--network", NETWORK, "--owner", &owner, "--mac", &mac, last].map(str::to_owned)
        };
        let claim = time(quiet(program).args(words("claim", "--no-probe")))?;
        time(quiet(program).args(words("release", "--forget")))?;
        let add = if peer {
            let call = |verb: &str| -> Outcome<Duration> {
                let mut command = quiet(cni);
                command.stdin(File::open(&config)?).env("CNI_COMMAND", verb);
                command.env("CNI_CONTAINERID", format!("c{round}")).env("CNI_NETNS", "/proc/self/ns/net");
                time(command.env("CNI_IFNAME", "eth0").env("CNI_PATH", "/usr/lib/cni"))
            };
            let add = call("ADD")?;
            call("DEL")?;
            Some(add)
        } else {
            None
        };
        if round >= 3 {
            ours.push(claim);
            theirs.extend(add);
        }
    }
    say(ours);
    if peer {
        say(theirs);
    }
    Ok(())
}

fn quiet(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn uuid(number: u64) -> String {
    format!("0f0e0d0c-0000-4000-8000-{number:012x}")
}

fn mac(number: u64) -> String {
    let [.., a, b, c] = number.to_be_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

/// Writes a registry with so many leases, block by block, as claims would have left it.
fn fill(
    places: &Places,
    network: &NetworkName,
    count: u64,
    at: impl Fn(u64) -> Result<IpAddr, &'static str>,
) -> Outcome {
    let folder = places.network_state(network).join("leases");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let mut block = (BlockId::of(at(0)?), Block::default());
    for number in 0..count {
        let address = at(number)?;
        if BlockId::of(address) != block.0 {
            fs::write(block.0.path(&folder), block.1.render()?)?;
            block = (BlockId::of(address), Block::default());
        }
        let owner = Owner { id: uuid(number).parse()?, origin: Origin::Hand, name: None };
        block.1.put(Lease {
            address,
            mac: Some(mac(number).parse()?),
            owner: Some(owner),
            state: LeaseState::Active,
            boot: None,
            fixed: false,
            reserved: false,
            generation: 1,
            since: 1_800_000_000,
            changed: 1_800_000_000,
            unprobed: false,
            hostname: Some(format!("vm{number}").parse()?),
            aliases: Vec::new(),
            groups: Vec::new(),
            containers: None,
            running: false,
            sole_nic: false,
            tap: None,
            handover: None,
            address6: None,
        });
    }
    if !block.1.leases.is_empty() {
        fs::write(block.0.path(&folder), block.1.render()?)?;
    }
    Ok(())
}

/// Writes what host-local keeps: a file an address, and the one given last.
fn fill_cni(folder: &Path, count: u64, at: impl Fn(u64) -> Result<IpAddr, &'static str>) -> Outcome {
    let _ = fs::remove_dir_all(folder);
    let store = folder.join(NETWORK);
    fs::create_dir_all(&store)?;
    for number in 0..count {
        fs::write(store.join(at(number)?.to_string()), format!("held{number}\r\neth0"))?;
    }
    if count > 0 {
        fs::write(store.join("last_reserved_ip.0"), at(count - 1)?.to_string())?;
    }
    Ok(())
}

fn cni_config(folder: &Path, first: IpAddr) -> String {
    format!(
        r#"{{"cniVersion":"0.4.0","name":"{NETWORK}","type":"bridge","ipam":{{"type":"host-local",
        "subnet":"10.64.0.0/15","rangeStart":"{first}","dataDir":"{}"}}}}"#,
        folder.display()
    )
}
