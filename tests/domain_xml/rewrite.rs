//! `add` and `remove`: what is written, that it can be undone to the byte, that twice is once.

use hybrid_hook::domain_xml::{Domain, add, match_nics, plan, remove};
use hybrid_hook::model::network_file::NetworkFile;
use hybrid_hook::model::{Fault, Network, NicRequest};

use crate::{Outcome, corpus, file, hybrid, network, networks};

fn plain(network: &Network) -> NicRequest {
    NicRequest::on(network.name.clone())
}

fn full(network: &Network) -> Outcome<NicRequest> {
    Ok(NicRequest {
        ip: Some("10.0.1.200".parse()?),
        hostname: Some("db".parse()?),
        aliases: vec!["pg".parse()?, "sql".parse()?],
        groups: vec!["backend".parse()?],
        containers: Some("label=app=shop,label=tier name=\"<a&b>'".parse()?),
        ..plain(network)
    })
}

/// What a rewrite did, as the lines that are gone and the lines that are new.
fn changes(before: &[u8], after: &[u8]) -> String {
    let (before, after) = (String::from_utf8_lossy(before), String::from_utf8_lossy(after));
    let old: Vec<&str> = before.split_inclusive('\n').collect();
    let new: Vec<&str> = after.split_inclusive('\n').collect();
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let tail = tail.min(old.len() - head).min(new.len() - head);
    let part = |sign: char, lines: &[&str]| {
        lines
            .iter()
            .map(|l| {
                format!("{sign}{}\n", l.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"))
            })
            .collect::<String>()
    };
    // Between the first and the last difference, what both have is shown once.
    let (old, new) = (
        old.get(head..old.len() - tail).unwrap_or_default(),
        new.get(head..new.len() - tail).unwrap_or_default(),
    );
    let mut text = String::new();
    let mut rest = old;
    for line in new {
        match rest.iter().position(|o| o == line) {
            Some(at) => {
                text.push_str(&part('-', rest.get(..at).unwrap_or_default()));
                rest = rest.get(at + 1..).unwrap_or_default();
                if !text.ends_with("...\n") {
                    text.push_str("...\n");
                }
            }
            None => text.push_str(&part('+', &[line])),
        }
    }
    text.push_str(&part('-', rest));
    text
}

#[test]
fn what_is_written_into_each_domain_of_the_corpus() -> Outcome {
    let network = hybrid()?;
    let mut text = String::new();
    for (name, xml) in corpus("")? {
        match add(&xml, &network, &plain(&network)) {
            Ok(after) if after == xml => text.push_str(&format!("== {name}\nunchanged\n")),
            Ok(after) => text.push_str(&format!("== {name}\n{}", changes(&xml, &after))),
            Err(fault) => text.push_str(&format!("== {name}\n{fault}\nhint: {:?}\n", fault.hint_text())),
        }
    }
    insta::assert_snapshot!(text);
    Ok(())
}

#[test]
fn every_wish_is_written_and_escaped() -> Outcome {
    let network = hybrid()?;
    let xml = file("virsh-define.xml")?;
    let after = add(&xml, &network, &full(&network)?)?;
    insta::assert_snapshot!(changes(&xml, &after));
    let read = Domain::read(&after)?;
    let request = read.requests.first().ok_or("no request")?.clone()?;
    assert_eq!(request, NicRequest { mac: request.mac, ..full(&network)? });
    assert_eq!(plan(&read, &[network])?.len(), 1);
    Ok(())
}

#[test]
fn twice_is_once_and_remove_gives_the_bytes_back() -> Outcome {
    let network = hybrid()?;
    for (name, xml) in corpus("")? {
        let known = Domain::read(&xml)?.requests.len();
        for wish in [plain(&network), full(&network)?] {
            let once = add(&xml, &network, &wish).map_err(|e| format!("{name}: {e}"))?;
            assert_eq!(add(&once, &network, &wish)?, once, "{name}");
            assert!(!match_nics(&Domain::read(&once)?, &network).is_empty(), "{name}");
            let back = remove(&once, &network.name, None)?;
            if known == 0 {
                assert_eq!(String::from_utf8_lossy(&back), String::from_utf8_lossy(&xml), "{name}");
            }
            assert_eq!(remove(&back, &network.name, None)?, back, "{name}");
        }
    }
    Ok(())
}

#[test]
fn several_networks_go_in_any_order() -> Outcome {
    let all = networks()?;
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (name, xml) in corpus("")? {
        if !Domain::read(&xml)?.requests.is_empty() {
            continue;
        }
        for come in orders {
            let mut with = xml.clone();
            for network in come.iter().filter_map(|i| all.get(*i)) {
                with = add(&with, network, &plain(network))?;
            }
            assert_eq!(plan(&Domain::read(&with)?, &all)?.len(), 3, "{name}");
            for go in orders {
                let mut back = with.clone();
                for network in go.iter().filter_map(|i| all.get(*i)) {
                    back = remove(&back, &network.name, None)?;
                }
                assert_eq!(
                    String::from_utf8_lossy(&back),
                    String::from_utf8_lossy(&xml),
                    "{name} {come:?} {go:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn metadata_written_by_hand_stays_when_another_network_comes_and_goes() -> Outcome {
    let all = networks()?;
    let lab = all.get(1).ok_or("no lab")?;
    for name in ["live.xml", "default-namespace.xml", "other-prefix.xml"] {
        let xml = file(name)?;
        let with = add(&xml, lab, &plain(lab))?;
        assert!(plan(&Domain::read(&with)?, &all)?.iter().any(|p| p.network == lab.name), "{name}");
        assert_eq!(String::from_utf8_lossy(&remove(&with, &lab.name, None)?), String::from_utf8_lossy(&xml));
    }
    Ok(())
}

#[test]
fn a_second_rewrite_edits_only_what_differs() -> Outcome {
    let network = hybrid()?;
    let xml = file("no-metadata.xml")?;
    let first = add(&xml, &network, &plain(&network))?;
    let second = add(&first, &network, &full(&network)?)?;
    let third = add(&second, &network, &NicRequest { hostname: Some("new".parse()?), ..plain(&network) })?;
    insta::assert_snapshot!(format!("{}\n{}", changes(&first, &second), changes(&second, &third)));
    assert_eq!(remove(&third, &network.name, None)?, xml);
    Ok(())
}

#[test]
fn a_mac_chooses_the_nic() -> Outcome {
    let network = hybrid()?;
    let with =
        |mac: &str| -> Outcome<NicRequest> { Ok(NicRequest { mac: Some(mac.parse()?), ..plain(&network) }) };
    let xml = file("vagrant.xml")?;
    // The one that is on it, a new one, and a second beside either.
    let there = add(&xml, &network, &with("52:54:00:9c:01:fe")?)?;
    assert_eq!(Domain::read(&there)?.nics.len(), 2);
    let made = add(&xml, &network, &with("52:54:00:9c:01:ff")?)?;
    assert_eq!(Domain::read(&made)?.nics.len(), 3);
    let both = add(&there, &network, &with("52:54:00:9c:01:ff")?)?;
    let domain = Domain::read(&both)?;
    assert_eq!((domain.nics.len(), domain.requests.len()), (3, 2));
    assert_eq!(remove(&both, &network.name, Some("52:54:00:9c:01:ff".parse()?))?, there);
    assert_eq!(remove(&both, &network.name, None)?, xml);
    let mut text = String::new();
    for (what, xml, wish) in [
        ("of another bridge", &xml, with("52:54:00:5f:a3:0c")?),
        ("none of two", &both, plain(&network)),
        ("beside an entry without one", &file("default-namespace.xml")?, with("52:54:00:9c:01:ff")?),
    ] {
        let fault = add(xml, &network, &wish).err().ok_or("it was taken")?;
        text.push_str(&format!("{what}: {fault}\n    hint: {}\n", fault.hint_text().unwrap_or_default()));
    }
    insta::assert_snapshot!(text);
    Ok(())
}

#[test]
fn wrong_metadata_can_be_removed_but_not_built_upon() -> Outcome {
    let network = hybrid()?;
    let xml = "<domain><name>x</name><metadata><n:networks xmlns:n='urn:hybrid-hook:domain:1'>\
               <n:network name='hybrid' colour='red'/></n:networks></metadata></domain>";
    assert!(add(xml.as_bytes(), &network, &plain(&network)).is_err_and(|e| e.to_string().contains("colour")));
    let back = remove(xml.as_bytes(), &network.name, None)?;
    assert_eq!(String::from_utf8_lossy(&back), "<domain><name>x</name><metadata></metadata></domain>");
    Ok(())
}

#[test]
fn a_note_that_is_not_ours_is_not_built_upon() -> Outcome {
    let network = hybrid()?;
    let domain = |note: &str| {
        format!(
            "<domain><name>x</name><metadata><n:networks xmlns:n='urn:hybrid-hook:domain:1' {note}>\
             <n:network name='other'/></n:networks></metadata><devices><emulator>q</emulator></devices></domain>"
        )
    };
    let notes = ["before='>metadata=none'", "before=''", "before='devices=empty'", "before='metadata= none'"];
    for xml in notes.map(domain) {
        let fault = add(xml.as_bytes(), &network, &plain(&network)).err().ok_or("was taken")?;
        assert!(fault.to_string().contains("before"), "{fault}");
        assert_eq!(remove(xml.as_bytes(), &network.name, None)?, xml.as_bytes());
    }
    let ours = domain("before='metadata=none'");
    let with = add(ours.as_bytes(), &network, &plain(&network))?;
    assert_eq!(String::from_utf8(remove(&with, &network.name, None)?)?, ours);
    Ok(())
}

#[test]
fn a_clone_takes_a_second_network_and_gives_it_back() -> Outcome {
    let (network, lab) = (hybrid()?, network("lab", "10.0.2.0/24")?);
    let bare = b"<domain><name>x</name><devices/></domain>";
    let made = String::from_utf8(add(bare, &network, &plain(&network))?)?;
    assert!(made.contains("devices=closed"), "{made}");
    // As virt-clone writes it: the NIC has another MAC than the entry.
    let clone = made.replace("<mac address='52:54:00", "<mac address='52:54:01");
    assert_ne!(clone, made);
    let first = add(clone.as_bytes(), &network, &plain(&network))?;
    let both = add(&first, &lab, &plain(&lab))?;
    assert_eq!(String::from_utf8(remove(&both, &lab.name, None)?)?, String::from_utf8(first)?);
    Ok(())
}

#[test]
fn removing_after_libvirt_has_laid_it_out_anew_leaves_nothing_of_ours() -> Outcome {
    let network = hybrid()?;
    let xml = file("closed.xml")?;
    let with = String::from_utf8(add(&xml, &network, &full(&network)?)?)?;
    // What libvirt does: other indentation and quotes, its own devices, an address for the NIC.
    let anew = with
        .replace("    <", "\n\t<")
        .replace("<model type='virtio'/>", "<model type='virtio'/><address type='pci' slot='0x03'/>")
        .replace("<devices  >", "<devices><controller type='usb'/>");
    let back = String::from_utf8(remove(anew.as_bytes(), &network.name, None)?)?;
    assert!(!back.contains("hybrid") && !back.contains("<interface"), "{back}");
    assert!(back.contains("<metadata />") && back.contains("<controller type='usb'/>"), "{back}");
    Ok(())
}

#[test]
fn an_entry_whose_nic_was_there_leaves_it_there() -> Outcome {
    let network = hybrid()?;
    let xml = file("vagrant.xml")?;
    let with = add(&xml, &network, &plain(&network))?;
    assert!(!String::from_utf8_lossy(&with).contains("made="));
    assert_eq!(remove(&with, &network.name, None)?, xml);
    Ok(())
}

#[test]
fn a_clone_with_new_macs_keeps_its_nic_and_never_gets_the_old_mac() -> Outcome {
    let network = hybrid()?;
    let original = String::from_utf8(add(&file("no-metadata.xml")?, &network, &plain(&network))?)?;
    let old = Domain::read(original.as_bytes())?.nics.first().and_then(|nic| nic.mac).ok_or("no NIC")?;
    let nic = format!("<mac address='{old}'/>");
    let clone = original.replace(&nic, "<mac address='52:54:00:12:34:56'/>").replace("plain", "clone");
    assert!(plan(&Domain::read(clone.as_bytes())?, std::slice::from_ref(&network)).is_err());
    let mended = String::from_utf8(add(clone.as_bytes(), &network, &plain(&network))?)?;
    assert!(!mended.contains(&old.to_string()));
    assert_eq!(plan(&Domain::read(mended.as_bytes())?, std::slice::from_ref(&network))?.len(), 1);
    assert_eq!(add(mended.as_bytes(), &network, &plain(&network))?, mended.as_bytes());
    Ok(())
}

#[test]
fn a_network_that_follows_docker_s_is_named_and_not_its_bridge() -> Outcome {
    let file = format!(
        "format = 1\nbridge = \"br-abababababab\"\ndocker_network = \"shop_default\"\ndocker_id = \"{}\"\n\
         adopt = true\n[ipv4]\nsubnet = \"172.20.0.0/16\"\n",
        "ab".repeat(32)
    );
    let network = NetworkFile::parse(&file)?.network(&"shop-default".parse()?)?;
    let before =
        b"<domain><name>db</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid><devices/></domain>";
    let after = add(before, &network, &plain(&network))?;
    let text = String::from_utf8(after.clone())?;
    assert!(text.contains("name=\"shop-default\" docker=\"shop_default\""), "{text}");
    assert!(text.contains("<interface type='network'>"), "{text}");
    assert!(text.contains("<source network='shop-default-net'/>"), "{text}");
    assert_eq!(add(&after, &network, &plain(&network))?, after);
    assert_eq!(remove(&after, &network.name, None)?, before);
    // Docker's network is gone, and ours with it: the message names what the person knows.
    let fault = plan(&Domain::read(&after)?, &[]).err().ok_or("planned")?;
    assert!(fault.to_string().contains("Docker network shop_default, which is gone"), "{fault}");
    let hint = Fault::from(fault).hint_text().unwrap_or_default().to_owned();
    assert!(hint.contains("docker compose up"), "{hint}");
    assert!(hint.contains("hybrid-hook detach db --docker-network shop_default"), "{hint}");
    // Of the same name, made anew, on another bridge: the domain is right as it is.
    let anew = Network { bridge: "br-cdcdcdcdcdcd".parse()?, ..network };
    assert_eq!(plan(&Domain::read(&after)?, &[anew])?.len(), 1);
    Ok(())
}
