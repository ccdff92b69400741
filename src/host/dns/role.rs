//! The two processes of a network's dnsmasq. One that gives addresses as well answers slower for names: for
//! each question it does the work of DHCP's sockets, too. And a restart for a changed reservation leaves names
//! alone.

use crate::model::NetworkName;

/// What a dnsmasq of a network is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Answers for names, in the zone and by the host's resolvers.
    Names,
    /// Gives addresses (DHCP, DHCPv6) and advertises the router (RA).
    Addresses,
}

impl Role {
    /// Both, in the order in which they are started. One of before, which did both, ends as the one for names.
    pub const ALL: [Self; 2] = [Self::Names, Self::Addresses];

    /// The systemd unit of a network's dnsmasq.
    #[must_use]
    pub fn unit(self, network: &NetworkName) -> String {
        match self {
            Self::Names => format!("hybrid-hook-dnsmasq@{network}.service"),
            Self::Addresses => format!("hybrid-hook-dhcp@{network}.service"),
        }
    }

    /// What it serves, as people call it.
    #[must_use]
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Names => "DNS",
            Self::Addresses => "DHCP",
        }
    }

    /// Begins the names of its files: `.conf`, the pid file, and the log where no journal takes it.
    pub(super) fn stem(self) -> &'static str {
        match self {
            Self::Names => "dnsmasq",
            Self::Addresses => "dhcp",
        }
    }
}
