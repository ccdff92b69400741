//! Checked names. Only these types reach a file, a rule or a command line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::MacAddress;

/// A value from outside that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {why}")]
pub struct Invalid {
    /// What it should have been, such as `network name`.
    pub what: &'static str,
    /// What was given, cut to 80 characters.
    pub value: String,
    /// What is wrong with it, such as `is longer than 15 characters`.
    pub why: String,
}

impl Invalid {
    /// An invalid value; a long one is cut, so that a message stays one line.
    pub fn new(what: &'static str, value: &str, why: impl Into<String>) -> Self {
        let mut shown: String = value.chars().take(80).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        Self { what, value: shown, why: why.into() }
    }
}

/// Gives a checked string type its conversions; `check` is its only door.
macro_rules! checked_string {
    ($type:ident, $check:path) => {
        impl $type {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                $check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                $check(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }
    };
}
pub(super) use checked_string;

/// A network's name: 1 to 32 of `a-z`, `0-9` and `-`, with a letter or digit at both ends.
///
/// It becomes a file name, a systemd instance name and part of a Docker and a libvirt name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkName(String);
checked_string!(NetworkName, check_network_name);

fn check_network_name(text: &str) -> Result<(), Invalid> {
    let bad = |why: &str| Err(Invalid::new("network name", text, why));
    if text.is_empty() || text.len() > 32 {
        return bad("must have 1 to 32 characters");
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return bad("may hold only lower-case letters, digits and '-'");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return bad("must begin and end with a letter or a digit");
    }
    Ok(())
}

impl NetworkName {
    /// The name of the network that commands mean when none is given.
    pub const DEFAULT: &'static str = "hybrid";

    /// The bridge that a network of this name gets when none is chosen: `hybr0` for the default
    /// network, else `hyb-NAME`, shortened with four hexadecimal digits of the name's hash where
    /// that would be longer than the kernel's 15 characters.
    #[must_use]
    pub fn default_bridge(&self) -> InterfaceName {
        let name = if self.0 == Self::DEFAULT {
            "hybr0".to_owned()
        } else if self.0.len() <= 11 {
            format!("hyb-{}", self.0)
        } else {
            let start: String = self.0.chars().take(6).collect();
            format!("hyb-{start}-{:04x}", super::mac::fnv1a(self.0.as_bytes()) & 0xffff)
        };
        InterfaceName(name)
    }

    /// The name that the Docker and the libvirt network of a network of this name get when none is chosen:
    /// `NAME-net`.
    #[must_use]
    pub fn default_net(&self) -> DockerName {
        DockerName(format!("{self}-net"))
    }
}

/// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, no `-` at the ends (RFC 1035, section 2.3.1; RFC 1123, section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsLabel(String);
checked_string!(DnsLabel, check_dns_label);

fn check_dns_label(text: &str) -> Result<(), Invalid> {
    let bad = |why: &str| Err(Invalid::new("host name", text, why));
    if text.is_empty() || text.len() > 63 {
        return bad("must have 1 to 63 characters");
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return bad("may hold only lower-case letters, digits and '-'");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return bad("must begin and end with a letter or a digit");
    }
    Ok(())
}

impl DnsLabel {
    /// Makes a label of any name: lower case, every run in which there are characters that a label can't hold
    /// becomes one `-`, none at the ends, 63 at most. `None` when nothing is left. A run of `-` alone stays as it is:
    /// in `xn--p1ai` it means something.
    #[must_use]
    pub fn from_any(name: &str) -> Option<Self> {
        let mut label = String::with_capacity(name.len().min(64));
        let (mut dashes, mut others) = (0_usize, false);
        for c in name.chars().flat_map(char::to_lowercase) {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                if !label.is_empty() {
                    let between = if others { 1 } else { dashes };
                    label.extend(std::iter::repeat_n('-', between.min(63)));
                }
                (dashes, others) = (0, false);
                label.push(c);
            } else if c == '-' {
                dashes = dashes.saturating_add(1);
            } else {
                others = true;
            }
            if label.len() >= 63 {
                break;
            }
        }
        label.truncate(63);
        let label = label.trim_end_matches('-');
        (!label.is_empty()).then(|| Self(label.to_owned()))
    }
}

/// A DNS zone: one or more labels with dots between, 200 characters at most, so that a name in it stays below 255.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ZoneName(String);
checked_string!(ZoneName, check_zone_name);

fn check_zone_name(text: &str) -> Result<(), Invalid> {
    if text.is_empty() || text.len() > 190 {
        return Err(Invalid::new("zone", text, "must have 1 to 190 characters"));
    }
    for label in text.split('.') {
        if let Err(invalid) = check_dns_label(label) {
            return Err(Invalid::new(
                "zone",
                text,
                format!("has the label {label:?}, which {}", invalid.why),
            ));
        }
    }
    Ok(())
}

/// A network interface's name as the kernel takes it (`dev_valid_name`): 1 to 15 bytes, no `/`, `:`
/// or white space, not `.` or `..`. Here narrower: `A-Z a-z 0-9 . _ -` and no leading `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);
checked_string!(InterfaceName, check_interface_name);

fn check_interface_name(text: &str) -> Result<(), Invalid> {
    let bad = |why: &str| Err(Invalid::new("interface name", text, why));
    if text.is_empty() || text.len() > 15 {
        return bad("must have 1 to 15 characters");
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)) {
        return bad("may hold only letters, digits, '.', '_' and '-'");
    }
    if text == "." || text == ".." || text.starts_with('-') {
        return bad("is not a name that an interface can have");
    }
    Ok(())
}

