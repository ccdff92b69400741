//! What we need of libvirt's XML, and the XML that we write. Pure.

use std::net::IpAddr;

use hybrid_hook::model::{DockerName, Fault, InterfaceName, Result, Uuid};
use ipnet::IpNet;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::{BytesEnd, BytesStart, Event};
use quick_xml::{Reader, Writer, XmlVersion};

/// The XML of a network on a bridge of ours. libvirt takes no `<ip>`, `<dns>` or `<dhcp>` there.
pub(crate) fn network(name: &DockerName, uuid: Uuid, bridge: &InterfaceName) -> String {
    let (name, bridge) = (escape(name.as_str()), escape(bridge.as_str()));
    format!(
        "<network><name>{name}</name><uuid>{uuid}</uuid><forward mode='bridge'/><bridge name='{bridge}'/></network>"
    )
}

/// What a network's XML says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct NetworkFacts {
    /// How it forwards.
    pub(crate) forward: Option<String>,
    /// Its bridge.
    pub(crate) bridge: Option<String>,
    /// The subnets of its `<ip>` elements.
    pub(crate) subnets: Vec<IpNet>,
}

/// Reads a network's XML as libvirt prints it.
pub(crate) fn network_facts(xml: &str) -> NetworkFacts {
    let mut facts = NetworkFacts::default();
    walk(xml, |path, element| match path {
        // A <forward> without a mode is nat (formatnetwork.html, "Connectivity").
        ["network", "forward"] => {
            facts.forward = Some(attribute(element, "mode").unwrap_or_else(|| "nat".to_owned()));
        }
        ["network", "bridge"] => facts.bridge = attribute(element, "name"),
        ["network", "ip"] => facts.subnets.extend(subnet(element)),
        _ => {}
    });
    facts
}

/// The subnet of an `<ip>` element: by `prefix`, by `netmask`, else by libvirt's defaults, which for
/// IPv4 are the address's class.
fn subnet(element: &BytesStart<'_>) -> Option<IpNet> {
    let address: IpAddr = attribute(element, "address")?.parse().ok()?;
    let by_prefix = attribute(element, "prefix").and_then(|p| p.parse().ok());
    let by_netmask = || {
        let mask: IpAddr = attribute(element, "netmask")?.parse().ok()?;
        ipnet::ip_mask_to_prefix(mask).ok()
    };
    let by_class = match address {
        IpAddr::V4(a) => match a.octets() {
            [0..128, ..] => 8,
            [128..192, ..] => 16,
            _ => 24,
        },
        IpAddr::V6(_) => 64,
    };
    IpNet::new(address, by_prefix.or_else(by_netmask).unwrap_or(by_class)).ok().map(|net| net.trunc())
}

/// Whether a domain's XML names the libvirt network in a NIC. The running domain's NIC has
/// `type='bridge'` then, and still the network in its source.
pub(crate) fn uses_network(domain: &str, network: &str) -> bool {
    let mut found = false;
    walk(domain, |path, element| {
        if path == ["domain", "devices", "interface", "source"] {
            found |= attribute(element, "network").as_deref() == Some(network);
        }
    });
    found
}

/// The MACs of a domain's NICs.
pub(crate) fn macs_of_nics(domain: &str) -> Vec<String> {
    let mut macs = Vec::new();
    walk(domain, |path, element| {
        if path == ["domain", "devices", "interface", "mac"] {
            macs.extend(attribute(element, "address"));
        }
    });
    macs
}

/// The MAC of an `<interface>` element.
pub(crate) fn mac_of_nic(device: &str) -> Option<String> {
    let mut mac = None;
    walk(device, |path, element| {
        if path == ["interface", "mac"] {
            mac = mac.take().or_else(|| attribute(element, "address"));
        }
    });
    mac
}

