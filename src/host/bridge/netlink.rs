//! One netlink conversation: open, ask, close, all before a deadline.

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{Handle, LinkUnspec};
use rustix::io::Errno;

use ipnet::IpNet;

use super::ADDRESS_PROTOCOL;
use super::decode::{self, Address, Device};
use crate::deadline::Deadline;
use crate::host::wait;
use crate::model::{Fault, Result};

/// The kernel's side, with faults in our own words.
#[derive(Clone)]
pub(crate) struct Netlink {
    handle: Handle,
}

/// Opens a socket, runs `conversation` on it and closes it; a fault when the deadline passes first.
pub(crate) fn talk<T>(deadline: Deadline, conversation: impl AsyncFnOnce(Netlink) -> Result<T>) -> Result<T> {
    // The kernel answers within the call, so that a timer would see a passed deadline too late.
    if deadline.passed() {
        return Err(Fault::failed("no time left to ask the kernel about the network"));
    }
    wait::block_on("the kernel's network interface (netlink)", deadline, async move {
        let (connection, handle, _unasked) = rtnetlink::new_connection()
            .map_err(|e| Fault::failed("cannot open a netlink socket").because(e))?;
        // It ends with the runtime, which is dropped when this conversation is over.
        tokio::spawn(connection);
        conversation(Netlink { handle }).await
    })
}

/// The kernel's refusal as a fault; `what` is the thing that was tried, such as `cannot delete hybr0`.
pub(super) fn fault(what: impl Into<String>, error: rtnetlink::Error) -> Fault {
    let what = Fault::failed(what);
    match error {
        rtnetlink::Error::NetlinkError(message) => {
            let io = message.to_io();
            let denied = io.raw_os_error() == Some(Errno::PERM.raw_os_error());
            let fault = what.because(io);
            if denied { fault.hint("only root may change network devices") } else { fault }
        }
        other => what.because(other),
    }
}

/// Whether the kernel's answer is that error number.
pub(super) fn is(error: &rtnetlink::Error, errno: Errno) -> bool {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.raw_code() == -errno.raw_os_error(),
        _ => false,
    }
}

impl Netlink {
    /// rtnetlink's own handle, for what is asked in one place only.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The device of that name, if there is one.
    pub(crate) async fn device(&self, name: &str) -> Result<Option<Device>> {
        let request = self.handle.link().get().match_name(name);
        self.one(request, name).await
    }

    /// The device of that index, if there is one.
    pub(crate) async fn device_at(&self, index: u32) -> Result<Option<Device>> {
        let request = self.handle.link().get().match_index(index);
        self.one(request, &format!("device {index}")).await
    }

    async fn one(&self, request: rtnetlink::LinkGetRequest, what: &str) -> Result<Option<Device>> {
        let mut answer = std::pin::pin!(request.execute());
        match answer.try_next().await {
            Ok(message) => Ok(message.map(|m| decode::device(&m))),
            Err(e) if is(&e, Errno::NODEV) => Ok(None),
            Err(e) => Err(fault(format!("cannot read {what}"), e)),
        }
    }

    /// Every device of this namespace, or of the one with that id (which needs `CAP_NET_ADMIN`).
    pub(crate) async fn devices(&self, netns: Option<i32>) -> Result<Vec<Device>> {
        let mut request = self.handle.link().get();
        if let Some(id) = netns {
            request.message_mut().attributes.push(LinkAttribute::IfNetnsId(id));
        }
        let messages: Vec<LinkMessage> =
            request.execute().try_collect().await.map_err(|e| fault("cannot list the devices", e))?;
        Ok(messages.iter().map(decode::device).collect())
    }

    /// Every address of this namespace with its device's index.
    pub(crate) async fn addresses(&self) -> Result<Vec<(u32, Address)>> {
        let messages: Vec<AddressMessage> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| fault("cannot list the addresses", e))?;
        Ok(messages.iter().filter_map(decode::address).collect())
    }

    /// Changes a device; `what` completes "cannot …".
    pub(super) async fn change(&self, message: LinkMessage, what: &str) -> Result<()> {
        let request = self.handle.link().change(message);
        request.execute().await.map_err(|e| fault(format!("cannot {what}"), e))
    }

    /// Gives a device its master; 0: none.
    pub(super) async fn set_master(&self, index: u32, master: u32, what: &str) -> Result<()> {
        self.change(LinkUnspec::new_with_index(index).controller(master).build(), what).await
    }

    /// Adds an address with our mark. `no_dad`: usable at once, without IPv6's duplicate detection.
    pub(super) async fn add_address(&self, index: u32, net: IpNet, no_dad: bool, device: &str) -> Result<()> {
        let mut request = self.handle.address().add(index, net.addr(), net.prefix_len());
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(ADDRESS_PROTOCOL)));
        if no_dad && net.addr().is_ipv6() {
            attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        match request.execute().await {
            Ok(()) => Ok(()),
            Err(e) if is(&e, Errno::EXIST) => Ok(()),
            Err(e) if is(&e, Errno::ACCESS) && net.addr().is_ipv6() => {
                Err(fault(format!("cannot give {device} the address {net}: IPv6 is switched off there"), e)
                    .hint(format!("sysctl net.ipv6.conf.{device}.disable_ipv6=0, or a network without IPv6")))
            }
            Err(e) => Err(fault(format!("cannot give {device} the address {net}"), e)),
        }
    }

    /// Takes an address away; one that is gone already is no fault.
    pub(super) async fn remove_address(&self, index: u32, net: IpNet, device: &str) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(net);
        message.header.index = index;
        message.header.prefix_len = net.prefix_len();
        // IFA_LOCAL alone names it; IFA_ADDRESS would have to be a point-to-point's other side.
        message.attributes.push(AddressAttribute::Local(net.addr()));
        match self.handle.address().del(message).execute().await {
            Ok(()) => Ok(()),
            Err(e) if is(&e, Errno::ADDRNOTAVAIL) || is(&e, Errno::NODEV) => Ok(()),
            Err(e) => Err(fault(format!("cannot take the address {net} from {device}"), e)),
        }
    }
}

fn family(net: IpNet) -> rtnetlink::packet_route::AddressFamily {
    use rtnetlink::packet_route::AddressFamily;
    if net.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}
