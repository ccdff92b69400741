//! Claim: a NIC gets its address.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::host::probe;
use crate::model::claim::{self, ClaimRequest, Claimed, LeaseView, Refusal};
use crate::model::{
    Fault, InterfaceName, Lease, LeaseState, MacAddress, Network, NetworkName, Origin, Owner, OwnerId, Result,
};
use crate::registry::{Registry, Transaction, status};

use super::Context;

/// How long a probe may take (RFC 5227 and RFC 4862 would wait seconds; a VM's start can't).
const PROBE: Duration = Duration::from_millis(150);

/// What a claim brought.
#[derive(Debug)]
pub struct Granted {
    /// The network, as it stood when the claim was decided.
    pub network: Network,
    /// The lease.
    pub lease: Lease,
    /// The registry was changed: what is rendered from it is to be made again.
    pub changed: bool,
    /// The leases that were there before it, and are no more or stand otherwise now: for [`undo`].
    pub replaced: Vec<Lease>,
}

/// Claims an address. A dynamic address that nobody held before is written down first and probed
/// after, without any lock, so that many VMs can start at once; one that is asked for, or reserved and not used
/// yet, is probed before it is written, so that nothing needs to be undone.
pub fn claim(
    context: &Context,
    name: &NetworkName,
    mut request: ClaimRequest,
    deadline: Deadline,
) -> Result<Granted> {
    let registry = Registry::of(&context.places, name);
    // The lease that is written down and not yet known to be free.
    let mut pending: Option<Lease> = None;
    // What was there before us.
    let mut replaced: Vec<Lease> = Vec::new();
    loop {
        let decided = registry.change(deadline, |network, leases| {
            request.probe = request.probe && can_answer(context, network)?;
            let claimed = decide(context, network, leases, &request)?;
            let asked_for = request.ip.is_some() && claimed.lease.unprobed;
            let first = request.probe && (asked_for || claimed.untried);
            let before = if first { Vec::new() } else { write(leases, &claimed)? };
            Ok((network.clone(), claimed, first, before))
        });
        let (network, claimed, first, before) = match (decided, &pending) {
            (Ok(decided), _) => decided,
            (Err(fault), None) => return Err(fault),
            (Err(fault), Some(lease)) => return Err(abandon(&registry, lease, &replaced, fault, deadline)),
        };
        // The lease that the turn before wrote was nobody's before.
        replaced
            .extend(before.into_iter().filter(|b| pending.as_ref().is_none_or(|p| p.address != b.address)));
        let Claimed { lease, unchanged, .. } = claimed;
        if first {
            let address = lease.address;
            if let Some(in_use) = answer(context, &network, address, &request)? {
                return Err(refused(name, &in_use));
            }
            request.probe = false;
            continue;
        }
        if !lease.unprobed || !request.probe {
            return Ok(Granted { network, lease, changed: !unchanged, replaced });
        }
        let heard = answer(context, &network, lease.address, &request);
        match heard {
            Ok(None) => {
                let lease = confirm(&registry, lease, deadline)?;
                return Ok(Granted { network, lease, changed: true, replaced });
            }
            Ok(Some(in_use)) if deadline.passed() => {
                return Err(abandon(&registry, &lease, &replaced, refused(name, &in_use), deadline));
            }
            Ok(Some(_)) => {
                request.avoid.push(lease.address);
                pending = Some(lease);
            }
            Err(fault) => return Err(abandon(&registry, &lease, &replaced, fault, deadline)),
        }
    }
}

/// Decides one claim within a transaction.
pub(super) fn decide(
    context: &Context,
    network: &Network,
    leases: &mut Transaction,
    request: &ClaimRequest,
) -> Result<Claimed> {
    let decided = claim::decide(network, leases, request, &context.boot, context.now())?;
    decided.map_err(|refusal| match (&refusal, request.avoid.len()) {
        (Refusal::PoolFull { .. }, unknown) if unknown > 0 => {
            let fault = refused(&network.name, &refusal);
            fault.hint(format!("hosts that the registry doesn't know answer at {unknown} of them; remove them from the bridge"))
        }
        _ => refused(&network.name, &refusal),
    })
}

/// Writes what was decided. The leases that were there before.
pub(super) fn write(leases: &mut Transaction, claimed: &Claimed) -> Result<Vec<Lease>> {
    if claimed.unchanged {
        return Ok(Vec::new());
    }
    let mut replaced: Vec<Lease> = leases.at(claimed.lease.address)?.into_iter().collect();
    // Of several entries of one MAC only the newest counts.
    replaced.extend(claimed.lease.mac.map(|mac| leases.of_mac(mac)).transpose()?.flatten());
    replaced.dedup();
    leases.put(claimed.lease.clone())?;
    for address in &claimed.leaves {
        leases.take(*address)?;
    }
    Ok(replaced)
}

