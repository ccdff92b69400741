//! One change of the registry, under its lock: look-ups, edits in memory, then one durable write.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::model::claim::LeaseView;
use crate::model::pool::{address_at, ordinal};
use crate::model::{AddressRange, DnsLabel, Fault, Lease, MacAddress, NetworkName, Result};
use crate::places::Places;

use super::block::{self, Block, BlockId};
use super::durable::{self, Care};
use super::index::Index;

/// What a file's edit is, and so when it is written: an entry must be at its new place before it
/// leaves its old one, so that a crash between the two loses nothing. A reader takes the newer.
/// What such a crash left behind goes before the newer entry does: else it would count again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edit {
    None,
    Puts,
    DropsStale,
    OnlyTakes,
}

/// The leases of one network while its lock is held.
#[derive(Debug)]
pub struct Transaction {
    folder: PathBuf,
    index_file: PathBuf,
    index: Index,
    blocks: BTreeMap<BlockId, (Block, Edit)>,
}

impl Transaction {
    pub(super) fn begin(places: &Places, name: &NetworkName, folder: &Path) -> Result<Self> {
        let index_file = places.index(name);
        let index = Index::current(&index_file, folder)?;
        Ok(Self { folder: folder.to_owned(), index_file, index, blocks: BTreeMap::new() })
    }

    fn block(&mut self, id: BlockId) -> Result<&mut (Block, Edit)> {
        if !self.blocks.contains_key(&id) {
            let block = Block::read(&id.path(&self.folder))?.unwrap_or_default();
            self.blocks.insert(id, (block, Edit::None));
        }
        self.blocks.get_mut(&id).ok_or_else(|| Fault::failed("a block of the registry vanished"))
    }

    /// Writes a lease, over whatever is at its address.
    pub fn put(&mut self, lease: Lease) -> Result<()> {
        let (block, edit) = self.block(BlockId::of(lease.address))?;
        block.put(lease);
        *edit = Edit::Puts;
        Ok(())
    }

    /// Removes the lease at an address.
    pub fn take(&mut self, address: IpAddr) -> Result<Option<Lease>> {
        let (block, edit) = self.block(BlockId::of(address))?;
        let lease = block.take(address);
        if lease.is_some() && *edit != Edit::Puts {
            *edit = Edit::OnlyTakes;
        }
        Ok(lease)
    }

    /// Removes what a crash in the middle of a move left at an address.
    fn drop_stale(&mut self, address: IpAddr) -> Result<()> {
        let (block, edit) = self.block(BlockId::of(address))?;
        block.take(address);
        if *edit == Edit::None {
            *edit = Edit::DropsStale;
        }
        Ok(())
    }

    /// Every lease, in the order of addresses.
    pub fn all(&mut self) -> Result<Vec<Lease>> {
        let mut ids: Vec<BlockId> = self.index.blocks().chain(self.blocks.keys().copied()).collect();
        ids.sort();
        ids.dedup();
        let mut leases = Vec::new();
        for id in ids {
            leases.extend(self.block(id)?.0.leases.iter().cloned());
        }
        let newest = super::newest_of_each_mac(leases.clone());
        if newest.len() < leases.len() {
            for stale in leases.iter().filter(|l| !newest.contains(l)) {
                self.drop_stale(stale.address)?;
            }
        }
        Ok(newest)
    }

    /// The lease of a MAC: the newest, should a crash have left two.
    pub fn of_mac(&mut self, mac: MacAddress) -> Result<Option<Lease>> {
        let mut leases = self.by_mac(mac)?;
        leases.sort_by_key(|l| l.generation);
        let newest = leases.pop();
        for stale in leases {
            self.drop_stale(stale.address)?;
        }
        Ok(newest)
    }

    pub(super) fn commit(mut self) -> Result<()> {
        let mut edited: Vec<(Edit, BlockId)> =
            self.blocks.iter().filter(|(_, (_, e))| *e != Edit::None).map(|(id, (_, e))| (*e, *id)).collect();
        edited.sort();
        let mut result = Ok(());
        for (_, id) in edited {
            let Some((block, _)) = self.blocks.get(&id) else { continue };
            let path = id.path(&self.folder);
            let written = if block.leases.is_empty() {
                durable::remove(&path).map(|()| None)
            } else {
                block
                    .render()
                    .and_then(|text| durable::replace(&path, text.as_bytes(), 0o600, Care::Durable))
                    .map(Some)
            };
            match written {
                Ok(metadata) => self.index.update(id, block, metadata.as_ref()),
                Err(fault) => {
                    result = Err(fault);
                    break;
                }
            }
        }
        self.index.store(&self.index_file);
        result
    }
}

impl LeaseView for Transaction {
    type Error = Fault;

    fn by_mac(&mut self, mac: MacAddress) -> Result<Vec<Lease>> {
        let mut ids = self.index.with_mac(mac);
        ids.extend(self.blocks.iter().filter(|(_, (_, e))| *e != Edit::None).map(|(id, _)| *id));
        ids.sort();
        ids.dedup();
        let mut leases = Vec::new();
        for id in ids {
            leases.extend(self.block(id)?.0.leases.iter().filter(|l| l.mac == Some(mac)).cloned());
        }
        Ok(leases)
    }

    fn at(&mut self, address: IpAddr) -> Result<Option<Lease>> {
        let Some(lease) = self.block(BlockId::of(address))?.0.at(address).cloned() else { return Ok(None) };
        if let Some(mac) = lease.mac
            && self.by_mac(mac)?.iter().any(|other| other.generation > lease.generation)
        {
            self.drop_stale(address)?;
            return Ok(None);
        }
        Ok(Some(lease))
    }

    fn reserved_for(&mut self, hostname: &DnsLabel) -> Result<Option<Lease>> {
        for id in self.index.with_named() {
            let leases = &self.block(id)?.0.leases;
            if let Some(lease) =
                leases.iter().find(|l| l.mac.is_none() && l.hostname.as_ref() == Some(hostname))
            {
                return Ok(Some(lease.clone()));
            }
        }
        Ok(None)
    }

    fn lowest_free(
        &mut self,
        pool: &AddressRange,
        allowed: &dyn Fn(IpAddr) -> bool,
    ) -> Result<Option<IpAddr>> {
        let (mut number, last) = (ordinal(pool.first()), ordinal(pool.last()));
        while number <= last {
            let Some(address) = address_at(number, pool.first()) else { break };
            let id = BlockId::of(address);
            let next_block = number - number % block::SIZE + block::SIZE;
            if self.index.is_full(id) {
                number = next_block;
                continue;
            }
            if !self.index.has(address) && allowed(address) {
                return Ok(Some(address));
            }
            number += 1;
        }
        Ok(None)
    }

    fn idle_in(&mut self, pool: &AddressRange) -> Result<Vec<Lease>> {
        let ids: Vec<BlockId> = self.index.blocks().collect();
        let mut leases = Vec::new();
        for id in ids {
            let block = AddressRange::new(
                id.first(),
                address_at(ordinal(id.first()) + block::SIZE - 1, id.first()).unwrap_or(id.first()),
            )?;
            if block.overlaps(pool) {
                leases.extend(self.block(id)?.0.leases.iter().filter(|l| pool.contains(l.address)).cloned());
            }
        }
        Ok(leases)
    }
}
