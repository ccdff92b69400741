//! What happens in libvirt, in words.

use serde::{Deserialize, Serialize};

use crate::model::{OwnerId, Uuid};

/// What happens in libvirt, as the helper's `events` prints it, one a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// From here on nothing is missed. What stood before is to be listed now.
    Ready {},
    /// The connection is lost: events may be missed until the next [`Event::Ready`].
    Gap {
        /// Why.
        reason: String,
    },
    /// Something happened to a domain.
    Domain {
        /// The domain's UUID.
        uuid: OwnerId,
        /// Its name.
        name: String,
        /// What happened.
        what: DomainChange,
        /// More of it, such as `destroyed`; a number where we know no word.
        detail: String,
    },
    /// Something happened to a network.
    Network {
        /// The network's UUID.
        uuid: Uuid,
        /// Its name.
        name: String,
        /// What happened.
        what: NetworkChange,
    },
}

/// What happened to a domain (virDomainEventType).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DomainChange {
    /// It was defined, new or again.
    Defined,
    /// Its definition is gone.
    Undefined,
    /// It runs.
    Started,
    /// It was paused.
    Suspended,
    /// It goes on.
    Resumed,
    /// It no longer runs.
    Stopped,
    /// Its guest has shut down; its process is still there.
    Shutdown,
    /// Its guest sleeps.
    PmSuspended,
    /// Its guest crashed.
    Crashed,
    /// Something that this version has no word for.
    Other,
}

/// What happened to a network (virNetworkEventLifecycleType).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkChange {
    /// It was defined, new or again.
    Defined,
    /// Its definition is gone.
    Undefined,
    /// It was started.
    Started,
    /// It was stopped.
    Stopped,
    /// Something that this version has no word for.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn events_are_one_line_each() -> Outcome {
        let event = Event::Domain {
            uuid: "c7a5fdbd-edaf-9455-926a-d65c16db1809".parse()?,
            name: "a\nb".into(),
            what: DomainChange::Undefined,
            detail: "removed".into(),
        };
        let text = serde_json::to_string(&event)?;
        assert_eq!(
            text,
            r#"{"event":"domain","uuid":"c7a5fdbd-edaf-9455-926a-d65c16db1809","name":"a\nb","what":"undefined","detail":"removed"}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&text)?, event);
        assert_eq!(serde_json::to_string(&Event::Ready {})?, r#"{"event":"ready"}"#);
        Ok(())
    }
}
