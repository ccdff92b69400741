//! Reading domains: what is seen, what is refused, what is planned from it.

use hybrid_hook::domain_xml::{Domain, Glance, Nic, Source, XmlFault, match_nics, plan};
use hybrid_hook::model::Fault;

use crate::{Outcome, corpus, file, networks, request_line};

fn nic_line(nic: &Nic) -> String {
    let mac = nic.mac.map_or("no mac".to_owned(), |m| m.to_string());
    let more: Vec<String> = [
        nic.target_dev.as_ref().map(|t| format!("target {t:?}")),
        nic.model.as_ref().map(|m| format!("model {m}")),
        nic.alias.as_ref().map(|a| format!("alias {a}")),
        nic.teaming.as_ref().map(|t| format!("{t:?}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    format!("{} {mac} {}", nic.whereabouts(), more.join(", ")).trim_end().to_owned()
}

#[test]
fn every_domain_of_the_corpus_is_read() -> Outcome {
    let mut text = String::new();
    for (name, xml) in corpus("")? {
        let domain = Domain::read(&xml).map_err(|e| format!("{name}: {e}"))?;
        let id = domain.uuid.as_ref().and_then(|u| u.as_str().get(..8)).unwrap_or("-");
        text.push_str(&format!("{name}: {:?} {id} live {:?}\n", domain.name, domain.live_id));
        for nic in &domain.nics {
            let element = String::from_utf8_lossy(xml.get(nic.span.clone()).ok_or("span")?).into_owned();
            assert!(element.starts_with("<interface") && element.ends_with('>'), "{name}: {element}");
            text.push_str(&format!("    {}\n", nic_line(nic)));
        }
        for request in &domain.requests {
            let line = request.as_ref().map(request_line).map_err(|e| format!("{name}: {e}"))?;
            text.push_str(&format!("    asks {line}\n"));
        }
    }
    insta::assert_snapshot!(text);
    Ok(())
}

#[test]
fn every_bad_document_is_refused_in_one_line() -> Outcome {
    let mut text = String::new();
    for (name, xml) in corpus("bad")? {
        match Domain::read(&xml) {
            Ok(domain) => return Err(format!("{name} was read as {domain:?}").into()),
            Err(fault) => text.push_str(&format!("{name}: {}\n", Fault::from(fault))),
        }
    }
    assert_eq!(text.lines().count(), corpus("bad")?.len());
    insta::assert_snapshot!(text);
    Ok(())
}

#[test]
fn size_and_depth_are_bounded() {
    let huge = vec![b' '; 100 << 20];
    assert_eq!(Domain::read(&huge), Err(XmlFault::TooLarge { size: 100 << 20 }));
    let deep = |n: usize| {
        let mut xml = "<domain><name>x</name>".to_owned();
        xml.push_str(&"<a>".repeat(n));
        xml.push_str(&"</a>".repeat(n));
        xml.push_str("</domain>");
        Domain::read(xml.as_bytes())
    };
    assert!(deep(255).is_ok());
    assert!(deep(256).is_err_and(|e| e.to_string().contains("nested")));
    let endless = "<domain>".repeat(200_000);
    assert!(Domain::read(endless.as_bytes()).is_err_and(|e| e.to_string().contains("nested")));
    let wide = format!("<domain><name>x</name>{}</domain>", "<a/>".repeat(200_000));
    assert!(Domain::read(wide.as_bytes()).is_err_and(|e| e.to_string().contains("more than 100000")));
}

#[test]
fn a_flood_of_interfaces_or_entries_is_refused_at_once() -> Outcome {
    let nics = "<interface type='bridge'><source bridge='hybr0'/></interface>".repeat(30_000);
    let xml = format!("<domain><name>x</name><devices>{nics}</devices></domain>");
    assert!(Domain::read(xml.as_bytes()).is_err_and(|e| e.to_string().contains("1024 interfaces")));
    let xml = with_metadata(&"<h:network name='hybrid'/>".repeat(90_000));
    let domain = Domain::read(xml.as_bytes())?;
    assert!(domain.requests.len() < 2000);
    assert!(plan(&domain, &networks()?).is_err_and(|e| e.to_string().contains("1024")));
    Ok(())
}

fn with_metadata(inner: &str) -> String {
    format!(
        "<domain><name>db</name><metadata><h:networks xmlns:h='urn:hybrid-hook:domain:1'>{inner}</h:networks>\
         </metadata><devices><interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='hybr0'/>\
         </interface></devices></domain>"
    )
}

#[test]
fn wrong_metadata_is_refused_with_the_nearest_name() -> Outcome {
    let mut text = String::new();
    for inner in [
        "<h:network/>",
        "<h:network name='Hybrid'/>",
        "<h:network name='hybrid' hostnam='x'/>",
        "<h:network name='hybrid' addr='10.0.1.3'/>",
        "<h:network name='hybrid' h:mac='52:54:00:00:00:01'/>",
        "<h:network name='hybrid' hostname='../../etc'/>",
        "<h:network name='hybrid' ip='10.0.1'/>",
        "<h:network name='hybrid' mac='01:00:5e:00:00:01'/>",
        "<h:network name='hybrid' aliases='a b,, c_d'/>",
        "<h:network name='hybrid' groups='A'/>",
        "<h:network name='hybrid' containers='app=shop'/>",
        "<h:network name='hybrid' made='bridge'/>",
        "<h:network name='hybrid'><h:ip/></h:network>",
        "<h:netwrok name='hybrid'/>",
        "<h:network name='hybrid'/><h:network name='hybrid' mac='52:54:00:00:00:01'/>",
        "<h:network name='hybrid' mac='52:54:00:00:00:01'/><h:network name='hybrid' mac='52:54:00:00:00:01'/>",
    ] {
        let domain = Domain::read(with_metadata(inner).as_bytes())?;
        let fault = plan(&domain, &networks()?).err().ok_or_else(|| format!("{inner} was taken"))?;
        text.push_str(&format!("{inner}\n    {fault}\n"));
    }
    insta::assert_snapshot!(text);
    let two = with_metadata("").replace(
        "</metadata>",
        "<networks xmlns='urn:hybrid-hook:domain:1'><network name='hybrid'/></networks></metadata>",
    );
    let domain = Domain::read(two.as_bytes())?;
    assert!(plan(&domain, &networks()?).is_err_and(|e| e.to_string().contains("is the second")));
    Ok(())
}

#[test]
fn lists_take_spaces_and_commas() -> Outcome {
    let xml = with_metadata("<h:network name='hybrid' aliases='a, b c,a' groups=' x '/>");
    let domain = Domain::read(xml.as_bytes())?;
    let request = domain.requests.first().ok_or("no request")?.clone()?;
    assert_eq!(request_line(&request), "hybrid aliases=a+b+c groups=x");
    Ok(())
}

#[test]
fn plans_of_the_corpus() -> Outcome {
    let mut text = String::new();
    for (name, xml) in corpus("")? {
        let domain = Domain::read(&xml)?;
        match plan(&domain, &networks()?) {
            Ok(plans) if plans.is_empty() => {}
            Ok(plans) => {
                for plan in plans {
                    let tap = plan.tap.map_or("-".to_owned(), |t| t.to_string());
                    let line = request_line(&plan.request);
                    text.push_str(&format!("{name}: {line}, sole {}, tap {tap}\n", plan.sole_nic));
                }
            }
            Err(fault) => text.push_str(&format!("{name}: {fault}\n")),
        }
    }
    insta::assert_snapshot!(text);
    Ok(())
}

fn domain_with(name: &str, metadata: &str, nics: &[(&str, &str)]) -> String {
    let nics: String = nics
        .iter()
        .map(|(bridge, rest)| {
            format!("<interface type='bridge'><source bridge='{bridge}'/>{rest}</interface>")
        })
        .collect();
    format!(
        "<domain><name>{name}</name><metadata><h:networks xmlns:h='urn:hybrid-hook:domain:1'>{metadata}</h:networks>\
         </metadata><devices>{nics}</devices></domain>"
    )
}

#[test]
fn the_nic_that_is_meant() -> Outcome {
    const A: &str = "<mac address='52:54:00:00:00:0a'/>";
    const B: &str = "<mac address='52:54:00:00:00:0b'/>";
    let hybrid = ("hybr0", A);
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("<h:network name='hybrid' hostname='db'/>", &[("br0", A), ("hybr0", B)]),
        ("<h:network name='hybrid' mac='52:54:00:00:00:0b'/>", &[hybrid, ("hybr0", B)]),
        ("<h:network name='hybrid' mac='52:54:00:00:00:0b'/>", &[hybrid, ("br0", B)]),
        ("<h:network name='hybrid' mac='52:54:00:00:00:0c'/>", &[hybrid]),
        ("<h:network name='hybrid'/>", &[("br0", A)]),
        ("<h:network name='hybrid'/>", &[("hybr0", "")]),
        ("<h:network name='nowhere'/>", &[hybrid]),
        ("<h:network name='hybrid' hostname='a'/><h:network name='lab'/>", &[("hyb-lab", A), ("hybr0", B)]),
        ("", &[hybrid, ("hybr0", B)]),
        ("", &[hybrid, ("hybr0", A)]),
        ("", &[hybrid, ("hyb-lab", A)]),
        ("", &[hybrid, ("br0", A)]),
    ];
    let mut text = String::new();
    for (metadata, nics) in cases {
        let domain = Domain::read(domain_with("My VM", metadata, nics).as_bytes())?;
        text.push_str(&format!("{metadata} {nics:?}\n"));
        match plan(&domain, &networks()?) {
            Ok(plans) => {
                for plan in plans {
                    text.push_str(&format!("    {}, sole {}\n", request_line(&plan.request), plan.sole_nic));
                }
            }
            Err(fault) => {
                let fault = Fault::from(fault);
                let hint = fault.hint_text().unwrap_or_default().to_owned();
                text.push_str(&format!("    {:?}: {fault}\n    hint: {hint}\n", fault.kind()));
            }
        }
    }
    insta::assert_snapshot!(text);
    Ok(())
}

#[test]
fn a_network_of_another_name_on_our_bridge_is_ours_while_libvirt_tells() -> Outcome {
    let xml = "<domain><name>x</name><devices><interface type='network'><mac address='52:54:00:00:00:01'/>\
               <source network='other' bridge='hybr0'/></interface></devices></domain>";
    let domain = Domain::read(xml.as_bytes())?;
    let hybrid = crate::hybrid()?;
    assert_eq!(match_nics(&domain, &hybrid).len(), 1);
    assert!(matches!(domain.nics.first().map(|n| &n.source), Some(Source::Network { .. })));
    Ok(())
}

#[test]
fn a_glance_never_sees_less_than_a_reading() -> Outcome {
    let all = networks()?;
    for (name, xml) in corpus("")? {
        let domain = Domain::read(&xml)?;
        let glance = Glance::of(&xml);
        assert!(!glance.broken, "{name}");
        assert!(glance.mentions_us || domain.requests.is_empty(), "{name}");
        let ours = !plan(&domain, &all).is_ok_and(|plans| plans.is_empty());
        assert!(glance.concerns(&all) || !ours, "{name}: {glance:?}");
    }
    let foreign = Glance::of(&file("virsh-define.xml")?);
    assert!(!foreign.concerns(&all));
    assert_eq!(foreign.networks, ["default"]);
    Ok(())
}

#[test]
fn a_glance_at_garbage_is_by_namespace() -> Outcome {
    let all = networks()?;
    let glance = |bytes: &[u8]| Glance::of(bytes);
    assert!(glance(b"\xff urn:hybrid-hook:domain:1").concerns(&all));
    assert!(!glance(b"\xff urn:hybrid-hook:domain:").concerns(&all));
    assert!(glance(b"<domain><source bridge='hybr0'/><").concerns(&all));
    assert!(glance(b"<a uurn:hybrid-hook:domain:1").broken);
    assert!(glance(b"uurn:urn:hybrid-hook:domain:1").mentions_us);
    Ok(())
}
