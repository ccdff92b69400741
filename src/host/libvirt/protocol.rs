//! What `hybrid-hook` and `hybrid-libvirt` say to each other: JSON, one request in, one answer out.
//!
//! Both are of one package and installed together, so there is one version of it: what a side does
//! not know, it refuses.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::VersionNumber;
use crate::model::{DockerName, Fault, InterfaceName, Kind, OwnerId, Uuid};

/// The namespace of our element in a domain's `<metadata>`.
pub const METADATA_NAMESPACE: &str = "urn:hybrid-hook:domain:1";

/// The prefix that libvirt gives our element.
pub const METADATA_KEY: &str = "hybrid";

/// The connection that is meant where neither `--connect` nor `LIBVIRT_DEFAULT_URI` names one.
pub const DEFAULT_URI: &str = "qemu:///system";

/// What is asked of the helper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Which libvirt this is. Answered without the daemon, too. Answer: [`Answer::Version`].
    Version {},
    /// Every domain. Answer: [`Answer::Domains`].
    Domains {
        /// Whether each one's XML is wanted: as it runs, or as it is defined where it doesn't.
        #[serde(default)]
        xml: bool,
    },
    /// One domain and its XML. Answer: [`Answer::Domain`].
    Domain {
        /// Which.
        domain: DomainRef,
        /// With passwords, which a domain that is defined again would lose; needs the right to write.
        secrets: bool,
    },
    /// Defines a domain, new or again. Answer: [`Answer::Defined`].
    Define {
        /// The domain's XML.
        xml: String,
        /// The XML (inactive, with secrets) that it was made from: refused when somebody changed it
        /// since, so that their change is not lost.
        replaces: Option<String>,
    },
    /// Adds a device; a NIC of that MAC that is there already is fine. Answer: [`Answer::Changed`].
    Attach(Device),
    /// Removes a device; a NIC that is gone already is fine. Answer: [`Answer::Detached`].
    Detach(Device),
    /// Sets or removes our element in a domain's metadata. Answer: [`Answer::Done`].
    SetMetadata {
        /// Which domain.
        domain: DomainRef,
        /// The element, with its namespace or without any; none removes it.
        element: Option<String>,
        /// In the running domain.
        live: bool,
        /// In its definition.
        config: bool,
    },
    /// Every network. Answer: [`Answer::Networks`].
    Networks {},
    /// Makes a network for a bridge of ours stand: defined, started, autostarted. Answer: [`Answer::Changed`].
    EnsureNetwork {
        /// Its name with libvirt.
        name: DockerName,
        /// Its UUID, by which it is ours.
        uuid: Uuid,
        /// The bridge.
        bridge: InterfaceName,
    },
    /// Removes a network of ours; one that is gone already is fine. Answer: [`Answer::Changed`].
    RemoveNetwork {
        /// Its name with libvirt.
        name: DockerName,
        /// Its UUID, by which it is ours.
        uuid: Uuid,
        /// Although domains use it.
        force: bool,
    },
}

/// A device to add or to remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Which domain.
    pub domain: DomainRef,
    /// The device's XML.
    pub xml: String,
    /// In the running domain.
    pub live: bool,
    /// In its definition.
    pub config: bool,
}

/// How a domain is named in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DomainRef {
    /// By its name.
    Name(String),
    /// By its UUID.
    Uuid(OwnerId),
}

impl DomainRef {
    /// What a person means: a UUID where it is written as one with its hyphens, else a name.
    #[must_use]
    pub fn from_words(words: &str) -> Self {
        match words.parse() {
            Ok(uuid) if words.len() == 36 => Self::Uuid(uuid),
            _ => Self::Name(words.to_owned()),
        }
    }
}

impl fmt::Display for DomainRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Escaped: a domain's name can hold anything.
            Self::Name(name) => write!(f, "{name:?}"),
            Self::Uuid(uuid) => write!(f, "{uuid}"),
        }
    }
}

/// What the helper answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// To [`Request::Version`].
    Version(Version),
    /// To [`Request::Domains`].
    Domains(Vec<Domain>),
    /// To [`Request::Domain`].
    Domain(DomainText),
    /// To [`Request::Define`].
    Defined(Domain),
    /// It was done.
    Done {},
    /// To [`Request::Detach`].
    Detached(Detached),
    /// To [`Request::Networks`].
    Networks(Vec<LibvirtNetwork>),
    /// To what makes something stand or go.
    Changed {
        /// Whether anything was touched.
        changed: bool,
    },
    /// It failed.
    Error(Problem),
}

/// What came of removing a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detached {
    /// Whether it was there.
    pub changed: bool,
    /// The running guest has not let go of it yet; it goes when the guest does.
    pub pending: bool,
}

