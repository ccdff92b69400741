//! What our table does for DNS. Pure.

use std::collections::HashSet;
use std::net::IpAddr;

use nftables::expr::{Expression, Fib, FibFlag, FibResult, NamedExpression, SetItem};
use nftables::stmt::{NAT, NATFamily, Operator, Reject, Statement};

use super::ruleset::{compare, family_is, field, interface, prefix, transport};
use crate::model::{AddressRange, Family, Network};

const DNS: u32 = 53;

/// Our resolver answers the bridge's guests and the host. A question that comes in elsewhere is refused, so
/// that its asker goes on to another server at once. dnsmasq ignores it by itself where it comes by UDP, but
/// 2.93 answers it by TCP.
pub(super) fn guard(network: &Network, family: &Family) -> Option<Vec<Statement<'static>>> {
    let address = family.address?;
    let at_home = ["lo".to_owned(), network.bridge.to_string()].map(element).to_vec();
    Some(vec![
        interface("iifname", Operator::NEQ, Expression::Named(NamedExpression::Set(at_home))),
        compare(
            field(protocol(address), "daddr"),
            Operator::EQ,
            Expression::String(address.to_string().into()),
        ),
        transport(),
        compare(field("th", "dport"), Operator::EQ, Expression::Number(DNS)),
        Statement::Reject(None::<Reject>),
    ])
}

/// Our resolver is no open one on a bridge into a LAN, whose router sends questions of anywhere to it: what
/// comes in by the bridge is answered where it is from the network's subnet, or from the same link by IPv6. Of
/// both families, whichever the network has, since dnsmasq answers at every address of the bridge. At those
/// alone: another server may answer at the host's other addresses.
pub(super) fn strangers(network: &Network) -> Vec<(&'static str, Vec<Statement<'static>>)> {
    if network.resolvers().next().is_none() {
        return Vec::new();
    }
    let near = |family: Option<&Family>| family.map(subnet).into_iter().collect::<Vec<_>>();
    let mut near6 = near(network.ipv6.as_ref());
    near6.push(prefix("fe80::", 10));
    [("ip", near(network.ipv4.as_ref())), ("ip6", near6)]
        .map(|(protocol, near)| {
            let near: Vec<SetItem<'_>> = near.into_iter().map(SetItem::Element).collect();
            let source = if near.is_empty() {
                family_is(protocol)
            } else {
                let near = Expression::Named(NamedExpression::Set(near));
                compare(field(protocol, "saddr"), Operator::NEQ, near)
            };
            let rule = vec![
                interface("iifname", Operator::EQ, Expression::String(network.bridge.to_string().into())),
                source,
                transport(),
                compare(field("th", "dport"), Operator::EQ, Expression::Number(DNS)),
                compare(at_the_interface(), Operator::EQ, Expression::String("local".into())),
                Statement::Reject(None::<Reject>),
            ];
            (protocol, rule)
        })
        .to_vec()
}

/// The kind of the address that a packet is for, on the interface by which it came: `local` where it is that
/// interface's own.
fn at_the_interface() -> Expression<'static> {
    let flags = HashSet::from([FibFlag::Daddr, FibFlag::Iif]);
    Expression::Named(NamedExpression::Fib(Fib { result: FibResult::Type, flags }))
}

fn subnet(family: &Family) -> Expression<'static> {
    prefix(family.subnet.network().to_string(), family.subnet.prefix_len().into())
}

