//! A container's default routes: read and changed inside its own network namespace.
//!
//! Before Docker 28 nothing decides which of a container's networks gives the default route but their names: the
//! one that sorts first does (libnetwork's `getGatewayEndpoint`). So connecting a container can move its route, and
//! each restart of it does so again. What is kept here:
//!
//! - [`steps_to_park`], before Docker connects or disconnects: the route waits at the next metric. Docker adds its
//!   own with flags that fail where one of the same metric stands ("file exists"), and then leaves the container
//!   half connected until it is restarted; it does not mind that the one it wants to delete is gone.
//! - [`steps_to_restore`], after it: exactly what was there before.
//! - [`steps_to_keep`], at any later time, with nothing remembered: what Docker would have chosen without us.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::namespace::inside;
use crate::deadline::Deadline;
use crate::host::wait::block_on;
use crate::model::{Fault, Kind, Result};

/// A default route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultRoute {
    /// Whether it is IPv6's.
    pub v6: bool,
    /// The next hop; `None`: everything is on the link, as with a tunnel.
    pub gateway: Option<IpAddr>,
    /// The interface's index in the container; `None` leaves it to the kernel.
    pub interface: Option<u32>,
    /// The metric: the lowest wins. Docker's are 0, and 1024 for IPv6 (ip-route(8)).
    pub metric: u32,
}

impl DefaultRoute {
    fn via(gateway: IpAddr) -> Self {
        let v6 = gateway.is_ipv6();
        Self { v6, gateway: Some(gateway), interface: None, metric: usual(v6) }
    }

    fn parked(self) -> Self {
        Self { metric: self.metric.saturating_add(1), ..self }
    }

    /// Whether both send to the same place, whatever their metrics.
    fn same_way(&self, other: &Self) -> bool {
        self.gateway == other.gateway
            && (self.interface == other.interface || self.interface.is_none() || other.interface.is_none())
    }
}

/// The metric of the default route that Docker makes.
fn usual(v6: bool) -> u32 {
    if v6 { 1024 } else { 0 }
}

/// One change of a container's default routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteStep {
    /// Put this one in the place of that of the same metric, or add it.
    Set(DefaultRoute),
    /// Delete this one; gone already is done.
    Drop(DefaultRoute),
}

/// The route of a family that counts.
fn best(routes: &[DefaultRoute], v6: bool) -> Option<DefaultRoute> {
    routes.iter().filter(|r| r.v6 == v6).min_by_key(|r| r.metric).copied()
}

/// Moves the routes that count out of Docker's way, never leaving the container without: only those at Docker's
/// own metric.
pub(super) fn steps_to_park(routes: &[DefaultRoute]) -> Vec<RouteStep> {
    [false, true]
        .into_iter()
        .filter_map(|v6| best(routes, v6).filter(|r| r.metric == usual(v6)))
        .flat_map(|r| [RouteStep::Set(r.parked()), RouteStep::Drop(r)])
        .collect()
}

/// From `now` back to `before`.
pub(super) fn steps_to_restore(before: &[DefaultRoute], now: &[DefaultRoute]) -> Vec<RouteStep> {
    let mut steps = Vec::new();
    for v6 in [false, true] {
        let was = best(before, v6);
        if let Some(was) = was
            && best(now, v6) != Some(was)
        {
            steps.push(RouteStep::Set(was));
        }
        for extra in now.iter().filter(|r| r.v6 == v6 && !before.contains(r)) {
            // What `Set` has just replaced is gone by itself.
            if was.is_none_or(|w| w.metric != extra.metric) {
                steps.push(RouteStep::Drop(*extra));
            }
        }
    }
    steps
}

/// What a container's default routes must become so that ours is none of them, unless ours is its only network.
///
/// `ours` are our network's gateways; `others` the gateways of its other networks, in Docker's order (by the
/// network's name); `only`: it is on no other network. A route that is not through us is somebody's choice and
/// stays.
#[must_use]
pub fn steps_to_keep(
    routes: &[DefaultRoute],
    ours: &[IpAddr],
    others: &[IpAddr],
    only: bool,
) -> Vec<RouteStep> {
    let mut steps = Vec::new();
    for v6 in [false, true] {
        let own = ours.iter().copied().find(|g| g.is_ipv6() == v6);
        let other = others.iter().copied().find(|g| g.is_ipv6() == v6);
        let through_us = |r: &DefaultRoute| r.gateway.is_some() && r.gateway == own;
        let now = best(routes, v6);
        match (now, other) {
            (Some(now), Some(other)) if through_us(&now) => {
                steps.push(RouteStep::Set(DefaultRoute { metric: now.metric, ..DefaultRoute::via(other) }));
                let left = DefaultRoute::via(other).parked();
                steps.extend(
                    routes
                        .iter()
                        .filter(|r| r.v6 == v6 && r.metric == left.metric && r.same_way(&left))
                        .map(|r| RouteStep::Drop(*r)),
                );
            }
            // Its other networks lead nowhere: it had no default route before us.
            (Some(now), None) if through_us(&now) && !only => steps.push(RouteStep::Drop(now)),
            // One that was parked and never put back: we were stopped in between.
            (Some(now), Some(other))
                if now.same_way(&DefaultRoute::via(other)) && now.metric == usual(v6) + 1 =>
            {
                steps.push(RouteStep::Set(DefaultRoute { metric: usual(v6), ..now }));
                steps.push(RouteStep::Drop(now));
            }
            (None, None) if only => steps.extend(own.map(|g| RouteStep::Set(DefaultRoute::via(g)))),
            _ => {}
        }
    }
    steps
}

