//! Docker, by its API: the network on our bridge, containers, their endpoints, events.
//!
//! Every call takes a [`Deadline`], because a call can hang for as long as dockerd does. Nothing here may be
//! called from a hook or while a lock that a hook takes is held: dockerd may be waiting for us.

mod containers;
mod endpoint;
mod events;
mod follow;
mod heal;
mod inside;
mod looks;
mod namespace;
mod network;
pub mod plugin;
mod room;
mod route;
mod spec;

use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error as ApiError;

use crate::deadline::Deadline;
use crate::host::wait::block_on;
use crate::model::{Fault, Kind, Result};

pub use containers::{Attachment, Container, Listing, NetworkMode};
pub use endpoint::{EndpointMade, Want};
pub use events::{ContainerChange, DockerEvent, NetworkChange, watch_events};
pub use namespace::inside as inside_namespace;
pub use network::{DockerNetwork, Endpoint};
pub use route::{DefaultRoute, RouteStep, change_default_routes, default_routes, steps_to_keep};
pub use spec::{LABEL, Pool};

/// Where Docker listens unless `DOCKER_HOST` says otherwise (docker(1)).
const SOCKET: &str = "/var/run/docker.sock";

/// The longest text of Docker's that is shown to a person.
const SHOWN: usize = 400;

/// A version of Docker's API, such as 1.41.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// Always 1 so far.
    pub major: u32,
    /// Counts up with Docker's releases: 41 in 20.10, 45 in 26.1, 48 in 28.0.
    pub minor: u32,
}

impl ApiVersion {
    /// Docker 25: the API has the MAC of an endpoint.
    pub const ENDPOINT_MAC: Self = Self { major: 1, minor: 44 };
    /// Docker 28: networks without IPv4, and `GwPriority` of an endpoint.
    pub const GATEWAY_PRIORITY: Self = Self { major: 1, minor: 48 };
    /// The newest that the library speaks.
    const NEWEST: Self = Self { major: 1, minor: 53 };

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Which Docker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The engine's own version, such as `20.10.24+dfsg1`; text from outside, cut.
    pub engine: String,
    /// The API that we speak with it.
    pub api: ApiVersion,
}

/// A dockerd that answered. Holds no connection open; each call makes its own.
#[derive(Debug, Clone)]
pub struct Docker {
    client: bollard::Docker,
    version: Version,
}

/// What dockerd said instead of doing it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Docker says: {words}")]
pub(crate) struct Said {
    /// The HTTP status.
    status: u16,
    /// Its words, on one line and cut.
    words: String,
}

impl Said {
    /// Whether it is about something else that is there: a name, a bridge, a subnet, an endpoint.
    fn is_conflict(&self) -> bool {
        self.status == 403 || self.status == 409
    }

    /// As a fault: 404 is missing, 403 and 409 are refusals.
    fn fault(self, what: &str) -> Fault {
        let kind = match self.status {
            404 => Kind::Missing,
            403 | 409 => Kind::Refused,
            _ => Kind::Failed,
        };
        Fault::new(kind, format!("cannot {what}")).because(self)
    }
}

impl Docker {
    /// Finds Docker and asks which it is.
    ///
    /// # Errors
    /// [`Kind::Missing`] when nothing listens or `DOCKER_HOST` names no unix socket; [`Kind::Failed`] when it
    /// does not answer in time or may not be asked.
    pub fn connect(deadline: Deadline) -> Result<Self> {
        let host = std::env::var("DOCKER_HOST").ok();
        Self::at(&socket_of(host.as_deref())?, deadline)
    }

