//! libvirt, through the helper `hybrid-libvirt`.
//!
//! **NEVER FROM A HOOK.** libvirt holds the domain's lock while it waits for our hook; a call back
//! into libvirt, even a read, can freeze its whole driver (<https://libvirt.org/hooks.html>,
//! "Calling libvirt functions from within a hook script"). Nor from a child that a hook waits for,
//! nor while a lock is held that a hook takes.
//!
//! This side never links libvirt: about 55 shared objects would load at every hook call, and one
//! that can't be loaded would keep every VM from starting.

pub mod daemons;
pub mod event;
mod follow;
pub mod protocol;
mod version;

use std::path::{Path, PathBuf};

pub use event::{DomainChange, Event, NetworkChange};
pub use follow::Events;
pub use protocol::{Detached, Domain, DomainRef, DomainText, LibvirtNetwork, Version};
pub use version::VersionNumber;

use super::{Change, process};
use crate::deadline::Deadline;
use crate::model::{Fault, Network, Result};
use protocol::{Answer, Device, Request};

/// The variable that names the helper.
pub const HELPER_VARIABLE: &str = "HYBRID_LIBVIRT_HELPER";

/// Where packages put the helper.
const HELPER_PLACES: [&str; 2] =
    ["/usr/libexec/hybrid-hook/hybrid-libvirt", "/usr/lib/hybrid-hook/hybrid-libvirt"];

/// The way to libvirt. Cheap: each call runs the helper once.
///
/// **NEVER FROM A HOOK**, as the module says.
///
/// Every call fails with [`crate::model::Kind::Missing`] where the helper, libvirt's library or its
/// daemon is not there, and with [`crate::model::Kind::Failed`] when the deadline passes: libvirt
/// may still do what it was asked, so look before you ask again.
#[derive(Debug, Clone)]
pub struct Libvirt {
    helper: PathBuf,
    uri: Option<String>,
}

/// Where a change to a domain applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affects {
    /// To the running domain.
    pub live: bool,
    /// To its definition, from its next start.
    pub config: bool,
}

impl Libvirt {
    /// Finds the helper: `HYBRID_LIBVIRT_HELPER`, beside our own executable, in libexec.
    pub fn find() -> Result<Self> {
        let named = std::env::var_os(HELPER_VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
        let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name("hybrid-libvirt"));
        choose(named, beside.into_iter().chain(HELPER_PLACES.map(PathBuf::from)), &is_program).map(Self::with)
    }

    /// With this helper.
    #[must_use]
    pub fn with(helper: PathBuf) -> Self {
        Self { helper, uri: None }
    }

    /// To this connection instead of `LIBVIRT_DEFAULT_URI` or `qemu:///system`.
    #[must_use]
    pub fn connect(mut self, uri: impl Into<String>) -> Self {
        self.uri = Some(uri.into());
        self
    }

    /// Which libvirt there is. A daemon that does not answer is no error here.
    pub fn version(&self, deadline: Deadline) -> Result<Version> {
        match self.ask(&Request::Version {}, deadline)? {
            Answer::Version(version) => Ok(version),
            other => Err(unexpected(&other)),
        }
    }

    /// Every domain, defined or running; with `xml`, each one's XML.
    pub fn domains(&self, xml: bool, deadline: Deadline) -> Result<Vec<Domain>> {
        match self.ask(&Request::Domains { xml }, deadline)? {
            Answer::Domains(domains) => Ok(domains),
            other => Err(unexpected(&other)),
        }
    }

    /// One domain and its XML, passwords left out. `Missing` where there is none.
    pub fn domain(&self, domain: &DomainRef, deadline: Deadline) -> Result<DomainText> {
        self.domain_text(domain, false, deadline)
    }

    /// One domain and its XML with all that it needs to be defined again, passwords included: not
    /// for a log or a person's eyes.
    pub fn domain_to_edit(&self, domain: &DomainRef, deadline: Deadline) -> Result<DomainText> {
        self.domain_text(domain, true, deadline)
    }

    fn domain_text(&self, domain: &DomainRef, secrets: bool, deadline: Deadline) -> Result<DomainText> {
        match self.ask(&Request::Domain { domain: domain.clone(), secrets }, deadline)? {
            Answer::Domain(text) => Ok(text),
            other => Err(unexpected(&other)),
        }
    }

