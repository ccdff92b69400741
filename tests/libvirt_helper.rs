//! The helper against libvirt's own test driver, which needs no daemon and starts afresh with every
//! connection. What needs a real daemon is tested in the lab.

#![cfg(feature = "libvirt")]
#![allow(clippy::indexing_slicing, reason = "a missing element fails the test, as it should")]

use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use hybrid_hook::deadline::Deadline;
use hybrid_hook::host::Change;
use hybrid_hook::host::libvirt::{Affects, DomainRef, Event, Libvirt};
use hybrid_hook::model::network_file::NetworkFile;
use hybrid_hook::model::{Fault, Kind, Network, NetworkName};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const HELPER: &str = env!("CARGO_BIN_EXE_hybrid-libvirt");

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn libvirt(uri: &str) -> Libvirt {
    Libvirt::with(HELPER.into()).connect(uri)
}

fn default() -> Libvirt {
    libvirt("test:///default")
}

fn the_network() -> Result<Network, Box<dyn std::error::Error>> {
    let name: NetworkName = "hybrid".parse()?;
    Ok(NetworkFile::parse("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?.network(&name)?)
}

/// A host of the test driver's that holds what `inside` says.
fn host(inside: &str) -> std::io::Result<(tempfile::NamedTempFile, Libvirt)> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), format!("<node>{inside}</node>"))?;
    let libvirt = libvirt(&format!("test://{}", file.path().display()));
    Ok((file, libvirt))
}

fn domain(name: &str, network: &str) -> String {
    format!(
        "<domain type='test'><name>{name}</name><memory>8192</memory><os><type>hvm</type></os><devices>\
         <interface type='network'><mac address='52:54:00:00:00:01'/><source network='{network}'/></interface>\
         <graphics type='vnc' port='5904' passwd='geheim'/></devices></domain>"
    )
}

fn standing(name: &str, uuid: &str, bridge: &str) -> String {
    format!(
        "<network><name>{name}</name><uuid>{uuid}</uuid><forward mode='bridge'/><bridge name='{bridge}'/></network>"
    )
}

fn refused(result: Result<Change, Fault>, words: &str) {
    let fault = result.err().map(|e| (e.kind(), e.to_string()));
    assert!(
        matches!(&fault, Some((Kind::Refused, text)) if text.contains(words)),
        "expected a refusal with {words:?}, got {fault:?}"
    );
}

#[test]
fn the_version_is_known_with_and_without_a_daemon() -> Outcome {
    let version = default().version(soon())?;
    assert_eq!(version.daemon, Some(version.library));
    let nobody = libvirt("qemu+unix:///system?socket=/nonexistent/socket");
    let version = nobody.version(soon())?;
    assert_eq!(version.daemon, None);
    assert!(version.unreachable.is_some_and(|why| why.contains("/nonexistent/socket")));
    let error = nobody.networks(soon()).err();
    assert_eq!(error.as_ref().map(Fault::kind), Some(Kind::Missing), "{error:?}");
    assert!(error.is_some_and(|e| e.hint_text().is_some_and(|h| h.contains("systemctl start"))));
    Ok(())
}

#[test]
fn domains_are_listed_and_read() -> Outcome {
    let domains = default().domains(true, soon())?;
    assert_eq!(domains.len(), 1);
    assert_eq!((domains[0].name.as_str(), domains[0].id), ("test", Some(1)));
    assert!(domains[0].running && domains[0].persistent && !domains[0].managed_save && !domains[0].autostart);
    assert!(domains[0].xml.as_ref().is_some_and(|xml| xml.contains("<name>test</name>")));
    for which in [DomainRef::Name("test".into()), DomainRef::Uuid(domains[0].uuid.clone())] {
        let text = default().domain(&which, soon())?;
        assert_eq!(text.domain.uuid, domains[0].uuid);
        assert!(text.inactive.is_some() && text.live.is_some());
    }
    Ok(())
}

#[test]
fn a_domain_that_is_not_there_is_missing_and_hostile_names_are_only_names() {
    for name in ["nope", "../../x", "$(reboot)", "", "é", &"a".repeat(300), "a'b\"<c>&"] {
        let error = default().domain(&DomainRef::Name(name.into()), soon()).err();
        assert_eq!(error.as_ref().map(Fault::kind), Some(Kind::Missing), "{name:?}: {error:?}");
    }
    let error = default().domain(&DomainRef::Name("a\0b".into()), soon()).err();
    assert_eq!(error.map(|e| e.kind()), Some(Kind::Usage));
}

