use super::*;
use crate::host::resolver::{Link, ResolvConf};
use crate::model::network_file::NetworkFile;

type TestResult<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn network(more: &str) -> TestResult<Network> {
    let text = format!("format = 1\n{more}\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n");
    Ok(NetworkFile::parse(&text)?.network(&"hybrid".parse()?)?)
}

fn state(conf: &str) -> State {
    State {
        conf: ResolvConf::parse(conf),
        resolved: None,
        resolved_told: false,
        asks_resolved: false,
        network_manager_told: None,
    }
}

fn shown(network: &Network, state: &State, docker: Option<&str>) -> Vec<String> {
    let file = Path::new("/etc/hybrid-hook/networks/hybrid.toml");
    let line = |r: Reach| format!("{:?} {:?}: {} [{}]", r.asker, r.works, r.path, r.mend.unwrap_or_default());
    judge(network, Some(state), docker, &[], file).into_iter().map(line).collect()
}

const STUB: &str = "nameserver 127.0.0.53\nsearch hybrid.internal\n";
const PLAIN: &str = "nameserver 192.0.2.53\n";

#[test]
fn through_systemd_resolved_all_names_work() -> TestResult {
    let network = network("")?;
    let domains = vec![("hybrid.internal".to_owned(), false)];
    let link = Link { index: 3, carrier: true, domains, ..Link::default() };
    let told = State { resolved: Some(link), resolved_told: true, ..state(STUB) };
    insta::assert_snapshot!(shown(&network, &told, Some("28.5.2")).join("\n"), @r"
    Host Yes: systemd-resolved, link hybr0 []
    Containers Yes: Docker's resolver, which asks 127.0.0.53 from the host's side: systemd-resolved, link hybr0 []
    Vms Yes: DHCP names our resolver []
    ");
    let past = State { conf: ResolvConf::parse(PLAIN), ..told.clone() };
    insta::assert_snapshot!(shown(&network, &past, None).join("\n"), @r"
    Host No: /etc/resolv.conf asks 192.0.2.53, past systemd-resolved [ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf]
    Vms Yes: DHCP names our resolver []
    ");
    let untold = State { resolved_told: false, ..told };
    assert!(shown(&network, &untold, None).iter().any(|l| l.contains("No: systemd-resolved was not told")));
    Ok(())
}

#[test]
fn a_plain_resolv_conf_left_alone_is_named_with_the_line_that_mends_it() -> TestResult {
    let network = network("")?;
    insta::assert_snapshot!(shown(&network, &state(PLAIN), Some("20.10.24+dfsg1")).join("\n"), @r"
    Host No: /etc/resolv.conf asks 192.0.2.53 [host_dns = true in /etc/hybrid-hook/networks/hybrid.toml, then: hybrid-hook apply hybrid]
    Containers FullNames: Docker's resolver, whose question is redirected to ours where it leaves the bridge []
    Vms Yes: DHCP names our resolver []
    ");
    insta::assert_snapshot!(shown(&network, &state(PLAIN), Some("28.5.2")).join("\n"), @r"
    Host No: /etc/resolv.conf asks 192.0.2.53 [host_dns = true in /etc/hybrid-hook/networks/hybrid.toml, then: hybrid-hook apply hybrid]
    Containers No: Docker's resolver asks 192.0.2.53 from the host's side [host_dns = true in /etc/hybrid-hook/networks/hybrid.toml, then: hybrid-hook apply hybrid]
    Vms Yes: DHCP names our resolver []
    ");
    Ok(())
}

#[test]
fn with_host_dns_docker_asks_ours_from_the_hosts_side() -> TestResult {
    let network = network("host_dns = true")?;
    let text = format!("nameserver {}\n{PLAIN}search hybrid.internal\n", network.loopback());
    let lines = shown(&network, &state(&text), Some("28.5.2"));
    assert!(lines.iter().take(2).all(|l| l.contains(" Yes: ")), "{lines:?}");
    Ok(())
}

#[test]
fn networkmanagers_dnsmasq_and_an_adopted_bridge_without_address() -> TestResult {
    let told = State { network_manager_told: Some(true), ..state("nameserver 127.0.0.1\n") };
    let lines = shown(&network("")?, &told, Some("26.1.5"));
    assert!(lines.iter().take(2).all(|l| l.contains(" FullNames: ")), "{lines:?}");
    // Nothing passes us on its way to another router.
    let lan = "format = 1\nadopt = true\n[ipv4]\nsubnet = \"10.0.1.0/24\"\naddress = \"10.0.1.9\"\n";
    let lan = NetworkFile::parse(lan)?.network(&"hybrid".parse()?)?;
    let lines = shown(&lan, &state(PLAIN), Some("26.1.5"));
    assert!(
        lines.iter().any(|l| l.contains("Containers No: ") && l.contains("container's side")),
        "{lines:?}"
    );
    let adopted = network("adopt = true")?;
    let lines = shown(&adopted, &state(PLAIN), Some("26.1.5"));
    assert!(lines.len() == 3 && lines.iter().all(|l| l.contains(" No: ")), "{lines:?}");
    Ok(())
}
