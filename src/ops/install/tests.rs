//! `install` and `uninstall` in a root of their own, on a host that is pretended.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::site::{Host, Site, UnitFile};
use super::state::{HookStanding, UnitStanding, look};
use super::{DHCP_UNIT, DNSMASQ_UNIT, IPAM_SOCKET, IPAM_UNIT, NET_UNIT, WATCH_UNIT, away, steps};
use crate::deadline::Deadline;
use crate::host::libvirt::VersionNumber;
use crate::host::libvirt::daemons::{Daemon, Told};
use crate::host::systemd::Verb;
use crate::model::{Fault, Kind, Result};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

const UNITS: [UnitFile<'static>; 6] = [
    UnitFile { name: NET_UNIT, text: "[Unit]\n# net\n" },
    UnitFile { name: DNSMASQ_UNIT, text: "[Unit]\n# dnsmasq\n" },
    UnitFile { name: DHCP_UNIT, text: "[Unit]\n# dhcp\n" },
    UnitFile { name: IPAM_SOCKET, text: "[Unit]\n# ipam socket\n" },
    UnitFile { name: IPAM_UNIT, text: "[Unit]\n# ipam\n" },
    UnitFile { name: WATCH_UNIT, text: "[Unit]\n# watch\n" },
];

const QEMU: &str = "etc/libvirt/hooks/qemu.d/50-hybrid-hook";

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// A host that only remembers; its `fails`-th call that changes something fails.
#[derive(Default)]
struct Pretended {
    enabled: RefCell<Vec<String>>,
    active: RefCell<Vec<String>>,
    calls: RefCell<Vec<String>>,
    fails: std::cell::Cell<Option<usize>>,
    /// A unit whose conditions aren't met.
    idle: std::cell::Cell<&'static str>,
}

impl Pretended {
    fn call(&self, words: String) -> Result<()> {
        self.calls.borrow_mut().push(words.clone());
        if Some(self.calls.borrow().len()) == self.fails.get() {
            return Err(Fault::failed(format!("{words} failed")));
        }
        Ok(())
    }
    fn services(&self) -> (Vec<String>, Vec<String>) {
        (self.enabled.borrow().clone(), self.active.borrow().clone())
    }
}

impl Host for &Pretended {
    fn systemd(&self) -> bool {
        true
    }
    fn reload(&self, _: Deadline) -> Result<()> {
        self.call("reload".into())
    }
    fn command(&self, verb: Verb, unit: &str, _: Deadline) -> Result<()> {
        self.call(format!("{verb:?} {unit}"))?;
        let change = |list: &RefCell<Vec<String>>, there: bool| {
            list.borrow_mut().retain(|u| u != unit);
            if there {
                list.borrow_mut().push(unit.to_owned());
            }
        };
        match verb {
            Verb::Enable => change(&self.enabled, true),
            Verb::Disable => change(&self.enabled, false),
            Verb::Start | Verb::Restart => change(&self.active, self.idle.get() != unit),
            Verb::Stop => change(&self.active, false),
            Verb::ResetFailed => {}
        }
        Ok(())
    }
    fn is_enabled(&self, unit: &str, _: Deadline) -> Result<bool> {
        Ok(self.enabled.borrow().iter().any(|u| u == unit))
    }
    fn is_active(&self, unit: &str, _: Deadline) -> Result<bool> {
        Ok(self.active.borrow().iter().any(|u| u == unit))
    }
    fn daemons(&self) -> Vec<Daemon> {
        vec![Daemon { name: "libvirtd".into(), pid: 7, started: 0 }]
    }
    fn tell(&self, daemon: &Daemon, _: Deadline) -> Result<Told> {
        self.call(format!("tell {}", daemon.name)).map(|()| Told::Yes)
    }
}

/// A root with our executable and libvirt's folder, and what somebody else has there.
fn root() -> std::io::Result<tempfile::TempDir> {
    let root = tempfile::tempdir()?;
    fs::create_dir_all(root.path().join("usr/bin"))?;
    fs::create_dir_all(root.path().join("etc/libvirt/hooks"))?;
    let exe = root.path().join("usr/bin/hybrid-hook");
    fs::write(&exe, "")?;
    fs::set_permissions(&exe, fs::Permissions::from_mode(0o755))?;
    fs::write(root.path().join("etc/libvirt/hooks/qemu"), "#!/bin/sh\n# another tool's\n")?;
    Ok(root)
}

fn site<'a>(root: &'a Path, host: &'a Pretended) -> Site<'a> {
    Site {
        root,
        executable: "/usr/bin/hybrid-hook".into(),
        units: &UNITS,
        libvirt: Some(VersionNumber::new(9, 0, 0)),
        host: Box::new(host),
    }
}

