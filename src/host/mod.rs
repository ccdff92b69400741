//! One file for each thing outside: render, read back, decide nothing.

pub mod bridge;
pub mod dns;
pub mod docker;
pub mod firewall;
pub mod libvirt;
pub mod listeners;
pub mod probe;
pub mod process;
pub mod resolver;
pub mod sysctl;
pub mod systemd;
pub mod wait;

/// What a render did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It stood as it should; nothing was touched.
    None,
    /// It was made, or made right.
    Made,
}

impl Change {
    /// `Made` if either is.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::Made { self } else { other }
    }
}