/// A container's question to one of the host's own resolvers is answered by ours, which asks them in turn.
/// Docker before 28 asks them from the container's side, past whatever the host itself would do. What the
/// container asks anybody else, or a guest of its own network, goes where it was sent; so does what a VM of the
/// VM pool asks. Who has another address may be either: on our own bridge, whose other addresses are for containers
/// and VMs that ask for one, a VM's question is answered by ours as well. On somebody else's bridge it may be a
/// foreign machine: there the container pool alone counts, and nothing where another router is the gateway, whose
/// guests' questions come past us only with br_netfilter.
pub(super) fn redirect(
    network: &Network,
    family: &Family,
    resolvers: &[IpAddr],
) -> Option<Vec<Statement<'static>>> {
    let address = family.address.filter(|_| on_the_way(network, family))?;
    let theirs: Vec<_> = resolvers
        .iter()
        .filter(|r| r.is_ipv4() == address.is_ipv4() && !family.subnet.contains(*r))
        .map(|r| element(r.to_string()))
        .collect();
    if theirs.is_empty() {
        return None;
    }
    let protocol = protocol(address);
    let mut statements =
        vec![interface("iifname", Operator::EQ, Expression::String(network.bridge.to_string().into()))];
    if foreign(network) {
        let pool = family.container_pool.as_ref()?;
        statements.push(compare(field(protocol, "saddr"), Operator::EQ, range(pool)));
    } else {
        statements.push(compare(field(protocol, "saddr"), Operator::EQ, subnet(family)));
        // Where Docker has a pool of its own, the other one is the VMs'.
        if family.container_pool.is_some() {
            statements.push(compare(field(protocol, "saddr"), Operator::NEQ, range(&family.vm_pool)));
        }
    }
    statements.extend([
        compare(field(protocol, "daddr"), Operator::EQ, Expression::Named(NamedExpression::Set(theirs))),
        transport(),
        compare(field("th", "dport"), Operator::EQ, Expression::Number(DNS)),
        Statement::DNAT(Some(NAT {
            addr: Some(Expression::String(address.to_string().into())),
            family: Some(if address.is_ipv4() { NATFamily::IP } else { NATFamily::IP6 }),
            port: None,
            flags: None,
        })),
    ]);
    Some(statements)
}

/// Whether containers' questions to the host's resolvers are redirected to ours where they leave the bridge.
#[must_use]
pub fn redirects(network: &Network) -> bool {
    network.families().any(|f| on_the_way(network, f))
}

fn on_the_way(network: &Network, family: &Family) -> bool {
    family.address == Some(family.gateway) && (!foreign(network) || family.container_pool.is_some())
}

/// Whether machines that nobody told us of may be on the bridge.
fn foreign(network: &Network) -> bool {
    network.adopt && network.follows.is_none()
}

fn range(pool: &AddressRange) -> Expression<'static> {
    let ends = [pool.first(), pool.last()];
    let range = ends.map(|a| Expression::String(a.to_string().into()));
    Expression::Range(Box::new(nftables::expr::Range { range }))
}

fn element(text: String) -> SetItem<'static> {
    SetItem::Element(Expression::String(text.into()))
}

