//! The commands: a file each, with its clap struct, its `run` and its printing.

mod apply;
mod attach;
mod claim;
mod completions;
mod doctor;
mod follow;
mod gc;
mod inspect;
mod install;
mod ipam;
mod leases;
mod man;
mod network;
mod output;
mod release;
mod reserve;
mod resolve;
mod rewrite;
mod settle;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::deadline::Deadline;
use crate::model::{Fault, Invalid, Kind, Result};
use crate::ops::Context;
use crate::places::Places;
use crate::registry::lock;

/// libvirt VMs and Docker containers as equal neighbours on one network.
#[derive(Debug, Parser)]
#[command(name = "hybrid-hook", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused (conflict, full, in use), \
                        4 a thing it needs is not there.")]
struct Cli {
    #[command(flatten, next_help_heading = "Folders")]
    folders: Folders,
    #[command(subcommand)]
    command: Command,
}

/// Where our files are.
#[derive(Debug, Clone, Args)]
struct Folders {
    /// Folder of the networks' files
    #[arg(
        long,
        global = true,
        env = "HYBRID_CONFIG_DIR",
        default_value = "/etc/hybrid-hook",
        hide_env_values = true
    )]
    config_dir: PathBuf,
    /// Folder of the registry
    #[arg(
        long,
        global = true,
        env = "HYBRID_STATE_DIR",
        default_value = "/var/lib/hybrid-hook",
        hide_env_values = true
    )]
    state_dir: PathBuf,
    /// Folder of what a reboot may forget
    #[arg(
        long,
        global = true,
        env = "HYBRID_RUN_DIR",
        default_value = "/run/hybrid-hook",
        hide_env_values = true
    )]
    run_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create, delete, list, show networks; bring them up and down
    #[command(subcommand)]
    Network(network::Network),
    /// Claim an address for a NIC
    Claim(claim::Claim),
    /// Release a claim; the address waits for its owner
    Release(release::Release),
    /// Fix an address for a MAC or a host name before anybody claims it
    Reserve(reserve::Reserve),
    /// Show who answers a name, from where, by which way, and whether that works now
    Resolve(resolve::Resolve),
    /// List leases
    Leases(leases::Leases),
    /// Free idle leases whose VM or container is gone
    Gc(gc::Gc),
    /// Add a NIC of ours to a domain's XML, from standard input to standard output
    Rewrite(rewrite::Rewrite),
    /// Put a domain on a network
    Attach(attach::Attach),
    /// Take a domain off a network
    Detach(attach::Detach),
    /// Make everything as it should be: bridge, NAT, DHCP, Docker, libvirt
    Apply(apply::Apply),
    /// Show networks as they should be and as they are, what differs, and what mends it
    Inspect(inspect::Inspect),
    /// Make the checks that explain most trouble; each that fails names what mends it
    Doctor(doctor::Doctor),
    /// Run the service: follow libvirt and Docker, keep everything as it should be
    Watch(watch::Watch),
    /// Answer libvirt's hooks by hand: hook qemu|network OBJECT OPERATION SUB EXTRA < XML
    Hook(HookByHand),
    /// Install the hooks and the services
    Install(install::Install),
    /// Take the networks down and undo what install did; leases and networks' files stay
    Uninstall(install::Uninstall),
    /// Print shell completions
    Completions(completions::Completions),
    /// Print the man page
    Man(man::Man),
    /// Answer Docker where it asks for a container's address
    #[command(hide = true)]
    Ipam(ipam::Ipam),
    /// What the service would do now, once
    #[command(hide = true)]
    Settle(settle::Settle),
}

/// Calls that name `qemu` or `network` never get here: the hook room takes them first.
#[derive(Debug, Args)]
struct HookByHand {
    /// `qemu` or `network`
    hook: String,
    /// Object, operation, sub-operation, extra: as libvirt gives them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<std::ffi::OsString>,
}

impl HookByHand {
    fn run(&self) -> Result<()> {
        if ["qemu", "network"].contains(&self.hook.as_str()) {
            let fault = Fault::usage(format!("hook {} must be the first words of the command", self.hook));
            return Err(fault
                .hint("HYBRID_CONFIG_DIR, HYBRID_STATE_DIR and HYBRID_RUN_DIR move the folders of a hook"));
        }
        Err(Fault::usage(format!("there is no hook {:?}", self.hook)).hint("it is qemu or network"))
    }
}

/// How long a command may take in all, where it talks to daemons.
const WHOLE: Duration = Duration::from_secs(60);

/// What every command gets.
struct Surroundings {
    places: Places,
}

impl Surroundings {
    fn context(&self) -> Result<Context> {
        Context::new(self.places.clone())
    }

    fn lock_deadline(&self) -> Deadline {
        Deadline::after(lock::patience())
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(WHOLE)
    }
}

/// Runs the command of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            match bad_value(&error) {
                Some(fault) => output::fault(&fault),
                // clap prints help and version as "errors" with exit code 0.
                None => drop(error.print()),
            }
            return ExitCode::from(if error.use_stderr() { Kind::Usage.exit_code() } else { 0 });
        }
    };
    let Folders { config_dir, state_dir, run_dir } = cli.folders;
    let around = Surroundings { places: Places { config: config_dir, state: state_dir, run: run_dir } };
    let result = match &cli.command {
        Command::Network(c) => c.run(&around),
        Command::Claim(c) => c.run(&around),
        Command::Release(c) => c.run(&around),
        Command::Reserve(c) => c.run(&around),
        Command::Resolve(c) => c.run(&around),
        Command::Leases(c) => c.run(&around),
        Command::Gc(c) => c.run(&around),
        Command::Rewrite(c) => c.run(&around),
        Command::Attach(c) => c.run(&around),
        Command::Detach(c) => c.run(&around),
        Command::Apply(c) => c.run(&around),
        Command::Inspect(c) => c.run(&around),
        Command::Doctor(c) => c.run(&around),
        Command::Watch(c) => c.run(&around),
        Command::Hook(c) => c.run(),
        Command::Install(c) => c.run(&around),
        Command::Uninstall(c) => c.run(&around),
        Command::Completions(c) => c.run(),
        Command::Man(c) => c.run(),
        Command::Ipam(c) => c.run(&around),
        Command::Settle(c) => c.run(&around),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            output::fault(&fault);
            ExitCode::from(fault.kind().exit_code())
        }
    }
}

/// A value that its option refused, in one line: clap shows the value as it came, of any length.
fn bad_value(error: &clap::Error) -> Option<Fault> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    if error.kind() != ErrorKind::ValueValidation {
        return None;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let why = std::error::Error::source(error)?;
    // `--ip <IP>` as `--ip`.
    let option = text(ContextKind::InvalidArg)?.split(' ').next()?;
    let fault = match why.downcast_ref::<Invalid>() {
        Some(invalid) => Fault::usage(format!("{option}: {invalid}")),
        None => {
            let value: String = text(ContextKind::InvalidValue)?.chars().take(80).collect();
            Fault::usage(format!("{option}: {value:?}: {why}"))
        }
    };
    Some(fault.hint("--help tells what it takes"))
}

/// The whole command line, for completions and the man page.
fn command() -> clap::Command {
    Cli::command()
}
