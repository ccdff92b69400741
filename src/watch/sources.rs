//! What the service listens to: signals, the wake socket, Docker, libvirt, the kernel.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::host::docker::{self, DockerEvent, NetworkChange};
use crate::host::libvirt::{DomainChange, Event, Events, Libvirt};
use crate::model::{Fault, Result};
use crate::ops::Context;
use crate::registry::durable::io_fault;

/// What is to be looked at, and why matters no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The registry changed.
    Wake,
    /// A container came, went or changed.
    Containers,
    /// A bridge got a carrier or lost it.
    HostNames,
    /// A domain stopped or was undefined.
    Domains,
    /// Anything may have changed: events were missed, or a daemon is back.
    Everything,
    /// The service is to end.
    Stop,
}

/// Starts every source. What is returned keeps them alive.
pub(super) fn start(
    context: &Context,
    news: &Sender<News>,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<Box<dyn std::any::Any>>> {
    signals(news.clone())?;
    wake_socket(context, news.clone())?;
    let mut alive: Vec<Box<dyn std::any::Any>> = Vec::new();
    super::links::follow(context, news.clone())?;
    docker_events(news.clone(), stop)?;
    if let Some(events) = libvirt_events(news.clone(), stop)? {
        alive.push(Box::new(events));
    }
    Ok(alive)
}

pub(super) fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map(drop).map_err(|e| Fault::failed(format!("cannot start the thread {name}")).because(e))
}

fn signals(news: Sender<News>) -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|e| Fault::failed("cannot listen to signals").because(e))?;
    thread("signals", move || {
        for signal in signals.forever() {
            let heard = if signal == SIGHUP { News::Everything } else { News::Stop };
            if news.send(heard).is_err() {
                return;
            }
        }
    })
}

fn wake_socket(context: &Context, news: Sender<News>) -> Result<()> {
    let path = context.places.wake_socket();
    // We hold the lock of the only service: what is there is left from one that is gone.
    let _ = std::fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).map_err(|e| io_fault("listen on", &path, e))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .map_err(|e| io_fault("set the permissions of", &path, e))?;
    thread("wake", move || {
        let mut buffer = [0; 16];
        while socket.recv(&mut buffer).is_ok() {
            if news.send(News::Wake).is_err() {
                return;
            }
        }
    })
}

fn docker_events(news: Sender<News>, stop: &Arc<AtomicBool>) -> Result<()> {
    let (sender, events) = channel();
    docker::watch_events(sender, Arc::clone(stop))?;
    thread("docker-news", move || {
        for event in events {
            let heard = match event {
                DockerEvent::Gap
                | DockerEvent::Network {
                    change: NetworkChange::Created | NetworkChange::Destroyed, ..
                } => News::Everything,
                DockerEvent::Network { .. } | DockerEvent::Container { .. } => News::Containers,
            };
            if news.send(heard).is_err() {
                return;
            }
        }
    })
}

/// `None` where there is no helper: libvirt is asked every minute all the same, should it come.
fn libvirt_events(news: Sender<News>, stop: &Arc<AtomicBool>) -> Result<Option<Events>> {
    let (sender, events) = channel();
    let following = match Libvirt::find().and_then(|l| l.events(sender)) {
        Ok(following) => following,
        Err(fault) => {
            log::warn!("libvirt's events are not followed: {fault}");
            return Ok(None);
        }
    };
    let stop = Arc::clone(stop);
    thread("libvirt-news", move || {
        for event in events {
            let heard = match event {
                Event::Ready {} => News::Everything,
                Event::Network { .. } => News::Everything,
                Event::Domain { what: DomainChange::Undefined | DomainChange::Stopped, .. } => News::Domains,
                Event::Domain { .. } | Event::Gap { .. } => continue,
            };
            if stop.load(Ordering::Relaxed) || news.send(heard).is_err() {
                return;
            }
            // A hundred domains undefined at once are one look.
            std::thread::sleep(Duration::from_millis(20));
        }
    })?;
    Ok(Some(following))
}