fn old(mut site: Site<'_>) -> Site<'_> {
    site.libvirt = Some(VersionNumber::new(6, 4, 0));
    site
}

/// Everything below a folder: its mode and what is in it.
fn tree(root: &Path) -> std::io::Result<BTreeMap<PathBuf, String>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            let what = if meta.is_dir() {
                folders.push(path.clone());
                "folder".to_owned()
            } else if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path)?.display())
            } else {
                fs::read_to_string(&path)?
            };
            let name = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
            all.insert(name, format!("{:o} {what}", meta.mode() & 0o7777));
        }
    }
    Ok(all)
}

#[test]
fn uninstall_leaves_what_was_before_install() -> Outcome {
    let (root, host) = (root()?, Pretended::default());
    let before = tree(root.path())?;
    let report = steps::install(&site(root.path(), &host), soon())?;
    assert!(report.changed && report.notes.is_empty(), "{report:?}");
    let installed = tree(root.path())?;
    let at = |path: &str| installed.get(Path::new(path)).map(String::as_str);
    assert_eq!(at(QEMU), Some("777 -> /usr/bin/hybrid-hook"));
    assert_eq!(at("etc/libvirt/hooks/network.d/50-hybrid-hook"), Some("777 -> /usr/bin/hybrid-hook"));
    assert_eq!(at("etc/libvirt/hooks/qemu.d"), Some("755 folder"));
    assert_eq!(at("etc/systemd/system/hybrid-hook.service"), Some("644 [Unit]\n# watch\n"));
    assert_eq!(at("var/lib/hybrid-hook"), Some("700 folder"));
    assert_eq!(
        *host.calls.borrow(),
        [
            "reload",
            "Enable hybrid-hook-net.service",
            "Start hybrid-hook-net.service",
            "Enable hybrid-hook-ipam.socket",
            "Start hybrid-hook-ipam.socket",
            "Enable hybrid-hook.service",
            "Start hybrid-hook.service",
            "tell libvirtd"
        ]
    );
    host.calls.borrow_mut().clear();
    assert!(away::uninstall(&site(root.path(), &host), soon())?.changed);
    assert_eq!(tree(root.path())?, before);
    assert_eq!(host.services(), Default::default());
    assert_eq!(
        *host.calls.borrow(),
        [
            "Stop hybrid-hook.service",
            "ResetFailed hybrid-hook.service",
            "Disable hybrid-hook.service",
            "Stop hybrid-hook-ipam.socket",
            "ResetFailed hybrid-hook-ipam.socket",
            "Disable hybrid-hook-ipam.socket",
            "ResetFailed hybrid-hook-ipam.service",
            "Stop hybrid-hook-net.service",
            "ResetFailed hybrid-hook-net.service",
            "Disable hybrid-hook-net.service",
            "Stop hybrid-hook-dnsmasq@*.service",
            "Stop hybrid-hook-dhcp@*.service",
            "reload",
            "tell libvirtd"
        ]
    );
    let again = away::uninstall(&site(root.path(), &host), soon())?;
    assert!(!again.changed, "{again:?}");
    Ok(())
}

#[test]
fn twice_is_the_same_as_once() -> Outcome {
    let (root, host) = (root()?, Pretended::default());
    steps::install(&site(root.path(), &host), soon())?;
    let (installed, calls) = (tree(root.path())?, host.calls.borrow().len());
    let again = steps::install(&site(root.path(), &host), soon())?;
    assert!(!again.changed && again.done.is_empty(), "{again:?}");
    assert_eq!(tree(root.path())?, installed);
    assert_eq!(host.calls.borrow().len(), calls);
    let state = look(&site(root.path(), &host), soon())?;
    assert!(state.hooks_work(), "{state:?}");
    assert!(state.units.iter().all(|u| u.file == UnitStanding::Ours));
    Ok(())
}

#[test]
fn a_service_that_has_nothing_to_do_yet_is_no_change() -> Outcome {
    let (root, host) = (root()?, Pretended::default());
    host.idle.set(NET_UNIT);
    let report = steps::install(&site(root.path(), &host), soon())?;
    assert!(!report.done.contains(&format!("started {NET_UNIT}")), "{report:?}");
    assert!(!steps::install(&site(root.path(), &host), soon())?.changed);
    Ok(())
}

