//! Our table as it should be. Pure.

use std::borrow::Cow;
use std::net::IpAddr;

use nftables::expr::{Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, SetItem};
use nftables::schema::{Chain, NfCmd, NfListObject, NfObject, Nftables, Rule, Table};
use nftables::stmt::{Match, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use serde_json::Value;

use super::names;
use crate::model::mac::fnv1a;
use crate::model::{Family, Network};

/// The name of our table, in the family `inet`.
pub const TABLE: &str = "hybrid_hook";

/// A chain of ours: its name is that of its hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    name: &'static str,
    hook: NfHook,
    kind: NfChainType,
    /// nft(8), "priority": "srcnat" is 100, "dstnat" -100, "filter" 0.
    priority: i32,
}

const POSTROUTING: Place =
    Place { name: "postrouting", hook: NfHook::Postrouting, kind: NfChainType::NAT, priority: 100 };
const PREROUTING: Place =
    Place { name: "prerouting", hook: NfHook::Prerouting, kind: NfChainType::NAT, priority: -100 };
const INPUT: Place = Place { name: "input", hook: NfHook::Input, kind: NfChainType::Filter, priority: 0 };

/// The transaction that makes our table, whatever it was before: libnftables-json(5). `resolvers` are those
/// of the host that Docker may ask from a container's side.
///
/// What leaves a subnet of a network with NAT goes out with the host's address. What stays among guests
/// does not, also where br_netfilter brings bridged packets here; nor do multicast and broadcast, for which
/// an answer could never find its way back. Questions to our resolver from elsewhere are refused, from off the
/// subnet too, and containers' questions to `resolvers` redirected to it.
#[must_use]
pub fn ruleset(networks: &[Network], resolvers: &[IpAddr]) -> Nftables<'static> {
    let mut objects = removed();
    objects.push(add(NfListObject::Table(table())));
    let families = || networks.iter().flat_map(|n| n.families().map(move |f| (n, f)));
    let nat = families().filter(|(n, _)| n.nat).map(|(n, f)| (POSTROUTING, n, f, Some(masquerade(n, f))));
    let redirect = families().map(|(n, f)| (PREROUTING, n, f, names::redirect(n, f, resolvers)));
    let guard = families().map(|(n, f)| (INPUT, n, f, names::guard(n, f)));
    let strangers = networks.iter().flat_map(|n| {
        let named = move |(protocol, expr)| (INPUT, format!("{} {protocol}", n.name), expr);
        names::strangers(n).into_iter().map(named)
    });
    let rules: Vec<(Place, String, Vec<Statement<'static>>)> = nat
        .chain(redirect)
        .chain(guard)
        .filter_map(|(place, n, f, expr)| Some((place, format!("{} {}", n.name, f.subnet), expr?)))
        .chain(strangers)
        .collect();
    for place in [POSTROUTING, PREROUTING, INPUT] {
        if rules.iter().any(|(p, ..)| *p == place) {
            objects.push(add(NfListObject::Chain(chain(place))));
        }
    }
    // nft lists rules in other words than it was given, so they are known again by their comment. The
    // hash is over all of them: one missing, added or of another time and the table is stale.
    let words: Vec<_> = rules.iter().map(|(p, name, expr)| (p.name, name, settled(json(expr)))).collect();
    let rendering = fnv1a(format!("{words:?}").as_bytes());
    for (place, name, expr) in rules {
        objects.push(add(NfListObject::Rule(Rule {
            family: NfFamily::INet,
            table: TABLE.into(),
            chain: place.name.into(),
            expr: expr.into(),
            comment: Some(format!("{name} {rendering:08x}").into()),
            ..Rule::default()
        })));
    }
    Nftables { objects: objects.into() }
}

fn json(of: impl serde::Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}

/// With the flags of an expression in one order: the library has them as a set, in another order each time.
fn settled(mut value: Value) -> Value {
    match &mut value {
        Value::Array(all) => all.iter_mut().for_each(|v| *v = settled(v.take())),
        Value::Object(fields) => {
            for (key, v) in fields.iter_mut() {
                *v = settled(v.take());
                if let (true, Value::Array(flags)) = (key == "flags", v) {
                    flags.sort_by_key(ToString::to_string);
                }
            }
        }
        _ => {}
    }
    value
}

fn chain(place: Place) -> Chain<'static> {
    Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: place.name.into(),
        _type: Some(place.kind),
        hook: Some(place.hook),
        prio: Some(place.priority),
        policy: Some(NfChainPolicy::Accept),
        ..Chain::default()
    }
}