/// The text of the first element at a path.
pub(crate) fn text_at(xml: &str, wanted: &[&str]) -> Option<String> {
    let mut reader = Reader::from_str(xml);
    let mut path: Vec<String> = Vec::new();
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => path.push(start.name().as_ref().to_owned()),
            Event::End(_) => {
                path.pop();
            }
            Event::Text(text) if path == wanted => return Some(text.into_inner().into_owned()),
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// An element of the namespace without its prefix, as virDomainSetMetadata wants it: libvirt adds
/// prefix and declaration itself, and refuses one that is there already. An element that has no
/// namespace stays as it is.
pub(crate) fn without_prefix(element: &str, namespace: &str) -> Result<String> {
    let bad = |why: String| Fault::usage(format!("the metadata element is no XML element: {why}"));
    let mut reader = Reader::from_str(element.trim());
    let mut writer = Writer::new(Vec::new());
    let mut prefix: Option<String> = None;
    let (mut depth, mut roots) = (0_u32, 0_u32);
    loop {
        let event = reader.read_event().map_err(|e| bad(e.to_string()))?;
        if depth == 0 {
            match &event {
                Event::Start(root) | Event::Empty(root) if roots == 0 => {
                    roots += 1;
                    prefix = prefix_of(root, namespace)?;
                }
                Event::Eof if roots == 1 => break,
                _ => return Err(bad("it must be one element and nothing else".to_owned())),
            }
        }
        let strip = |name: &str| -> Option<String> {
            name.split_once(':')
                .filter(|(p, _)| Some(*p) == prefix.as_deref())
                .map(|(_, local)| local.to_owned())
        };
        let stripped = match event {
            Event::Start(start) => {
                depth += 1;
                Event::Start(restart(&start, strip(start.name().as_ref()), prefix.as_deref(), namespace)?)
            }
            Event::Empty(start) => {
                Event::Empty(restart(&start, strip(start.name().as_ref()), prefix.as_deref(), namespace)?)
            }
            Event::End(end) => {
                depth = depth.saturating_sub(1);
                match strip(end.name().as_ref()) {
                    Some(local) => Event::End(BytesEnd::new(local)),
                    None => Event::End(end),
                }
            }
            Event::Eof => return Err(bad("it does not end".to_owned())),
            other => other,
        };
        writer.write_event(stripped).map_err(|e| bad(e.to_string()))?;
    }
    String::from_utf8(writer.into_inner()).map_err(|e| bad(e.to_string()))
}

/// The prefix that the root itself binds to the namespace and carries.
fn prefix_of(root: &BytesStart<'_>, namespace: &str) -> Result<Option<String>> {
    let name = root.name();
    let Some((prefix, _)) = name.as_ref().split_once(':') else { return Ok(None) };
    if attribute(root, &format!("xmlns:{prefix}")).as_deref() == Some(namespace) {
        Ok(Some(prefix.to_owned()))
    } else {
        Err(Fault::usage(format!("the metadata element is not of the namespace {namespace}")))
    }
}

/// The same element under its new name, without the declaration of the namespace.
fn restart(
    start: &BytesStart<'_>,
    name: Option<String>,
    prefix: Option<&str>,
    namespace: &str,
) -> Result<BytesStart<'static>> {
    let mut fresh = BytesStart::new(name.unwrap_or_else(|| start.name().as_ref().to_owned()));
    let declaration = prefix.map_or_else(|| "xmlns".to_owned(), |p| format!("xmlns:{p}"));
    for attribute in start.attributes() {
        let mut attribute =
            attribute.map_err(|e| Fault::usage("the metadata element is no XML element").because(e))?;
        if attribute.key.as_ref() == declaration && attribute.value == namespace {
            continue;
        }
        // It is written between double quotes, whichever it had.
        attribute.value = attribute.value.replace('"', "&quot;").into();
        fresh.push_attribute(attribute);
    }
    Ok(fresh)
}

