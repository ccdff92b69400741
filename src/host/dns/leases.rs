//! What dnsmasq itself has on record. The registry decides: what it no longer knows is taken out.

use std::collections::HashSet;
use std::net::IpAddr;

use super::files::{Folder, read};
use crate::model::{DnsLabel, MacAddress, Network, Result};
use crate::places::Places;

/// A DHCP lease that dnsmasq gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpLease {
    /// Seconds since 1970 when it ends; 0: never.
    pub expires: u64,
    /// The guest's NIC; dnsmasq does not write it for IPv6.
    pub mac: Option<MacAddress>,
    /// The address.
    pub address: IpAddr,
    /// The name that dnsmasq knows for it.
    pub hostname: Option<DnsLabel>,
}

/// The DHCP leases on dnsmasq's record; none while it has no record yet. A line that can't be read is left
/// out.
///
/// # Errors
/// A record that can't be opened.
pub fn leases(network: &Network, places: &Places) -> Result<Vec<DhcpLease>> {
    let text = read(&Folder::of(network, places).leases())?.unwrap_or_default();
    Ok(text.lines().filter_map(parse).collect())
}

/// A line of the record: end, MAC (IPv6: the IAID), address, name or `*`, client id or `*`.
fn parse(line: &str) -> Option<DhcpLease> {
    let mut fields = line.split(' ');
    let expires = fields.next()?.parse().ok()?;
    let mac = fields.next()?.parse().ok();
    let address = fields.next()?.parse().ok()?;
    let hostname = fields.next().and_then(|name| name.parse().ok());
    Some(DhcpLease { expires, mac, address, hostname })
}

/// The record without the leases that no reservation stands behind any more, if there are any: dnsmasq
/// would keep such an address from its next holder until the lease ends. It reads the record only at its
/// start, and must not run when this is written.
///
/// # Errors
/// A file that can't be read.
pub(super) fn without_stale(own: &Folder) -> Result<Option<String>> {
    let Some(text) = read(&own.leases())? else { return Ok(None) };
    Ok(pruned(&text, &own.all_reservations()?))
}

fn pruned(record: &str, reservations: &[String]) -> Option<String> {
    let mut pairs: HashSet<(Option<MacAddress>, IpAddr)> = HashSet::new();
    for reservation in reservations {
        let fields: Vec<&str> = reservation.trim_end().split(',').collect();
        let address = |field: &&str| field.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        for address in fields.iter().filter_map(address) {
            // The record of an IPv6 lease does not name the NIC.
            let nics = fields.iter().filter_map(|f| f.parse().ok()).map(Some);
            pairs.extend(nics.chain([None]).map(|nic| (nic, address)));
        }
    }
    let stale = |line: &&str| {
        parse(line).is_some_and(|lease| {
            let nic = lease.mac.filter(|_| lease.address.is_ipv4());
            !pairs.contains(&(nic, lease.address))
        })
    };
    if !record.lines().any(|line| stale(&line)) {
        return None;
    }
    Some(record.lines().filter(|line| !stale(line)).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Result;
    use super::*;

    #[test]
    fn both_families_are_read_and_the_rest_left_out() -> Result {
        let text = "1795503149 52:54:00:00:00:0c 10.0.1.200 db *\n\
                    duid 00:01:00:01:32:97:e2:99:d2:52:5a:f4:da:c8\n\
                    1795503150 1313 fd00:1::c8 * 00:03:00:01:52:54:00:00:00:0c\n";
        let leases: Vec<_> = text.lines().filter_map(parse).collect();
        assert_eq!(
            leases,
            [
                DhcpLease {
                    expires: 1_795_503_149,
                    mac: Some("52:54:00:00:00:0c".parse()?),
                    address: "10.0.1.200".parse()?,
                    hostname: Some("db".parse()?),
                },
                DhcpLease {
                    expires: 1_795_503_150,
                    mac: None,
                    address: "fd00:1::c8".parse()?,
                    hostname: None,
                },
            ]
        );
        Ok(())
    }

    #[test]
    fn a_lease_without_its_reservation_is_taken_out() {
        let kept = "1795503149 52:54:00:00:00:0c 10.0.1.200 db *\n\
                    1795503149 52:54:00:00:00:0d 10.0.1.201 * *\n\
                    duid 00:01:00:01:32:97:e2:99:d2:52:5a:f4:da:c8\n\
                    1795503150 1313 fd00:1::c8 * 00:03:00:01:52:54:00:00:00:0c\n";
        let reservations = [
            "tag:hybr0,52:54:00:00:00:0c,10.0.1.200,[fd00:1::c8],set:sole\n".to_owned(),
            // Handed over: the former holder's lease may run out.
            "52:54:00:00:00:0e,52:54:00:00:00:0d,10.0.1.201\n".to_owned(),
        ];
        assert_eq!(pruned(kept, &reservations), None);
        let stale = "1795503149 52:54:00:00:00:0f 10.0.1.201 gone *\n\
                     1795503150 1314 fd00:1::c9 * 00:03:00:01:52:54:00:00:00:0d\n";
        assert_eq!(pruned(&format!("{stale}{kept}"), &reservations).as_deref(), Some(kept));
    }
}