/// The transaction that removes our table, whether it is there or not.
pub(super) fn removal() -> Nftables<'static> {
    Nftables { objects: removed().into() }
}

/// nft before 1.0.7 has no `destroy`: what may be missing is added first, then deleted.
fn removed() -> Vec<NfObject<'static>> {
    let delete = NfObject::CmdObject(NfCmd::Delete(NfListObject::Table(table())));
    vec![add(NfListObject::Table(table())), delete]
}

fn table() -> Table<'static> {
    Table { family: NfFamily::INet, name: TABLE.into(), handle: None }
}

fn add(object: NfListObject<'static>) -> NfObject<'static> {
    NfObject::CmdObject(NfCmd::Add(object))
}

fn masquerade(network: &Network, family: &Family) -> Vec<Statement<'static>> {
    let ipv4 = family.subnet.network().is_ipv4();
    let protocol = if ipv4 { "ip" } else { "ip6" };
    // Multicast (RFC 5771; RFC 4291, section 2.7) and limited broadcast (RFC 919).
    let group: &[(&'static str, u32)] =
        if ipv4 { &[("224.0.0.0", 4), ("255.255.255.255", 32)] } else { &[("ff00::", 8)] };
    let subnet = || prefix(family.subnet.network().to_string(), family.subnet.prefix_len().into());
    let spared = std::iter::once(subnet())
        .chain(group.iter().map(|(address, length)| prefix(*address, *length)))
        .map(SetItem::Element)
        .collect();
    vec![
        compare(field(protocol, "saddr"), Operator::EQ, subnet()),
        compare(field(protocol, "daddr"), Operator::NEQ, Expression::Named(NamedExpression::Set(spared))),
        interface("oifname", Operator::NEQ, Expression::String(network.bridge.to_string().into())),
        Statement::Masquerade(None),
    ]
}

/// Compares the interface that a packet came in by (`iifname`) or goes out by (`oifname`).
pub(super) fn interface(which: &str, op: Operator, name: Expression<'static>) -> Statement<'static> {
    let key = if which == "iifname" { MetaKey::Iifname } else { MetaKey::Oifname };
    compare(meta(key), op, name)
}

/// Whether a packet is of IPv4 (`ip`) or IPv6 (`ip6`).
pub(super) fn family_is(protocol: &'static str) -> Statement<'static> {
    let name = if protocol == "ip" { "ipv4" } else { "ipv6" };
    compare(meta(MetaKey::Nfproto), Operator::EQ, Expression::String(name.into()))
}

/// UDP or TCP.
pub(super) fn transport() -> Statement<'static> {
    let either = ["tcp", "udp"].map(|p| SetItem::Element(Expression::String(p.into()))).to_vec();
    compare(meta(MetaKey::L4proto), Operator::EQ, Expression::Named(NamedExpression::Set(either)))
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

pub(super) fn compare(
    left: Expression<'static>,
    op: Operator,
    right: Expression<'static>,
) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}

pub(super) fn field(protocol: &'static str, name: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(PayloadField {
        protocol: protocol.into(),
        field: name.into(),
    })))
}

