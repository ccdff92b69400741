//! Kernel settings of an interface: which one, and its value.

use serde::{Deserialize, Serialize};

use super::InterfaceName;

/// A setting that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// `ipv4/conf/IF/forwarding`: packets that come in here may leave elsewhere.
    Ipv4Forwarding,
    /// `ipv6/conf/IF/forwarding`: this side is a router; its neighbour advertisements say so (RFC
    /// 4861, section 7.2.4), else guests drop their default route.
    Ipv6Forwarding,
    /// `ipv6/conf/IF/force_forwarding`: as IPv4's forwarding, since Linux 6.17.
    Ipv6ForceForwarding,
    /// `ipv6/conf/IF/accept_ra`: whether router advertisements are believed.
    AcceptRa,
    /// The same setting of an uplink that learned its default route from one: also believed where the
    /// interface forwards.
    AcceptRaForwarding,
    /// `ipv6/conf/IF/autoconf`: whether addresses are made from advertised prefixes.
    Autoconf,
}

/// A setting of one interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Whose.
    pub interface: InterfaceName,
    /// Which.
    pub name: Name,
}

/// A setting and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Which setting.
    pub key: Key,
    /// Its value as the kernel writes it, trimmed.
    pub value: String,
}
