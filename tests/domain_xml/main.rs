//! Domains in XML: reading, planning, rewriting, and the corpus in tests/corpus/domain.

mod anything;
#[cfg(feature = "libvirt")]
mod libvirt;
mod read;
mod restore;
mod rewrite;

use std::path::{Path, PathBuf};

use hybrid_hook::model::network_file::NetworkFile;
use hybrid_hook::model::{DnsLabel, Network, NetworkName, NicRequest};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// A network with the defaults within a subnet.
fn network(name: &str, subnet: &str) -> Outcome<Network> {
    let name: NetworkName = name.parse()?;
    Ok(NetworkFile::parse(&format!("format = 1\n[ipv4]\nsubnet = \"{subnet}\"\n"))?.network(&name)?)
}

/// Three networks: `hybrid` on hybr0, `lab` on hyb-lab, `dmz` on hyb-dmz.
fn networks() -> Outcome<Vec<Network>> {
    Ok(vec![
        network("hybrid", "10.0.1.0/24")?,
        network("lab", "10.0.2.0/24")?,
        network("dmz", "10.0.3.0/24")?,
    ])
}

fn hybrid() -> Outcome<Network> {
    network("hybrid", "10.0.1.0/24")
}

/// Every XML in a folder of the corpus, by name.
fn corpus(folder: &str) -> Outcome<Vec<(String, Vec<u8>)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/domain").join(folder);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(root)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.retain(|p| p.extension().is_some_and(|e| e == "xml"));
    paths.sort();
    paths
        .into_iter()
        .map(|p| Ok((p.file_stem().unwrap_or_default().to_string_lossy().into_owned(), std::fs::read(&p)?)))
        .collect()
}

fn file(name: &str) -> Outcome<Vec<u8>> {
    Ok(std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/domain").join(name))?)
}

/// A request in one line.
fn request_line(request: &NicRequest) -> String {
    let list = |labels: &[DnsLabel]| labels.iter().map(DnsLabel::as_str).collect::<Vec<_>>().join("+");
    let mut line = request.network.to_string();
    for (name, value) in [
        ("mac", request.mac.map(|m| m.to_string())),
        ("ip", request.ip.map(|i| i.to_string())),
        ("hostname", request.hostname.as_ref().map(ToString::to_string)),
        ("aliases", Some(list(&request.aliases)).filter(|l| !l.is_empty())),
        ("groups", Some(list(&request.groups)).filter(|l| !l.is_empty())),
        ("containers", request.containers.as_ref().map(ToString::to_string)),
    ] {
        if let Some(value) = value {
            line.push_str(&format!(" {name}={value}"));
        }
    }
    line
}