/// Calls `seen` with each element and the names from the root to it. Stops at what is no XML.
fn walk(xml: &str, mut seen: impl FnMut(&[&str], &BytesStart<'_>)) {
    let mut reader = Reader::from_str(xml);
    let mut path: Vec<String> = Vec::new();
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => {
                path.push(start.name().as_ref().to_owned());
                seen(&path.iter().map(String::as_str).collect::<Vec<_>>(), &start);
            }
            Ok(Event::Empty(start)) => {
                path.push(start.name().as_ref().to_owned());
                seen(&path.iter().map(String::as_str).collect::<Vec<_>>(), &start);
                path.pop();
            }
            Ok(Event::End(_)) => {
                path.pop();
            }
            Ok(Event::Eof) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = element.try_get_attribute(name).ok()??;
    let value =
        attribute.normalized_value_with(XmlVersion::Implicit1_0, 1, resolve_predefined_entity).ok()?;
    Some(value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    const URN: &str = "urn:hybrid-hook:domain:1";

    #[test]
    fn our_network_is_a_bridge_and_nothing_else() -> Outcome {
        let uuid = "2404765c-db90-8c00-ac65-7d3d78677cc4".parse()?;
        let text = network(&"hybrid-net".parse()?, uuid, &"hybr0".parse()?);
        assert_eq!(
            text,
            "<network><name>hybrid-net</name><uuid>2404765c-db90-8c00-ac65-7d3d78677cc4</uuid>\
             <forward mode='bridge'/><bridge name='hybr0'/></network>"
        );
        let facts = network_facts(&text);
        assert_eq!((facts.forward.as_deref(), facts.bridge.as_deref()), (Some("bridge"), Some("hybr0")));
        Ok(())
    }

    #[test]
    fn every_way_to_write_a_subnet_is_read() {
        let text = "<network connections='1'><name>d</name><forward><nat/></forward><bridge name='virbr0' stp='on'/>
            <ip address='192.168.122.1' netmask='255.255.255.0'><dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp></ip>
            <ip address='172.16.5.1'/><ip address='10.1.1.1' prefix='20'/><ip address='192.0.2.1'/>
            <ip family='ipv6' address='fd00:1::1' prefix='48'/><ip family='ipv6' address='fd00:2::1'/><ip address='x'/></network>";
        let facts = network_facts(text);
        let subnets: Vec<_> = facts.subnets.iter().map(ToString::to_string).collect();
        assert_eq!(
            subnets,
            [
                "192.168.122.0/24",
                "172.16.0.0/16",
                "10.1.0.0/20",
                "192.0.2.0/24",
                "fd00:1::/48",
                "fd00:2::/64"
            ]
        );
        assert_eq!(facts.forward.as_deref(), Some("nat"));
    }

    #[test]
    fn a_nic_on_a_network_is_found_running_or_not() {
        let domain = |source: &str| {
            format!(
                "<domain><devices><interface type='bridge'><mac address='52:54:00:00:00:01'/>{source}</interface></devices></domain>"
            )
        };
        assert!(uses_network(&domain("<source network='a&amp;b' portid='1' bridge='hybr0'/>"), "a&b"));
        assert!(!uses_network(&domain("<source bridge='a'/>"), "a"));
        assert!(!uses_network("<domain><metadata><source network='a'/></metadata></domain>", "a"));
        assert_eq!(macs_of_nics(&domain("")), ["52:54:00:00:00:01"]);
        assert_eq!(mac_of_nic("<interface type='x'><mac address='A'/></interface>").as_deref(), Some("A"));
        assert_eq!(
            text_at("<domain><name>a</name><uuid>u</uuid></domain>", &["domain", "uuid"]).as_deref(),
            Some("u")
        );
    }

    #[test]
    fn a_prefix_goes_and_everything_else_stays() -> Outcome {
        let full = format!(
            "<hybrid:networks xmlns:hybrid=\"{URN}\" a='1 &lt; 2'><!-- c --><hybrid:network name=\"x\"/><o:k xmlns:o='u' q='\"'>t</o:k></hybrid:networks>"
        );
        assert_eq!(
            without_prefix(&full, URN)?,
            r#"<networks a="1 &lt; 2"><!-- c --><network name="x"/><o:k xmlns:o="u" q="&quot;">t</o:k></networks>"#
        );
        assert_eq!(without_prefix("<networks/>", URN)?, "<networks/>");
        let by_default = format!("<networks xmlns='{URN}'><network/></networks>");
        assert_eq!(without_prefix(&by_default, URN)?, "<networks><network/></networks>");
        Ok(())
    }

    #[test]
    fn what_is_no_single_element_of_ours_is_refused() {
        for bad in [
            "",
            "x",
            "<a",
            "<a>",
            "<a/><b/>",
            "<a></b>",
            "<h:a/>",
            "<h:a xmlns:h='urn:other'/>",
            "<!-- x --><a/>",
        ] {
            assert!(without_prefix(bad, URN).is_err(), "{bad:?}");
        }
    }
}
