//! Kernel settings of single interfaces, below `/proc/sys/net` (the kernel's ip-sysctl.rst).
//!
//! Forwarding is switched on for the bridge and the uplinks alone, never by the global `ip_forward`:
//! that would open the host for everybody's networks. For IPv4 that is enough, since the kernel asks
//! the interface where a packet came in. For IPv6 it is not: before Linux 6.17 only
//! `net.ipv6.conf.all.forwarding` counts, and we don't touch it; from 6.17 on there is
//! `force_forwarding` for one interface, which we use. An uplink's IPv6 `forwarding` stays as it is.
//!
//! A host that learns its default route from router advertisements keeps it only with `accept_ra` = 2:
//! with 1 an interface that forwards believes none, and each time that any interface's IPv6 `forwarding`
//! is turned on, the kernel drops the default routes that were advertised (`rt6_purge_dflt_routers`). We
//! turn on the bridge's, and Docker turns on everybody's for a network of its own with IPv6. So such an
//! uplink gets 2 first.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Change;
use super::bridge::Uplinks;
use crate::deadline::Deadline;
pub use crate::model::setting::{Key, Name, Setting};
use crate::model::{Fault, InterfaceName, Network, Result};

const ROOT: &str = "/proc/sys/net";

/// A setting as it should be and as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Which setting.
    pub key: Key,
    /// What it should be.
    pub wanted: &'static str,
    /// What it is; `None` where the kernel has no such setting (IPv6 off, an older kernel, no such
    /// interface), which is in order.
    pub now: Option<String>,
}

/// What [`ensure`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Whether anything was written.
    pub change: Change,
    /// What was there before, for each setting that was written; [`restore`] takes it.
    pub before: Vec<Setting>,
}

/// Whether bridged packets cross the firewall's IP tables (`br_netfilter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgeNetfilter {
    /// IPv4 packets do: `bridge-nf-call-iptables`.
    pub iptables: bool,
    /// IPv6 packets do: `bridge-nf-call-ip6tables`.
    pub ip6tables: bool,
    /// ARP does: `bridge-nf-call-arptables`.
    pub arptables: bool,
}

impl Name {
    fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::Ipv4Forwarding => ("ipv4", "forwarding"),
            Self::Ipv6Forwarding => ("ipv6", "forwarding"),
            Self::Ipv6ForceForwarding => ("ipv6", "force_forwarding"),
            Self::AcceptRa | Self::AcceptRaForwarding => ("ipv6", "accept_ra"),
            Self::Autoconf => ("ipv6", "autoconf"),
        }
    }

    /// The only value that we ever write.
    fn ours(self) -> &'static str {
        match self {
            Self::Ipv4Forwarding | Self::Ipv6Forwarding | Self::Ipv6ForceForwarding => "1",
            Self::AcceptRa | Self::Autoconf => "0",
            Self::AcceptRaForwarding => "2",
        }
    }
}

impl Key {
    fn path(&self, root: &Path) -> PathBuf {
        let (family, name) = self.name.parts();
        root.join(family).join("conf").join(self.interface.as_str()).join(name)
    }
}

impl fmt::Display for Key {
    /// As sysctl(8) takes it; the dot of an interface `eth0.5` is written `/` there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (family, name) = self.name.parts();
        write!(f, "net.{family}.conf.{}.{name}", self.interface.as_str().replace('.', "/"))
    }
}

/// What a network needs, in the order in which it is written. With IPv6: an uplink's advertised default
/// route is kept. The bridge's own: no router advertisements are believed on it. With NAT: forwarding on
/// it and on the uplinks, in the families that the network has.
fn wanted(network: &Network, uplinks: &Uplinks) -> Vec<Key> {
    let bridge = &network.bridge;
    let mut keys = Vec::new();
    let mut want = |interface: &InterfaceName, name| {
        let key = Key { interface: interface.clone(), name };
        // An adopted bridge may be the uplink itself.
        if !keys.contains(&key) {
            keys.push(key);
        }
    };
    if network.ipv6.is_some() {
        uplinks.advertised.iter().for_each(|u| want(u, Name::AcceptRaForwarding));
    }
    if !network.adopt {
        want(bridge, Name::AcceptRa);
        want(bridge, Name::Autoconf);
    }
    if network.nat {
        if network.ipv4.is_some() {
            want(bridge, Name::Ipv4Forwarding);
            uplinks.all.iter().for_each(|u| want(u, Name::Ipv4Forwarding));
        }
        if network.ipv6.is_some() {
            // On a LAN's bridge the host may live by its router's advertisements.
            if !network.adopt {
                want(bridge, Name::Ipv6Forwarding);
            }
            want(bridge, Name::Ipv6ForceForwarding);
            uplinks.all.iter().for_each(|u| want(u, Name::Ipv6ForceForwarding));
        }
    }
    keys
}

