//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::NetworkName;
use super::names::Invalid;

/// A unicast Ethernet address (IEEE 802), never all zeros, written in lower case with colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// The six bytes, in the order in which they are sent.
    #[must_use]
    pub fn octets(self) -> [u8; 6] {
        self.0
    }

    /// From six bytes; `None` for a group address or all zeros.
    #[must_use]
    pub fn from_octets(octets: [u8; 6]) -> Option<Self> {
        let [first, ..] = octets;
        (first & 1 == 0 && octets != [0; 6]).then_some(Self(octets))
    }

    /// The address of a network's bridge. It is fixed, because a bridge with none of its own takes
    /// the lowest of its ports', and guests' neighbour entries break each time that changes.
    #[must_use]
    pub fn of_bridge(network: &NetworkName) -> Self {
        let [a, b, c, d] = fnv1a(network.as_str().as_bytes()).to_be_bytes();
        Self([0x02, 0x68, a, b, c, d])
    }

    /// The address of a NIC that we add to a domain: in QEMU's range (52:54:00), the same every time
    /// for the same domain and network.
    #[must_use]
    pub fn of_nic(network: &NetworkName, domain: &str) -> Self {
        let text = format!("{network}/{domain}");
        let [_, a, b, c] = fnv1a(text.as_bytes()).to_be_bytes();
        Self([0x52, 0x54, 0x00, a, b, c])
    }

    /// The address of a container's endpoint whose IPv4 address is fixed: `02:42` and the address, as
    /// Docker before 25 makes it whatever it is told.
    #[must_use]
    pub fn of_endpoint(address: std::net::Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// The address under which a NIC holds one of a block of addresses: `02:64` and a hash of network,
    /// NIC and place in the block.
    #[must_use]
    pub fn of_block(network: &NetworkName, nic: Self, index: u8) -> Self {
        let [a, b, c, d] = fnv1a(format!("{network}/{nic}/{index}").as_bytes()).to_be_bytes();
        Self([0x02, 0x64, a, b, c, d])
    }

    /// The tap's own address that libvirt derives: the first byte becomes `fe`, so that a bridge
    /// does not take it for its own.
    #[must_use]
    pub fn of_tap(self) -> Self {
        let [_, b, c, d, e, f] = self.0;
        Self([0xfe, b, c, d, e, f])
    }
}

/// FNV-1a, 32 bits: small, stable for ever, good enough to spread names. Not for secrets.
pub(crate) fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

impl FromStr for MacAddress {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| Invalid::new("MAC address", text, why);
        let mut octets = [0_u8; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().ok_or_else(|| bad("must have six bytes, such as 52:54:00:12:34:56"))?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad("must be six bytes in hexadecimal, such as 52:54:00:12:34:56"));
            }
            *octet = u8::from_str_radix(part, 16).map_err(|e| bad(&e.to_string()))?;
        }
        if parts.next().is_some() {
            return Err(bad("must have six bytes, such as 52:54:00:12:34:56"));
        }
        Self::from_octets(octets)
            .ok_or_else(|| bad("is a group address or zero, which no interface can have"))
    }
}

impl TryFrom<String> for MacAddress {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> String {
        mac.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        f.pad(&format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"))
    }
}

impl schemars::JsonSchema for MacAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MacAddress".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^([0-9a-f]{2}:){5}[0-9a-f]{2}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints_one_way() {
        let mac: Result<MacAddress, _> = "52:54:00:AB:c:1".parse();
        assert_eq!(mac.map(|m| m.to_string()).as_deref(), Ok("52:54:00:ab:0c:01"));
        for bad in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:ef:01",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "+2:54:00:ab:cd:ef",
        ] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_tap_gets_fe() {
        let mac = MacAddress([0x52, 0x54, 0, 1, 2, 3]);
        assert_eq!(mac.of_tap().to_string(), "fe:54:00:01:02:03");
    }
}
