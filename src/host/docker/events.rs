//! What happens in Docker, as it happens.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::{EventMessage, EventMessageTypeEnum as Type};
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;

use super::{Docker, one_line};
use crate::deadline::Deadline;
use crate::model::{Fault, OwnerId, Result};

/// How often a watcher looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(200);

/// The longest pause between two tries to reach Docker again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long Docker may take to say who it is before it counts as away.
const ANSWER: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerEvent {
    /// Docker was reached, for the first time or again: events may have been missed, list everything.
    Gap,
    /// Something about a container.
    Container {
        /// Which.
        id: OwnerId,
        /// Its name, as Docker says it.
        name: String,
        /// What.
        change: ContainerChange,
    },
    /// Something about a network.
    Network {
        /// Its id.
        id: String,
        /// Its name, as Docker says it.
        name: String,
        /// What.
        change: NetworkChange,
    },
}

/// What happened to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerChange {
    /// It started: its networks are set up.
    Started,
    /// Its process ended.
    Died,
    /// It has another name.
    Renamed,
    /// It was removed.
    Destroyed,
}

/// What happened to a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkChange {
    /// It was made.
    Created,
    /// A container was connected, by its start or by a call; `None` when Docker did not say which.
    Connected(Option<OwnerId>),
    /// A container left it.
    Disconnected(Option<OwnerId>),
    /// It was removed.
    Destroyed,
}

/// Watches on a thread of its own until `stop` is set or nobody receives any more. Docker being away is no error:
/// it is tried again, at most 5 s apart, and [`DockerEvent::Gap`] is sent each time it is there.
///
/// # Errors
/// Only that no thread can be started.
pub fn watch_events(sender: Sender<DockerEvent>, stop: Arc<AtomicBool>) -> Result<JoinHandle<()>> {
    watch(Box::new(Docker::connect), sender, stop)
}

type Connect = Box<dyn Fn(Deadline) -> Result<Docker> + Send>;

fn watch(connect: Connect, sender: Sender<DockerEvent>, stop: Arc<AtomicBool>) -> Result<JoinHandle<()>> {
    let run = move || {
        let mut pause = GLANCE;
        while !stop.load(Ordering::Relaxed) {
            if let Ok(docker) = connect(Deadline::after(ANSWER)) {
                let start = std::time::Instant::now();
                match docker.follow(&sender, &stop) {
                    Ended::Over => return,
                    // A stream that held for a while was a good one.
                    Ended::Lost if start.elapsed() > LONGEST_PAUSE => pause = GLANCE,
                    Ended::Lost => {}
                }
            }
            let until = Deadline::after(pause);
            while !until.passed() && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(GLANCE.min(until.left()));
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    };
    std::thread::Builder::new()
        .name("docker-events".to_owned())
        .spawn(run)
        .map_err(|e| Fault::failed("cannot start a thread").because(e))
}

enum Ended {
    /// Told to stop, or nobody listens.
    Over,
    /// Docker went away.
    Lost,
}

impl Docker {
    /// Follows one stream to its end.
    fn follow(&self, sender: &Sender<DockerEvent>, stop: &AtomicBool) -> Ended {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return Ended::Lost;
        };
        // From a second ago: dockerd keeps the last events, so that nothing falls between the receiver's look at
        // everything, after the gap, and the stream's start. An event told twice does no harm.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let filters = HashMap::from([
            ("type".to_owned(), list(&["container", "network"])),
            (
                "event".to_owned(),
                list(&["start", "die", "rename", "destroy", "create", "connect", "disconnect"]),
            ),
        ]);
        let options = EventsOptionsBuilder::default()
            .since(&now.saturating_sub(1).to_string())
            .filters(&filters)
            .build();
        runtime.block_on(async {
            let mut stream = std::pin::pin!(self.client.events(Some(options)));
            if sender.send(DockerEvent::Gap).is_err() {
                return Ended::Over;
            }
            loop {
                if stop.load(Ordering::Relaxed) {
                    return Ended::Over;
                }
                match tokio::time::timeout(GLANCE, stream.next()).await {
                    Err(_) => {}
                    Ok(Some(Ok(message))) => {
                        if let Some(event) = read(&message)
                            && sender.send(event).is_err()
                        {
                            return Ended::Over;
                        }
                    }
                    Ok(Some(Err(_)) | None) => return Ended::Lost,
                }
            }
        })
    }
}