#[test]
fn whatever_fails_everything_is_as_before() -> Outcome {
    for fails in 1..=8 {
        let (root, host) = (root()?, Pretended { fails: Some(fails).into(), ..Pretended::default() });
        let before = tree(root.path())?;
        let fault = steps::install(&site(root.path(), &host), soon()).err();
        assert!(fault.is_some_and(|f| f.to_string().ends_with(" failed")), "call {fails}");
        assert_eq!(tree(root.path())?, before, "call {fails}");
        assert_eq!(host.services(), Default::default(), "call {fails}");
    }
    // A folder that can't be made, half-way.
    let (root, host) = (root()?, Pretended::default());
    fs::write(root.path().join("etc/systemd"), "not a folder")?;
    let before = tree(root.path())?;
    assert!(steps::install(&site(root.path(), &host), soon()).is_err());
    assert_eq!(tree(root.path())?, before);
    Ok(())
}

#[test]
fn a_failed_upgrade_keeps_what_was_installed() -> Outcome {
    let (root, host) = (root()?, Pretended::default());
    steps::install(&site(root.path(), &host), soon())?;
    let installed = tree(root.path())?;
    let newer = UNITS.map(|u| UnitFile { text: "[Unit]\n# newer\n", ..u });
    host.fails.set(Some(host.calls.borrow().len() + 1));
    let with_newer = |host| Site { units: &newer, ..site(root.path(), host) };
    assert!(steps::install(&with_newer(&host), soon()).is_err());
    assert_eq!(tree(root.path())?, installed);
    host.fails.set(None);
    let report = steps::install(&with_newer(&host), soon())?;
    assert!(report.done.iter().any(|line| line == "restarted hybrid-hook.service"), "{report:?}");
    assert!(!report.done.iter().any(|line| line.contains("started hybrid-hook-net")), "{report:?}");
    Ok(())
}

#[test]
fn another_tools_hook_is_never_touched() -> Outcome {
    let (root, host) = (root()?, Pretended::default());
    fs::create_dir(root.path().join("etc/libvirt/hooks/qemu.d"))?;
    fs::write(root.path().join(QEMU), "another tool's")?;
    let before = tree(root.path())?;
    let fault = steps::install(&site(root.path(), &host), soon()).err();
    assert_eq!(fault.map(|f| f.kind()), Some(Kind::Refused));
    // An old libvirt has one hook only, and it is taken.
    let fault = steps::install(&old(site(root.path(), &host)), soon()).err();
    let hint = fault.as_ref().and_then(Fault::hint_text).unwrap_or_default();
    assert!(hint.ends_with("/usr/bin/hybrid-hook hook qemu"), "{fault:?}");
    assert_eq!(tree(root.path())?, before);
    assert_eq!(
        look(&site(root.path(), &host), soon())?.hooks.first().map(|h| h.state),
        Some(HookStanding::Other)
    );
    Ok(())
}

#[test]
fn an_old_libvirt_gets_main_files_and_an_upgraded_one_loses_them() -> Outcome {
    let (root, host) = (root()?, Pretended::default());
    fs::remove_file(root.path().join("etc/libvirt/hooks/qemu"))?;
    let before = tree(root.path())?;
    steps::install(&old(site(root.path(), &host)), soon())?;
    assert_eq!(fs::read_link(root.path().join("etc/libvirt/hooks/qemu"))?, Path::new("/usr/bin/hybrid-hook"));
    assert!(!root.path().join("etc/libvirt/hooks/qemu.d").exists());
    steps::install(&site(root.path(), &host), soon())?;
    assert!(!root.path().join("etc/libvirt/hooks/qemu").exists());
    assert!(root.path().join(QEMU).is_symlink());
    away::uninstall(&site(root.path(), &host), soon())?;
    assert_eq!(tree(root.path())?, before);
    Ok(())
}

#[test]
fn only_from_where_libvirt_may_run_it() -> Outcome {
    let (root, host) = (root()?, Pretended::default());
    fs::create_dir_all(root.path().join("usr/local/bin"))?;
    fs::copy(root.path().join("usr/bin/hybrid-hook"), root.path().join("usr/local/bin/hybrid-hook"))?;
    let before = tree(root.path())?;
    let elsewhere = Site { executable: "/usr/local/bin/hybrid-hook".into(), ..site(root.path(), &host) };
    let fault = steps::install(&elsewhere, soon()).err();
    assert!(fault.is_some_and(|f| f.kind() == Kind::Refused && f.to_string().contains("AppArmor")));
    let gone = Site { executable: "/usr/bin/hybrid".into(), ..site(root.path(), &host) };
    assert_eq!(steps::install(&gone, soon()).err().map(|f| f.kind()), Some(Kind::Missing));
    assert_eq!(tree(root.path())?, before);
    Ok(())
}

