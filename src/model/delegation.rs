//! A block of addresses that a VM has beside its own, for what runs inside it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::names::Invalid;
use super::pool::{address_at, ordinal};
use super::{MacAddress, Network, NetworkName};

/// How many addresses: 2, 4, 8, 16, 32 or 64. A power of two, so that a block is a subnet, which one
/// route or one setting can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockSize(u8);

impl BlockSize {
    /// The largest.
    pub const MAX: u8 = 64;

    /// The number of addresses.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }

    /// Whose the leases are: one MAC for each address, made of the NIC's. Nobody sends from them
    /// (inner guests use the NIC's own); they are what makes each lease this NIC's, the same at
    /// each start.
    pub fn macs(self, network: &NetworkName, nic: MacAddress) -> impl Iterator<Item = MacAddress> {
        Self::all_macs(network, nic).take(self.0.into())
    }

    /// The MACs of the largest block, so also of those that a smaller one no longer has.
    pub fn all_macs(network: &NetworkName, nic: MacAddress) -> impl Iterator<Item = MacAddress> {
        (0..Self::MAX).map(move |index| MacAddress::of_block(network, nic, index))
    }

    /// Every block of this size in a network's VM pool, the highest first: dynamic addresses are
    /// taken from the lowest, so the two meet last.
    pub fn candidates(self, network: &Network) -> impl Iterator<Item = Vec<IpAddr>> + use<> {
        let size = u128::from(self.0);
        let pool = network.key_family().map(|family| family.vm_pool);
        pool.into_iter().flat_map(move |pool| {
            let (first, last) = (ordinal(pool.first()).div_ceil(size), (ordinal(pool.last()) + 1) / size);
            (first..last).rev().map(move |number| {
                (0..size).filter_map(|index| address_at(number * size + index, pool.first())).collect()
            })
        })
    }

    /// Whether these addresses are just such a block, in order.
    #[must_use]
    pub fn is_block(self, addresses: &[IpAddr]) -> bool {
        let numbers: Vec<u128> = addresses.iter().map(|a| ordinal(*a)).collect();
        numbers.len() == usize::from(self.0)
            && numbers.first().is_some_and(|first| first % u128::from(self.0) == 0)
            && numbers.iter().zip(numbers.iter().skip(1)).all(|(a, b)| a + 1 == *b)
    }
}

impl FromStr for BlockSize {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.parse::<u8>() {
            Ok(size) if (2..=Self::MAX).contains(&size) && size.is_power_of_two() => Ok(Self(size)),
            _ => Err(Invalid::new("block", text, "must be 2, 4, 8, 16, 32 or 64 addresses")),
        }
    }
}

impl fmt::Display for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network_file::NetworkFile;

    #[test]
    fn sizes_are_powers_of_two() {
        for size in ["2", "8", "64"] {
            assert!(size.parse::<BlockSize>().is_ok_and(|s| s.to_string() == size), "{size}");
        }
        for size in ["", "0", "1", "3", "128", "-8", "8.0", "x", "256"] {
            assert!(size.parse::<BlockSize>().is_err(), "{size}");
        }
    }

    fn blocks(size: &str, vm_pool: &str) -> Result<Vec<String>, String> {
        let file = format!("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n{vm_pool}");
        let name = "hybrid".parse().map_err(|e: Invalid| e.to_string())?;
        let network = NetworkFile::parse(&file)?.network(&name).map_err(|e| e.to_string())?;
        let size: BlockSize = size.parse().map_err(|e: Invalid| e.to_string())?;
        let blocks: Vec<Vec<IpAddr>> = size.candidates(&network).collect();
        assert!(blocks.iter().all(|b| size.is_block(b)), "{blocks:?}");
        Ok(blocks.iter().filter_map(|b| b.first()).map(ToString::to_string).collect())
    }

    #[test]
    fn blocks_are_aligned_runs_of_the_pool_highest_first() -> Result<(), String> {
        let all = blocks("8", "")?;
        assert_eq!(all.len(), 15, "10.0.1.255 is not in the pool, so neither is its block");
        assert_eq!(all.first().map(String::as_str), Some("10.0.1.240"));
        assert_eq!(all.last().map(String::as_str), Some("10.0.1.128"));
        assert_eq!(blocks("8", "vm_pool = \"10.0.1.129-10.0.1.142\"")?, Vec::<String>::new());
        assert_eq!(blocks("64", "vm_pool = \"10.0.1.128/25\"")?, ["10.0.1.192", "10.0.1.128"]);
        Ok(())
    }

    #[test]
    fn each_address_has_a_mac_of_its_own() -> Result<(), Invalid> {
        let (network, nic) = ("hybrid".parse()?, "52:54:00:00:00:01".parse()?);
        let mut macs: Vec<MacAddress> = BlockSize::all_macs(&network, nic).collect();
        macs.sort();
        macs.dedup();
        assert_eq!(macs.len(), usize::from(BlockSize::MAX));
        Ok(())
    }
}