/// The event that a message tells of; `None` for those that are nothing to us, or make no sense.
fn read(message: &EventMessage) -> Option<DockerEvent> {
    let actor = message.actor.as_ref()?;
    let id = actor.id.as_deref()?;
    let attribute = |key: &str| actor.attributes.as_ref().and_then(|a| a.get(key)).map(String::as_str);
    let name = one_line(attribute("name").unwrap_or_default(), 128);
    let action = message.action.as_deref()?;
    match message.typ? {
        Type::CONTAINER => {
            let change = match action {
                "start" => ContainerChange::Started,
                "die" => ContainerChange::Died,
                "rename" => ContainerChange::Renamed,
                "destroy" => ContainerChange::Destroyed,
                _ => return None,
            };
            let id = id.parse().ok().filter(OwnerId::is_container)?;
            Some(DockerEvent::Container { id, name, change })
        }
        Type::NETWORK => {
            let container =
                || attribute("container").and_then(|c| c.parse().ok()).filter(OwnerId::is_container);
            let change = match action {
                "create" => NetworkChange::Created,
                "connect" => NetworkChange::Connected(container()),
                "disconnect" => NetworkChange::Disconnected(container()),
                "destroy" => NetworkChange::Destroyed,
                _ => return None,
            };
            Some(DockerEvent::Network { id: one_line(id, 64), name, change })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::os::unix::net::UnixListener;

    #[test]
    fn messages_become_events_and_nonsense_none() -> Result<(), serde_json::Error> {
        let id = "ab".repeat(32);
        let event = |typ: &str, action: &str, id: &str, more: &str| {
            let json = format!(
                r#"{{"Type":"{typ}","Action":"{action}","Actor":{{"ID":"{id}","Attributes":{{"name":"w\ne"{more}}}}}}}"#
            );
            serde_json::from_str::<EventMessage>(&json).map(|m| read(&m))
        };
        let Some(DockerEvent::Container { name, change, .. }) = event("container", "start", &id, "")? else {
            return Err(serde::de::Error::custom("no container event"));
        };
        assert_eq!((name.as_str(), change), ("w e", ContainerChange::Started));
        let with = format!(r#","container":"{id}""#);
        let connected = event("network", "connect", "n1", &with)?;
        assert!(matches!(
            connected,
            Some(DockerEvent::Network { change: NetworkChange::Connected(Some(c)), .. }) if c.as_str() == id
        ));
        assert_eq!(event("container", "start", "../x", "")?, None);
        assert_eq!(event("container", "exec_die", &id, "")?, None);
        assert_eq!(event("image", "start", &id, "")?, None);
        assert_eq!(read(&EventMessage::default()), None);
        Ok(())
    }

    #[test]
    fn a_gap_is_told_at_each_return_of_docker_and_stop_ends_it() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("d.sock");
        let listener = UnixListener::bind(&path)?;
        let id = "cd".repeat(32);
        let message = format!(
            r#"{{"Type":"container","Action":"die","Actor":{{"ID":"{id}","Attributes":{{"name":"web"}}}}}}"#
        );
        // Each round: the version, then a stream of one event that ends.
        let version = r#"{"Version":"x","ApiVersion":"1.41"}"#.to_owned();
        let _server = std::thread::spawn(move || {
            loop {
                let server = super::super::tests::fake(listener.try_clone()?, vec![(200, version.clone())]);
                server.join().map_err(|_| io::Error::other("server"))??;
                let (mut stream, _) = listener.accept()?;
                let mut head = [0_u8; 4096];
                let _ = io::Read::read(&mut stream, &mut head)?;
                let body = format!("{message}\n");
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{body}")?;
            }
            #[allow(unreachable_code, reason = "the closure's type")]
            io::Result::Ok(())
        });
        let (sender, receiver) = std::sync::mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let at = path.clone();
        let connect: Connect = Box::new(move |deadline| Docker::at(&at, deadline));
        let watcher = watch(connect, sender, stop.clone()).map_err(|f| io::Error::other(f.to_string()))?;
        let next = || receiver.recv_timeout(Duration::from_secs(10)).map_err(io::Error::other);
        for _ in 0..2 {
            assert_eq!(next()?, DockerEvent::Gap);
            assert!(matches!(next()?, DockerEvent::Container { change: ContainerChange::Died, .. }));
        }
        stop.store(true, Ordering::Relaxed);
        watcher.join().map_err(|_| io::Error::other("the watcher panicked"))
    }
}