/// Gives an active lease other names, groups and containers. Its address stays: the guest uses it.
///
/// # Errors
/// Refused: the NIC has no lease of this owner any more.
pub fn change_wishes(
    context: &Context,
    name: &NetworkName,
    request: &ClaimRequest,
    deadline: Deadline,
) -> Result<Granted> {
    Registry::of(&context.places, name).change(deadline, |network, leases| {
        let before =
            leases.of_mac(request.mac)?.filter(|l| l.is_owned_by(&request.owner.id)).ok_or_else(|| {
                Fault::refused(format!("the lease of {} on network {name} ended meanwhile", request.mac))
                    .hint("try again")
            })?;
        let lease = Lease {
            hostname: request.hostname.clone(),
            aliases: request.aliases.clone(),
            groups: request.groups.clone(),
            containers: request.containers.clone(),
            sole_nic: request.sole_nic,
            ..before.clone()
        };
        let changed = lease != before;
        if changed {
            leases.put(lease.clone())?;
        }
        Ok(Granted { network: network.clone(), lease, changed, replaced: vec![before] })
    })
}

/// Takes a claim back that another's refusal makes void: the registry stands as before it. What somebody else
/// changed since is theirs.
pub fn undo(context: &Context, granted: &Granted, deadline: Deadline) -> Result<()> {
    if !granted.changed {
        return Ok(());
    }
    Registry::of(&context.places, &granted.network.name).change(deadline, |_, leases| {
        let lease = &granted.lease;
        let now = leases.at(lease.address)?;
        let mine = now.is_some_and(|n| {
            n.mac == lease.mac && n.generation == lease.generation && n.owner == lease.owner
        });
        if mine {
            leases.take(lease.address)?;
            put_back(leases, &granted.replaced)?;
        }
        Ok(())
    })
}

/// Puts leases back where nothing is in their place, and their NIC has got no other.
fn put_back(leases: &mut Transaction, replaced: &[Lease]) -> Result<()> {
    for lease in replaced {
        let elsewhere = lease.mac.map(|mac| leases.of_mac(mac)).transpose()?.flatten();
        if elsewhere.is_none() && leases.at(lease.address)?.is_none() {
            leases.put(lease.clone())?;
        }
    }
    Ok(())
}

/// A refusal in words, with the way out.
#[must_use]
pub fn refused(network: &NetworkName, refusal: &Refusal) -> Fault {
    let hint = match refusal {
        Refusal::Unfit(_) => format!("hybrid-hook network show {network} tells the subnet and its pools"),
        // What a person reserved only a person frees.
        Refusal::Taken(lease, _) if lease.reserved => format!(
            "hybrid-hook leases --network {network} shows all; choose another ip, or take the reservation back \
             (hybrid-hook reserve --network {network} --ip {} --remove)",
            lease.address
        ),
        Refusal::Taken(..) => format!(
            "hybrid-hook leases --network {network} shows all; choose another ip, or release that one \
             (hybrid-hook gc --network {network} frees those of VMs that are gone)"
        ),
        Refusal::InUse { .. } => "choose another ip, or find that host and free the address".to_owned(),
        Refusal::MacInUse { .. } => "give this NIC another MAC, or stop the other".to_owned(),
        Refusal::NoPool { .. } => {
            "ask for an address, or give the network a container_pool in its file".to_owned()
        }
        Refusal::PoolFull { .. } => format!(
            "hybrid-hook gc --network {network} frees leases of guests that are gone; or widen the pool in the \
             network's file"
        ),
    };
    let text = refusal.to_string();
    match refusal {
        // The other reasons name the network's things already.
        Refusal::Unfit(_) => Fault::refused(format!("network {network}: {text}")),
        _ => Fault::refused(text),
    }
    .hint(hint)
}

/// Why an address can't be the claimant's: somebody else answers at it, or at the IPv6 address that goes with
/// it. Both are asked at once. A network that is down has nobody to ask.
pub(super) fn answer(
    context: &Context,
    network: &Network,
    address: IpAddr,
    request: &ClaimRequest,
) -> Result<Option<Refusal>> {
    if !can_answer(context, network)? {
        return Ok(None);
    }
    let ask = |at: IpAddr| -> Result<Option<Refusal>> {
        let heard = probe::probe(&network.bridge, at, request.mac, PROBE)?;
        Ok(heard.map(|mac| Refusal::InUse { address, at, mac }))
    };
    let Some(companion) = network.companion(address) else { return ask(address) };
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| ask(companion.into()));
        let first = ask(address)?;
        let beside = beside.join().unwrap_or_else(|_| Err(Fault::failed("a probe ended early")))?;
        Ok(first.or(beside))
    })
}

fn can_answer(context: &Context, network: &Network) -> Result<bool> {
    let there = Path::new("/sys/class/net").join(network.bridge.as_str()).exists();
    Ok(there && status::load(&context.places, &network.name)?.up)
}