/// Whether the kernel leaves an uplink's advertisements to a program (`accept_ra` = 0): systemd-networkd
/// and NetworkManager read them themselves, and set routes that the kernel does not drop.
fn unheard(root: &Path, key: &Key) -> bool {
    key.name == Name::AcceptRaForwarding && get(root, key).is_ok_and(|now| now.as_deref() == Some("0"))
}

/// Writes what the network needs and is not so, for its bridge and `uplinks`; a setting that the
/// kernel doesn't have is passed over. On a failure what was written is put back.
///
/// # Errors
/// `Missing` when the bridge isn't there; `Failed` when a setting can't be read or written, or the
/// deadline passes.
pub fn ensure(network: &Network, uplinks: &Uplinks, deadline: Deadline) -> Result<Applied> {
    ensure_under(Path::new(ROOT), network, uplinks, deadline)
}

fn ensure_under(root: &Path, network: &Network, uplinks: &Uplinks, deadline: Deadline) -> Result<Applied> {
    // Every interface has an IPv4 folder, even where IPv6 is off.
    if !root.join("ipv4/conf").join(network.bridge.as_str()).is_dir() {
        return Err(Fault::missing(format!("there is no bridge {}", network.bridge)));
    }
    let mut before = Vec::new();
    for key in wanted(network, uplinks) {
        if unheard(root, &key) {
            continue;
        }
        match set(root, &key, key.name.ours(), deadline) {
            Ok(Some(value)) => before.push(Setting { key, value }),
            Ok(None) => {}
            Err(fault) => {
                let undone = restore_under(root, &before, Deadline::after(std::time::Duration::from_secs(1)));
                return Err(match undone {
                    Ok(_) => fault,
                    Err(other) => fault.and(other),
                });
            }
        }
    }
    let change = if before.is_empty() { Change::None } else { Change::Made };
    Ok(Applied { change, before })
}

/// What is changed by others because of us: an uplink's IPv6 `forwarding`, by Docker, which turns it on
/// for every interface. With [`Name::AcceptRaForwarding`] taken back the host would believe its router no
/// more. To route between other interfaces the uplink's own isn't needed: the kernel looks at the global one.
///
/// # Errors
/// `Failed` when one can't be read.
pub fn beside(readings: &[Reading]) -> Result<Vec<Setting>> {
    let mut all = Vec::new();
    for reading in readings.iter().filter(|r| r.key.name == Name::AcceptRaForwarding) {
        let key = Key { name: Name::Ipv6Forwarding, ..reading.key.clone() };
        if let Some(value) = get(Path::new(ROOT), &key)?.filter(|now| now != key.name.ours()) {
            all.push(Setting { key, value });
        }
    }
    Ok(all)
}

/// Whether a network with these `readings` needs a setting that another network found different.
#[must_use]
pub fn needs(readings: &[Reading], key: &Key) -> bool {
    let beside = |r: &Reading| {
        r.key.name == Name::AcceptRaForwarding
            && key.name == Name::Ipv6Forwarding
            && r.key.interface == key.interface
    };
    readings.iter().any(|r| r.key == *key || beside(r))
}

/// Puts earlier values back, where what stands is still what we wrote. Whether another network needs
/// an uplink's forwarding is for the caller to know. Interfaces that are gone are passed over.
///
/// # Errors
/// `Failed` for the first setting that can't be written; the others are tried all the same.
pub fn restore(before: &[Setting], deadline: Deadline) -> Result<Change> {
    restore_under(Path::new(ROOT), before, deadline)
}

fn restore_under(root: &Path, before: &[Setting], deadline: Deadline) -> Result<Change> {
    let mut change = Change::None;
    let mut failed: Option<Fault> = None;
    for Setting { key, value } in before {
        let result = match get(root, key) {
            Ok(Some(now)) if now == key.name.ours() => set(root, key, value, deadline),
            Ok(_) => Ok(None),
            Err(fault) => Err(fault),
        };
        match (result, failed.take()) {
            (Ok(written), earlier) => {
                failed = earlier;
                change = change.or(if written.is_some() { Change::Made } else { Change::None });
            }
            (Err(fault), None) => failed = Some(fault),
            (Err(fault), Some(first)) => failed = Some(first.and(fault)),
        }
    }
    failed.map_or(Ok(change), Err)
}

