//! Versions of libvirt.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::Invalid;

/// A version of libvirt. libvirt packs it as `major * 1,000,000 + minor * 1,000 + release`
/// (virGetVersion).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionNumber {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The third.
    pub release: u32,
}

impl VersionNumber {
    /// From its three numbers.
    #[must_use]
    pub fn new(major: u32, minor: u32, release: u32) -> Self {
        Self { major, minor, release }
    }

    /// From libvirt's packed form.
    #[must_use]
    pub fn unpack(packed: u32) -> Self {
        Self::new(packed / 1_000_000, packed / 1_000 % 1_000, packed % 1_000)
    }
}

impl FromStr for VersionNumber {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = || Invalid::new("version", text, "is not of the form 9.0.0");
        let numbers = text.split('.').map(str::parse).collect::<Result<Vec<u32>, _>>().map_err(|_| bad())?;
        match numbers.as_slice() {
            [major, minor, release] => Ok(Self::new(*major, *minor, *release)),
            _ => Err(bad()),
        }
    }
}

impl TryFrom<String> for VersionNumber {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<VersionNumber> for String {
    fn from(version: VersionNumber) -> String {
        version.to_string()
    }
}

impl fmt::Display for VersionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}.{}", self.major, self.minor, self.release))
    }
}

impl schemars::JsonSchema for VersionNumber {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "VersionNumber".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_numbers() {
        assert_eq!(VersionNumber::unpack(9_000_000).to_string(), "9.0.0");
        assert_eq!(VersionNumber::unpack(11_003_002).to_string(), "11.3.2");
        let version = |text: &str| text.parse::<VersionNumber>().ok();
        assert!(version("6.10.0") > version("6.5.0"));
        assert!("6.5".parse::<VersionNumber>().is_err());
    }
}
