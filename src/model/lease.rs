//! A lease: which NIC holds which address, and for whom.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{DnsLabel, InterfaceName, MacAddress, Network, OwnerId, Selector};

/// Which boot of the host something belongs to: the kernel's `/proc/sys/kernel/random/boot_id` (random(4)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct BootId(pub String);

/// What kind of owner a lease has, and so who may end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A libvirt domain, by a hook.
    Domain,
    /// A Docker container.
    Container,
    /// A person, by `claim`: it stays until a person releases it.
    Hand,
}

/// The owner of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The domain's UUID or the container's id.
    pub id: OwnerId,
    /// What it is.
    pub origin: Origin,
    /// Its name, for people only: never used to find it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.origin {
            Origin::Domain => "vm",
            Origin::Container => "container",
            Origin::Hand => "owner",
        };
        if self.id.is_endpoint() {
            return f.write_str("a container that is starting");
        }
        match &self.name {
            // A name comes from outside; escapes keep a message on one line.
            Some(name) => write!(f, "{what} {name:?}"),
            None => write!(f, "{what} {}", self.id),
        }
    }
}

/// Whether the address is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LeaseState {
    /// The owner runs, or holds it by hand.
    Active,
    /// The owner is stopped; its address waits for it.
    Idle,
    /// Nobody has claimed it yet: a person fixed it for a MAC or a host name.
    Reserved,
}

impl fmt::Display for LeaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Reserved => "reserved",
        })
    }
}

/// The MAC that held the address before, and until when DHCP may still know it by that. It stays after that, until
/// another takes its place: a guest that was saved with the address must not come back to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// The former MAC.
    pub mac: MacAddress,
    /// Seconds since 1970 when its DHCP lease has surely ended.
    pub until: u64,
}

/// How long a former holder's MAC stays beside the new one in DHCP: dnsmasq's lease time, and some.
const HANDOVER_SECONDS: u64 = 3600 + 600;

impl Handover {
    /// From the NIC that has the address until `now`.
    #[must_use]
    pub fn from(mac: MacAddress, now: u64) -> Self {
        Self { mac, until: now + HANDOVER_SECONDS }
    }
}

/// How long the container for which Docker asked an address may take until it is seen to run, in
/// seconds. Hundreds that start at once take minutes on a small host; what fails to start gives its
/// address back at once, so only a killed dockerd leaves one waiting for so long.
const STARTING: u64 = 300;

/// One entry of the registry. Its identity is (network, MAC); its place is the address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The address: IPv4 where the network has it.
    pub address: IpAddr,
    /// Whose NIC; none while an address is reserved for a host name that nobody has claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// Who holds it; none while only reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Whether it is in use, as last written. Ask [`Lease::state_now`], which knows about reboots.
    pub state: LeaseState,
    /// The boot in which it became active; none when it was claimed by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootId>,
    /// The address was asked for, not taken from the pool.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fixed: bool,
    /// A person reserved it for this MAC or host name: it outlives its owners.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reserved: bool,
    /// The host name that it is reserved for, where that is not for a MAC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_for: Option<DnsLabel>,
    /// Counts changes of owner and of address: a release of an older one is too late.
    pub generation: u64,
    /// Seconds since 1970 when this owner got it.
    pub since: u64,
    /// Seconds since 1970 of the last change of state.
    pub changed: u64,
    /// It was given out and the answer of the first probe is not known yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unprobed: bool,
    /// The guest's name in the zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<DnsLabel>,
    /// More names of the guest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<DnsLabel>,
    /// Groups that policies name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<DnsLabel>,
    /// Which containers the guest wants beside it while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<Selector>,
    /// The guest runs: what it asks of Docker is wanted now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub running: bool,
    /// It is the guest's only NIC: DHCP gives it a route and a resolver.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sole_nic: bool,
    /// The tap that libvirt made for it, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tap: Option<InterfaceName>,
    /// The IPv6 address beside an IPv4 one, where Docker gave another than [`Network::companion`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address6: Option<Ipv6Addr>,
    /// Who had the address before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<Handover>,
}

impl Lease {
    /// Its state in the boot `now`: what was active in another boot is idle.
    #[must_use]
    pub fn state_now(&self, now: &BootId) -> LeaseState {
        match (self.state, &self.boot) {
            (LeaseState::Active, Some(boot)) if boot != now => LeaseState::Idle,
            (state, _) => state,
        }
    }

    /// What it turns back to when its guest is gone: a reservation for a host name is for whoever has that name
    /// next. One for a MAC stays that NIC's.
    #[must_use]
    pub fn reservation(&self, now: u64) -> Option<Self> {
        let hostname = self.reserved_for.clone().filter(|_| self.reserved)?;
        Some(Self {
            handover: self.mac.map(|mac| Handover::from(mac, now)),
            ..Self::reserved(self.address, None, Some(hostname), self.generation, now)
        })
    }

    /// A person's reservation that nobody has claimed: for a MAC or for a host name.
    #[must_use]
    pub fn reserved(
        address: IpAddr,
        mac: Option<MacAddress>,
        hostname: Option<DnsLabel>,
        generation: u64,
        now: u64,
    ) -> Self {
        Self {
            address,
            mac,
            owner: None,
            state: LeaseState::Reserved,
            boot: None,
            fixed: true,
            reserved: true,
            reserved_for: hostname.clone(),
            generation,
            since: now,
            changed: now,
            unprobed: false,
            hostname,
            aliases: Vec::new(),
            groups: Vec::new(),
            containers: None,
            running: false,
            sole_nic: false,
            tap: None,
            handover: None,
            address6: None,
        }
    }

    /// The IPv6 address beside it, on a network of both families.
    #[must_use]
    pub fn ipv6(&self, network: &Network) -> Option<Ipv6Addr> {
        self.address6.or_else(|| network.companion(self.address))
    }

    /// Whether Docker asked for it, and for which container is not known yet.
    #[must_use]
    pub fn is_provisional(&self) -> bool {
        self.owner.as_ref().is_some_and(|o| o.id.is_endpoint())
    }

    /// Whether it is a container's that may be on its way.
    #[must_use]
    pub fn is_starting(&self, boot: &BootId, now: u64) -> bool {
        self.is_provisional()
            && self.state_now(boot) == LeaseState::Active
            && now.saturating_sub(self.changed) < STARTING
    }

    /// What the owner is, if there is one.
    #[must_use]
    pub fn origin(&self) -> Option<Origin> {
        self.owner.as_ref().map(|o| o.origin)
    }

    /// Whether the owner is `id`.
    #[must_use]
    pub fn is_owned_by(&self, id: &OwnerId) -> bool {
        self.owner.as_ref().is_some_and(|o| o.id == *id)
    }

    /// Who has it, in words for a message.
    #[must_use]
    pub fn holder(&self) -> String {
        match (&self.owner, &self.hostname, self.mac) {
            (Some(owner), _, _) => owner.to_string(),
            (None, _, Some(mac)) => format!("a reservation for {mac}"),
            (None, Some(name), None) => format!("a reservation for host name {name}"),
            (None, None, None) => "a reservation".to_owned(),
        }
    }
}
