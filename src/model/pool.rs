//! Ranges of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::names::Invalid;

/// The addresses from `first` to `last`, both included, of one family. Written `A-B` or as a CIDR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// An address as a number, to count with. IPv4 and IPv6 are never mixed: a range knows its family.
#[must_use]
pub fn ordinal(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

/// The inverse of [`ordinal`], in the family of `like`; `None` past the family's end.
#[must_use]
pub fn address_at(number: u128, like: IpAddr) -> Option<IpAddr> {
    match like {
        IpAddr::V4(_) => u32::try_from(number).ok().map(|n| IpAddr::V4(Ipv4Addr::from(n))),
        IpAddr::V6(_) => Some(IpAddr::V6(Ipv6Addr::from(number))),
    }
}

impl AddressRange {
    /// A range; refused when the families differ or `last` comes before `first`.
    pub fn new(first: IpAddr, last: IpAddr) -> Result<Self, Invalid> {
        let bad = |why| Invalid::new("pool", &format!("{first}-{last}"), why);
        if first.is_ipv4() != last.is_ipv4() {
            return Err(bad("mixes IPv4 and IPv6"));
        }
        if last < first {
            return Err(bad("ends before it begins"));
        }
        Ok(Self { first, last })
    }

    /// The first address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// How many addresses it has; `u128::MAX` for all of IPv6.
    #[must_use]
    pub fn size(&self) -> u128 {
        (ordinal(self.last) - ordinal(self.first)).saturating_add(1)
    }

    /// Whether `address` is one of its own.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && self.first <= address && address <= self.last
    }

    /// Whether the two share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4() && self.first <= other.last && other.first <= self.last
    }

    /// The smallest CIDR that holds the whole range.
    #[must_use]
    pub fn covering(&self) -> IpNet {
        let bits = if self.first.is_ipv4() { 32_u32 } else { 128 };
        let differing = 128 - (ordinal(self.first) ^ ordinal(self.last)).leading_zeros();
        let prefix = u8::try_from(bits - differing).unwrap_or(0);
        IpNet::new(self.first, prefix).map_or(IpNet::from(self.first), |net| net.trunc())
    }
}

impl From<IpNet> for AddressRange {
    fn from(net: IpNet) -> Self {
        Self { first: net.network(), last: net.broadcast() }
    }
}

impl FromStr for AddressRange {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| Invalid::new("pool", text, why);
        if let Some((first, last)) = text.split_once('-') {
            let parse = |part: &str| {
                part.trim().parse().map_err(|_| bad(&format!("has {part:?}, which is not an address")))
            };
            return Self::new(parse(first)?, parse(last)?);
        }
        let net: IpNet = text.trim().parse().map_err(|_| bad("is neither FIRST-LAST nor a CIDR"))?;
        if net != net.trunc() {
            return Err(bad(&format!("has bits set past its prefix; did you mean {}?", net.trunc())));
        }
        Ok(net.into())
    }
}

impl TryFrom<String> for AddressRange {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> String {
        range.to_string()
    }
}

impl fmt::Display for AddressRange {
    /// As a CIDR where it is one, else `FIRST-LAST`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let net = self.covering();
        if Self::from(net) == *self {
            f.pad(&net.to_string())
        } else {
            f.pad(&format!("{}-{}", self.first, self.last))
        }
    }
}

impl schemars::JsonSchema for AddressRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AddressRange".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read_and_one_is_written() {
        let round = |text: &str| text.parse::<AddressRange>().map(|r| r.to_string());
        assert_eq!(round("10.0.1.128-10.0.1.254").as_deref(), Ok("10.0.1.128-10.0.1.254"));
        assert_eq!(round("10.0.1.64-10.0.1.127").as_deref(), Ok("10.0.1.64/26"));
        assert_eq!(round("10.0.1.64/26").as_deref(), Ok("10.0.1.64/26"));
        assert_eq!(round("10.0.1.7-10.0.1.7").as_deref(), Ok("10.0.1.7/32"));
        assert_eq!(round("fd00::4000/114").as_deref(), Ok("fd00::4000/114"));
        for bad in ["", "-", "10.0.1.5", "10.0.1.9-10.0.1.3", "10.0.1.1-fd00::1", "10.0.1.65/26", "x-y"] {
            assert!(round(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn covering_is_the_smallest() {
        let cover = |text: &str| text.parse::<AddressRange>().map(|r| r.covering().to_string());
        assert_eq!(cover("10.0.1.10-10.0.1.50").as_deref(), Ok("10.0.1.0/26"));
        assert_eq!(cover("0.0.0.0-255.255.255.255").as_deref(), Ok("0.0.0.0/0"));
        assert_eq!(cover("::/0").as_deref(), Ok("::/0"));
    }
}