/// Each setting that the network needs, as it stands. Any user may.
///
/// # Errors
/// `Failed` when one can't be read.
pub fn read(network: &Network, uplinks: &Uplinks) -> Result<Vec<Reading>> {
    let root = Path::new(ROOT);
    wanted(network, uplinks)
        .into_iter()
        .filter(|key| !unheard(root, key))
        .map(|key| Ok(Reading { wanted: key.name.ours(), now: get(root, &key)?, key }))
        .collect()
}

/// The state of `br_netfilter`; `None` where it isn't loaded. Any user may.
#[must_use]
pub fn bridge_netfilter() -> Option<BridgeNetfilter> {
    let on = |name: &str| {
        let text = std::fs::read_to_string(Path::new(ROOT).join("bridge").join(name)).ok()?;
        Some(text.trim() != "0")
    };
    Some(BridgeNetfilter {
        iptables: on("bridge-nf-call-iptables")?,
        ip6tables: on("bridge-nf-call-ip6tables")?,
        arptables: on("bridge-nf-call-arptables")?,
    })
}

/// Whether IPv6 packets that come in on an interface can leave by another: the global switch is on,
/// by somebody else's hand, or the kernel has the interface's own and it is on. Any user may.
#[must_use]
pub fn ipv6_forwards(interface: &InterfaceName) -> bool {
    let global = std::fs::read_to_string(Path::new(ROOT).join("ipv6/conf/all/forwarding"));
    let key = Key { interface: interface.clone(), name: Name::Ipv6ForceForwarding };
    global.is_ok_and(|t| t.trim() != "0")
        || get(Path::new(ROOT), &key).is_ok_and(|v| v.as_deref() == Some("1"))
}

/// For a bridge of ours that is about to be set up: no router's advertisement is believed on it.
pub(super) fn refuse_advertisements(bridge: &InterfaceName) -> Result<()> {
    for name in [Name::AcceptRa, Name::Autoconf] {
        let key = Key { interface: bridge.clone(), name };
        let deadline = Deadline::after(std::time::Duration::from_secs(1));
        set(Path::new(ROOT), &key, name.ours(), deadline)?;
    }
    Ok(())
}

fn get(root: &Path, key: &Key) -> Result<Option<String>> {
    match std::fs::read_to_string(key.path(root)) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Fault::failed(format!("cannot read {key}")).because(e)),
    }
}

