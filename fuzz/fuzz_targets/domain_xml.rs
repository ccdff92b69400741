//! Any bytes as a domain's XML: nothing panics, and every rewrite can be undone to the byte.
#![no_main]

use hybrid_hook::domain_xml::{Domain, Glance, add, plan, remove, restore_filter};
use hybrid_hook::model::network_file::NetworkFile;
use hybrid_hook::model::{Network, NicRequest};

fn network() -> Option<Network> {
    let file = NetworkFile::parse("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n").ok()?;
    file.network(&"hybrid".parse().ok()?).ok()
}

libfuzzer_sys::fuzz_target!(|xml: &[u8]| {
    let Some(network) = network() else { return };
    let networks = std::slice::from_ref(&network);
    let glance = Glance::of(xml);
    let _ = restore_filter(xml, networks);
    if let Ok(domain) = Domain::read(xml) {
        assert!(glance.mentions_us || domain.requests.is_empty());
        let ours = !plan(&domain, networks).is_ok_and(|plans| plans.is_empty());
        assert!(glance.concerns(networks) || !ours);
    }
    let untouched = remove(xml, &network.name, None).is_ok_and(|removed| removed == xml);
    let wish = NicRequest::on(network.name.clone());
    if let Ok(once) = add(xml, &network, &wish) {
        assert_eq!(add(&once, &network, &wish).ok().as_deref(), Some(once.as_slice()));
        if untouched {
            assert_eq!(remove(&once, &network.name, None).ok().as_deref(), Some(xml));
        }
    }
});
