//! Where hooks go and from where they may run. Pure.

use std::path::{Path, PathBuf};

use crate::host::libvirt::VersionNumber;
use crate::model::{Fault, Result};

/// libvirt's folder of hooks.
pub const HOOKS: &str = "/etc/libvirt/hooks";

/// The name of our entry in `qemu.d` and `network.d`; they run in the order of their names.
pub const ENTRY: &str = "50-hybrid-hook";

/// The hooks that we have.
pub const KINDS: [&str; 2] = ["qemu", "network"];

/// The first libvirt that reads `qemu.d` and `network.d` (its news of 6.5.0).
const FIRST_WITH_FOLDERS: VersionNumber = VersionNumber { major: 6, minor: 5, release: 0 };

/// How libvirt finds our hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As entries in `qemu.d` and `network.d`, beside everybody else's.
    Folders,
    /// As the one main file of each kind: before 6.5.
    MainFiles,
}

impl Style {
    /// The style that a libvirt needs; a libvirt that isn't there yet will be a new one.
    #[must_use]
    pub fn of(version: Option<VersionNumber>) -> Self {
        if version.is_some_and(|v| v < FIRST_WITH_FOLDERS) { Self::MainFiles } else { Self::Folders }
    }

    /// Our hook's path, on the host.
    #[must_use]
    pub fn hook(self, kind: &str) -> PathBuf {
        match self {
            Self::Folders => Path::new(HOOKS).join(format!("{kind}.d")).join(ENTRY),
            Self::MainFiles => Path::new(HOOKS).join(kind),
        }
    }
}

/// Why libvirt can't run our executable from its place, if it can't.
///
/// Debian's and Ubuntu's AppArmor profile (`/etc/apparmor.d/usr.sbin.libvirtd`) lets libvirt run what
/// is directly in `/usr/bin` or `/usr/sbin`, and what is in its folder of hooks. From elsewhere a hook
/// ends with 126, and no VM starts. So the rule holds everywhere, also where AppArmor is off today.
#[must_use]
pub fn unsafe_place(executable: &Path) -> Option<String> {
    let parent = executable.parent();
    let allowed = ["/usr/bin", "/usr/sbin"].iter().any(|folder| parent == Some(Path::new(folder)))
        || executable.starts_with(HOOKS);
    (!allowed).then(|| {
        format!(
            "AppArmor lets libvirt run hooks from /usr/bin, /usr/sbin and {HOOKS} only; from {} no VM would start",
            executable.display()
        )
    })
}

/// Refuses an executable in the wrong place, or one that others may replace: libvirt runs it as root.
pub fn check_executable(executable: &Path, mode: u32) -> Result<()> {
    if let Some(why) = unsafe_place(executable) {
        let name = executable.file_name().unwrap_or_default().to_string_lossy();
        return Err(Fault::refused(why)
            .hint(format!("install -m 755 {} /usr/bin/ && /usr/bin/{name} install", executable.display())));
    }
    if mode & 0o022 != 0 {
        return Err(Fault::refused(format!(
            "others than its owner may write {}, which libvirt would run as root",
            executable.display()
        ))
        .hint(format!("chmod go-w {}", executable.display())));
    }
    Ok(())
}

/// What stands where our hook goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Absent,
    /// A link to our executable.
    Ours,
    /// A link to our executable where it was before.
    Moved(PathBuf),
    /// Another's.
    Other,
}

/// Which of them it is; `link`: the link's target, if it is a link at all.
#[must_use]
pub fn standing(exists: bool, link: Option<&Path>, executable: &Path) -> Standing {
    match (exists, link) {
        (false, _) => Standing::Absent,
        (true, Some(target)) if target == executable => Standing::Ours,
        (true, Some(target)) if target.file_name() == executable.file_name() => {
            Standing::Moved(target.to_owned())
        }
        (true, _) => Standing::Other,
    }
}

/// The refusal to take another tool's place.
#[must_use]
pub fn taken(hook: &Path, kind: &str, style: Style, executable: &Path) -> Fault {
    let fault = Fault::refused(format!("{} is another tool's hook, which is left alone", hook.display()));
    match style {
        Style::MainFiles => fault.hint(format!(
            "this libvirt runs one hook only: have that one run, with its own arguments and input, {} hook {kind}",
            executable.display()
        )),
        Style::Folders => fault.hint("rename or remove it, and install again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_libvirts_have_one_hook_of_a_kind() {
        let hook = |version: Option<(u32, u32)>| {
            let version = version.map(|(major, minor)| VersionNumber::new(major, minor, 0));
            Style::of(version).hook("qemu").display().to_string()
        };
        assert_eq!(hook(Some((6, 4))), "/etc/libvirt/hooks/qemu");
        assert_eq!(hook(Some((6, 5))), "/etc/libvirt/hooks/qemu.d/50-hybrid-hook");
        assert_eq!(hook(Some((11, 3))), "/etc/libvirt/hooks/qemu.d/50-hybrid-hook");
        assert_eq!(hook(None), "/etc/libvirt/hooks/qemu.d/50-hybrid-hook");
    }

    #[test]
    fn only_places_that_apparmor_allows() {
        for good in ["/usr/bin/hybrid-hook", "/usr/sbin/hybrid-hook", "/etc/libvirt/hooks/bin/hybrid-hook"] {
            assert_eq!(unsafe_place(Path::new(good)), None, "{good}");
        }
        for bad in
            ["/usr/local/bin/hybrid-hook", "/usr/bin/x/hybrid-hook", "/root/hybrid-hook", "/bin/hybrid-hook"]
        {
            assert!(unsafe_place(Path::new(bad)).is_some(), "{bad}");
        }
        let error =
            |mode| check_executable(Path::new("/usr/bin/hybrid-hook"), mode).err().map(|e| e.to_string());
        assert_eq!(error(0o755), None);
        assert!(error(0o775).is_some_and(|e| e.contains("as root")));
    }

    #[test]
    fn ours_is_told_from_others() {
        let exe = Path::new("/usr/bin/hybrid-hook");
        let stands = |exists, link: Option<&str>| standing(exists, link.map(Path::new), exe);
        assert_eq!(stands(false, None), Standing::Absent);
        assert_eq!(stands(true, None), Standing::Other);
        assert_eq!(stands(true, Some("/usr/bin/hybrid-hook")), Standing::Ours);
        assert_eq!(
            stands(true, Some("/usr/sbin/hybrid-hook")),
            Standing::Moved("/usr/sbin/hybrid-hook".into())
        );
        assert_eq!(stands(true, Some("/opt/other")), Standing::Other);
    }
}
