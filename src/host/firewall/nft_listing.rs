//! Reads what `nft -j list ruleset` prints (libnftables-json(5)), as loose JSON: other people's rules may
//! say what no library models. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::packet::{Chain, Chains, Condition, On, Step, Target};

/// A table, and which of its chains the kernel calls for filtering.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) chains: Chains,
    /// Hook (`input`, `forward`) and chain name.
    pub(super) bases: Vec<(String, String)>,
}

/// Every table by family and name.
pub(super) fn parse(listing: &Value) -> BTreeMap<(String, String), Listed> {
    let mut tables: BTreeMap<(String, String), Listed> = BTreeMap::new();
    let objects = listing.get("nftables").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for object in objects {
        if let Some(chain) = object.get("chain") {
            let (key, name) = ((word(chain, "family"), word(chain, "table")), word(chain, "name"));
            let table = tables.entry(key).or_default();
            table.chains.entry(name.clone()).or_default().drops = word(chain, "policy") == "drop";
            if word(chain, "type") == "filter" {
                table.bases.push((word(chain, "hook"), name));
            }
        } else if let Some(rule) = object.get("rule") {
            let (key, name) = ((word(rule, "family"), word(rule, "table")), word(rule, "chain"));
            let chain: &mut Chain = tables.entry(key).or_default().chains.entry(name).or_default();
            let expr = rule.get("expr").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            steps(expr, &mut chain.steps);
        }
    }
    tables
}

