//! Times processes for `benches/bench`: each from its start to its end, ours and its baseline by
//! turns, so that what else the machine does weighs on both alike.
//!
//! ```text
//! measure run ROUNDS INPUT CMD… -- CMD…      each command once a round, INPUT on standard input
//! measure sum ROUNDS BEFORE INPUT CMD… -- …  the commands' sum; BEFORE is run before each round, untimed
//! measure claim COUNT ROUNDS PROGRAM CNI FOLDER  a new claim among COUNT leases on network `bench`,
//!                                            and a new ADD of CNI's host-local among as many
//! measure dns ROUNDS [FILE SERVER]…          questions to each server by turns; FILE: lines of NAME ADDRESS
//! measure until NAME ADDRESS SERVER          until SERVER answers NAME with ADDRESS
//! ```
//! It prints medians in microseconds, one a line; `dns` answers a second before them; `until` the time, in
//! nanoseconds since 1970.

mod dns;

use std::error::Error;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const NETWORK: &str = "bench";
/// Where the pool of the network `bench` begins, 65,536 addresses; benches/inside/claim makes it so.
const FIRST: u32 = u32::from_be_bytes([10, 65, 0, 0]);

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
        ["dns", rounds, servers @ ..] => dns::load(rounds.parse()?, servers),
        ["until", name, address, server] => dns::until(name, address, server),
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
    fill(program, count)?;
    let peer = Path::new(cni).exists();
    if peer {
        fill_cni(folder, count)?;
    }
    let config = folder.join("config.json");
    if peer {
        fs::write(&config, cni_config(folder))?;
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

fn at(number: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST + number as u32)
}

/// Writes a registry with so many leases, block by block, as claims would have left it.
fn fill(program: &str, count: u64) -> Outcome {
    let state = std::env::var("HYBRID_STATE_DIR")?;
    let folder = Path::new(&state).join("networks").join(NETWORK).join("leases");
    let _ = fs::remove_dir_all(&folder);
    // Which file an address is in tells how large a block is: the last of 256 is in the last block.
    let (owner, mac) = (uuid(0), mac(0));
    let of = ["--network", NETWORK, "--owner", &owner, "--mac", &mac];
    time(quiet(program).args(["claim", "--ip", &at(255).to_string()]).args(of))?;
    let file = fs::read_dir(&folder)?.next().ok_or("no block was written")??.path();
    let begins: Ipv4Addr = file.file_stem().and_then(OsStr::to_str).ok_or("no address")?.parse()?;
    let size = 256 - u64::from(begins.to_bits() - FIRST);
    fs::remove_file(file)?;
    for first in (0..count).step_by(size as usize) {
        let mut text = "format = 2\n".to_owned();
        for number in first..count.min(first + size) {
            text.push_str(&lease(at(number), number));
        }
        text.push_str("# end\n");
        fs::write(folder.join(format!("{}.toml", at(first))), text)?;
    }
    Ok(())
}

fn lease(address: Ipv4Addr, number: u64) -> String {
    format!(
        "\n[[lease]]\naddress = \"{address}\"\nmac = \"{}\"\nstate = \"active\"\ngeneration = 1\n\
         since = 1800000000\nchanged = 1800000000\nhostname = \"vm{number}\"\n\n\
         [lease.owner]\nid = \"{}\"\norigin = \"hand\"\n",
        mac(number),
        uuid(number)
    )
}

/// Writes what host-local keeps: a file an address, and the one given last.
fn fill_cni(folder: &Path, count: u64) -> Outcome {
    let _ = fs::remove_dir_all(folder);
    let store = folder.join(NETWORK);
    fs::create_dir_all(&store)?;
    for number in 0..count {
        fs::write(store.join(at(number).to_string()), format!("held{number}\r\neth0"))?;
    }
    if count > 0 {
        fs::write(store.join("last_reserved_ip.0"), at(count - 1).to_string())?;
    }
    Ok(())
}

fn cni_config(folder: &Path) -> String {
    let (first, store) = (at(0), folder.display());
    format!(
        r#"{{"cniVersion":"0.4.0","name":"{NETWORK}","type":"bridge","ipam":{{"type":"host-local",
        "subnet":"10.64.0.0/15","rangeStart":"{first}","dataDir":"{store}"}}}}"#
    )
}
