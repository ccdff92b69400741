//! In what two descriptions of one network differ, in words.

use super::{Family, Network};

/// In what `is` is not as `wanted`, each in a few words. Empty where the two are the same.
#[must_use]
pub fn differences(is: &Network, wanted: &Network) -> Vec<String> {
    // Field by field, so that a new one can't be forgotten here.
    let Network {
        name: _,
        bridge,
        docker_network,
        libvirt_network,
        zone,
        nat,
        mtu,
        adopt,
        follows,
        internal,
        ipam,
        host_dns,
        stop_rebind,
        ipv4,
        ipv6,
    } = is;
    let mut found = Vec::new();
    let mut note = |what: &str, is: String, wanted: String| {
        if is != wanted {
            found.push(format!("{what} is {is}, not {wanted}"));
        }
    };
    note("its bridge", bridge.to_string(), wanted.bridge.to_string());
    let mut families = |what: &str, show: &dyn Fn(&Family) -> String| {
        let all = |ipv4: &Option<Family>, ipv6: &Option<Family>| {
            let shown: Vec<_> = [ipv4, ipv6].into_iter().flatten().map(show).collect();
            shown.join(" and ")
        };
        note(what, all(ipv4, ipv6), all(&wanted.ipv4, &wanted.ipv6));
    };
    families("its subnet", &|f| f.subnet.to_string());
    families("its gateway", &|f| f.gateway.to_string());
    families("its bridge's address", &|f| or_none(f.address));
    families("its VM pool", &|f| f.vm_pool.to_string());
    families("its container pool", &|f| or_none(f.container_pool));
    note("its Docker network", docker_network.to_string(), wanted.docker_network.to_string());
    note("its libvirt network", libvirt_network.to_string(), wanted.libvirt_network.to_string());
    note("its zone", zone.to_string(), wanted.zone.to_string());
    note("its MTU", mtu.to_string(), wanted.mtu.to_string());
    note("NAT", nat.to_string(), wanted.nat.to_string());
    note("its ipam", ipam.to_string(), wanted.ipam.to_string());
    note("adoption", adopt.to_string(), wanted.adopt.to_string());
    note("the Docker network that it follows", or_none(follows.as_ref()), or_none(wanted.follows.as_ref()));
    note("internal", internal.to_string(), wanted.internal.to_string());
    note("host DNS", host_dns.to_string(), wanted.host_dns.to_string());
    note("its stop_rebind", stop_rebind.to_string(), wanted.stop_rebind.to_string());
    found
}

fn or_none<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "none".to_owned(), |v| v.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::network_file::NetworkFile;
    use super::*;

    fn network(text: &str) -> Result<Network, String> {
        let name = "hybrid".parse().map_err(|e: super::super::names::Invalid| e.to_string())?;
        NetworkFile::parse(text)?.network(&name).map_err(|e| e.to_string())
    }

    #[test]
    fn every_key_of_the_file_is_told() -> Result<(), String> {
        let top = "format = 1\n";
        let end = "[ipv4]\nsubnet = \"10.0.1.0/24\"\n";
        let plain = network(&format!("{top}{end}"))?;
        assert_eq!(differences(&plain, &plain), Vec::<String>::new());
        for (key, is, wanted) in [
            ("bridge = \"br7\"", "its bridge is hybr0", "br7"),
            ("docker_network = \"d\"", "its Docker network is hybrid-net", "d"),
            ("libvirt_network = \"l\"", "its libvirt network is hybrid-net", "l"),
            ("zone = \"z.internal\"", "its zone is hybrid.internal", "z.internal"),
            ("nat = false", "NAT is true", "false"),
            ("mtu = 9000", "its MTU is 1500", "9000"),
            ("ipam = \"hybrid\"", "its ipam is range", "hybrid"),
            ("host_dns = true", "host DNS is false", "true"),
            ("stop_rebind = true", "its stop_rebind is false", "true"),
        ] {
            let other = network(&format!("{top}{key}\n{end}"))?;
            assert_eq!(differences(&plain, &other), [format!("{is}, not {wanted}")]);
        }
        for (key, is, wanted) in [
            ("address = \"10.0.1.2\"", "its bridge's address is 10.0.1.1", "10.0.1.2"),
            (
                "vm_pool = \"10.0.1.200-10.0.1.210\"",
                "its VM pool is 10.0.1.128-10.0.1.254",
                "10.0.1.200-10.0.1.210",
            ),
            ("container_pool = \"10.0.1.64/27\"", "its container pool is 10.0.1.64/26", "10.0.1.64/27"),
        ] {
            let other = network(&format!("{top}{end}{key}\n"))?;
            assert_eq!(differences(&plain, &other), [format!("{is}, not {wanted}")]);
        }
        let adopted = differences(&plain, &network(&format!("{top}adopt = true\n{end}"))?);
        assert!(adopted.contains(&"adoption is false, not true".to_owned()), "{adopted:?}");
        let both = network(&format!("{top}{end}[ipv6]\nsubnet = \"fd00::/64\"\n"))?;
        let more = differences(&plain, &both);
        assert!(
            more.contains(&"its subnet is 10.0.1.0/24, not 10.0.1.0/24 and fd00::/64".to_owned()),
            "{more:?}"
        );
        Ok(())
    }
}
