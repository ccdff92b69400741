//! The index: which address has an entry, and whose MAC, without reading the blocks.
//!
//! A cache in the run folder. Each block's file is remembered with its stamp (inode, time of change
//! in nanoseconds, size); a block whose stamp differs is read again. So a crash between the write
//! of a block and that of the index, a removed index and an edited block all come right by themselves.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::model::{Lease, MacAddress, Result};

use super::block::{self, Block, BlockId};
use super::durable::{self, Care, io_fault};

const SLOTS: usize = block::SIZE as usize;
const MAGIC: &[u8; 8] = b"hybidx01";
/// An entry is there.
const TAKEN: u64 = 1 << 63;
/// The entry has no MAC: an address reserved for a host name.
const NAMED: u64 = 1 << 62;

/// What a block's file looked like when it was indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: u64,
    size: u64,
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        let nanoseconds = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Self {
            inode: metadata.ino(),
            modified: u64::try_from(nanoseconds).unwrap_or(0),
            size: metadata.size(),
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    stamp: Stamp,
    slots: [u64; SLOTS],
}

/// The index of one network's blocks.
#[derive(Debug, Default)]
pub struct Index {
    blocks: BTreeMap<BlockId, Entry>,
    changed: bool,
}

fn slot_of(lease: &Lease) -> u64 {
    TAKEN | lease.mac.map_or(NAMED, mac_bits)
}

fn mac_bits(mac: MacAddress) -> u64 {
    mac.octets().iter().fold(0, |bits, octet| bits << 8 | u64::from(*octet))
}

impl Index {
    /// Brings the index of `folder` up to date; the lock must be held. Files left over from writes
    /// that a crash cut off are cleared away.
    pub fn current(file: &Path, folder: &Path) -> Result<Self> {
        let remembered = std::fs::read(file).ok().and_then(|bytes| Self::decode(&bytes)).unwrap_or_default();
        let mut index = Self { blocks: BTreeMap::new(), changed: false };
        let list = |e| io_fault("list", folder, e);
        for entry in std::fs::read_dir(folder).map_err(list)? {
            let entry = entry.map_err(list)?;
            let path = entry.path();
            let Some(id) = BlockId::from_path(&path) else {
                if entry.file_name().to_string_lossy().starts_with(durable::ASIDE) {
                    let _ = std::fs::remove_file(&path);
                }
                continue;
            };
            let metadata = entry.metadata().map_err(|e| io_fault("look at", &path, e))?;
            let stamp = Stamp::of(&metadata);
            match remembered.get(&id) {
                Some(known) if known.stamp == stamp => {
                    index.blocks.insert(id, known.clone());
                }
                _ => {
                    if let Some(block) = Block::read(&path)? {
                        index.blocks.insert(id, Entry { stamp, slots: slots_of(id, &block) });
                    }
                    index.changed = true;
                }
            }
        }
        index.changed |= index.blocks.len() != remembered.len();
        Ok(index)
    }

    /// Takes over a block that was just written, or drops it when its file is gone.
    pub fn update(&mut self, id: BlockId, block: &Block, metadata: Option<&std::fs::Metadata>) {
        match metadata {
            Some(metadata) => {
                let entry = Entry { stamp: Stamp::of(metadata), slots: slots_of(id, block) };
                self.blocks.insert(id, entry);
            }
            None => {
                self.blocks.remove(&id);
            }
        }
        self.changed = true;
    }

    /// Writes it where something changed. A failure is no harm: the next reader makes it again.
    pub fn store(&mut self, file: &Path) {
        if !self.changed {
            return;
        }
        if let Some(folder) = file.parent()
            && durable::make_folder(folder, 0o700).is_ok()
            && durable::replace(file, &self.encode(), 0o600, Care::Atomic).is_ok()
        {
            self.changed = false;
        }
    }

    /// The blocks with an entry of this MAC.
    pub fn with_mac(&self, mac: MacAddress) -> Vec<BlockId> {
        let wanted = TAKEN | mac_bits(mac);
        self.matching(|slot| slot == wanted)
    }

    /// The blocks with an address that is reserved for a host name.
    pub fn with_named(&self) -> Vec<BlockId> {
        self.matching(|slot| slot & NAMED != 0)
    }

    fn matching(&self, matches: impl Fn(u64) -> bool) -> Vec<BlockId> {
        let has = |entry: &Entry| entry.slots.iter().any(|slot| matches(*slot));
        self.blocks.iter().filter(|(_, entry)| has(entry)).map(|(id, _)| *id).collect()
    }