pub(super) fn prefix(address: impl Into<Cow<'static, str>>, length: u32) -> Expression<'static> {
    let addr = Box::new(Expression::String(address.into()));
    Expression::Named(NamedExpression::Prefix(Prefix { addr, len: length }))
}

/// What a table is known by, whether it is a transaction or a listing: its chains and, in order, its rules'
/// comments.
pub(super) fn marks(ruleset: &Value) -> Vec<String> {
    let objects = ruleset.get("nftables").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let text =
        |object: &Value, key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    objects
        .iter()
        .map(|object| object.get("add").unwrap_or(object))
        .filter_map(|object| {
            if let Some(chain) = object.get("chain") {
                let prio = chain.get("prio").and_then(Value::as_i64).unwrap_or_default();
                let (name, hook) = (text(chain, "name"), text(chain, "hook"));
                return Some(format!("chain {name} {hook} {prio} {}", text(chain, "policy")));
            }
            if let Some(rule) = object.get("rule") {
                return Some(format!("rule {} {:?}", text(rule, "chain"), text(rule, "comment")));
            }
            // Sets, maps and the like: none of ours.
            let others = ["set", "map", "element", "flowtable", "counter", "quota", "limit"];
            others.iter().find(|kind| object.get(kind).is_some()).map(|kind| (*kind).to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network_file::NetworkFile;

    type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

    fn network(name: &str, text: &str) -> Result<Network> {
        Ok(NetworkFile::parse(text)?.network(&name.parse()?)?)
    }

    /// One command a line: easier to read than one of JSON's many.
    fn lines(networks: &[Network]) -> Result<String> {
        let value = settled(serde_json::to_value(ruleset(networks, &[]))?);
        let commands = value.get("nftables").and_then(Value::as_array).ok_or("no commands")?;
        Ok(commands.iter().map(|c| format!("{c}\n")).collect())
    }

    #[test]
    fn two_networks_both_families() -> Result {
        let networks = [
            network("hybrid", "format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?,
            network(
                "lab",
                "format = 1\n[ipv4]\nsubnet = \"10.0.2.0/24\"\n[ipv6]\nsubnet = \"fd00:2::/64\"\n",
            )?,
        ];
        insta::assert_snapshot!(lines(&networks)?, @r#"
            {"add":{"table":{"family":"inet","name":"hybrid_hook"}}}
            {"delete":{"table":{"family":"inet","name":"hybrid_hook"}}}
            {"add":{"table":{"family":"inet","name":"hybrid_hook"}}}
            {"add":{"chain":{"family":"inet","hook":"postrouting","name":"postrouting","policy":"accept","prio":100,"table":"hybrid_hook","type":"nat"}}}
            {"add":{"chain":{"family":"inet","hook":"input","name":"input","policy":"accept","prio":0,"table":"hybrid_hook","type":"filter"}}}
            {"add":{"rule":{"chain":"postrouting","comment":"hybrid 10.0.1.0/24 3a5c6ba9","expr":[{"match":{"left":{"payload":{"field":"saddr","protocol":"ip"}},"op":"==","right":{"prefix":{"addr":"10.0.1.0","len":24}}}},{"match":{"left":{"payload":{"field":"daddr","protocol":"ip"}},"op":"!=","right":{"set":[{"prefix":{"addr":"10.0.1.0","len":24}},{"prefix":{"addr":"224.0.0.0","len":4}},{"prefix":{"addr":"255.255.255.255","len":32}}]}}},{"match":{"left":{"meta":{"key":"oifname"}},"op":"!=","right":"hybr0"}},{"masquerade":null}],"family":"inet","table":"hybrid_hook"}}}
            {"add":{"rule":{"chain":"postrouting","comment":"lab 10.0.2.0/24 3a5c6ba9","expr":[{"match":{"left":{"payload":{"field":"saddr","protocol":"ip"}},"op":"==","right":{"prefix":{"addr":"10.0.2.0","len":24}}}},{"match":{"left":{"payload":{"field":"daddr","protocol":"ip"}},"op":"!=","right":{"set":[{"prefix":{"addr":"10.0.2.0","len":24}},{"prefix":{"addr":"224.0.0.0","len":4}},{"prefix":{"addr":"255.255.255.255","len":32}}]}}},{"match":{"left":{"meta":{"key":"oifname"}},"op":"!=","right":"hyb-lab"}},{"masquerade":null}],"family":"inet","table":"hybrid_hook"}}}
            {"add":{"rule":{"chain":"postrouting","comment":"lab fd00:2::/64 3a5c6ba9","expr":[{"match":{"left":{"payload":{"field":"saddr","protocol":"ip6"}},"op":"==","right":{"prefix":{"addr":"fd00:2::","len":64}}}},{"match":{"left":{"payload":{"field":"daddr","protocol":"ip6"}},"op":"!=","right":{"set":[{"prefix":{"addr":"fd00:2::","len":64}},{"prefix":{"addr":"ff00::","len":8}}]}}},{"match":{"left":{"meta":{"key":"oifname"}},"op":"!=","right":"hyb-lab"}},{"masquerade":null}],"family":"inet","table":"hybrid_hook"}}}
            {"add":{"rule":{"chain":"input","comment":"hybrid 10.0.1.0/24 3a5c6ba9","expr":[{"match":{"left":{"meta":{"key":"iifname"}},"op":"!=","right":{"set":["lo","hybr0"]}}},{"match":{"left":{"payload":{"field":"daddr","protocol":"ip"}},"op":"==","right":"10.0.1.1"}},{"match":{"left":{"meta":{"key":"l4proto"}},"op":"==","right":{"set":["tcp","udp"]}}},{"match":{"left":{"payload":{"field":"dport","protocol":"th"}},"op":"==","right":53}},{"reject":null}],"family":"inet","table":"hybrid_hook"}}}
            {"add":{"rule":{"chain":"input","comment":"lab 10.0.2.0/24 3a5c6ba9","expr":[{"match":{"left":{"meta":{"key":"iifname"}},"op":"!=","right":{"set":["lo","hyb-lab"]}}},{"match":{"left":{"payload":{"field":"daddr","protocol":"ip"}},"op":"==","right":"10.0.2.1"}},{"match":{"left":{"meta":{"key":"l4proto"}},"op":"==","right":{"set":["tcp","udp"]}}},{"match":{"left":{"payload":{"field":"dport","protocol":"th"}},"op":"==","right":53}},{"reject":null}],"family":"inet","table":"hybrid_hook"}}}
            {"add":{"rule":{"chain":"input","comment":"lab fd00:2::/64 3a5c6ba9","expr":[{"match":{"left":{"meta":{"key":"iifname"}},"op":"!=","right":{"set":["lo","hyb-lab"]}}},{"match":{"left":{"payload":{"field":"daddr","protocol":"ip6"}},"op":"==","right":"fd00:2::1"}},{"match":{"left":{"meta":{"key":"l4proto"}},"op":"==","right":{"set":["tcp","udp"]}}},{"match":{"left":{"payload":{"field":"dport","protocol":"th"}},"op":"==","right":53}},{"reject":null}],"family":"inet","table":"hybrid_hook"}}}
            {"add":{"rule":{"chain":"input","comment":"hybrid ip 3a5c6ba9","expr":[{"match":{"left":{"meta":{"key":"iifname"}},"op":"==","right":"hybr0"}},{"match":{"left":{"payload":{"field":"saddr","protocol":"ip"}},"op":"!=","right":{"set":[{"prefix":{"addr":"10.0.1.0","len":24}}]}}},{"match":{"left":{"meta":{"key":"l4proto"}},"op":"==","right":{"set":["tcp","udp"]}}},{"match":{"left":{"payload":{"field":"dport","protocol":"th"}},"op":"==","right":53}},{"match":{"left":{"fib":{"flags":["daddr","iif"],"result":"type"}},"op":"==","right":"local"}},{"reject":null}],"family":"inet","table":"hybrid_hook"}}}
            {"add":{"rule":{"chain":"input","comment":"hybrid ip6 3a5c6ba9","expr":[{"match":{"left":{"meta":{"key":"iifname"}},"op":"==","right":"hybr0"}},{"match":{"left":{"payload":{"field":"saddr","protocol":"ip6"}},"op":"!=","right":{"set":[{"prefix":{"addr":"fe80::","len":10}}]}}},{"match":{"left":{"meta":{"key":"l4proto"}},"op":"==","right":{"set":["tcp","udp"]}}},{"match":{"left":{"payload":{"field":"dport","protocol":"th"}},"op":"==","right":53}},{"match":{"left":{"fib":{"flags":["daddr","iif"],"result":"type"}},"op":"==","right":"local"}},{"reject":null}],"family":"inet","table":"hybrid_hook"}}}
            {"add":{"rule":{"chain":"input","comment":"lab ip 3a5c6ba9","expr":[{"match":{"left":{"meta":{"key":"iifname"}},"op":"==","right":"hyb-lab"}},{"match":{"left":{"payload":{"field":"saddr","protocol":"ip"}},"op":"!=","right":{"set":[{"prefix":{"addr":"10.0.2.0","len":24}}]}}},{"match":{"left":{"meta":{"key":"l4proto"}},"op":"==","right":{"set":["tcp","udp"]}}},{"match":{"left":{"payload":{"field":"dport","protocol":"th"}},"op":"==","right":53}},{"match":{"left":{"fib":{"flags":["daddr","iif"],"result":"type"}},"op":"==","right":"local"}},{"reject":null}],"family":"inet","table":"hybrid_hook"}}}
            {"add":{"rule":{"chain":"input","comment":"lab ip6 3a5c6ba9","expr":[{"match":{"left":{"meta":{"key":"iifname"}},"op":"==","right":"hyb-lab"}},{"match":{"left":{"payload":{"field":"saddr","protocol":"ip6"}},"op":"!=","right":{"set":[{"prefix":{"addr":"fd00:2::","len":64}},{"prefix":{"addr":"fe80::","len":10}}]}}},{"match":{"left":{"meta":{"key":"l4proto"}},"op":"==","right":{"set":["tcp","udp"]}}},{"match":{"left":{"payload":{"field":"dport","protocol":"th"}},"op":"==","right":53}},{"match":{"left":{"fib":{"flags":["daddr","iif"],"result":"type"}},"op":"==","right":"local"}},{"reject":null}],"family":"inet","table":"hybrid_hook"}}}
        "#);
        Ok(())
    }

    #[test]
    fn a_network_without_nat_has_no_rule() -> Result {
        let quiet = network("quiet", "format = 1\nnat = false\n[ipv4]\nsubnet = \"10.0.3.0/24\"\n")?;
        insta::assert_snapshot!(lines(&[quiet])?, @r#"
            {"add":{"table":{"family":"inet","name":"hybrid_hook"}}}
            {"delete":{"table":{"family":"inet","name":"hybrid_hook"}}}
            {"add":{"table":{"family":"inet","name":"hybrid_hook"}}}
            {"add":{"chain":{"family":"inet","hook":"input","name":"input","policy":"accept","prio":0,"table":"hybrid_hook","type":"filter"}}}
            {"add":{"rule":{"chain":"input","comment":"quiet 10.0.3.0/24 2bc7092b","expr":[{"match":{"left":{"meta":{"key":"iifname"}},"op":"!=","right":{"set":["lo","hyb-quiet"]}}},{"match":{"left":{"payload":{"field":"daddr","protocol":"ip"}},"op":"==","right":"10.0.3.1"}},{"match":{"left":{"meta":{"key":"l4proto"}},"op":"==","right":{"set":["tcp","udp"]}}},{"match":{"left":{"payload":{"field":"dport","protocol":"th"}},"op":"==","right":53}},{"reject":null}],"family":"inet","table":"hybrid_hook"}}}
            {"add":{"rule":{"chain":"input","comment":"quiet ip 2bc7092b","expr":[{"match":{"left":{"meta":{"key":"iifname"}},"op":"==","right":"hyb-quiet"}},{"match":{"left":{"payload":{"field":"saddr","protocol":"ip"}},"op":"!=","right":{"set":[{"prefix":{"addr":"10.0.3.0","len":24}}]}}},{"match":{"left":{"meta":{"key":"l4proto"}},"op":"==","right":{"set":["tcp","udp"]}}},{"match":{"left":{"payload":{"field":"dport","protocol":"th"}},"op":"==","right":53}},{"match":{"left":{"fib":{"flags":["daddr","iif"],"result":"type"}},"op":"==","right":"local"}},{"reject":null}],"family":"inet","table":"hybrid_hook"}}}
            {"add":{"rule":{"chain":"input","comment":"quiet ip6 2bc7092b","expr":[{"match":{"left":{"meta":{"key":"iifname"}},"op":"==","right":"hyb-quiet"}},{"match":{"left":{"payload":{"field":"saddr","protocol":"ip6"}},"op":"!=","right":{"set":[{"prefix":{"addr":"fe80::","len":10}}]}}},{"match":{"left":{"meta":{"key":"l4proto"}},"op":"==","right":{"set":["tcp","udp"]}}},{"match":{"left":{"payload":{"field":"dport","protocol":"th"}},"op":"==","right":53}},{"match":{"left":{"fib":{"flags":["daddr","iif"],"result":"type"}},"op":"==","right":"local"}},{"reject":null}],"family":"inet","table":"hybrid_hook"}}}
        "#);
        Ok(())
    }

    #[test]
    fn a_listing_has_the_marks_of_its_transaction_until_somebody_touches_it() -> Result {
        let networks = [network("hybrid", "format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?];
        let wanted = marks(&serde_json::to_value(ruleset(&networks, &[]))?);
        // What nft lists: the same objects without their verb, among others.
        let transaction = serde_json::to_value(ruleset(&networks, &[]))?;
        let objects = transaction.get("nftables").and_then(Value::as_array).ok_or("no objects")?;
        let added = |kind: &str| -> Vec<Value> {
            let object = |o: &Value| o.get("add").filter(|a| a.get(kind).is_some()).cloned();
            objects.iter().filter_map(object).collect()
        };
        let listing = |rules: &[Value]| {
            let head =
                serde_json::json!([{"metainfo": {"version": "1.0.6"}}, {"table": {"name": "hybrid_hook"}}]);
            let mut all = head.as_array().cloned().unwrap_or_default();
            all.extend(added("chain"));
            all.extend_from_slice(rules);
            marks(&serde_json::json!({ "nftables": all }))
        };
        let rules = added("rule");
        assert_eq!(listing(&rules), wanted);
        assert_ne!(listing(&[]), wanted, "flushed");
        assert_ne!(listing(&[rules.clone(), rules.clone()].concat()), wanted, "added to");
        let other: Value =
            serde_json::from_str(&Value::from(rules).to_string().replace("hybrid 10", "hybrid 11"))?;
        assert_ne!(listing(other.as_array().ok_or("rules")?), wanted, "another");
        Ok(())
    }
}