    /// As [`Docker::connect`], at this socket.
    pub fn at(socket: &Path, deadline: Deadline) -> Result<Self> {
        let connect = |api: ApiVersion| {
            let version = bollard::ClientVersion {
                major_version: api.major as usize,
                minor_version: api.minor as usize,
            };
            // The deadline of each call is what ends it; the library's own limit only must not be shorter.
            let limit = Duration::from_secs(3600).as_secs();
            bollard::Docker::connect_with_unix(&socket.to_string_lossy(), limit, &version)
                .map_err(|e| unreachable_fault(socket, &e))
        };
        let client = connect(ApiVersion::NEWEST)?;
        let answer = block_on("Docker", deadline, async {
            client.version().await.map_err(|e| unreachable_fault(socket, &e))
        })
        .map_err(|f| hang_hint(f, deadline))?;
        let api = answer.api_version.as_deref().and_then(ApiVersion::parse).ok_or_else(|| {
            Fault::failed(format!("what answers at {} names no API version", socket.display()))
        })?;
        let api = api.min(ApiVersion::NEWEST);
        let engine = one_line(answer.version.as_deref().unwrap_or("unknown"), 64);
        Ok(Self { client: connect(api)?, version: Version { engine, api } })
    }

    /// Which Docker it is.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Makes one call: the outer error is "no answer", the inner one is Docker's no. `what` completes "cannot …".
    fn ask<T>(
        &self,
        what: &str,
        deadline: Deadline,
        call: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<Result<T, Said>> {
        block_on("Docker", deadline, async {
            match call.await {
                Ok(answer) => Ok(Ok(answer)),
                Err(ApiError::DockerResponseServerError { status_code, message }) => {
                    Ok(Err(Said { status: status_code, words: one_line(&message, SHOWN) }))
                }
                Err(error) => Err(Fault::failed(format!("cannot {what}")).because(error)),
            }
        })
        .map_err(|f| hang_hint(f, deadline))
    }

    /// As [`Docker::ask`], where Docker's no is a fault.
    fn call<T>(
        &self,
        what: &str,
        deadline: Deadline,
        call: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T> {
        self.ask(what, deadline, call)?.map_err(|said| said.fault(what))
    }
}

/// The socket that `DOCKER_HOST` names. Other transports are not for us: bridge and Docker are on one host.
fn socket_of(host: Option<&str>) -> Result<PathBuf> {
    match host.map(str::trim).filter(|h| !h.is_empty()) {
        None => Ok(SOCKET.into()),
        Some(host) => {
            let path = host.strip_prefix("unix://").unwrap_or(host);
            if path.starts_with('/') {
                return Ok(path.into());
            }
            Err(Fault::missing(format!("DOCKER_HOST is {:?}, which is no unix socket", one_line(host, 80)))
                .hint("unset DOCKER_HOST, or set it to unix:///var/run/docker.sock"))
        }
    }
}

/// Why nobody answered at the socket.
fn unreachable_fault(socket: &Path, error: &ApiError) -> Fault {
    let socket = socket.display();
    match io_kind(error) {
        Some(io::ErrorKind::NotFound) => Fault::missing(format!("Docker is not there: no socket {socket}"))
            .hint("systemctl start docker, or do without containers"),
        Some(io::ErrorKind::ConnectionRefused) => {
            Fault::missing(format!("Docker is not running: nobody listens at {socket}"))
                .hint("systemctl start docker")
        }
        Some(io::ErrorKind::PermissionDenied) => {
            Fault::failed(format!("may not open Docker's socket {socket}"))
                .hint("be root or in the group docker")
        }
        Some(io::ErrorKind::WouldBlock) => {
            Fault::failed(format!("Docker at {socket} accepts no more connections; it may hang"))
                .hint("systemctl status docker")
        }
        _ => Fault::failed(format!("cannot talk to Docker at {socket}: {}", one_line(&chain(error), SHOWN))),
    }
}

/// The kind of the IO error at the root of the library's error.
fn io_kind(error: &ApiError) -> Option<io::ErrorKind> {
    if let ApiError::SocketNotFoundError(_) = error {
        return Some(io::ErrorKind::NotFound);
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        cause = error.source();
    }
    None
}

fn chain(error: &ApiError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// Says what to look at when the deadline was what ended a call.
fn hang_hint(fault: Fault, deadline: Deadline) -> Fault {
    if deadline.passed() && fault.hint_text().is_none() {
        fault.hint("systemctl status docker")
    } else {
        fault
    }
}

/// Text from outside on one line, control characters as spaces, cut to `most` characters.
fn one_line(text: &str, most: usize) -> String {
    let mut line: String =
        text.trim().chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.trim().chars().nth(most).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    fn kind<T>(result: Result<T>) -> Option<(Kind, String)> {
        result.err().map(|f| (f.kind(), f.to_string()))
    }

    #[test]
    fn docker_host_names_a_unix_socket_or_is_refused() {
        let path = |h: Option<&str>| socket_of(h).map(|p| p.display().to_string()).ok();
        assert_eq!(path(None).as_deref(), Some(SOCKET));
        assert_eq!(path(Some("")).as_deref(), Some(SOCKET));
        assert_eq!(path(Some("unix:///run/d.sock")).as_deref(), Some("/run/d.sock"));
        assert_eq!(path(Some("/run/d.sock")).as_deref(), Some("/run/d.sock"));
        for bad in ["tcp://10.0.0.1:2375", "ssh://h", "npipe:////./x", "unix://x"] {
            assert_eq!(kind(socket_of(Some(bad))).map(|k| k.0), Some(Kind::Missing), "{bad}");
        }
    }

    #[test]
    fn versions_compare_as_numbers() {
        let v = |t| ApiVersion::parse(t);
        assert!(v("1.9") < v("1.41") && v("1.48") == Some(ApiVersion::GATEWAY_PRIORITY));
        for bad in ["", "1", "1.x", "v1.2", "1.2.3"] {
            assert_eq!(v(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_socket_and_nobody_behind_it_are_missing() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("d.sock");
        let soon = Deadline::after(Duration::from_secs(5));
        assert_eq!(kind(Docker::at(&path, soon)).map(|k| k.0), Some(Kind::Missing));
        drop(UnixListener::bind(&path)?);
        let (kind, text) = kind(Docker::at(&path, soon)).unwrap_or((Kind::Usage, String::new()));
        assert_eq!(kind, Kind::Missing, "{text}");
        assert!(text.contains("nobody listens"), "{text}");
        Ok(())
    }

    #[test]
    fn a_docker_that_hangs_fails_at_the_deadline() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("d.sock");
        let _listener = UnixListener::bind(&path)?;
        let start = std::time::Instant::now();
        let fault = Docker::at(&path, Deadline::after(Duration::from_millis(80))).err();
        assert_eq!(fault.as_ref().map(Fault::kind), Some(Kind::Failed));
        assert_eq!(fault.map(|f| f.to_string()).as_deref(), Some("Docker did not answer in time"));
        assert!(start.elapsed() < Duration::from_secs(3));
        Ok(())
    }

    /// Answers each request in turn with a status and a body; returns the request lines.
    pub(super) fn fake(
        listener: UnixListener,
        answers: Vec<(u16, String)>,
    ) -> std::thread::JoinHandle<io::Result<Vec<String>>> {
        std::thread::spawn(move || {
            let mut lines = Vec::new();
            for (status, body) in answers {
                let (mut stream, _) = listener.accept()?;
                let mut head = vec![0_u8; 65536];
                let n = stream.read(&mut head)?;
                head.truncate(n);
                lines.push(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned());
                let head = format!(
                    "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all(head.as_bytes())?;
                stream.write_all(body.as_bytes())?;
            }
            Ok(lines)
        })
    }

    #[test]
    fn the_version_is_asked_for_without_a_version_and_taken_over() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("d.sock");
        let server = fake(
            UnixListener::bind(&path)?,
            vec![(200, r#"{"Version":"20.10\n","ApiVersion":"1.41"}"#.into())],
        );
        let docker = Docker::at(&path, Deadline::after(Duration::from_secs(5)));
        let lines = server.join().map_err(|_| io::Error::other("server"))??;
        // An old Docker refuses a path with a version that it does not know.
        assert_eq!(lines, ["GET /version HTTP/1.1"]);
        let version = docker.map(|d| d.version().clone()).map_err(|f| io::Error::other(f.to_string()))?;
        assert_eq!((version.engine.as_str(), version.api), ("20.10", ApiVersion { major: 1, minor: 41 }));
        Ok(())
    }

    #[test]
    fn text_from_outside_stays_on_one_line_and_short() {
        assert_eq!(one_line(" a\nb\u{1b}[31m ", 80), "a b [31m");
        assert_eq!(one_line("abcdef", 3), "abc…");
    }
}