    /// Every block that has a file.
    pub fn blocks(&self) -> impl Iterator<Item = BlockId> + '_ {
        self.blocks.keys().copied()
    }

    /// Whether a block has any free address.
    pub fn is_full(&self, id: BlockId) -> bool {
        self.blocks.get(&id).is_some_and(|e| e.slots.iter().all(|slot| slot & TAKEN != 0))
    }

    /// Whether an address has an entry.
    pub fn has(&self, address: IpAddr) -> bool {
        let id = BlockId::of(address);
        let slot = id.slot(address).and_then(|s| self.blocks.get(&id)?.slots.get(s).copied());
        slot.is_some_and(|slot| slot & TAKEN != 0)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + self.blocks.len() * (41 + SLOTS * 8));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 8]);
        for (id, entry) in &self.blocks {
            let (family, address) = match id.first() {
                IpAddr::V4(a) => (4_u8, a.to_ipv6_mapped()),
                IpAddr::V6(a) => (6, a),
            };
            bytes.push(family);
            bytes.extend_from_slice(&address.octets());
            for number in [entry.stamp.inode, entry.stamp.modified, entry.stamp.size] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            for slot in &entry.slots {
                bytes.extend_from_slice(&slot.to_le_bytes());
            }
        }
        let sum = checksum(bytes.get(16..).unwrap_or_default());
        if let Some(place) = bytes.get_mut(8..16) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
        bytes
    }

    /// `None` for anything that is not a whole index of this version.
    fn decode(bytes: &[u8]) -> Option<BTreeMap<BlockId, Entry>> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (sum, mut rest) = rest.split_first_chunk::<8>()?;
        if magic != MAGIC || u64::from_le_bytes(*sum) != checksum(rest) {
            return None;
        }
        let number = |rest: &mut &[u8]| -> Option<u64> {
            let (bytes, tail) = rest.split_first_chunk::<8>()?;
            *rest = tail;
            Some(u64::from_le_bytes(*bytes))
        };
        let mut blocks = BTreeMap::new();
        while let Some((family, tail)) = rest.split_first() {
            let (octets, tail) = tail.split_first_chunk::<16>()?;
            rest = tail;
            let address = Ipv6Addr::from(*octets);
            let address =
                if *family == 4 { IpAddr::V4(address.to_ipv4_mapped()?) } else { IpAddr::V6(address) };
            let stamp =
                Stamp { inode: number(&mut rest)?, modified: number(&mut rest)?, size: number(&mut rest)? };
            let mut slots = [0; SLOTS];
            for slot in &mut slots {
                *slot = number(&mut rest)?;
            }
            blocks.insert(BlockId::of(address), Entry { stamp, slots });
        }
        Some(blocks)
    }
}

fn slots_of(id: BlockId, block: &Block) -> [u64; SLOTS] {
    let mut slots = [0; SLOTS];
    for lease in &block.leases {
        if let Some(slot) = id.slot(lease.address).and_then(|s| slots.get_mut(s)) {
            *slot = slot_of(lease);
        }
    }
    slots
}

/// Finds torn and foreign files; eight bytes at a time, since a large index is some hundred kilobytes.
fn checksum(bytes: &[u8]) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let sum = chunks.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, chunk| {
        (sum ^ u64::from_le_bytes(*chunk)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
    });
    rest.iter().fold(sum, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_anything_else_is_not() {
        let mut index = Index::default();
        let id = BlockId::of(IpAddr::from([10, 0, 1, 200]));
        let mut slots = [0; SLOTS];
        if let Some(slot) = slots.get_mut(7) {
            *slot = TAKEN | 5;
        }
        let stamp = Stamp { inode: 1, modified: 2, size: 3 };
        index.blocks.insert(id, Entry { stamp, slots });
        let bytes = index.encode();
        let back = Index::decode(&bytes);
        assert!(back.as_ref().and_then(|b| b.get(&id)).is_some_and(|e| e.stamp == stamp && e.slots == slots));
        for cut in [0, 8, 15, 17, bytes.len() - 1] {
            assert!(
                Index::decode(bytes.get(..cut).unwrap_or_default()).is_none_or(|b| b.is_empty()),
                "{cut}"
            );
        }
        for flip in 0..bytes.len() {
            let mut broken = bytes.clone();
            if let Some(byte) = broken.get_mut(flip) {
                *byte ^= 1;
            }
            assert!(Index::decode(&broken).is_none(), "{flip}");
        }
    }
}
