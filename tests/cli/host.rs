//! A host of a test's own: three folders, and the executable run on them with a clean environment.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hybrid_hook::model::{BootId, MacAddress, NetworkName, OwnerId};
use hybrid_hook::ops::Context;
use hybrid_hook::places::Places;
use hybrid_hook::registry::Registry;
use hybrid_hook::registry::block::Block;
use serde_json::Value;

use super::Outcome;

/// The executable under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_hybrid-hook");

/// What `Host::new` makes: 10.0.1.0/24 with the defaults.
pub(crate) const NETWORK: &str = "hybrid";

pub(crate) struct Host {
    folder: tempfile::TempDir,
}

/// How a command ended.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Host {
    /// A host with the default network, which is down.
    pub(crate) fn new() -> Outcome<Self> {
        Self::with(&[])
    }

    /// A host with one network made by these options.
    pub(crate) fn with(options: &[&str]) -> Outcome<Self> {
        let host = Self::bare()?;
        host.ok(&[&["network", "create", "--offline"], options].concat())?;
        Ok(host)
    }

    /// A host with nothing of ours.
    pub(crate) fn bare() -> Outcome<Self> {
        Ok(Self { folder: tempfile::tempdir()? })
    }

    /// A host with nothing of ours in memory, where that is to be had: for what writes thousands of
    /// times and cares for who comes first, not for what a power cut leaves.
    pub(crate) fn in_memory() -> Outcome<Self> {
        Ok(Self { folder: tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())? })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn places(&self) -> Places {
        let of = |name: &str| self.path().join(name);
        Places { config: of("config"), state: of("state"), run: of("run") }
    }

    /// The file of the network.
    pub(crate) fn network_file(&self) -> PathBuf {
        self.path().join("config/networks/hybrid.toml")
    }

    /// The folder with the network's lock and leases.
    pub(crate) fn state(&self) -> PathBuf {
        self.path().join("state/networks").join(NETWORK)
    }

    /// The file of the block that begins with this address.
    pub(crate) fn block(&self, first: &str) -> PathBuf {
        self.state().join("leases").join(format!("{first}.toml"))
    }

    /// The cache of the registry.
    pub(crate) fn index(&self) -> PathBuf {
        self.path().join("run/index").join(NETWORK)
    }

    /// What the verbs need, in a boot of this name.
    pub(crate) fn context(&self, boot: &str) -> Context {
        Context { places: self.places(), boot: BootId(boot.to_owned()) }
    }

    pub(crate) fn registry(&self) -> Outcome<Registry> {
        Ok(Registry::of(&self.places(), &network()?))
    }

    /// The executable, on this host's folders and nothing else of the environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(args).env_clear().stdin(Stdio::null());
        for (name, folder) in
            [("HYBRID_CONFIG_DIR", "config"), ("HYBRID_STATE_DIR", "state"), ("HYBRID_RUN_DIR", "run")]
        {
            command.env(name, self.path().join(folder));
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Outcome<Ran> {
        ended(&mut self.command(args))
    }

    /// Runs what must work.
    pub(crate) fn ok(&self, args: &[&str]) -> Outcome<String> {
        let ran = self.run(args)?;
        if ran.code != 0 {
            return Err(format!("{args:?}: exit {}: {}", ran.code, ran.err).into());
        }
        Ok(ran.out)
    }

    /// Runs what must work and print JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Outcome<Value> {
        Ok(serde_json::from_str(&self.ok(args)?)?)
    }

    /// `claim … --json` for owner and NIC of these numbers.
    pub(crate) fn claim(&self, owner: u64, nic: u64, more: &[&str]) -> Outcome<Value> {
        let (owner, mac) = (uuid(owner), mac(nic));
        self.json(&[&["claim", "--owner", &owner, "--mac", &mac, "--json"], more].concat())
    }

    /// `release … --json` for owner and NIC of these numbers.
    pub(crate) fn release(&self, owner: u64, nic: u64, more: &[&str]) -> Outcome<Value> {
        let (owner, mac) = (uuid(owner), mac(nic));
        self.json(&[&["release", "--owner", &owner, "--mac", &mac, "--json"], more].concat())
    }

    /// Every lease of the network.
    pub(crate) fn leases(&self) -> Outcome<Vec<Value>> {
        let all = self.json(&["leases", "--network", NETWORK, "--json"])?;
        Ok(all.as_array().ok_or("no array")?.clone())
    }

    /// One lease, by its address.
    pub(crate) fn lease_at(&self, address: &str) -> Outcome<Option<Value>> {
        Ok(self.leases()?.into_iter().find(|l| l["address"] == address))
    }

    /// A command and all that came of it, for a snapshot: this host's folder and any process id
    /// are replaced.
    pub(crate) fn transcript(&self, args: &[&str]) -> Outcome<String> {
        let Ran { code, out, err } = self.run(args)?;
        let shown: Vec<String> = args
            .iter()
            .map(|a| if a.contains(' ') || a.is_empty() { format!("'{a}'") } else { (*a).to_owned() })
            .collect();
        let text = format!("$ hybrid-hook {}\n{out}{err}[exit {code}]\n", shown.join(" "));
        Ok(text.replace(&self.path().display().to_string(), "$HOST"))
    }

    /// What must hold of the registry at rest, whatever happened: every block is read and every
    /// address and every MAC is there once.
    pub(crate) fn check(&self) -> Outcome {
        let leases = self.leases()?;
        let mut addresses = std::collections::HashSet::new();
        let mut macs = std::collections::HashSet::new();
        for lease in &leases {
            let address = lease["address"].as_str().ok_or("a lease without an address")?;
            assert!(addresses.insert(address.to_owned()), "{address} is there twice");
            if let Some(mac) = lease["mac"].as_str() {
                assert!(macs.insert(mac.to_owned()), "{mac} is there twice");
            }
        }
        for entry in std::fs::read_dir(self.state().join("leases"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "toml") {
                assert!(Block::read(&path)?.is_some_and(|b| !b.leases.is_empty()), "{}", path.display());
            }
        }
        Ok(())
    }
}

/// Runs a command to its end.
pub(crate) fn ended(command: &mut Command) -> Outcome<Ran> {
    let output = command.output()?;
    let code = output.status.code().ok_or("ended by a signal")?;
    Ok(Ran { code, out: String::from_utf8(output.stdout)?, err: String::from_utf8(output.stderr)? })
}

/// The network's name.
pub(crate) fn network() -> Outcome<NetworkName> {
    Ok(NETWORK.parse()?)
}

/// The UUID of an owner, by number.
pub(crate) fn uuid(number: u64) -> String {
    format!("0f0e0d0c-0000-4000-8000-{number:012x}")
}

/// The same, checked.
pub(crate) fn owner(number: u64) -> Outcome<OwnerId> {
    Ok(uuid(number).parse()?)
}

/// The MAC of a NIC, by number.
pub(crate) fn mac(number: u64) -> String {
    let [.., a, b, c] = number.to_be_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

/// The same, checked.
pub(crate) fn nic(number: u64) -> Outcome<MacAddress> {
    Ok(mac(number).parse()?)
}

/// Random numbers (xorshift64*), the same for the same seed. A failing test names its seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A seed of now.
    pub(crate) fn seed() -> u64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |d| d.as_nanos() as u64 % 1_000_000_007)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % limit
    }
}