    /// Defines a domain. `replaces`: the `inactive` text of [`Libvirt::domain_to_edit`] that `xml`
    /// was made from; `Refused` when it changed since.
    pub fn define(&self, xml: &str, replaces: Option<&str>, deadline: Deadline) -> Result<Domain> {
        let request = Request::Define { xml: xml.to_owned(), replaces: replaces.map(ToOwned::to_owned) };
        match self.ask(&request, deadline)? {
            Answer::Defined(domain) => Ok(domain),
            other => Err(unexpected(&other)),
        }
    }

    /// Adds a device, `xml` being its element. A NIC of that MAC that is there already is left alone.
    pub fn attach(&self, domain: &DomainRef, xml: &str, to: Affects, deadline: Deadline) -> Result<Change> {
        changed(&self.ask(&Request::Attach(device(domain, xml, to)), deadline)?)
    }

    /// Removes a device; `xml` names it, a NIC by its MAC. One that is gone already is fine. A guest
    /// that does not let go takes 5 s: give it more.
    pub fn detach(
        &self,
        domain: &DomainRef,
        xml: &str,
        from: Affects,
        deadline: Deadline,
    ) -> Result<Detached> {
        match self.ask(&Request::Detach(device(domain, xml, from)), deadline)? {
            Answer::Detached(detached) => Ok(detached),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets our element in a domain's metadata, or removes it.
    pub fn set_metadata(
        &self,
        domain: &DomainRef,
        element: Option<&str>,
        to: Affects,
        deadline: Deadline,
    ) -> Result<()> {
        let request = Request::SetMetadata {
            domain: domain.clone(),
            element: element.map(ToOwned::to_owned),
            live: to.live,
            config: to.config,
        };
        done(&self.ask(&request, deadline)?)
    }

    /// Every libvirt network.
    pub fn networks(&self, deadline: Deadline) -> Result<Vec<LibvirtNetwork>> {
        match self.ask(&Request::Networks {}, deadline)? {
            Answer::Networks(networks) => Ok(networks),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes a network's libvirt side stand. `Refused` where somebody else's has the name, or where
    /// domains use ours as it was before a change of bridge or name.
    pub fn ensure_network(&self, network: &Network, deadline: Deadline) -> Result<Change> {
        let request = Request::EnsureNetwork {
            name: network.libvirt_network.clone(),
            uuid: network.libvirt_uuid(),
            bridge: network.bridge.clone(),
        };
        changed(&self.ask(&request, deadline)?)
    }

    /// Removes a network's libvirt side. `Refused` where the network of that name isn't ours, or,
    /// unless `force`, where domains use it.
    pub fn remove_network(&self, network: &Network, force: bool, deadline: Deadline) -> Result<Change> {
        let (name, uuid) = (network.libvirt_network.clone(), network.libvirt_uuid());
        changed(&self.ask(&Request::RemoveNetwork { name, uuid, force }, deadline)?)
    }

    /// Follows what happens, until what it returns is dropped. See [`Events`].
    pub fn events(&self, to: std::sync::mpsc::Sender<Event>) -> Result<Events> {
        Events::follow(self.clone(), to)
    }

    /// The arguments of every call.
    fn arguments(&self) -> Vec<&str> {
        self.uri.iter().flat_map(|uri| ["--connect", uri.as_str()]).collect()
    }

    fn ask(&self, request: &Request, deadline: Deadline) -> Result<Answer> {
        let input = serde_json::to_vec(request)
            .map_err(|e| Fault::failed("cannot write the request to hybrid-libvirt").because(e))?;
        let program = self.helper.to_str().ok_or_else(|| {
            Fault::missing(format!("the path of hybrid-libvirt is not UTF-8: {}", self.helper.display()))
        })?;
        let output = process::run(program, &self.arguments(), &input, deadline)?;
        understand(&output)
    }
}

fn device(domain: &DomainRef, xml: &str, affects: Affects) -> Device {
    Device { domain: domain.clone(), xml: xml.to_owned(), live: affects.live, config: affects.config }
}

fn done(answer: &Answer) -> Result<()> {
    match answer {
        Answer::Done {} => Ok(()),
        other => Err(unexpected(other)),
    }
}

fn changed(answer: &Answer) -> Result<Change> {
    match answer {
        Answer::Changed { changed: true } => Ok(Change::Made),
        Answer::Changed { changed: false } => Ok(Change::None),
        other => Err(unexpected(other)),
    }
}

fn unexpected(answer: &Answer) -> Fault {
    let text: String = format!("{answer:?}").chars().take(120).collect();
    Fault::failed(format!("hybrid-libvirt answered something else than was asked: {text}"))
        .hint("install hybrid-hook and hybrid-libvirt of one version")
}

/// What the helper's end means. The exit code repeats the answer's kind, so only the answer is read.
fn understand(output: &process::Output) -> Result<Answer> {
    if let Some(fault) = cannot_load(output.code) {
        return Err(fault);
    }
    match serde_json::from_slice(&output.stdout) {
        Ok(Answer::Error(problem)) => Err(problem.into()),
        Ok(answer) => Ok(answer),
        Err(_) => {
            let end = output.code.map_or_else(|| "a signal".to_owned(), |c| format!("exit code {c}"));
            let words = output.stderr.lines().next().unwrap_or("it said nothing");
            Err(Fault::failed(format!("hybrid-libvirt gave no answer: {end}, {words}"))
                .hint("install hybrid-hook and hybrid-libvirt of one version"))
        }
    }
}

/// 127 is the loader's (ld.so(8)): a shared object of the helper is not there.
fn cannot_load(code: Option<i32>) -> Option<Fault> {
    (code == Some(127)).then(|| {
        Fault::missing("libvirt's library is not installed")
            .hint("apt install libvirt0 (Debian, Ubuntu), dnf install libvirt-libs (Fedora)")
    })
}

/// The first of the places that is a program. One that was named is the only one.
fn choose(
    named: Option<PathBuf>,
    places: impl Iterator<Item = PathBuf>,
    is_program: &dyn Fn(&Path) -> bool,
) -> Result<PathBuf> {
    if let Some(named) = named {
        return if is_program(&named) {
            Ok(named)
        } else {
            Err(Fault::missing(format!("{HELPER_VARIABLE} names {}, which is no program", named.display())))
        };
    }
    let places: Vec<_> = places.collect();
    let looked: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
    places.into_iter().find(|p| is_program(p)).ok_or_else(|| {
        Fault::missing("hybrid-libvirt is not installed, and libvirt can't be asked without it")
            .hint(format!("install it as one of {}, or name it in {HELPER_VARIABLE}", looked.join(", ")))
    })
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn output(code: i32, stdout: &str) -> process::Output {
        process::Output { code: Some(code), stdout: stdout.into(), stderr: "cannot open".into() }
    }

    #[test]
    fn the_named_helper_is_the_only_one() {
        let places = || [PathBuf::from("/a/h"), PathBuf::from("/b/h")].into_iter();
        let only_b = |p: &Path| p.starts_with("/b");
        assert!(choose(None, places(), &only_b).is_ok_and(|p| p == Path::new("/b/h")));
        let error = choose(Some("/c/h".into()), places(), &only_b).err();
        assert_eq!(error.map(|e| e.kind()), Some(Kind::Missing));
        let error = choose(None, places(), &|_| false).err();
        assert!(error.is_some_and(|e| e.hint_text().is_some_and(|h| h.contains("/a/h, /b/h"))));
    }

    #[test]
    fn every_end_of_the_helper_is_understood() {
        assert_eq!(understand(&output(0, r#"{"done":{}}"#)).ok(), Some(Answer::Done {}));
        let error = |code, text: &str| understand(&output(code, text)).err();
        let refused = error(3, r#"{"error":{"kind":"refused","message":"m","hint":null}}"#);
        assert!(refused.is_some_and(|e| e.kind() == Kind::Refused && e.to_string() == "m"));
        let missing = error(127, "");
        assert!(missing.is_some_and(|e| e.kind() == Kind::Missing && e.hint_text().is_some()));
        let silent = error(101, "").map(|e| e.to_string());
        assert_eq!(silent.as_deref(), Some("hybrid-libvirt gave no answer: exit code 101, cannot open"));
        assert!(done(&Answer::Changed { changed: true }).is_err());
    }
}