fn word(object: &Value, key: &str) -> String {
    object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A rule is one step; a verdict map is one for each of its entries.
fn steps(expr: &[Value], into: &mut Vec<Step>) {
    let mut conditions = Vec::new();
    for statement in expr {
        let Some((kind, body)) = statement.as_object().and_then(|o| o.iter().next()) else { continue };
        match kind.as_str() {
            "match" => conditions.extend(condition(body)),
            "counter" | "log" | "mangle" | "notrack" | "comment" => {}
            "vmap" => {
                let entries = body.pointer("/data/set").and_then(Value::as_array);
                for entry in entries.map(Vec::as_slice).unwrap_or_default() {
                    let (Some(key), Some(verdict)) = (entry.get(0), entry.get(1)) else { continue };
                    let Some(target) = target(verdict) else { continue };
                    let mut conditions = conditions.clone();
                    conditions.extend(asked(body.get("key").unwrap_or(&Value::Null), key, false));
                    into.push(Step { conditions, target });
                }
                // What none of them fits goes on behind the map.
            }
            _ => match target(statement) {
                Some(target) => {
                    into.push(Step { conditions, target });
                    return;
                }
                None => conditions.push(Condition { on: On::Unknown, negated: false }),
            },
        }
    }
}

fn target(verdict: &Value) -> Option<Target> {
    let (kind, body) = verdict.as_object()?.iter().next()?;
    Some(match kind.as_str() {
        "accept" => Target::Accept,
        "drop" | "reject" => Target::Drop,
        "return" => Target::Return,
        "jump" => Target::Jump(word(body, "target")),
        "goto" => Target::Goto(word(body, "target")),
        "continue" => Target::Continue,
        _ => return None,
    })
}

fn condition(body: &Value) -> Vec<Condition> {
    let negated = match word(body, "op").as_str() {
        "==" | "in" => false,
        "!=" => true,
        _ => return vec![Condition { on: On::Unknown, negated: false }],
    };
    let null = Value::Null;
    asked(body.get("left").unwrap_or(&null), body.get("right").unwrap_or(&null), negated)
}

fn asked(left: &Value, right: &Value, negated: bool) -> Vec<Condition> {
    let values = match right.get("set").unwrap_or(right) {
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    let words = || -> Option<Vec<String>> { values.iter().map(|v| v.as_str().map(str::to_owned)).collect() };
    let (protocol, field) = (
        left.pointer("/payload/protocol").and_then(Value::as_str).unwrap_or_default(),
        left.pointer("/payload/field").and_then(Value::as_str).unwrap_or_default(),
    );
    let meta = left.pointer("/meta/key").and_then(Value::as_str).unwrap_or_default();
    let on = match (meta, protocol, field) {
        ("iifname" | "iif", ..) => words().map(On::From),
        ("oifname" | "oif", ..) => words().map(On::To),
        ("l4proto", ..) => words().map(On::Protocol),
        (_, "ip" | "ip6", "protocol" | "nexthdr") => words().map(On::Protocol),
        (_, "udp" | "tcp" | "th", "dport") => values.iter().map(port).collect::<Option<_>>().map(On::Port),
        (_, "ip" | "ip6", "saddr") => values.iter().map(net).collect::<Option<_>>().map(On::Source),
        _ if left.pointer("/ct/key").and_then(Value::as_str) == Some("state") => words().map(On::State),
        _ => None,
    };
    let mut conditions = vec![Condition { on: on.unwrap_or(On::Unknown), negated }];
    if matches!(protocol, "udp" | "tcp") {
        let on = On::Protocol(vec![protocol.to_owned()]);
        conditions.push(Condition { on, negated: false });
    }
    conditions
}

fn port(value: &Value) -> Option<(u16, u16)> {
    let number = |v: &Value| v.as_u64().and_then(|n| u16::try_from(n).ok());
    match value.get("range") {
        Some(range) => Some((number(range.get(0)?)?, number(range.get(1)?)?)),
        None => number(value).map(|p| (p, p)),
    }
}

fn net(value: &Value) -> Option<ipnet::IpNet> {
    match value.get("prefix") {
        Some(prefix) => {
            let address = prefix.get("addr")?.as_str()?.parse().ok()?;
            ipnet::IpNet::new(address, u8::try_from(prefix.get("len")?.as_u64()?).ok()?).ok()
        }
        None => value.as_str()?.parse::<std::net::IpAddr>().ok().map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::{Packet, passes};
    use super::*;

    type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

    #[test]
    fn a_workstation_ruleset_closes_dhcp_until_the_bridge_is_named() -> Result {
        let rules = |extra: &str| {
            format!(
                r#"{{"nftables":[{{"metainfo":{{}}}},{{"table":{{"family":"inet","name":"filter"}}}},
            {{"chain":{{"family":"inet","table":"filter","name":"input","type":"filter","hook":"input","prio":0,"policy":"drop"}}}},
            {{"rule":{{"family":"inet","table":"filter","chain":"input","expr":[{{"vmap":{{"key":{{"ct":{{"key":"state"}}}},
              "data":{{"set":[["established",{{"accept":null}}],["related",{{"accept":null}}],["invalid",{{"drop":null}}]]}}}}}}]}}}},
            {{"rule":{{"family":"inet","table":"filter","chain":"input","expr":[{{"match":{{"op":"==","left":{{"meta":{{"key":"iifname"}}}},"right":"lo"}}}},{{"accept":null}}]}}}},
            {{"rule":{{"family":"inet","table":"filter","chain":"input","expr":[{{"match":{{"op":"==","left":{{"payload":{{"protocol":"tcp","field":"dport"}}}},"right":22}}}},{{"counter":{{"packets":0,"bytes":0}}}},{{"accept":null}}]}}}}{extra}]}}"#
            )
        };
        let dhcp = Packet {
            from: Some("hybr0"),
            to: None,
            protocol: "udp",
            port: Some(67),
            source: None,
            answer: false,
        };
        let closed = |extra: &str| -> Result<bool> {
            let tables = parse(&serde_json::from_str(&rules(extra))?);
            let table = tables.get(&("inet".into(), "filter".into())).ok_or("the table")?;
            assert_eq!(table.bases, [("input".to_owned(), "input".to_owned())]);
            Ok(!passes(&table.chains, "input", &dhcp))
        };
        assert!(closed("")?);
        let named = r#",{"rule":{"family":"inet","table":"filter","chain":"input","expr":[
            {"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":{"set":["hybr0","eth1"]}}},
            {"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":{"set":[53,{"range":[60,70]}]}}},
            {"accept":null}]}}"#;
        assert!(!closed(named)?);
        assert!(closed(&named.replace("hybr0", "hybr1"))?);
        let odd = named.replace(r#"{"accept":null}"#, r#"{"no such statement":1},{"accept":null}"#);
        assert!(closed(&odd)?, "a rule that is not understood opens nothing");
        Ok(())
    }
}
