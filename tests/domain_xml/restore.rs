//! The filter for `restore` and `migrate`.

use hybrid_hook::domain_xml::{Domain, add, plan, restore_filter};
use hybrid_hook::model::NicRequest;

use crate::{Outcome, corpus, file, hybrid, networks};

#[test]
fn nothing_is_printed_where_nothing_changes() -> Outcome {
    let all = networks()?;
    for (name, xml) in corpus("")? {
        assert_eq!(restore_filter(&xml, &all), None, "{name}");
    }
    for (name, xml) in corpus("bad")? {
        assert_eq!(restore_filter(&xml, &all), None, "{name}");
    }
    Ok(())
}

#[test]
fn a_renamed_bridge_changes_its_name_and_not_a_byte_more() -> Outcome {
    let mut network = hybrid()?;
    let xml = file("live.xml")?;
    network.bridge = "newbr0".parse()?;
    let filtered = restore_filter(&xml, std::slice::from_ref(&network)).ok_or("nothing changed")?;
    let wanted = String::from_utf8(xml)?.replace("<source bridge='hybr0'/>", "<source bridge='newbr0'/>");
    assert_eq!(String::from_utf8_lossy(&filtered), wanted);
    assert_eq!(restore_filter(&filtered, std::slice::from_ref(&network)), None);
    assert_eq!(plan(&Domain::read(&filtered)?, &[network])?.len(), 1);
    Ok(())
}

#[test]
fn a_renamed_libvirt_network_too() -> Outcome {
    let mut network = hybrid()?;
    let xml = add(&file("snapshot.xml")?, &network, &NicRequest::on(network.name.clone()))?;
    network.libvirt_network = "other-net".parse()?;
    let filtered = restore_filter(&xml, std::slice::from_ref(&network)).ok_or("nothing changed")?;
    let wanted = String::from_utf8(xml)?.replace("'hybrid-net'", "'other-net'");
    assert_eq!(String::from_utf8_lossy(&filtered), wanted);
    Ok(())
}

#[test]
fn a_running_domains_print_names_network_and_bridge_and_both_change() -> Outcome {
    let mut network = hybrid()?;
    let xml = file("lab-started.xml")?;
    network.bridge = "newbr0".parse()?;
    let filtered = restore_filter(&xml, std::slice::from_ref(&network)).ok_or("nothing changed")?;
    let wanted = String::from_utf8(xml.clone())?.replace("bridge='hybr0'", "bridge='newbr0'");
    assert_eq!(String::from_utf8_lossy(&filtered), wanted);
    network.libvirt_network = "new-net".parse()?;
    let filtered = restore_filter(&xml, std::slice::from_ref(&network)).ok_or("nothing changed")?;
    assert_eq!(
        String::from_utf8_lossy(&filtered),
        wanted.replace("network='hybrid-net'", "network='new-net'")
    );
    assert_eq!(restore_filter(&filtered, &[network]), None);
    Ok(())
}

fn saved(metadata: &str, nics: &[(&str, &str)]) -> String {
    let nics: String = nics
        .iter()
        .map(|(kind, rest)| format!("<interface type=\"{kind}\">{rest}<model type='e1000'/></interface>"))
        .collect();
    format!(
        "<domain><name>x</name><metadata><n:networks xmlns:n='urn:hybrid-hook:domain:1'>{metadata}\
         </n:networks></metadata><devices>{nics}</devices></domain>"
    )
}

#[test]
fn only_the_nic_that_is_meant_is_touched() -> Outcome {
    const MAC: &str = "<mac address='52:54:00:00:00:01'/>";
    let with_mac = "<n:network name='hybrid' mac='52:54:00:00:00:01'/>";
    let old = &format!("{MAC}<source bridge = \"old\"/>") as &str;
    let other = "<mac address='52:54:00:00:00:02'/><source bridge='old'/>";
    let all = networks()?;
    let filter =
        |xml: &str| restore_filter(xml.as_bytes(), &all).map(|b| String::from_utf8_lossy(&b).into_owned());

    let two = saved(with_mac, &[("bridge", other), ("bridge", old)]);
    assert_eq!(filter(&two), Some(two.replace("bridge = \"old\"", "bridge = \"hybr0\"")));
    // Without a mac only a single NIC is meant for sure.
    let alone = saved("<n:network name='hybrid'/>", &[("bridge", old)]);
    assert_eq!(filter(&alone), Some(alone.replace("\"old\"", "\"hybr0\"")));
    let nic_of_two = saved("<n:network name='hybrid'/>", &[("bridge", old), ("bridge", other)]);
    assert_eq!(filter(&nic_of_two), None);
    // Nor are NICs of other kinds, networks that nobody knows, or NICs without metadata.
    let direct = saved(with_mac, &[("direct", &format!("{MAC}<source dev='old'/>"))]);
    assert_eq!(filter(&direct), None);
    assert_eq!(filter(&saved("<n:network name='gone'/>", &[("bridge", old)])), None);
    assert_eq!(filter(&saved("", &[("bridge", old)])), None);
    Ok(())
}
