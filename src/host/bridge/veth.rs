//! Which veth on the host is the other end of a container's interface.
//!
//! Asked of the kernel by netlink alone: the container's namespace has an id here as soon as a veth
//! leads there, `RTM_GETNSID` gives it for a pid, and a link dump with that id (`IFLA_TARGET_NETNSID`,
//! Linux 4.20) lists what is inside. So no thread of ours ever enters a container's namespace, and
//! nothing is read below its `/proc/PID/root`, which the container could shape.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rustix::io::Errno;

use super::decode::Device;
use super::netlink::{Netlink, fault, is, talk};
use super::read::Port;
use crate::deadline::Deadline;
use crate::model::{InterfaceName, MacAddress, Result};

/// A veth on the host that leads into a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostVeth {
    /// Its name on the host.
    pub name: InterfaceName,
    /// The Ethernet address of the other end, inside: the guest's.
    pub mac: MacAddress,
    /// The name of the other end, inside.
    pub inside: String,
}

/// The host's veths that lead into the namespace of process `pid`. Empty when there is no such
/// process (any more), when it shares the host's network, or when it has none. Needs `CAP_NET_ADMIN`.
///
/// # Errors
/// `Failed` for the kernel's refusals and the deadline.
pub fn host_veths_of(pid: u32, deadline: Deadline) -> Result<Vec<HostVeth>> {
    talk(deadline, async |netlink| {
        // First the host's side: listing a veth is what gives the other namespace its id.
        let here = netlink.devices(None).await?;
        let Some(id) = netns_of(&netlink, pid).await? else { return Ok(Vec::new()) };
        let there = netlink.devices(Some(id)).await?;
        Ok(pairs(&here, &there, id))
    })
}

/// The one among [`host_veths_of`] whose inside has that MAC.
///
/// # Errors
/// As [`host_veths_of`].
pub fn host_veth_of(pid: u32, mac: MacAddress, deadline: Deadline) -> Result<Option<InterfaceName>> {
    Ok(host_veths_of(pid, deadline)?.into_iter().find(|v| v.mac == mac).map(|v| v.name))
}

/// For each port that is a veth: the Ethernet address of its other end, wherever that is. Docker is not
/// asked. Needs `CAP_NET_ADMIN`; ports whose other end can't be seen are left out.
///
/// # Errors
/// `Failed` for the deadline.
pub fn inside_macs(ports: &[Port], deadline: Deadline) -> Result<BTreeMap<String, MacAddress>> {
    let namespaces: BTreeSet<Option<i32>> = ports.iter().filter_map(|p| Some(p.peer?.netns)).collect();
    if namespaces.is_empty() {
        return Ok(BTreeMap::new());
    }
    talk(deadline, async |netlink| {
        let mut found = BTreeMap::new();
        for namespace in namespaces {
            // One that ended since is no reason to say nothing of the others.
            let Ok(there) = netlink.devices(namespace).await else { continue };
            found.extend(ports.iter().filter_map(|port| {
                let peer = port.peer.filter(|p| p.netns == namespace)?;
                let inner = there.iter().find(|d| d.index == peer.index)?;
                let back = inner.peer.is_some_and(|p| p.index == port.index);
                back.then_some((port.name.clone(), inner.mac?))
            }));
        }
        Ok(found)
    })
}

fn pairs(here: &[Device], there: &[Device], id: i32) -> Vec<HostVeth> {
    let pair = |outer: &Device| {
        let peer = outer.peer.filter(|p| p.netns == Some(id))?;
        let inner = there.iter().find(|d| d.index == peer.index)?;
        // Both ends name each other; an index alone could have been given out again.
        let back = inner.peer.is_some_and(|p| p.index == outer.index);
        let name = outer.name.parse().ok()?;
        back.then_some(HostVeth { name, mac: inner.mac?, inside: inner.name.clone() })
    };
    here.iter().filter_map(pair).collect()
}

/// The id that the namespace of a process has here; `None`: no process, no id, or our own namespace.
async fn netns_of(netlink: &Netlink, pid: u32) -> Result<Option<i32>> {
    let mut question = NsidMessage::default();
    question.attributes.push(NsidAttribute::Pid(pid));
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(question));
    request.header.flags = NLM_F_REQUEST;
    let what = || format!("cannot find the network of process {pid}");
    let mut handle = netlink.handle().clone();
    let mut answers = handle.request(request).map_err(|e| fault(what(), e))?;
    while let Some(answer) = answers.next().await {
        match answer.payload {
            NetlinkPayload::Error(e) => {
                let e = rtnetlink::Error::NetlinkError(e);
                // ESRCH: the process has ended.
                return if is(&e, Errno::SRCH) { Ok(None) } else { Err(fault(what(), e)) };
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(message)) => {
                return Ok(message.attributes.iter().find_map(|a| match a {
                    // NETNSA_NSID_NOT_ASSIGNED is -1.
                    NsidAttribute::Id(id) => Some(*id).filter(|id| *id >= 0),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::decode::Peer;
    use super::*;

    fn veth(name: &str, index: u32, peer: u32, netns: i32) -> Device {
        Device {
            index,
            name: name.to_owned(),
            mac: MacAddress::from_octets([2, 0, 0, 0, 0, index as u8]),
            peer: Some(Peer { index: peer, netns: Some(netns) }),
            ..Device::default()
        }
    }

    #[test]
    fn only_a_pair_that_names_each_other_counts() {
        let here = [veth("a", 10, 2, 4), veth("b", 11, 3, 4), veth("c", 12, 2, 5), Device::default()];
        let there = [veth("eth0", 2, 10, 0), veth("eth1", 3, 99, 0)];
        let found: Vec<_> = pairs(&here, &there, 4).iter().map(|v| v.name.to_string()).collect();
        assert_eq!(found, ["a"]);
    }
}
