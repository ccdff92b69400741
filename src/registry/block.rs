//! A block: the leases of [`SIZE`] neighbouring addresses, one TOML file, the unit that is replaced.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::network_file::one_line;
use crate::model::pool::{address_at, ordinal};
use crate::model::{Fault, Lease, Result};

use super::durable::{self, io_fault};

/// Addresses in a block. Reading and writing a lease of the claimed block took 5.5 µs, looking at
/// a block in the folder 1.4 µs: with 64, a claim costs the least at 10,000 leases, and 1.4 ms at 50,000.
pub const SIZE: u128 = 64;

/// The version of the file's format that this program writes.
const FORMAT: u32 = 2;
/// The one before, which it reads too: without the last line.
const WITHOUT_END: u32 = 1;

/// The last line. A file that was cut off may well be TOML still, with fewer leases or half of one.
const END: &str = "# end\n";

/// The first address of a block, and so its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(IpAddr);

impl BlockId {
    /// The block that an address belongs to.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        let number = ordinal(address);
        Self(address_at(number - number % SIZE, address).unwrap_or(address))
    }

    /// Its first address.
    #[must_use]
    pub fn first(self) -> IpAddr {
        self.0
    }

    /// The place of an address in it, from 0.
    #[must_use]
    pub fn slot(self, address: IpAddr) -> Option<usize> {
        let offset = ordinal(address).checked_sub(ordinal(self.0))?;
        usize::try_from(offset).ok().filter(|slot| (*slot as u128) < SIZE)
    }

    /// Its file in the folder of blocks.
    #[must_use]
    pub fn path(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.toml", self.0))
    }

    /// The block that a file name stands for.
    #[must_use]
    pub fn from_path(path: &Path) -> Option<Self> {
        let address = path.file_name()?.to_str()?.strip_suffix(".toml")?.parse().ok()?;
        (Self::of(address).0 == address).then_some(Self(address))
    }
}

/// A block's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    format: u32,
    /// Its leases in the order of addresses.
    #[serde(default, rename = "lease", skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<Lease>,
}

#[derive(Deserialize)]
struct Versioned {
    format: Option<u32>,
}

impl Default for Block {
    fn default() -> Self {
        Self { format: FORMAT, leases: Vec::new() }
    }
}

impl Block {
    /// Reads a block, `None` where there is no file. A damaged or newer one is refused whole: what
    /// can't be understood must not be overwritten.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let Some(text) = durable::read_text(path)? else { return Ok(None) };
        let refused =
            |why: &str| Fault::failed(format!("the registry can't be read: {}: {why}", path.display()));
        let damaged = |why: &str| {
            refused(why).hint(format!(
                "restore the file from a backup, or move it away to give its addresses up: mv {0} {0}.damaged",
                path.display()
            ))
        };
        let mut block: Self = match toml::from_str(&text) {
            Ok(block) => block,
            // The version is looked at only where the whole does not parse: that is the rare case.
            Err(error) => match toml::from_str::<Versioned>(&text) {
                Ok(Versioned { format: Some(other) }) if other > FORMAT => {
                    return Err(refused(&newer(other)));
                }
                Ok(Versioned { format: None }) => return Err(damaged("it is cut off or empty")),
                _ => return Err(damaged(&one_line(&error))),
            },
        };
        match block.format {
            WITHOUT_END => block.format = FORMAT,
            FORMAT if text.ends_with(END) => {}
            FORMAT => return Err(damaged("it is cut off: its last line is not \"# end\"")),
            other => return Err(refused(&newer(other))),
        }
        if let Some(id) = BlockId::from_path(path)
            && let Some(stray) = block.leases.iter().find(|l| id.slot(l.address).is_none())
        {
            return Err(damaged(&format!("{} does not belong in this file", stray.address)));
        }
        Ok(Some(block))
    }

    /// The text of its file.
    pub fn render(&self) -> Result<String> {
        let text = toml::to_string(self);
        Ok(text.map_err(|e| Fault::failed("a lease can't be written as TOML").because(e))? + END)
    }

    /// The lease at an address.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Option<&Lease> {
        self.leases.iter().find(|l| l.address == address)
    }

    /// Puts a lease in, over the one at its address.
    pub fn put(&mut self, lease: Lease) {
        self.take(lease.address);
        let place = self.leases.partition_point(|l| l.address < lease.address);
        self.leases.insert(place, lease);
    }

    /// Takes the lease at an address out.
    pub fn take(&mut self, address: IpAddr) -> Option<Lease> {
        let place = self.leases.iter().position(|l| l.address == address)?;
        Some(self.leases.remove(place))
    }
}

fn newer(format: u32) -> String {
    format!("it has format {format} and this program knows {FORMAT}; use the hybrid-hook that wrote it")
}

/// The files of blocks in a folder, in the order of names; no folder, no files.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io_fault("list", folder, e)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| io_fault("list", folder, e))?.path();
        if BlockId::from_path(&path).is_some() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