#[test]
fn passwords_are_shown_only_to_be_defined_again() -> Outcome {
    let (_file, libvirt) = host(&domain("db", "default"))?;
    let db = DomainRef::Name("db".into());
    let shown = libvirt.domain(&db, soon())?.inactive.unwrap_or_default();
    assert!(shown.contains("vnc") && !shown.contains("geheim"), "{shown}");
    let all = libvirt.domain_to_edit(&db, soon())?.inactive.unwrap_or_default();
    assert!(all.contains("geheim"), "{all}");
    Ok(())
}

#[test]
fn a_domain_is_defined_unless_it_changed_meanwhile() -> Outcome {
    let (_file, libvirt) = host(
        &domain("db", "default")
            .replace("<memory>", "<uuid>c7a5fdbd-edaf-4455-926a-d65c16db1809</uuid><memory>"),
    )?;
    let db = DomainRef::Name("db".into());
    let before = libvirt.domain_to_edit(&db, soon())?.inactive.unwrap_or_default();
    let after = before.replace("8192", "16384");
    assert_eq!(libvirt.define(&after, Some(&before), soon())?.name, "db");
    let error = libvirt.define(&after, Some(&before.replace("8192", "4096")), soon()).err();
    assert_eq!(error.as_ref().map(Fault::kind), Some(Kind::Refused), "{error:?}");
    let error = libvirt.define("<domain>", None, soon()).err().map(|e| e.to_string());
    assert!(error.is_some_and(|e| e.starts_with("libvirt does not take the domain: ") && !e.contains('\n')));
    Ok(())
}

#[test]
fn metadata_is_set_with_a_prefix_or_without() -> Outcome {
    let test = DomainRef::Name("test".into());
    let both = Affects { live: true, config: true };
    let full = "<hybrid:networks xmlns:hybrid='urn:hybrid-hook:domain:1'><hybrid:network name='hybrid'/></hybrid:networks>";
    for element in [Some(full), Some("<networks><network name='hybrid'/></networks>"), None] {
        default().set_metadata(&test, element, both, soon())?;
    }
    let neither = Affects { live: false, config: false };
    let error = default().set_metadata(&test, None, neither, soon()).err();
    assert_eq!(error.map(|e| e.kind()), Some(Kind::Usage));
    for bad in ["", "text", "<a/><b/>", "<x:a xmlns:x='urn:other'/>"] {
        let error = default().set_metadata(&test, Some(bad), both, soon()).err();
        assert_eq!(error.map(|e| e.kind()), Some(Kind::Usage), "{bad:?}");
    }
    Ok(())
}

#[test]
fn a_nic_is_added_once_and_removed_once() -> Outcome {
    let (_file, libvirt) = host(&domain("db", "default"))?;
    let (db, both) = (DomainRef::Name("db".into()), Affects { live: true, config: true });
    let there =
        "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/></interface>";
    // Not even asked of libvirt, which would take it a second time.
    assert_eq!(libvirt.attach(&db, there, both, soon())?, Change::None);
    let other = there.replace(":01", ":02");
    let gone = libvirt.detach(&db, &other, both, soon())?;
    assert!(!gone.changed && !gone.pending);
    Ok(())
}