/// Writes a value that differs; gives what was there before, if anything was written.
fn set(root: &Path, key: &Key, value: &str, deadline: Deadline) -> Result<Option<String>> {
    let Some(now) = get(root, key)?.filter(|now| now != value) else { return Ok(None) };
    if deadline.passed() {
        return Err(Fault::failed(format!("no time left to set {key}")));
    }
    match std::fs::write(key.path(root), value) {
        Ok(()) => Ok(Some(now)),
        // The interface went between the two.
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => {
            let denied = e.kind() == ErrorKind::PermissionDenied;
            let fault = Fault::failed(format!("cannot set {key} to {value}")).because(e);
            Err(if denied { fault.hint("only root may change kernel settings") } else { fault })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network_file::NetworkFile;
    use std::time::Duration;

    fn network(more: &str) -> Result<Network> {
        let text = format!("format = 1\n{more}\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n");
        Ok(NetworkFile::parse(&text).map_err(Fault::failed)?.network(&"hybrid".parse()?)?)
    }

    fn uplinks(all: &[&str], advertised: &[&str]) -> Result<Uplinks> {
        let names = |of: &[&str]| of.iter().map(|n| Ok(n.parse()?)).collect::<Result<Vec<_>>>();
        Ok(Uplinks { all: names(all)?, advertised: names(advertised)? })
    }

    fn keys(network: &Network) -> Result<String> {
        let uplinks = uplinks(&["eth0.5", "hybr0"], &["eth0.5"])?;
        let lines: Vec<_> =
            wanted(network, &uplinks).iter().map(|k| format!("{k} = {}", k.name.ours())).collect();
        Ok(lines.join("\n"))
    }

    /// A folder that looks like /proc/sys/net as far as two interfaces go.
    fn fake(values: &[(&str, &str)]) -> Result<tempfile::TempDir> {
        let io = |e: std::io::Error| Fault::failed("cannot make the folder").because(e);
        let root = tempfile::tempdir().map_err(io)?;
        for (path, value) in values {
            let path = root.path().join(path);
            path.parent().map(std::fs::create_dir_all).transpose().map_err(io)?;
            std::fs::write(path, format!("{value}\n")).map_err(io)?;
        }
        Ok(root)
    }

    fn value(root: &tempfile::TempDir, path: &str) -> String {
        std::fs::read_to_string(root.path().join(path)).unwrap_or_default().trim().to_owned()
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(5))
    }

    #[test]
    fn forwarding_is_for_the_bridge_and_the_uplinks_alone() -> Result<()> {
        insta::assert_snapshot!(keys(&network("[ipv6]\nsubnet = \"fd00:1::/64\"")?)?, @r"
        net.ipv6.conf.eth0/5.accept_ra = 2
        net.ipv6.conf.hybr0.accept_ra = 0
        net.ipv6.conf.hybr0.autoconf = 0
        net.ipv4.conf.hybr0.forwarding = 1
        net.ipv4.conf.eth0/5.forwarding = 1
        net.ipv6.conf.hybr0.forwarding = 1
        net.ipv6.conf.hybr0.force_forwarding = 1
        net.ipv6.conf.eth0/5.force_forwarding = 1
        ");
        insta::assert_snapshot!(keys(&network("nat = false")?)?, @r"
        net.ipv6.conf.hybr0.accept_ra = 0
        net.ipv6.conf.hybr0.autoconf = 0
        ");
        assert_eq!(keys(&network("adopt = true")?)?, "");
        Ok(())
    }

    #[test]
    fn what_was_there_before_comes_back_and_only_that() -> Result<()> {
        let root = fake(&[
            ("ipv4/conf/hybr0/forwarding", "1"),
            ("ipv4/conf/eth0/forwarding", "0"),
            ("ipv6/conf/hybr0/accept_ra", "1"),
        ])?;
        let (network, uplinks) = (network("")?, uplinks(&["eth0", "gone0"], &[])?);
        let applied = ensure_under(root.path(), &network, &uplinks, soon())?;
        assert_eq!(applied.change, Change::Made);
        let before: Vec<_> = applied.before.iter().map(|s| format!("{}={}", s.key, s.value)).collect();
        assert_eq!(before, ["net.ipv6.conf.hybr0.accept_ra=1", "net.ipv4.conf.eth0.forwarding=0"]);
        assert_eq!(value(&root, "ipv4/conf/eth0/forwarding"), "1");
        assert_eq!(ensure_under(root.path(), &network, &uplinks, soon())?.change, Change::None);
        // Somebody else has set it to 2 since: it stays.
        std::fs::write(root.path().join("ipv6/conf/hybr0/accept_ra"), "2")
            .map_err(|e| Fault::failed("").because(e))?;
        assert_eq!(restore_under(root.path(), &applied.before, soon())?, Change::Made);
        assert_eq!(value(&root, "ipv4/conf/eth0/forwarding"), "0");
        assert_eq!(value(&root, "ipv6/conf/hybr0/accept_ra"), "2");
        Ok(())
    }

    #[test]
    fn an_uplink_goes_on_believing_its_router_where_the_kernel_does() -> Result<()> {
        let root = fake(&[
            ("ipv4/conf/hybr0/forwarding", "1"),
            ("ipv6/conf/eth0/accept_ra", "1"),
            ("ipv6/conf/wlan0/accept_ra", "0"),
        ])?;
        let network = network("[ipv6]\nsubnet = \"fd00:1::/64\"")?;
        let uplinks = uplinks(&["eth0", "wlan0"], &["eth0", "wlan0"])?;
        let applied = ensure_under(root.path(), &network, &uplinks, soon())?;
        let before: Vec<_> = applied.before.iter().map(|s| format!("{}={}", s.key, s.value)).collect();
        assert_eq!(before, ["net.ipv6.conf.eth0.accept_ra=1"]);
        assert_eq!(value(&root, "ipv6/conf/eth0/accept_ra"), "2");
        assert_eq!(value(&root, "ipv6/conf/wlan0/accept_ra"), "0");
        restore_under(root.path(), &applied.before, soon())?;
        assert_eq!(value(&root, "ipv6/conf/eth0/accept_ra"), "1");
        Ok(())
    }

    #[test]
    fn a_missing_bridge_is_missing_and_nothing_is_written() -> Result<()> {
        let root = fake(&[("ipv4/conf/eth0/forwarding", "0")])?;
        let fault = ensure_under(root.path(), &network("")?, &uplinks(&["eth0"], &[])?, soon()).err();
        assert_eq!(fault.map(|f| f.kind()), Some(crate::model::Kind::Missing));
        assert_eq!(value(&root, "ipv4/conf/eth0/forwarding"), "0");
        Ok(())
    }

    #[test]
    fn a_saved_setting_can_name_no_other_path() {
        let json = r#"{"key":{"interface":"../../kernel","name":"ipv4-forwarding"},"value":"1"}"#;
        assert!(serde_json::from_str::<Setting>(json).is_err());
    }
}
