//! What happens to devices and addresses, as the kernel tells it (rtnetlink(7), multicast groups).

use std::sync::mpsc::Sender;
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::decode;
use crate::model::{Fault, Result};

/// After a socket that failed, so long until the next.
const PAUSE: Duration = Duration::from_secs(1);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// Listening began, or began again: what happened before is not known.
    Gap,
    /// A device came, went or changed.
    Device {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
        /// The index of the bridge that it is on.
        master: Option<u32>,
        /// Whether it carries frames.
        carrier: bool,
    },
    /// A device is no longer a port of a bridge. It may be about to go itself.
    PortLeft {
        /// Its index.
        index: u32,
        /// The bridge's index.
        bridge: Option<u32>,
    },
    /// A device lost an address.
    AddressGone {
        /// Its index.
        index: u32,
    },
}

/// Follows them on a thread of its own until nobody receives any more. Any user may.
///
/// # Errors
/// Only that no thread can be started.
pub fn watch_events(sender: Sender<LinkEvent>) -> Result<()> {
    let run = move || {
        while follow(&sender) {
            std::thread::sleep(PAUSE);
        }
    };
    std::thread::Builder::new()
        .name("link-events".to_owned())
        .spawn(run)
        .map(drop)
        .map_err(|e| Fault::failed("cannot start a thread").because(e))
}

/// Follows one socket to its end; `false` when nobody listens any more.
fn follow(sender: &Sender<LinkEvent>) -> bool {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return true;
    };
    runtime.block_on(async {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let Ok((connection, _handle, mut messages)) = rtnetlink::new_multicast_connection(&groups) else {
            return true;
        };
        tokio::spawn(connection);
        if sender.send(LinkEvent::Gap).is_err() {
            return false;
        }
        while let Some((message, _)) = messages.next().await {
            // The kernel's queue was full: some are lost.
            let lost = matches!(message.payload, NetlinkPayload::Overrun(_) | NetlinkPayload::Error(_));
            let event = if lost { Some(LinkEvent::Gap) } else { read(message) };
            if event.is_some_and(|event| sender.send(event).is_err()) {
                return false;
            }
        }
        true
    })
}

fn read(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<LinkEvent> {
    let NetlinkPayload::InnerMessage(message) = message.payload else { return None };
    match message {
        // The bridge's own word about its ports carries the family AF_BRIDGE.
        RouteNetlinkMessage::DelLink(link) if link.header.interface_family == AddressFamily::Bridge => {
            Some(LinkEvent::PortLeft { index: link.header.index, bridge: decode::device(&link).master })
        }
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
            let decode::Device { index, name, master, carrier, .. } = decode::device(&link);
            Some(LinkEvent::Device { index, name, master, carrier })
        }
        RouteNetlinkMessage::DelAddress(address) => {
            Some(LinkEvent::AddressGone { index: address.header.index })
        }
        _ => None,
    }
}