/// Notes that nobody answered.
fn confirm(registry: &Registry, lease: Lease, deadline: Deadline) -> Result<Lease> {
    registry.change(deadline, |_, leases| match leases.at(lease.address)? {
        Some(mut now) if now.mac == lease.mac && now.generation == lease.generation => {
            now.unprobed = false;
            leases.put(now.clone())?;
            Ok(now)
        }
        // Somebody changed it while we probed; what they wrote stands.
        Some(now) if now.mac == lease.mac => Ok(now),
        _ => Err(Fault::refused(format!("{} was given to another while it was probed", lease.address))
            .hint("try again")),
    })
}

/// Takes back an address that turned out to be in use, and hands on the reason.
fn abandon(
    registry: &Registry,
    lease: &Lease,
    replaced: &[Lease],
    reason: Fault,
    deadline: Deadline,
) -> Fault {
    let deadline = deadline.at_least(Duration::from_millis(500));
    let taken_back = registry.change(deadline, |_, leases| {
        let mine = leases.at(lease.address)?.is_some_and(|now| now.mac == lease.mac && now.unprobed);
        if mine {
            leases.take(lease.address)?;
            put_back(leases, replaced)?;
        }
        Ok(())
    });
    match taken_back {
        Ok(()) => reason,
        Err(fault) => reason.and(fault),
    }
}

/// The lease of a NIC as it stands; none where it has another owner. One block is read, however many
/// leases there are.
pub fn held(
    context: &Context,
    name: &NetworkName,
    mac: MacAddress,
    owner: &OwnerId,
    deadline: Deadline,
) -> Result<Option<Lease>> {
    let registry = Registry::of(&context.places, name);
    let lease = match registry.change(deadline, |_, leases| leases.of_mac(mac)) {
        Ok(lease) => lease,
        // Who holds the lock changes other leases than this one. All of them are read, which takes longer.
        Err(fault) => match registry.read() {
            Ok(leases) => leases.into_iter().find(|l| l.mac == Some(mac)),
            Err(_) => return Err(fault),
        },
    };
    Ok(lease.filter(|l| l.is_owned_by(owner)))
}

/// Why a guest can't come back to the address that it had: the NIC has no lease any more, and the one at that
/// address says that it came from this NIC.
pub fn taken_from(context: &Context, name: &NetworkName, mac: MacAddress) -> Result<Option<Fault>> {
    let leases = Registry::of(&context.places, name).read()?;
    if leases.iter().any(|l| l.mac == Some(mac)) {
        return Ok(None);
    }
    // A reservation that its guest left is nobody's yet.
    let taken =
        |l: &Lease| l.state != LeaseState::Reserved && l.handover.as_ref().is_some_and(|h| h.mac == mac);
    let other = leases.into_iter().find(taken);
    Ok(other.map(|lease| {
        let state = lease.state_now(&context.boot);
        refused(name, &Refusal::Taken(Box::new(lease), state))
    }))
}

/// Why the address that is asked for can't be this NIC's any more: another holds it now. By the rule of a claim, which
/// follows.
pub fn in_the_way(
    context: &Context,
    name: &NetworkName,
    request: &ClaimRequest,
    deadline: Deadline,
) -> Result<Option<Fault>> {
    let Some(address) = request.ip else { return Ok(None) };
    Registry::of(&context.places, name).change(deadline, |network, leases| {
        let there = leases.at(address)?;
        let taken = there.filter(|lease| !claim::gives_way(network, lease, request, &context.boot));
        Ok(taken.map(|lease| {
            let state = lease.state_now(&context.boot);
            refused(name, &Refusal::Taken(Box::new(lease), state))
        }))
    })
}

/// Notes that the owner runs, and by which tap. The lease as it stands then; `None` where the NIC has none.
/// One that another owner has by now is left alone.
pub fn note_running(
    context: &Context,
    name: &NetworkName,
    mac: MacAddress,
    owner: &Owner,
    tap: Option<InterfaceName>,
    deadline: Deadline,
) -> Result<Option<Lease>> {
    Registry::of(&context.places, name).change(deadline, |_, leases| {
        let Some(mut lease) = leases.of_mac(mac)?.filter(|l| l.is_owned_by(&owner.id)) else {
            return Ok(None);
        };
        let before = lease.clone();
        if lease.state_now(&context.boot) != LeaseState::Active {
            lease.changed = context.now();
        }
        lease.running = true;
        lease.tap = tap.or(lease.tap);
        lease.state = LeaseState::Active;
        if lease.owner.as_ref().is_some_and(|o| o.origin != Origin::Hand) {
            lease.boot = Some(context.boot.clone());
        }
        if lease != before {
            leases.put(lease.clone())?;
        }
        Ok(Some(lease))
    })
}