/// A name in Docker's or libvirt's keeping (network, container): Docker's rule,
/// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, 128 at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DockerName(String);
checked_string!(DockerName, check_docker_name);

fn check_docker_name(text: &str) -> Result<(), Invalid> {
    let bad = |why: &str| Err(Invalid::new("name", text, why));
    if text.is_empty() || text.len() > 128 {
        return bad("must have 1 to 128 characters");
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        return bad("may hold only letters, digits, '.', '_' and '-'");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return bad("must begin with a letter or a digit");
    }
    Ok(())
}

/// Who a lease belongs to: a domain's UUID in lower case, or a container's id of 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OwnerId(String);

impl OwnerId {
    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has the form of a container's id.
    #[must_use]
    pub fn is_container(&self) -> bool {
        self.0.len() == 64
    }

    /// The stand-in for a container's id while Docker has asked for an address and not said for whom:
    /// 52 zeros and the endpoint's MAC. A container's own id is random; none begins like that.
    #[must_use]
    pub fn of_endpoint(mac: MacAddress) -> Self {
        let mac: String = mac.octets().iter().map(|octet| format!("{octet:02x}")).collect();
        Self(format!("{mac:0>64}"))
    }

    /// Whether it is such a stand-in.
    #[must_use]
    pub fn is_endpoint(&self) -> bool {
        self.is_container() && self.0.bytes().take(52).all(|digit| digit == b'0')
    }
}

impl FromStr for OwnerId {
    type Err = Invalid;
    /// Takes a UUID with or without hyphens, in any case (RFC 9562), or a container id.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let hex: String = text.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
        if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Invalid::new("owner", text, "is neither a UUID nor a container's id"));
        }
        let hyphens_in_place = !text.contains('-')
            || (text.len() == 36 && [8, 13, 18, 23].iter().all(|i| text.as_bytes().get(*i) == Some(&b'-')));
        match (hex.len(), hyphens_in_place) {
            (32, true) => {
                let mut uuid = hex;
                for at in [20, 16, 12, 8] {
                    uuid.insert(at, '-');
                }
                Ok(Self(uuid))
            }
            (64, true) if !text.contains('-') => Ok(Self(hex)),
            _ => Err(Invalid::new("owner", text, "is neither a UUID nor a container's id")),
        }
    }
}

impl TryFrom<String> for OwnerId {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<OwnerId> for String {
    fn from(value: OwnerId) -> String {
        value.0
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl schemars::JsonSchema for OwnerId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OwnerId".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bridge_names_fit_the_kernel() {
        let bridge = |n: &str| n.parse::<NetworkName>().map(|n| n.default_bridge().to_string());
        assert_eq!(bridge("hybrid").as_deref(), Ok("hybr0"));
        assert_eq!(bridge("lab").as_deref(), Ok("hyb-lab"));
        let long = bridge("a-very-long-network-name");
        assert!(long.as_ref().is_ok_and(|b| b.len() == 15 && b.starts_with("hyb-a-very-")), "{long:?}");
        assert_ne!(long, bridge("a-very-long-network-nama"));
    }

    #[test]
    fn hostile_names_are_refused() {
        for name in ["", "../../x", "$(reboot)", "a b", "A", "-a", "a-", "é", "a\nb", &"a".repeat(33)] {
            assert!(name.parse::<NetworkName>().is_err(), "{name:?}");
        }
        for name in ["", ".", "..", "a/b", "a b", "a:b", "-a", "0123456789abcdef"] {
            assert!(name.parse::<InterfaceName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn labels_are_made_by_one_rule() {
        let label = |n: &str| DnsLabel::from_any(n).map(String::from);
        assert_eq!(label("My_App.1").as_deref(), Some("my-app-1"));
        assert_eq!(label("--x--").as_deref(), Some("x"));
        assert_eq!(label("xn--p1ai").as_deref(), Some("xn--p1ai"));
        assert_eq!(label("my__app").as_deref(), Some("my-app"));
        assert_eq!(label("My App - 2").as_deref(), Some("my-app-2"));
        assert_eq!(label(&format!("{}--b", "a".repeat(61))), Some("a".repeat(61)));
        assert_eq!(label("日本"), None);
        assert_eq!(label(&"a".repeat(300)).map(|l| l.len()), Some(63));
    }

    #[test]
    fn owners_are_uuids_or_container_ids() {
        let uuid = "C7A5FDBD-EDAF-9455-926A-D65C16DB1809";
        assert_eq!(
            uuid.parse::<OwnerId>().map(String::from).as_deref(),
            Ok("c7a5fdbd-edaf-9455-926a-d65c16db1809")
        );
        assert!("c7a5fdbdedaf9455926ad65c16db1809".parse::<OwnerId>().is_ok());
        assert!("ab".repeat(32).parse::<OwnerId>().is_ok_and(|o| o.is_container() && !o.is_endpoint()));
        let endpoint = "02:42:0a:00:01:07".parse().map(OwnerId::of_endpoint);
        assert!(endpoint.is_ok_and(|o| o.is_endpoint() && o.as_str().ends_with("02420a000107")));
        for bad in ["", "x", "c7a5fdbd-edaf-9455-926a-d65c16db180", "c7a5-fdbdedaf-9455-926a-d65c16db1809"] {
            assert!(bad.parse::<OwnerId>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_label_of_any_name_is_a_label(name in ".*") {
            if let Some(label) = DnsLabel::from_any(&name) {
                prop_assert!(check_dns_label(label.as_str()).is_ok());
            }
        }
    }
}
