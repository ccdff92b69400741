//! `hook/example-network.toml` is what a person copies: it must be taken as it stands, and the defaults that
//! its comments show must be the defaults.

use hybrid_hook::model::Network;
use hybrid_hook::model::network_file::NetworkFile;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const EXAMPLE: &str = include_str!("../hook/example-network.toml");

fn network(text: &str) -> Result<Network> {
    Ok(NetworkFile::parse(text)?.network(&"hybrid".parse()?)?)
}

#[test]
fn the_example_shows_the_defaults() -> Result {
    let shown: Vec<&str> = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => key,
            _ => line,
        })
        .collect();
    let uncommented = EXAMPLE.lines().zip(&shown).filter(|(before, after)| before != *after).count();
    assert!(uncommented >= 10, "only {uncommented} keys have a default shown");
    assert_eq!(network(&shown.join("\n"))?, network(EXAMPLE)?);
    Ok(())
}

#[test]
fn the_example_names_every_key() -> Result {
    let file = NetworkFile::parse(EXAMPLE)?;
    let network = file.network(&"hybrid".parse()?)?;
    let family = network.ipv4.ok_or("the example has IPv4")?;
    // All keys written out, in the words of the format itself.
    let full = NetworkFile {
        bridge: Some(network.bridge),
        docker_network: Some(network.docker_network),
        libvirt_network: Some(network.libvirt_network),
        zone: Some(network.zone),
        nat: Some(network.nat),
        mtu: Some(network.mtu),
        adopt: true,
        ipam: Some(network.ipam),
        host_dns: true,
        stop_rebind: true,
        ipv4: file.ipv4.clone().map(|mut part| {
            part.gateway = Some(family.gateway);
            part.address = family.address;
            part.vm_pool = Some(family.vm_pool);
            part.container_pool = family.container_pool;
            part
        }),
        ..file
    };
    for line in toml::to_string(&full)?.lines() {
        let Some((key, _)) = line.split_once(" = ") else { continue };
        let named = |l: &str| l.trim_start_matches('#').split_once(" = ").is_some_and(|(k, _)| k == key);
        assert!(EXAMPLE.lines().any(named), "{key} is not in the example");
    }
    Ok(())
}
