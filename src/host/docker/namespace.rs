//! Something done from inside a container's network namespace.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::linux::fs::MetadataExt as _;
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::deadline::Deadline;
use crate::model::{Fault, Result};

/// Does `work` in the network namespace that process `pid` is in.
///
/// # Errors
/// Missing when the process is gone. Refused when it is in our own namespace: what is there is the host's.
/// Else the work's own, and the deadline.
pub fn inside<T: Send + 'static>(
    pid: u32,
    deadline: Deadline,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let what = || format!("cannot enter the network namespace of process {pid}");
    let namespace = File::open(format!("/proc/{pid}/ns/net")).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Fault::missing(format!("process {pid} is gone")),
        _ => Fault::failed(what()).because(e),
    })?;
    let (sender, receiver) = channel();
    // A thread of its own, because setns(2) moves the whole thread, and it is not to come back.
    std::thread::Builder::new()
        .name("netns".to_owned())
        .spawn(move || {
            let _ = sender.send(enter(&namespace).and_then(|()| work()));
        })
        .map_err(|e| Fault::failed("cannot start a thread").because(e))?;
    match receiver.recv_timeout(deadline.left().max(Duration::from_millis(1))) {
        Ok(done) => done,
        Err(_) => Err(Fault::failed(format!("{}: there was no answer in time", what()))),
    }
}

fn enter(namespace: &File) -> Result<()> {
    let fault = |e: std::io::Error| Fault::failed("setns failed").because(e);
    let own = std::fs::metadata("/proc/thread-self/ns/net").map_err(fault)?;
    let its = namespace.metadata().map_err(fault)?;
    if (own.st_dev(), own.st_ino()) == (its.st_dev(), its.st_ino()) {
        return Err(Fault::refused("it is in the host's own network namespace"));
    }
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|e| fault(e.into()))
}