/// The default routes of the network namespace that process `pid` is in.
///
/// # Errors
/// Missing when the process is gone.
pub fn default_routes(pid: u32, deadline: Deadline) -> Result<Vec<DefaultRoute>> {
    change_default_routes(pid, &[], deadline)
}

/// Takes the steps, in order, in the network namespace that process `pid` is in, and reads what is there then.
///
/// # Errors
/// Missing when the process is gone. Refused when it is in our own namespace: its routes are the host's.
pub fn change_default_routes(pid: u32, steps: &[RouteStep], deadline: Deadline) -> Result<Vec<DefaultRoute>> {
    let steps = steps.to_vec();
    inside(pid, deadline, move || {
        block_on("the kernel", deadline, async {
            let (connection, handle, _) =
                rtnetlink::new_connection().map_err(|e| Fault::failed("cannot open netlink").because(e))?;
            tokio::spawn(connection);
            for step in &steps {
                take(&handle, step).await?;
            }
            read(&handle).await
        })
    })
    .map_err(|f| match f.kind() {
        Kind::Failed => Fault::failed(format!("cannot change the default route of process {pid}")).because(f),
        _ => f,
    })
}

async fn take(handle: &Handle, step: &RouteStep) -> Result<()> {
    let failed = |e| Fault::failed(format!("cannot change the default route ({step:?})")).because(e);
    match step {
        RouteStep::Set(route) => handle.route().add(message(route)).replace().execute().await.map_err(failed),
        RouteStep::Drop(route) => match handle.route().del(message(route)).execute().await {
            Err(rtnetlink::Error::NetlinkError(e))
                if e.raw_code() == -rustix::io::Errno::SRCH.raw_os_error() =>
            {
                Ok(())
            }
            other => other.map_err(failed),
        },
    }
}

fn message(route: &DefaultRoute) -> RouteMessage {
    let mut message = match route.gateway {
        Some(IpAddr::V4(gateway)) => RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build(),
        Some(IpAddr::V6(gateway)) => RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).build(),
        None if route.v6 => RouteMessageBuilder::<Ipv6Addr>::new().build(),
        None => RouteMessageBuilder::<Ipv4Addr>::new().scope(RouteScope::Link).build(),
    };
    // What Docker's own routes say (rtnetlink(7)), so that the restored one looks the same.
    message.header.protocol = RouteProtocol::Boot;
    message.attributes.extend(route.interface.map(RouteAttribute::Oif));
    if route.metric != 0 {
        message.attributes.push(RouteAttribute::Priority(route.metric));
    }
    message
}

async fn read(handle: &Handle) -> Result<Vec<DefaultRoute>> {
    let failed = |e| Fault::failed("cannot read the routes").because(e);
    let mut all = Vec::new();
    for v6 in [false, true] {
        let ask = if v6 {
            RouteMessageBuilder::<Ipv6Addr>::new().build()
        } else {
            RouteMessageBuilder::<Ipv4Addr>::new().build()
        };
        let messages: Vec<RouteMessage> =
            handle.route().get(ask).execute().try_collect().await.map_err(failed)?;
        all.extend(messages.iter().filter_map(|m| default_route(m, v6)));
    }
    Ok(all)
}

