//! Who has which name in a network's zone: one rule, applied whenever names are rendered.
//!
//! - Only a guest that is there has names: an idle lease has none.
//! - `host` and `gateway` are the host's.
//! - A host name belongs to one guest: the one with the oldest lease (by [`Lease::since`], then by address).
//! - An alias that is somebody's host name answers with that one alone; an alias of several guests
//!   answers with all of them, as Docker does for the replicas of a service.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{BootId, DnsLabel, Lease, LeaseState};

/// The names that every zone has, and no guest can.
pub const OF_THE_HOST: [&str; 2] = ["host", "gateway"];

/// A name that a guest asked for and does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The name.
    pub name: DnsLabel,
    /// Who has it; none for a name of the host's.
    pub holder: Option<IpAddr>,
    /// Who asked for it too.
    pub asker: IpAddr,
}

/// Leaves each lease the names that it has by the rule, and tells who goes without one.
#[must_use]
pub fn settle(mut leases: Vec<Lease>, boot: &BootId) -> (Vec<Lease>, Vec<Clash>) {
    let mut clashes = Vec::new();
    let mut order: Vec<usize> = (0..leases.len()).collect();
    order.sort_by_key(|i| leases.get(*i).map(|l| (l.since, l.address)));
    let mut holders: HashMap<DnsLabel, IpAddr> = HashMap::new();
    let host = |name: &DnsLabel| OF_THE_HOST.contains(&name.as_str());
    for place in &order {
        let Some(lease) = leases.get_mut(*place) else { continue };
        if lease.state_now(boot) != LeaseState::Active {
            lease.hostname = None;
            lease.aliases.clear();
            continue;
        }
        let Some(name) = lease.hostname.clone() else { continue };
        let holder = holders.get(&name).copied();
        if host(&name) || holder.is_some() {
            clashes.push(Clash { name, holder, asker: lease.address });
            lease.hostname = None;
        } else {
            holders.insert(name, lease.address);
        }
    }
    for lease in &mut leases {
        let (address, own) = (lease.address, lease.hostname.clone());
        lease.aliases.retain(|alias| {
            if Some(alias) == own.as_ref() {
                return false;
            }
            let holder = holders.get(alias).copied();
            let lost = host(alias) || holder.is_some();
            if lost {
                clashes.push(Clash { name: alias.clone(), holder, asker: address });
            }
            !lost
        });
    }
    (leases, clashes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fault, Origin, Owner, Result};

    fn lease(last: u8, since: u64, hostname: &str, aliases: &[&str]) -> Result<Lease> {
        let id = format!("{last:02x}").repeat(16).parse()?;
        Ok(Lease {
            address: IpAddr::from([10, 0, 1, last]),
            mac: Some(format!("52:54:00:00:00:{last:02x}").parse()?),
            owner: Some(Owner { id, origin: Origin::Domain, name: None }),
            state: LeaseState::Active,
            boot: Some(BootId("now".into())),
            fixed: false,
            reserved: false,
            reserved_for: None,
            generation: 1,
            since,
            changed: since,
            unprobed: false,
            hostname: DnsLabel::from_any(hostname),
            aliases: aliases.iter().filter_map(|a| DnsLabel::from_any(a)).collect(),
            groups: Vec::new(),
            containers: None,
            running: true,
            sole_nic: false,
            tap: None,
            handover: None,
            address6: None,
        })
    }

    fn shown(leases: &[Lease]) -> Vec<String> {
        let words = |l: &Lease| {
            let names = l.hostname.iter().chain(&l.aliases).map(ToString::to_string);
            names.collect::<Vec<_>>().join(" ")
        };
        leases.iter().map(words).collect()
    }

    fn boot() -> BootId {
        BootId("now".into())
    }

    #[test]
    fn the_first_has_the_name_and_the_other_is_told() -> Result<()> {
        let (leases, clashes) = settle(vec![lease(2, 20, "db", &[])?, lease(3, 10, "db", &[])?], &boot());
        assert_eq!(shown(&leases), ["", "db"]);
        let clash = clashes.first().ok_or_else(|| Fault::failed("no clash"))?;
        assert_eq!(
            (clash.holder, clash.asker),
            (Some(IpAddr::from([10, 0, 1, 3])), IpAddr::from([10, 0, 1, 2]))
        );
        Ok(())
    }

    #[test]
    fn an_alias_is_shared_but_never_hides_a_host_name() -> Result<()> {
        let all =
            vec![lease(2, 1, "a", &["web", "db"])?, lease(3, 2, "b", &["web"])?, lease(4, 3, "db", &["db"])?];
        let (leases, clashes) = settle(all, &boot());
        assert_eq!(shown(&leases), ["a web", "b web", "db"]);
        assert_eq!(clashes.len(), 1);
        Ok(())
    }

    #[test]
    fn the_hosts_names_and_the_names_of_who_is_gone_are_nobodys() -> Result<()> {
        let mut gone = lease(3, 1, "db", &["pg"])?;
        gone.boot = Some(BootId("before".into()));
        let (leases, clashes) =
            settle(vec![lease(2, 9, "host", &["gateway"])?, gone, lease(4, 9, "db", &[])?], &boot());
        assert_eq!(shown(&leases), ["", "", "db"]);
        assert_eq!(clashes.len(), 2);
        Ok(())
    }

    #[test]
    fn who_goes_without_a_name_is_not_shown_with_it() -> Result<()> {
        let text = "format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n";
        let file = crate::model::network_file::NetworkFile::parse(text).map_err(Fault::failed)?;
        let network = file.network(&"hybrid".parse()?)?;
        let leases = [lease(5, 1, "db", &[])?, lease(6, 2, "db", &[])?, lease(7, 3, "gateway", &[])?];
        let shown: Vec<_> = crate::model::LeaseRecord::all(&network, &leases, &boot())
            .into_iter()
            .map(|r| (r.hostname.map(String::from), r.fqdn))
            .collect();
        let name = |n: &str| Some(n.to_owned());
        assert_eq!(
            shown,
            [(name("db"), name("db.hybrid.internal")), (name("db"), None), (name("gateway"), None)]
        );
        Ok(())
    }
}
