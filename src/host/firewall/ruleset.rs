//! Our table as it should be. Pure.

use std::borrow::Cow;

use nftables::expr::{Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, SetItem};
use nftables::schema::{Chain, NfCmd, NfListObject, NfObject, Nftables, Rule, Table};
use nftables::stmt::{Match, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use serde_json::Value;

use crate::model::mac::fnv1a;
use crate::model::{Family, Network};

/// The name of our table, in the family `inet`.
pub const TABLE: &str = "hybrid_hook";
const CHAIN: &str = "postrouting";
/// Where source NAT is done (nft(8), "srcnat").
const SRCNAT: i32 = 100;

/// The transaction that makes our table, whatever it was before: libnftables-json(5).
///
/// What leaves a subnet of a network with NAT goes out with the host's address. What stays among guests
/// does not, also where br_netfilter brings bridged packets here; nor do multicast and broadcast, for which
/// an answer could never find its way back.
#[must_use]
pub fn ruleset(networks: &[Network]) -> Nftables<'static> {
    let mut objects = removed();
    objects.push(add(NfListObject::Table(table())));
    objects.push(add(NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: CHAIN.into(),
        _type: Some(NfChainType::NAT),
        hook: Some(NfHook::Postrouting),
        prio: Some(SRCNAT),
        policy: Some(NfChainPolicy::Accept),
        ..Chain::default()
    })));
    let rules: Vec<(String, Vec<Statement<'static>>)> = networks
        .iter()
        .filter(|n| n.nat)
        .flat_map(|n| n.families().map(|f| (format!("{} {}", n.name, f.subnet), masquerade(n, f))))
        .collect();
    // nft lists rules in other words than it was given, so they are known again by their comment. The
    // hash is over all of them: one missing, added or of another time and the table is stale.
    let rendering = fnv1a(format!("{rules:?}").as_bytes());
    for (name, expr) in rules {
        objects.push(add(NfListObject::Rule(Rule {
            family: NfFamily::INet,
            table: TABLE.into(),
            chain: CHAIN.into(),
            expr: expr.into(),
            comment: Some(format!("{name} {rendering:08x}").into()),
            ..Rule::default()
        })));
    }
    Nftables { objects: objects.into() }
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
        compare(
            Expression::Named(NamedExpression::Meta(Meta { key: MetaKey::Oifname })),
            Operator::NEQ,
            Expression::String(network.bridge.to_string().into()),
        ),
        Statement::Masquerade(None),
    ]
}

fn compare(left: Expression<'static>, op: Operator, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}

fn field(protocol: &'static str, name: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(PayloadField {
        protocol: protocol.into(),
        field: name.into(),
    })))
}

fn prefix(address: impl Into<Cow<'static, str>>, length: u32) -> Expression<'static> {
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
        let value = serde_json::to_value(ruleset(networks))?;
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
            {"add":{"rule":{"chain":"postrouting","comment":"hybrid 10.0.1.0/24 3ef42113","expr":[{"match":{"left":{"payload":{"field":"saddr","protocol":"ip"}},"op":"==","right":{"prefix":{"addr":"10.0.1.0","len":24}}}},{"match":{"left":{"payload":{"field":"daddr","protocol":"ip"}},"op":"!=","right":{"set":[{"prefix":{"addr":"10.0.1.0","len":24}},{"prefix":{"addr":"224.0.0.0","len":4}},{"prefix":{"addr":"255.255.255.255","len":32}}]}}},{"match":{"left":{"meta":{"key":"oifname"}},"op":"!=","right":"hybr0"}},{"masquerade":null}],"family":"inet","table":"hybrid_hook"}}}
            {"add":{"rule":{"chain":"postrouting","comment":"lab 10.0.2.0/24 3ef42113","expr":[{"match":{"left":{"payload":{"field":"saddr","protocol":"ip"}},"op":"==","right":{"prefix":{"addr":"10.0.2.0","len":24}}}},{"match":{"left":{"payload":{"field":"daddr","protocol":"ip"}},"op":"!=","right":{"set":[{"prefix":{"addr":"10.0.2.0","len":24}},{"prefix":{"addr":"224.0.0.0","len":4}},{"prefix":{"addr":"255.255.255.255","len":32}}]}}},{"match":{"left":{"meta":{"key":"oifname"}},"op":"!=","right":"hyb-lab"}},{"masquerade":null}],"family":"inet","table":"hybrid_hook"}}}
            {"add":{"rule":{"chain":"postrouting","comment":"lab fd00:2::/64 3ef42113","expr":[{"match":{"left":{"payload":{"field":"saddr","protocol":"ip6"}},"op":"==","right":{"prefix":{"addr":"fd00:2::","len":64}}}},{"match":{"left":{"payload":{"field":"daddr","protocol":"ip6"}},"op":"!=","right":{"set":[{"prefix":{"addr":"fd00:2::","len":64}},{"prefix":{"addr":"ff00::","len":8}}]}}},{"match":{"left":{"meta":{"key":"oifname"}},"op":"!=","right":"hyb-lab"}},{"masquerade":null}],"family":"inet","table":"hybrid_hook"}}}
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
            {"add":{"chain":{"family":"inet","hook":"postrouting","name":"postrouting","policy":"accept","prio":100,"table":"hybrid_hook","type":"nat"}}}
        "#);
        Ok(())
    }

    #[test]
    fn a_listing_has_the_marks_of_its_transaction_until_somebody_touches_it() -> Result {
        let networks = [network("hybrid", "format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?];
        let wanted = marks(&serde_json::to_value(ruleset(&networks))?);
        let comment = wanted
            .iter()
            .find_map(|mark| mark.strip_prefix("rule postrouting "))
            .ok_or("a rule has a mark")?
            .to_owned();
        let rule = format!(
            r#"{{"rule":{{"family":"inet","table":"hybrid_hook","chain":"postrouting","handle":2,"comment":{comment},"expr":[{{"masquerade":null}}]}}}}"#
        );
        let listing = |rules: &str| -> Result<Vec<String>> {
            let text = format!(
                r#"{{"nftables":[{{"metainfo":{{"version":"1.0.6"}}}},
                {{"table":{{"family":"inet","name":"hybrid_hook","handle":3}}}},
                {{"chain":{{"family":"inet","table":"hybrid_hook","name":"postrouting","handle":1,"type":"nat","hook":"postrouting","prio":100,"policy":"accept"}}}}{rules}]}}"#
            );
            Ok(marks(&serde_json::from_str(&text)?))
        };
        assert_eq!(listing(&format!(",{rule}"))?, wanted);
        assert_ne!(listing("")?, wanted, "flushed");
        assert_ne!(listing(&format!(",{rule},{rule}"))?, wanted, "added to");
        assert_ne!(listing(&format!(",{}", rule.replace("hybrid 10", "hybrid 11")))?, wanted, "another");
        Ok(())
    }
}