fn protocol(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network_file::NetworkFile;

    type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

    fn redirects(resolvers: &[&str], text: &str) -> Result<Vec<String>> {
        let network = NetworkFile::parse(text)?.network(&"hybrid".parse()?)?;
        let resolvers: Vec<IpAddr> =
            resolvers.iter().map(|r| r.parse()).collect::<std::result::Result<_, _>>()?;
        let rules = network.families().filter_map(|f| redirect(&network, f, &resolvers));
        rules.map(|rule| Ok(serde_json::to_string(&rule)?)).collect()
    }

    const BOTH: &str = "format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n[ipv6]\nsubnet = \"fd00:1::/64\"\n";

    #[test]
    fn only_questions_to_the_hosts_resolvers_outside_the_subnet_are_redirected() -> Result {
        assert!(redirects(&[], BOTH)?.is_empty());
        // Between guests of the subnet nothing is.
        assert!(redirects(&["10.0.1.9"], BOTH)?.is_empty());
        let rules = redirects(&["192.0.2.53", "10.0.1.9"], BOTH)?;
        insta::assert_snapshot!(rules.join("\n"), @r#"[{"match":{"left":{"meta":{"key":"iifname"}},"right":"hybr0","op":"=="}},{"match":{"left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":"10.0.1.0","len":24}},"op":"=="}},{"match":{"left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"range":["10.0.1.128","10.0.1.254"]},"op":"!="}},{"match":{"left":{"payload":{"protocol":"ip","field":"daddr"}},"right":{"set":["192.0.2.53"]},"op":"=="}},{"match":{"left":{"meta":{"key":"l4proto"}},"right":{"set":["tcp","udp"]},"op":"=="}},{"match":{"left":{"payload":{"protocol":"th","field":"dport"}},"right":53,"op":"=="}},{"dnat":{"addr":"10.0.1.1","family":"ip"}}]"#);
        assert_eq!(redirects(&["192.0.2.53", "2001:db8::53"], BOTH)?.len(), 2);
        Ok(())
    }

    #[test]
    fn on_somebody_elses_bridge_only_containers_are_redirected() -> Result {
        let lab = "format = 1\nadopt = true\nbridge = \"br0\"\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n";
        let own = "gateway = \"10.0.1.1\"\naddress = \"10.0.1.1\"\n";
        let rules = redirects(&["192.0.2.53"], &format!("{lab}{own}"))?;
        let [rule] = rules.as_slice() else { return Err(format!("{rules:?}").into()) };
        assert!(rule.contains(r#""right":{"range":["10.0.1.64","10.0.1.127"]},"op":"==""#), "{rule}");
        assert!(!rule.contains("prefix"), "{rule}");
        let lan = "gateway = \"10.0.1.1\"\naddress = \"10.0.1.9\"\n";
        assert!(redirects(&["192.0.2.53"], &format!("{lab}{lan}"))?.is_empty());
        Ok(())
    }

    fn strangers_of(text: &str) -> Result<Vec<String>> {
        let network = NetworkFile::parse(text)?.network(&"hybrid".parse()?)?;
        // Their second statement says from where.
        let from = strangers(&network).into_iter().filter_map(|(_, rule)| rule.into_iter().nth(1));
        from.map(|statement| Ok(serde_json::to_string(&statement)?)).collect()
    }

    #[test]
    fn who_is_off_the_subnet_is_no_guest_whichever_family_the_network_has() -> Result {
        insta::assert_snapshot!(strangers_of(BOTH)?.join("\n"), @r#"
            {"match":{"left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"set":[{"prefix":{"addr":"10.0.1.0","len":24}}]},"op":"!="}}
            {"match":{"left":{"payload":{"protocol":"ip6","field":"saddr"}},"right":{"set":[{"prefix":{"addr":"fd00:1::","len":64}},{"prefix":{"addr":"fe80::","len":10}}]},"op":"!="}}
        "#);
        let lan = "format = 1\nadopt = true\nbridge = \"br0\"\n[ipv4]\nsubnet = \"192.168.7.0/24\"\n\
            gateway = \"192.168.7.1\"\n";
        insta::assert_snapshot!(strangers_of(&format!("{lan}address = \"192.168.7.9\"\n"))?.join("\n"), @r#"
            {"match":{"left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"set":[{"prefix":{"addr":"192.168.7.0","len":24}}]},"op":"!="}}
            {"match":{"left":{"payload":{"protocol":"ip6","field":"saddr"}},"right":{"set":[{"prefix":{"addr":"fe80::","len":10}}]},"op":"!="}}
        "#);
        let six = "format = 1\n[ipv6]\nsubnet = \"fd00:1::/64\"\n";
        insta::assert_snapshot!(strangers_of(six)?.join("\n"), @r#"
            {"match":{"left":{"meta":{"key":"nfproto"}},"right":"ipv4","op":"=="}}
            {"match":{"left":{"payload":{"protocol":"ip6","field":"saddr"}},"right":{"set":[{"prefix":{"addr":"fd00:1::","len":64}},{"prefix":{"addr":"fe80::","len":10}}]},"op":"!="}}
        "#);
        // Without an address on the bridge there is no resolver of ours.
        assert!(strangers_of(lan)?.is_empty());
        Ok(())
    }
}