#[test]
fn networks_show_bridge_and_subnets() -> Outcome {
    let networks = default().networks(soon())?;
    assert_eq!(networks.len(), 1);
    let network = &networks[0];
    assert_eq!((network.name.as_str(), network.bridge.as_deref()), ("default", Some("virbr0")));
    assert!(network.active && network.persistent && !network.autostart);
    assert_eq!(network.subnets.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.168.122.0/24"]);
    Ok(())
}

#[test]
fn our_network_is_made_once() -> Outcome {
    let network = the_network()?;
    assert_eq!(default().ensure_network(&network, soon())?, Change::Made);
    let uuid = network.libvirt_uuid().to_string();
    // The test driver starts what is in its file, but does not autostart it.
    let (_file, libvirt) = host(&standing("hybrid-net", &uuid, "hybr0"))?;
    assert_eq!(libvirt.ensure_network(&network, soon())?, Change::Made);
    let (_file, libvirt) = host(&standing("hybrid-net", &uuid, "br9"))?;
    assert_eq!(libvirt.ensure_network(&network, soon())?, Change::Made);
    let (_file, libvirt) = host(&standing("former-name", &uuid, "hybr0"))?;
    assert_eq!(libvirt.ensure_network(&network, soon())?, Change::Made);
    Ok(())
}

#[test]
fn somebody_elses_network_is_never_touched() -> Outcome {
    let network = the_network()?;
    let other = standing("hybrid-net", "11111111-2222-4333-8444-555555555555", "br9");
    let (_file, libvirt) = host(&other)?;
    refused(libvirt.ensure_network(&network, soon()), "not ours");
    refused(libvirt.remove_network(&network, true, soon()), "not ours");
    Ok(())
}

#[test]
fn a_network_in_use_stays_unless_forced() -> Outcome {
    let network = the_network()?;
    let ours = standing("hybrid-net", &network.libvirt_uuid().to_string(), "br9");
    let (_file, libvirt) = host(&format!("{ours}{}", domain("db", "hybrid-net")))?;
    refused(libvirt.ensure_network(&network, soon()), "\"db\" uses it");
    refused(libvirt.remove_network(&network, false, soon()), "\"db\" uses it");
    assert_eq!(libvirt.remove_network(&network, true, soon())?, Change::Made);
    let (_file, libvirt) = host(&ours)?;
    assert_eq!(libvirt.remove_network(&network, false, soon())?, Change::Made);
    assert_eq!(default().remove_network(&network, false, soon())?, Change::None);
    Ok(())
}

#[test]
fn events_begin_with_ready_and_end_with_their_owner() -> Outcome {
    let (to, from) = channel();
    let events = default().events(to)?;
    assert_eq!(from.recv_timeout(Duration::from_secs(30))?, Event::Ready {});
    drop(events);
    assert_eq!(from.recv_timeout(Duration::from_secs(30)), Err(RecvTimeoutError::Disconnected));
    Ok(())
}

#[test]
fn the_event_helper_ends_when_its_input_closes() -> Outcome {
    let mut child = Command::new(HELPER)
        .args(["--connect", "test:///default", "events"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    drop(child.stdin.take());
    let ends = soon();
    while child.try_wait()?.is_none() {
        assert!(!ends.passed(), "it must end by itself");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(child.wait()?.success());
    Ok(())
}

#[test]
fn a_daemon_that_is_not_there_is_a_gap() -> Outcome {
    let (to, from) = channel();
    let _events = libvirt("qemu+unix:///system?socket=/nonexistent/socket").events(to)?;
    let first = from.recv_timeout(Duration::from_secs(30))?;
    assert!(matches!(&first, Event::Gap { reason } if reason.contains("/nonexistent/socket")), "{first:?}");
    Ok(())
}

#[test]
fn exit_codes_and_answers_are_those_promised() -> Outcome {
    let run = |args: &[&str]| -> Result<(Option<i32>, String, String), Box<dyn std::error::Error>> {
        let out = Command::new(HELPER).args(args).stdin(Stdio::null()).output()?;
        Ok((out.status.code(), String::from_utf8(out.stdout)?, String::from_utf8(out.stderr)?))
    };
    let (code, out, err) = run(&["--connect", "test:///default", "networks"])?;
    assert!(code == Some(0) && out.starts_with("{\"networks\":[{"), "{code:?} {out}");
    assert_eq!(err, "");
    let (code, out, err) =
        run(&["--connect", "test:///default", r#"{"domain":{"domain":{"name":"x"},"secrets":false}}"#])?;
    assert_eq!(code, Some(4));
    assert_eq!(
        out,
        "{\"error\":{\"kind\":\"missing\",\"message\":\"libvirt has no domain \\\"x\\\"\",\"hint\":\"virsh list --all shows them\"}}\n"
    );
    assert_eq!(err, "", "libvirt must not print by itself");
    assert_eq!(run(&["--connect", "test:///default", "reboot"])?.0, Some(2));
    assert_eq!(run(&[])?.0, Some(2));
    Ok(())
}