/// The message as a default route of the main table, if it is one that a person or Docker made.
fn default_route(message: &RouteMessage, v6: bool) -> Option<DefaultRoute> {
    let header = &message.header;
    if header.destination_prefix_length != 0
        || header.table != RouteHeader::RT_TABLE_MAIN
        || header.kind != RouteType::Unicast
        || header.protocol == RouteProtocol::Ra
    {
        return None;
    }
    let mut route = DefaultRoute { v6, gateway: None, interface: None, metric: 0 };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(a)) => route.gateway = Some((*a).into()),
            RouteAttribute::Gateway(RouteAddress::Inet6(a)) => route.gateway = Some((*a).into()),
            RouteAttribute::Oif(index) => route.interface = Some(*index),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            // Several next hops can't be put back as one.
            RouteAttribute::MultiPath(_) => return None,
            _ => {}
        }
    }
    Some(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(gateway: &str, interface: u32, metric: u32) -> DefaultRoute {
        let gateway: Option<IpAddr> = gateway.parse().ok();
        DefaultRoute { v6: gateway.is_some_and(|g| g.is_ipv6()), gateway, interface: Some(interface), metric }
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().filter_map(|t| t.parse().ok()).collect()
    }

    /// What the kernel does with the steps.
    fn apply(mut routes: Vec<DefaultRoute>, steps: &[RouteStep]) -> Vec<DefaultRoute> {
        for step in steps {
            match step {
                RouteStep::Set(r) => {
                    routes.retain(|o| (o.v6, o.metric) != (r.v6, r.metric));
                    routes.push(*r);
                }
                RouteStep::Drop(r) => routes.retain(|o| o != r),
            }
        }
        routes
    }

    #[test]
    fn a_parked_route_comes_back_exactly_whatever_docker_did() {
        let before = vec![route("172.18.0.1", 2, 0), route("fd00:18::1", 2, 1024)];
        let parked = apply(before.clone(), &steps_to_park(&before));
        assert_eq!(parked, [route("172.18.0.1", 2, 1), route("fd00:18::1", 2, 1025)]);
        let mut moved = parked.clone();
        moved.push(route("10.0.1.1", 3, 0));
        for now in [parked, moved] {
            let mut after = apply(now.clone(), &steps_to_restore(&before, &now));
            after.sort_by_key(|r| r.v6);
            assert_eq!(after, before);
        }
    }

    #[test]
    fn nothing_is_done_where_nothing_moved() {
        let before = vec![route("172.17.0.1", 2, 0)];
        assert_eq!(steps_to_restore(&before, &before), []);
        let keep = steps_to_keep(&before, &addresses(&["10.0.1.1"]), &addresses(&["172.17.0.1"]), false);
        assert_eq!(keep, []);
    }

    #[test]
    fn a_container_without_a_default_route_gets_none() {
        let now = vec![route("10.0.1.1", 3, 0)];
        assert_eq!(apply(now.clone(), &steps_to_restore(&[], &now)), []);
        assert_eq!(apply(now.clone(), &steps_to_keep(&now, &addresses(&["10.0.1.1"]), &[], false)), []);
    }

    #[test]
    fn a_tunnel_as_default_route_is_put_back() {
        let before = vec![DefaultRoute { v6: false, gateway: None, interface: Some(7), metric: 0 }];
        let mut now = apply(before.clone(), &steps_to_park(&before));
        now.push(route("10.0.1.1", 3, 0));
        assert_eq!(apply(now.clone(), &steps_to_restore(&before, &now)), before);
    }

    #[test]
    fn keeping_gives_the_route_to_the_first_other_network() {
        let (ours, others) = (addresses(&["10.0.1.1"]), addresses(&["172.18.0.1", "172.19.0.1"]));
        let moved = vec![route("10.0.1.1", 3, 0), route("172.18.0.1", 2, 1)];
        let kept = apply(moved.clone(), &steps_to_keep(&moved, &ours, &others, false));
        assert_eq!(kept, [DefaultRoute { interface: None, ..route("172.18.0.1", 2, 0) }]);
        let parked = vec![route("172.18.0.1", 2, 1)];
        assert_eq!(
            apply(parked.clone(), &steps_to_keep(&parked, &ours, &others, false)),
            [route("172.18.0.1", 2, 0)]
        );
    }

    #[test]
    fn our_gateway_stays_where_ours_is_the_only_network() {
        let ours = addresses(&["10.0.1.1"]);
        let now = vec![route("10.0.1.1", 3, 0)];
        assert_eq!(steps_to_keep(&now, &ours, &[], true), []);
        assert_eq!(steps_to_keep(&[], &ours, &[], true).len(), 1);
        // Another's choice, such as a VPN's, is not ours to judge.
        let vpn = vec![route("10.8.0.1", 9, 0)];
        assert_eq!(steps_to_keep(&vpn, &ours, &addresses(&["172.18.0.1"]), false), []);
    }

    #[test]
    fn the_hosts_own_namespace_is_refused() {
        let soon = Deadline::after(std::time::Duration::from_secs(5));
        let kind = |pid| default_routes(pid, soon).err().map(|f| f.kind());
        assert_eq!(kind(std::process::id()), Some(crate::model::Kind::Refused));
        assert_eq!(kind(u32::MAX), Some(crate::model::Kind::Missing));
    }
}