/// Which libvirt there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// The library that the helper linked.
    pub library: VersionNumber,
    /// The daemon, where it answers.
    pub daemon: Option<VersionNumber>,
    /// Why the daemon does not answer.
    pub unreachable: Option<String>,
    /// The connection.
    pub uri: String,
}

/// A domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// Its UUID: the owner of its leases.
    pub uuid: OwnerId,
    /// Its name.
    pub name: String,
    /// Its id while it runs.
    pub id: Option<u32>,
    /// Whether it has a process: it may be paused.
    pub running: bool,
    /// Whether it sleeps in a file and its next start restores it.
    pub managed_save: bool,
    /// Whether it is defined: it stays when it stops.
    pub persistent: bool,
    /// Whether it starts with the host.
    pub autostart: bool,
    /// Its XML where it was asked for, without secrets.
    pub xml: Option<String>,
}

/// A domain with its XML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainText {
    /// The domain.
    pub domain: Domain,
    /// As it is defined; none for a transient one.
    pub inactive: Option<String>,
    /// As it runs; none for one that doesn't.
    pub live: Option<String>,
}

/// A libvirt network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LibvirtNetwork {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// Whether it is started.
    pub active: bool,
    /// Whether it starts with the daemon.
    pub autostart: bool,
    /// Whether it is defined: it stays when it stops.
    pub persistent: bool,
    /// How it forwards: `nat`, `route`, `bridge`, …; none for an isolated one.
    pub forward: Option<String>,
    /// Its bridge, if it has one.
    pub bridge: Option<String>,
    /// The subnets of its `<ip>` elements.
    pub subnets: Vec<IpNet>,
    /// Its XML, as it runs, or as it is defined where it doesn't.
    pub xml: String,
}

/// A [`Fault`] on its way through JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// Its kind.
    pub kind: ProblemKind,
    /// What failed, on what, why; the failures of a clean-up follow, after `; `.
    pub message: String,
    /// What the person can do next.
    pub hint: Option<String>,
}

/// The kinds of [`Kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// [`Kind::Failed`].
    Failed,
    /// [`Kind::Usage`].
    Usage,
    /// [`Kind::Refused`].
    Refused,
    /// [`Kind::Missing`].
    Missing,
}

impl From<&Fault> for Problem {
    fn from(fault: &Fault) -> Self {
        let kind = match fault.kind() {
            Kind::Failed => ProblemKind::Failed,
            Kind::Usage => ProblemKind::Usage,
            Kind::Refused => ProblemKind::Refused,
            Kind::Missing => ProblemKind::Missing,
        };
        Self { kind, message: fault.on_one_line(), hint: fault.hint_text().map(ToOwned::to_owned) }
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        let kind = match problem.kind {
            ProblemKind::Failed => Kind::Failed,
            ProblemKind::Usage => Kind::Usage,
            ProblemKind::Refused => Kind::Refused,
            ProblemKind::Missing => Kind::Missing,
        };
        let fault = Self::new(kind, problem.message);
        match problem.hint {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn requests_have_one_form_and_unknown_fields_are_refused() -> Outcome {
        let ask = Request::EnsureNetwork {
            name: "hybrid-net".parse()?,
            uuid: "2404765c-db90-8c00-ac65-7d3d78677cc4".parse()?,
            bridge: "hybr0".parse()?,
        };
        let text = serde_json::to_string(&ask)?;
        assert_eq!(
            text,
            r#"{"ensure_network":{"name":"hybrid-net","uuid":"2404765c-db90-8c00-ac65-7d3d78677cc4","bridge":"hybr0"}}"#
        );
        assert_eq!(serde_json::from_str::<Request>(&text)?, ask);
        for bad in [
            r#"{"version":{"x":1}}"#,
            r#"{"reboot":{}}"#,
            r#"{"domain":{"domain":{"name":"a","uuid":"b"},"secrets":false}}"#,
            r#"{"ensure_network":{"name":"../x","uuid":"2404765c-db90-8c00-ac65-7d3d78677cc4","bridge":"hybr0"}}"#,
        ] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
        Ok(())
    }

    #[test]
    fn a_fault_keeps_kind_and_hint_on_its_way() {
        let fault = Fault::refused("no").hint("try").and(Fault::failed("nor that"));
        let back = Fault::from(Problem::from(&fault));
        assert_eq!(back.kind(), Kind::Refused);
        assert_eq!((back.to_string().as_str(), back.hint_text()), ("no; nor that", Some("try")));
    }

    #[test]
    fn a_person_names_a_domain_by_uuid_or_name() {
        let uuid = "C7A5FDBD-EDAF-9455-926A-D65C16DB1809";
        assert!(matches!(DomainRef::from_words(uuid), DomainRef::Uuid(_)));
        assert_eq!(DomainRef::from_words("db"), DomainRef::Name("db".into()));
        // A name may look like a hash.
        assert!(matches!(DomainRef::from_words(&"ab".repeat(32)), DomainRef::Name(_)));
    }
}
