//! UUIDs (RFC 9562) of things that we make elsewhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::NetworkName;
use super::names::Invalid;

/// A UUID, written in lower case with its four hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// The UUID of the libvirt network of a network of ours: the same every time for the same name,
    /// so that ours is known among libvirt's without a note of it. Version 8 (RFC 9562, section
    /// 5.8): ours to fill, here with a hash of the name.
    #[must_use]
    pub fn of_libvirt_network(network: &NetworkName) -> Self {
        let mut octets = fnv1a_128(format!("urn:hybrid-hook:network:{network}").as_bytes()).to_be_bytes();
        let [_, _, _, _, _, _, version, _, variant, ..] = &mut octets;
        *version = (*version & 0x0f) | 0x80;
        *variant = (*variant & 0x3f) | 0x80;
        Self(octets)
    }
}

/// FNV-1a, 128 bits (draft-eastlake-fnv). Stable for ever; not for secrets.
fn fnv1a_128(bytes: &[u8]) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

impl FromStr for Uuid {
    type Err = Invalid;
    /// Takes any case; the hyphens must be in their places.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = || Invalid::new("UUID", text, "is not of the form 8-4-4-4-12 hexadecimal digits");
        let lengths: Vec<_> = text.split('-').map(str::len).collect();
        let hex: String = text.split('-').collect();
        if lengths != [8, 4, 4, 4, 12] || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        u128::from_str_radix(&hex, 16).map(|n| Self(n.to_be_bytes())).map_err(|_| bad())
    }
}

impl TryFrom<String> for Uuid {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Uuid> for String {
    fn from(uuid: Uuid) -> String {
        uuid.to_string()
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{:032x}", u128::from_be_bytes(self.0));
        for at in [20, 16, 12, 8] {
            text.insert(at, '-');
        }
        f.pad(&text)
    }
}

impl schemars::JsonSchema for Uuid {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Uuid".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "uuid" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_networks_uuid_never_changes() -> Result<(), Invalid> {
        let of = |name: &str| name.parse().map(|n| Uuid::of_libvirt_network(&n).to_string());
        // Changing this would orphan every network that was made before.
        assert_eq!(of("hybrid")?, "2404765c-db90-8c00-ac65-7d3d78677cc4");
        assert_ne!(of("lab")?, of("hybrid")?);
        Ok(())
    }

    #[test]
    fn version_and_variant_are_those_of_rfc_9562() -> Result<(), Invalid> {
        for name in ["hybrid", "a", "b", "lab-2"] {
            let text = Uuid::of_libvirt_network(&name.parse()?).to_string();
            assert_eq!(text.get(14..15), Some("8"), "{text}");
            assert!(text.get(19..20).is_some_and(|v| "89ab".contains(v)), "{text}");
            assert_eq!(text.parse::<Uuid>()?.to_string(), text);
        }
        Ok(())
    }

    #[test]
    fn other_words_are_no_uuid() {
        for text in ["", "x", "c7a5fdbdedaf9455926ad65c16db1809", "c7a5fdb-dedaf-9455-926a-d65c16db1809"] {
            assert!(text.parse::<Uuid>().is_err(), "{text:?}");
        }
    }
}
