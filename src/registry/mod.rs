//! The registry: which lease holds which address, on disk.
//!
//! A network's leases lie in files of [`block::SIZE`] addresses each, so that a claim reads and
//! writes one small file however many leases there are. The files are the only truth; the
//! [`index`] beside them is a cache that is made again whenever it disagrees with them.

pub mod block;
pub mod durable;
pub mod index;
pub mod lock;
pub mod networks;
pub mod snapshot;
pub mod status;
pub mod transaction;
pub mod waiting;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::model::{Fault, Lease, Network, NetworkName, Result};
use crate::places::Places;

use block::Block;
use lock::Lock;
pub use transaction::Transaction;

/// One network's leases.
#[derive(Debug, Clone)]
pub struct Registry {
    places: Places,
    name: NetworkName,
    folder: PathBuf,
}

impl Registry {
    /// The registry of one network. Touches nothing yet.
    #[must_use]
    pub fn of(places: &Places, name: &NetworkName) -> Self {
        Self { places: places.clone(), name: name.clone(), folder: places.network_state(name) }
    }

    /// The folder with the blocks.
    fn blocks(&self) -> PathBuf {
        self.folder.join("leases")
    }

    /// Changes leases: lock, read, decide in `change`, write durably, unlock. When `change` fails,
    /// nothing is written. The network is read under the lock, so that a claim never works with one that
    /// is being deleted, or whose edited file is being applied.
    pub fn change<T>(
        &self,
        deadline: Deadline,
        change: impl FnOnce(&Network, &mut Transaction) -> Result<T>,
    ) -> Result<T> {
        // No folder for a network that isn't there. Where there is one, the look under the lock is enough.
        if !self.folder.exists() {
            networks::load(&self.places, &self.name)?;
        }
        durable::make_folder(&self.places.state, 0o700)?;
        durable::make_folder(&self.places.state.join("networks"), 0o700)?;
        let lock = self.lock(deadline)?;
        let network = networks::load(&self.places, &self.name)?;
        durable::make_folder(&self.blocks(), 0o700)?;
        let mut transaction = Transaction::begin(&self.places, &self.name, &self.blocks())?;
        let result = change(&network, &mut transaction)?;
        transaction.commit()?;
        drop(lock);
        Ok(result)
    }

    /// Does something while nobody changes the leases, which it is given as they are.
    pub fn while_still<T>(&self, deadline: Deadline, act: impl FnOnce(&[Lease]) -> Result<T>) -> Result<T> {
        durable::make_folder(&self.places.state, 0o700)?;
        durable::make_folder(&self.places.state.join("networks"), 0o700)?;
        let lock = self.lock(deadline)?;
        let result = act(&self.read_once()?)?;
        drop(lock);
        Ok(result)
    }

    /// Every lease, in the order of addresses, without a lock where that can be: each block is
    /// replaced as a whole. A MAC that a crash left at two addresses appears once, with the newer one.
    pub fn read(&self) -> Result<Vec<Lease>> {
        let folder = self.blocks();
        for pause in [1, 2, 4, 8, 16] {
            let before = stamp(&folder);
            let leases = self.read_once()?;
            // A lease that moved between two files while we read would be missed: look again.
            if before == stamp(&folder) {
                return Ok(leases);
            }
            std::thread::sleep(Duration::from_millis(pause));
        }
        // It changes all the time: so take a turn.
        let _lock = self.lock(Deadline::after(lock::patience()))?;
        self.read_once()
    }

    fn read_once(&self) -> Result<Vec<Lease>> {
        let mut leases = Vec::new();
        for path in block::files(&self.blocks())? {
            if let Some(block) = Block::read(&path)? {
                leases.extend(block.leases);
            }
        }
        Ok(newest_of_each_mac(leases))
    }

    fn lock(&self, deadline: Deadline) -> Result<Lock> {
        let what = format!("the registry of network {}", self.name);
        Lock::take(&self.folder.join("lock"), &what, deadline)
    }

    /// Forgets every lease of a network that is being deleted.
    pub fn remove_all(&self, deadline: Deadline) -> Result<()> {
        if !self.folder.exists() {
            return Ok(());
        }
        let lock = self.lock(deadline)?;
        let gone = std::fs::remove_dir_all(&self.folder);
        drop(lock);
        gone.map_err(|e| Fault::failed(format!("cannot remove {}", self.folder.display())).because(e))?;
        durable::sync_folder(&self.places.state.join("networks"))
    }
}

/// When a file was added to a folder, replaced or removed last.
fn stamp(folder: &Path) -> Option<std::time::SystemTime> {
    std::fs::metadata(folder).and_then(|m| m.modified()).ok()
}

/// Keeps one entry of each MAC, the one with the highest generation, in the order of addresses.
#[must_use]
pub fn newest_of_each_mac(mut leases: Vec<Lease>) -> Vec<Lease> {
    leases.sort_by_key(|l| std::cmp::Reverse(l.generation));
    let mut seen = std::collections::HashSet::new();
    leases.retain(|l| l.mac.is_none_or(|mac| seen.insert(mac)));
    leases.sort_by_key(|l| l.address);
    leases
}
