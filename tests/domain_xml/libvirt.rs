//! What libvirt itself makes of our XML: its test driver parses, keeps and prints domains as the real
//! one does, and needs no daemon.

use hybrid_hook::domain_xml::{
    Domain, NAMESPACE, add, interface_xml, metadata_xml, plan, remove, restore_filter,
};
use hybrid_hook::model::NicRequest;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use virt::connect::Connect;

use crate::{Outcome, corpus, hybrid, networks};

/// virDomainMetadataType's VIR_DOMAIN_METADATA_ELEMENT.
const ELEMENT: i32 = virt::sys::VIR_DOMAIN_METADATA_ELEMENT as i32;

fn connect() -> Outcome<Connect> {
    // Else libvirt prints every error to stderr, and here most are wanted.
    virt::error::clear_error_callback();
    Ok(Connect::open(Some("test:///default"))?)
}

/// Whether libvirt's parser takes a text as XML. A text that libxml2 refuses is named in the message;
/// any other complaint is about what it says.
fn is_xml_to_libvirt(connection: &Connect, text: &str) -> Outcome<bool> {
    match virt::domain::Domain::define_xml(connection, text) {
        Ok(domain) => {
            domain.undefine()?;
            Ok(true)
        }
        Err(error) => Ok(!error.to_string().contains("(domain_definition)")),
    }
}

/// Defines a domain and gives it back as `virsh dumpxml --inactive` prints it.
fn through_libvirt(connection: &Connect, xml: &[u8]) -> Outcome<String> {
    let defined = virt::domain::Domain::define_xml(connection, std::str::from_utf8(xml)?)?;
    let text = defined.get_xml_desc(virt::sys::VIR_DOMAIN_XML_INACTIVE)?;
    defined.undefine()?;
    Ok(text)
}

/// The corpus as the test driver takes it: its own domain type, nothing of the host's.
fn definable(connection: &Connect) -> Outcome<Vec<(String, Vec<u8>)>> {
    let mut list = Vec::new();
    for (name, xml) in corpus("")? {
        let mut text = String::from_utf8(xml)?;
        for kind in ["'kvm'", "\"kvm\"", "'qemu'"] {
            text = text.replacen(kind, "'test'", 1);
        }
        for emulator in ["/usr/bin/qemu-system-x86_64", "/bin/q"] {
            text = text.replace(emulator, "/usr/bin/test-hv");
        }
        for machine in ["pc-q35-7.2", "pc-i440fx-7.2", "q35"] {
            text = text.replace(&format!("arch='x86_64' machine='{machine}'"), "arch='i686'");
            text = text.replace(&format!("arch=\"x86_64\" machine=\"{machine}\""), "arch='i686'");
        }
        if through_libvirt(connection, text.as_bytes()).is_ok() {
            list.push((name, text.into_bytes()));
        }
    }
    Ok(list)
}

#[test]
fn libvirt_keeps_what_we_write_and_lets_go_of_what_we_remove() -> Outcome {
    let connection = connect()?;
    let all = networks()?;
    let network = hybrid()?;
    let wish = NicRequest {
        ip: Some("10.0.1.200".parse()?),
        containers: Some("label=app=<shop>,name=\"x\"".parse()?),
        ..NicRequest::on(network.name.clone())
    };
    let mut tried = Vec::new();
    for (name, xml) in definable(&connection)? {
        let before = Domain::read(&xml)?;
        // A domain without a UUID gets another each time, and the two prints would differ.
        if before.uuid.is_none() || !before.requests.is_empty() {
            continue;
        }
        let without = through_libvirt(&connection, &xml)?;
        let with = through_libvirt(&connection, &add(&xml, &network, &wish)?)?;
        let domain = Domain::read(with.as_bytes())?;
        let plans = plan(&domain, &all)?;
        assert_eq!(plans.first().and_then(|p| p.request.ip), wish.ip, "{name}");
        assert_eq!(plans.first().and_then(|p| p.request.containers.clone()), wish.containers, "{name}");
        assert_eq!(add(with.as_bytes(), &network, &wish)?, with.as_bytes(), "{name}");
        assert_eq!(restore_filter(with.as_bytes(), &all), None, "{name}");
        let back = remove(with.as_bytes(), &network.name, None)?;
        assert_eq!(through_libvirt(&connection, &back)?, without, "{name}");
        tried.push(name);
    }
    assert!(tried.len() >= 5, "the test driver took only {tried:?}");
    Ok(())
}

