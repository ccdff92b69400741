//! What follows from a changed lease at once: its DHCP reservation and its names.

use std::time::Duration;

use crate::deadline::Deadline;
use crate::host::dns;
use crate::model::{DnsLabel, Lease, MacAddress, Network, NetworkName, Result, naming};
use crate::places::Places;
use crate::registry::lock::Lock;
use crate::registry::{Registry, status};

use super::Context;

/// How long to wait for another render of the same network's files.
const WAIT: Duration = Duration::from_secs(2);

/// Takes the lock of a network's rendered files. The registry is read after it is taken, never
/// before, so that an older render can't land last.
pub(super) fn lock(places: &Places, name: &NetworkName, deadline: Deadline) -> Result<Lock> {
    crate::registry::durable::make_folder(&places.run, 0o755)?;
    let what = format!("the rendering of network {name}");
    Lock::take(&places.render_lock(name), &what, deadline.at_most(WAIT))
}

/// Renders one NIC's lease, for a network that is up.
pub fn lease(context: &Context, network: &Network, lease: &Lease, deadline: Deadline) -> Result<()> {
    let Some(mac) = lease.mac else { return Ok(()) };
    one(context, network, mac, deadline)
}

/// Renders what became of one MAC's lease.
fn one(context: &Context, network: &Network, mac: MacAddress, deadline: Deadline) -> Result<()> {
    let places = &context.places;
    if !places.dns(&network.name).exists() {
        // The network is down: it is rendered as a whole when it comes up.
        return Ok(());
    }
    let guard = lock(places, &network.name, deadline)?;
    let lease =
        Registry::of(places, &network.name).change(deadline.at_most(WAIT), |_, leases| leases.of_mac(mac))?;
    let written = match &lease {
        Some(lease) => dns::write_lease(network, places, &fresh(lease, context.now()))?,
        None => dns::remove_lease(network, places, mac)?,
    };
    drop(guard);
    if written.needs_reload() {
        dns::reload(network, places, deadline)?;
    }
    Ok(())
}

/// A lease as far as it can be told without the others. The rest is the names worker's.
fn fresh(lease: &Lease, now: u64) -> Lease {
    let mut lease = lease.clone();
    // By now the former holder's DHCP lease has ended.
    lease.handover = lease.handover.filter(|h| h.until > now);
    // dnsmasq would answer with the guest beside the host, until the worker takes the name off it.
    let hosts = |name: &DnsLabel| naming::OF_THE_HOST.contains(&name.as_str());
    lease.hostname = lease.hostname.filter(|name| !hosts(name));
    lease.aliases.retain(|name| !hosts(name));
    lease
}

/// Renders what a command changed, and wakes the service for the rest.
pub fn lease_by_hand(context: &Context, network: &Network, lease: &Lease, deadline: Deadline) -> Result<()> {
    if !status::load(&context.places, &network.name)?.up {
        return Ok(());
    }
    let done = self::lease(context, network, lease, deadline);
    super::wake::wake(&context.places);
    done
}

/// As [`lease_by_hand`], for a lease that is no more.
pub fn forgotten_by_hand(
    context: &Context,
    network: &Network,
    mac: MacAddress,
    deadline: Deadline,
) -> Result<()> {
    if !status::load(&context.places, &network.name)?.up {
        return Ok(());
    }
    let done = one(context, network, mac, deadline);
    super::wake::wake(&context.places);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> std::result::Result<Lease, toml::de::Error> {
        toml::from_str(
            "address = \"10.0.1.128\"\nmac = \"52:54:00:00:00:02\"\nstate = \"active\"\ngeneration = 1\n\
             since = 1\nchanged = 1\nhostname = \"gateway\"\naliases = [\"host\", \"pg\"]\n\
             [handover]\nmac = \"52:54:00:00:00:01\"\nuntil = 100\n",
        )
    }

    #[test]
    fn dhcp_knows_a_former_holder_only_while_its_lease_may_last() -> std::result::Result<(), toml::de::Error>
    {
        assert!(fresh(&lease()?, 99).handover.is_some());
        assert!(fresh(&lease()?, 100).handover.is_none());
        Ok(())
    }

    #[test]
    fn a_guest_never_has_a_name_of_the_hosts() -> std::result::Result<(), toml::de::Error> {
        let shown = fresh(&lease()?, 100);
        assert_eq!(shown.hostname, None);
        assert_eq!(shown.aliases.iter().map(DnsLabel::as_str).collect::<Vec<_>>(), ["pg"]);
        Ok(())
    }
}
