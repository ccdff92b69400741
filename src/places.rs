//! Where everything of ours is on the host.

use std::path::{Path, PathBuf};

use crate::model::{BootId, Fault, NetworkName, Result};

/// The three folders, and every path in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// What a person writes: `/etc/hybrid-hook`.
    pub config: PathBuf,
    /// The registry: `/var/lib/hybrid-hook`.
    pub state: PathBuf,
    /// What a reboot may forget: `/run/hybrid-hook`.
    pub run: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            config: "/etc/hybrid-hook".into(),
            state: "/var/lib/hybrid-hook".into(),
            run: "/run/hybrid-hook".into(),
        }
    }
}

impl Places {
    /// The folders that the environment names (`HYBRID_CONFIG_DIR`, `HYBRID_STATE_DIR`,
    /// `HYBRID_RUN_DIR`), else the usual ones. For hooks, which have no options.
    #[must_use]
    pub fn from_environment() -> Self {
        let usual = Self::default();
        let from = |name: &str, usual: PathBuf| {
            std::env::var_os(name).filter(|v| !v.is_empty()).map_or(usual, PathBuf::from)
        };
        Self {
            config: from("HYBRID_CONFIG_DIR", usual.config),
            state: from("HYBRID_STATE_DIR", usual.state),
            run: from("HYBRID_RUN_DIR", usual.run),
        }
    }

    /// The folder of the networks' files.
    #[must_use]
    pub fn networks(&self) -> PathBuf {
        self.config.join("networks")
    }

    /// A network's file, which a person may edit.
    #[must_use]
    pub fn network_file(&self, network: &NetworkName) -> PathBuf {
        self.networks().join(format!("{network}.toml"))
    }

    /// A network's folder in the registry, 0700.
    #[must_use]
    pub fn network_state(&self, network: &NetworkName) -> PathBuf {
        self.state.join("networks").join(network.as_str())
    }

    /// The folder with the names of Docker networks that were followed and are gone.
    #[must_use]
    pub fn waiting(&self) -> PathBuf {
        self.state.join("waiting")
    }

    /// The cache of a network's leases. A reboot, or anybody, may remove it.
    #[must_use]
    pub fn index(&self, network: &NetworkName) -> PathBuf {
        self.run.join("index").join(network.as_str())
    }

    /// What is to be so with a network: up or down, and what we made for it elsewhere.
    #[must_use]
    pub fn status_file(&self, network: &NetworkName) -> PathBuf {
        self.network_state(network).join("status.toml")
    }

    /// A network's file as it is in force: a copy from when it was last applied. There while it is up.
    #[must_use]
    pub fn applied_file(&self, network: &NetworkName) -> PathBuf {
        self.network_state(network).join("applied.toml")
    }

    /// The lock under which containers are connected and let go. No hook takes it.
    #[must_use]
    pub fn containers_lock(&self, network: &NetworkName) -> PathBuf {
        self.run.join("operation").join(format!("{network}.containers.lock"))
    }

    /// The lock under which a network's surroundings are changed. No hook takes it.
    #[must_use]
    pub fn operation_lock(&self, network: &NetworkName) -> PathBuf {
        self.run.join("operation").join(format!("{network}.lock"))
    }

    /// The published snapshot of a network's leases, readable by all.
    #[must_use]
    pub fn snapshot(&self, network: &NetworkName) -> PathBuf {
        self.run.join("leases").join(format!("{network}.json"))
    }

    /// dnsmasq's folder for a network, readable by its user.
    #[must_use]
    pub fn dns(&self, network: &NetworkName) -> PathBuf {
        self.run.join("dnsmasq").join(network.as_str())
    }

    /// The lock of a network's rendered files. Not the registry's.
    #[must_use]
    pub fn render_lock(&self, network: &NetworkName) -> PathBuf {
        self.run.join("render").join(format!("{network}.lock"))
    }

    /// Stands while a detached child is on its way to do the service's work.
    #[must_use]
    pub fn settle_pending(&self) -> PathBuf {
        self.run.join("settle.pending")
    }

    /// The socket on which the service is woken.
    #[must_use]
    pub fn wake_socket(&self) -> PathBuf {
        self.run.join("wake")
    }
}

/// Which boot this is: the kernel's own id (random(4)) and, since a host can be a container that is
/// started again under one kernel, when process 1 began (proc(5), `/proc/PID/stat`, field 22).
pub fn boot_id() -> Result<BootId> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let kernel = std::fs::read_to_string(path)
        .map_err(|e| Fault::failed(format!("cannot read {}", path.display())).because(e))?;
    let start = std::fs::read_to_string("/proc/1/stat").ok().and_then(|stat| {
        // The name in the second field may hold anything; the fields after it are numbers.
        let after_name = stat.rsplit_once(')')?.1;
        after_name.split_ascii_whitespace().nth(19).map(str::to_owned)
    });
    let kernel = kernel.trim();
    Ok(BootId(start.map_or_else(|| kernel.to_owned(), |start| format!("{kernel}.{start}"))))
}

/// Whether we may change the host: the effective user is root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