#[test]
fn libvirt_reads_the_same_domain_as_we_do() -> Outcome {
    let connection = connect()?;
    for (name, xml) in definable(&connection)? {
        let ours = Domain::read(&xml)?;
        let theirs = Domain::read(through_libvirt(&connection, &xml)?.as_bytes())?;
        assert_eq!(ours.name, theirs.name, "{name}");
        assert_eq!(ours.requests, theirs.requests, "{name}");
        // A running domain's print has another type for NICs on networks than its definition.
        if ours.live_id.is_some() {
            continue;
        }
        let sources = |domain: &Domain| -> Vec<_> {
            domain.nics.iter().map(|nic| (nic.source.clone(), nic.teaming.clone())).collect()
        };
        assert_eq!(sources(&ours), sources(&theirs), "{name}");
    }
    Ok(())
}

#[test]
fn the_metadata_alone_is_taken_for_a_running_domain() -> Outcome {
    let connection = connect()?;
    let network = hybrid()?;
    let wish =
        NicRequest { containers: Some("label=a=<&\"'".parse()?), ..NicRequest::on(network.name.clone()) };
    let xml = "<domain type='test'><name>alone</name><memory>1</memory><os><type>hvm</type></os></domain>";
    let with = add(xml.as_bytes(), &network, &wish)?;
    let element = metadata_xml(&with)?.ok_or("no metadata")?;
    let running = virt::domain::Domain::create_xml(&connection, xml, 0)?;
    let flags = virt::sys::VIR_DOMAIN_AFFECT_LIVE;
    running.set_metadata(ELEMENT, Some(&element), Some("hybrid"), Some(NAMESPACE), flags)?;
    let now = running.get_xml_desc(0)?;
    running.destroy()?;
    assert_eq!(Domain::read(now.as_bytes())?.requests, Domain::read(&with)?.requests);
    assert_eq!(metadata_xml(now.as_bytes())?, Some(element));
    assert_eq!(metadata_xml(xml.as_bytes())?, None);
    // The same NIC, in one piece for hotplug.
    let mac = Domain::read(&with)?.nics.first().and_then(|nic| nic.mac).ok_or("no NIC")?;
    assert!(String::from_utf8_lossy(&with).contains(&interface_xml(&network, mac)));
    Ok(())
}

#[test]
fn of_the_bad_corpus_libvirt_parses_only_what_we_refuse_on_purpose() -> Outcome {
    let connection = connect()?;
    let mut parsed = Vec::new();
    for (name, xml) in corpus("bad")? {
        let Some(text) = std::str::from_utf8(&xml).ok().filter(|text| !text.contains('\0')) else { continue };
        if is_xml_to_libvirt(&connection, text)? {
            parsed.push(name);
        }
    }
    assert_eq!(parsed, ["declared-latin1", "entities", "namespaced", "network", "no-name"]);
    Ok(())
}

#[test]
fn what_we_read_libvirt_reads() -> Outcome {
    let connection = connect()?;
    TestRunner::default()
        .run(&crate::anything::damaged(), |xml| {
            if Domain::read(&xml).is_err() {
                return Ok(());
            }
            let text = std::str::from_utf8(&xml).map_err(|e| TestCaseError::fail(e.to_string()))?;
            let read =
                is_xml_to_libvirt(&connection, text).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert!(read, "libvirt refuses {text}");
            Ok(())
        })
        // Its own words end with a list of bytes.
        .map_err(|e| e.to_string().lines().take(40).collect::<Vec<_>>().join("\n").into())
}
