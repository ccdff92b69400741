//! Properties that hold for every input: nothing panics, every rewrite can be undone.

use hybrid_hook::domain_xml::{Domain, Glance, add, plan, remove, restore_filter};
use hybrid_hook::model::{Network, NicRequest};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestCaseError;

use crate::{corpus, networks};

fn all() -> Vec<Network> {
    networks().unwrap_or_default()
}

/// Everything that is ever done to a text from outside.
fn put_through(xml: &[u8]) -> Result<(), TestCaseError> {
    let all = all();
    let glance = Glance::of(xml);
    let _ = restore_filter(xml, &all);
    let read = Domain::read(xml);
    if let Ok(domain) = &read {
        prop_assert!(glance.mentions_us || domain.requests.is_empty());
        let ours = !plan(domain, &all).is_ok_and(|plans| plans.is_empty());
        prop_assert!(glance.concerns(&all) || !ours);
    }
    for network in &all {
        let removed = remove(xml, &network.name, None);
        let wish = NicRequest::on(network.name.clone());
        let Ok(once) = add(xml, network, &wish) else { continue };
        prop_assert_eq!(&add(&once, network, &wish).map_err(fail)?, &once);
        // Where nothing of it was there, it can be undone to the byte.
        if removed.is_ok_and(|removed| removed == xml) {
            let back = remove(&once, &network.name, None).map_err(fail)?;
            prop_assert_eq!(String::from_utf8_lossy(&back), String::from_utf8_lossy(xml));
        }
    }
    Ok(())
}

fn fail(error: impl std::fmt::Display) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

/// A domain of the corpus with some bytes cut out, doubled, put in, or the end cut off.
pub(crate) fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let files: Vec<Vec<u8>> = corpus("").unwrap_or_default().into_iter().map(|(_, xml)| xml).collect();
    let byte = prop_oneof![select(b"<>&;'\"/=:![]-? \n\t".to_vec()), any::<u8>()];
    let damage = proptest::collection::vec((any::<Index>(), any::<Index>(), 0_u8..5, byte), 1..4);
    (select(files), damage).prop_map(|(mut xml, damage)| {
        for (at, to, how, byte) in damage {
            let (a, b) = (at.index(xml.len() + 1), to.index(xml.len() + 1));
            let (a, b) = (a.min(b), a.max(b));
            match how {
                0 => xml.truncate(b),
                1 => drop(xml.drain(a..b.min(a + 40))),
                2 => {
                    let part = xml.get(a..b.min(a + 200)).unwrap_or_default().to_vec();
                    xml.splice(b..b, part);
                }
                3 => xml.insert(a, byte),
                _ => {
                    if let Some(there) = xml.get_mut(a) {
                        *there = byte;
                    }
                }
            }
        }
        xml
    })
}

/// A domain in any of the shapes that people and programs write.
fn domain() -> impl Strategy<Value = String> {
    let newline = select(vec!["\n", "\n", "\r\n", "", "\n\n"]);
    let unit = select(vec!["  ", "\t", "    ", ""]);
    let metadata = select(vec![
        "",
        "<metadata/>",
        "<metadata\t/>",
        "<metadata></metadata>",
        "<metadata>  </metadata >",
        "<metadata>@2</metadata>",
        "<metadata>@2<o:x xmlns:o='urn:o'>@3<o:y/>@2</o:x>@1</metadata>",
        "<metadata><x xmlns='urn:o'/></metadata>",
        "<metadata><!-- > --></metadata>",
        "<metadata>@2<h:networks xmlns:h='urn:hybrid-hook:domain:1'/>@1</metadata>",
        "<metadata><h:networks xmlns:h='urn:hybrid-hook:domain:1'></h:networks></metadata>",
        "<metadata>@2<networks xmlns='urn:hybrid-hook:domain:1' >@3</networks>@1</metadata>",
    ]);
    let nic = select(vec![
        "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='hybr0'/></interface>",
        "<interface type='bridge'>@3<mac address='52:54:00:00:00:02'/>@3<source bridge='hyb-lab'/>@2</interface>",
        "<interface type='network'><source network='hybrid-net'/></interface>",
        "<interface type='user'/>",
        "<interface type='bridge'><source bridge='br0'/></interface><!-- lan -->",
        "<disk/>",
        "<![CDATA[]]>",
        "<?pi?>",
    ]);
    let devices = prop_oneof![
        select(vec![
            "",
            "<devices/>",
            "<devices />",
            "<devices></devices>",
            "<devices>@1</devices>",
            "<devices> </devices>"
        ])
        .prop_map(str::to_owned),
        proptest::collection::vec((nic, any::<bool>()), 1..5).prop_map(|nics| {
            let nics: String =
                nics.iter().map(|(nic, line)| format!("{}{nic}", if *line { "@2" } else { "" })).collect();
            format!("<devices>{nics}@1</devices>")
        }),
    ];
    let head = select(vec!["", "\u{feff}", "<?xml version='1.0'?>@0", "<!-- c -->"]);
    let name = select(vec!["<name>a</name>", "<name\n>b&amp;</name >", "<name><![CDATA[<c>]]></name>"]);
    let tail = select(vec!["", "@0", "<!-- end -->", "@0<!-- end -->@0"]);
    (head, name, metadata, devices, tail, newline, unit, any::<bool>()).prop_map(
        |(head, name, metadata, devices, tail, newline, unit, swap)| {
            let (one, two) = if swap { (devices.as_str(), metadata) } else { (metadata, devices.as_str()) };
            let parts: String =
                [name, one, two].iter().filter(|p| !p.is_empty()).map(|p| format!("@1{p}")).collect();
            let mut text = format!("{head}<domain type='kvm'>{parts}@0</domain>{tail}");
            for depth in 0..4 {
                let line = if newline.is_empty() {
                    String::new()
                } else {
                    format!("{newline}{}", unit.repeat(depth))
                };
                text = text.replace(&format!("@{depth}"), &line);
            }
            text
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        put_through(&bytes)?;
    }

    #[test]
    fn a_damaged_domain_is_survived(xml in damaged()) {
        put_through(&xml)?;
    }

    #[test]
    fn every_rewrite_can_be_undone(
        xml in domain(),
        come in proptest::collection::vec((0_usize..3, any::<bool>(), proptest::option::of(1_u8..6)), 1..6),
        go in Just(vec![0_usize, 1, 2]).prop_shuffle(),
    ) {
        put_through(xml.as_bytes())?;
        let all = all();
        let mut text = xml.clone().into_bytes();
        for (which, named, mac) in come {
            let Some(network) = all.get(which) else { continue };
            let wish = NicRequest {
                hostname: if named { "vm".parse().ok() } else { None },
                mac: mac.and_then(|m| format!("52:54:00:00:00:{m:02x}").parse().ok()),
                ..NicRequest::on(network.name.clone())
            };
            // A wish may be refused, for a MAC that is elsewhere; then nothing has changed.
            if let Ok(new) = add(&text, network, &wish) {
                prop_assert_eq!(&add(&new, network, &wish).map_err(fail)?, &new);
                text = new;
            }
        }
        for network in go.iter().filter_map(|i| all.get(*i)) {
            text = remove(&text, &network.name, None).map_err(fail)?;
        }
        prop_assert_eq!(String::from_utf8_lossy(&text), xml);
    }
}