#[test]
fn units_run_the_executable_where_it_is() -> Outcome {
    let (root, host) = (root()?, Pretended::default());
    fs::create_dir_all(root.path().join("usr/sbin"))?;
    fs::rename(root.path().join("usr/bin/hybrid-hook"), root.path().join("usr/sbin/hybrid-hook"))?;
    let units = [UnitFile { name: WATCH_UNIT, text: "ExecStart=/usr/bin/hybrid-hook watch\n" }];
    let site = Site { executable: "/usr/sbin/hybrid-hook".into(), units: &units, ..site(root.path(), &host) };
    steps::install(&site, soon())?;
    let text = fs::read_to_string(root.path().join("etc/systemd/system/hybrid-hook.service"))?;
    assert_eq!(text, "ExecStart=/usr/sbin/hybrid-hook watch\n");
    assert!(!steps::install(&site, soon())?.changed);
    Ok(())
}

#[test]
fn a_packages_or_a_persons_units_are_used_as_they_are() -> Outcome {
    let (root, host) = (root()?, Pretended::default());
    fs::create_dir_all(root.path().join("usr/lib/systemd/system"))?;
    fs::create_dir_all(root.path().join("etc/systemd/system"))?;
    fs::write(root.path().join("usr/lib/systemd/system/hybrid-hook.service"), "packaged")?;
    fs::write(root.path().join("etc/systemd/system/hybrid-hook-dnsmasq@.service"), "a person's")?;
    std::os::unix::fs::symlink("/dev/null", root.path().join("etc/systemd/system/hybrid-hook-net.service"))?;
    host.enabled.borrow_mut().push(WATCH_UNIT.into());
    let (before, services) = (tree(root.path())?, host.services());
    let report = steps::install(&site(root.path(), &host), soon())?;
    assert_eq!(report.notes.len(), 2, "{report:?}");
    assert_eq!(
        *host.calls.borrow(),
        [
            "reload",
            "Enable hybrid-hook-ipam.socket",
            "Start hybrid-hook-ipam.socket",
            "Start hybrid-hook.service",
            "tell libvirtd"
        ]
    );
    away::uninstall(&site(root.path(), &host), soon())?;
    assert_eq!((tree(root.path())?, host.services()), (before, services));
    Ok(())
}

#[test]
fn what_came_later_stays_and_a_lost_record_hides_nothing() -> Outcome {
    let (root, host) = (root()?, Pretended::default());
    steps::install(&site(root.path(), &host), soon())?;
    fs::write(root.path().join("etc/libvirt/hooks/qemu.d/10-other"), "")?;
    fs::create_dir_all(root.path().join("var/lib/hybrid-hook/networks"))?;
    fs::create_dir_all(root.path().join("etc/hybrid-hook/networks"))?;
    fs::write(root.path().join("etc/hybrid-hook/networks/lab.toml"), "")?;
    fs::remove_file(root.path().join("var/lib/hybrid-hook/install.json"))?;
    let report = away::uninstall(&site(root.path(), &host), soon())?;
    assert_eq!(
        report.notes,
        ["the file and the leases of network lab are kept: hybrid-hook network delete lab removes them"]
    );
    let left = tree(root.path())?;
    assert!(!left.keys().any(|p| p.to_string_lossy().contains("50-hybrid-hook")), "{left:?}");
    assert!(!left.keys().any(|p| p.extension().is_some_and(|e| e == "service" || e == "socket")), "{left:?}");
    assert!(left.contains_key(Path::new("etc/libvirt/hooks/qemu.d/10-other")));
    assert!(left.contains_key(Path::new("var/lib/hybrid-hook/networks")));
    assert_eq!(host.services(), Default::default());
    Ok(())
}

#[test]
fn an_uninstall_that_fails_goes_on_and_can_be_done_again() -> Outcome {
    let (root, host) = (root()?, Pretended::default());
    let before = tree(root.path())?;
    steps::install(&site(root.path(), &host), soon())?;
    host.fails.set(Some(host.calls.borrow().len() + 1));
    let fault = away::uninstall(&site(root.path(), &host), soon()).err();
    assert_eq!(fault.map(|f| f.to_string()).as_deref(), Some("Stop hybrid-hook.service failed"));
    assert!(!root.path().join(QEMU).exists());
    host.fails.set(None);
    away::uninstall(&site(root.path(), &host), soon())?;
    assert_eq!(tree(root.path())?, before);
    assert_eq!(host.services().0, Vec::<String>::new());
    Ok(())
}
