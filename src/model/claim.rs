//! The decision behind every claim: which lease a NIC gets, or why it gets none.

use std::net::IpAddr;

use super::lease::Handover;
use super::network::Unfit;
use super::pool::{address_at, ordinal};
use super::{
    AddressRange, BootId, DnsLabel, Ipam, Lease, LeaseState, MacAddress, Network, NetworkName, Origin, Owner,
    Selector,
};

/// What is known of a network's leases. The registry answers; a test can answer from memory.
pub trait LeaseView {
    /// What a look-up can fail with.
    type Error;
    /// The entries of a MAC. More than one only after a crash in the middle of a move.
    fn by_mac(&mut self, mac: MacAddress) -> Result<Vec<Lease>, Self::Error>;
    /// The entry at an address.
    fn at(&mut self, address: IpAddr) -> Result<Option<Lease>, Self::Error>;
    /// The reservation for a host name that nobody has claimed.
    fn reserved_for(&mut self, hostname: &DnsLabel) -> Result<Option<Lease>, Self::Error>;
    /// The lowest address of `pool` that has no entry and passes `allowed`.
    fn lowest_free(
        &mut self,
        pool: &AddressRange,
        allowed: &dyn Fn(IpAddr) -> bool,
    ) -> Result<Option<IpAddr>, Self::Error>;
    /// Every entry in `pool` that is not in use, for a full pool.
    fn idle_in(&mut self, pool: &AddressRange) -> Result<Vec<Lease>, Self::Error>;
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Who asks.
    pub owner: Owner,
    /// For which NIC.
    pub mac: MacAddress,
    /// A fixed address; none: the one it has, else the lowest free one of its kind's pool.
    pub ip: Option<IpAddr>,
    /// Its name in the zone.
    pub hostname: Option<DnsLabel>,
    /// More names.
    pub aliases: Vec<DnsLabel>,
    /// Groups that policies name.
    pub groups: Vec<DnsLabel>,
    /// Containers to have beside it.
    pub containers: Option<Selector>,
    /// Whether it is the guest's only NIC.
    pub sole_nic: bool,
    /// Addresses not to give out: a probe found something there.
    pub avoid: Vec<IpAddr>,
    /// Whether an address never held before is to be probed before it counts.
    pub probe: bool,
}

impl ClaimRequest {
    /// Any address for a NIC, no name, and nothing probed.
    #[must_use]
    pub fn of(owner: Owner, mac: MacAddress) -> Self {
        Self {
            owner,
            mac,
            ip: None,
            hostname: None,
            aliases: Vec::new(),
            groups: Vec::new(),
            containers: None,
            sole_nic: false,
            avoid: Vec::new(),
            probe: false,
        }
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The lease as it is to be written.
    pub lease: Lease,
    /// Other addresses that the same MAC leaves: more than one only after a crash in the middle of a move.
    pub leaves: Vec<IpAddr>,
    /// The lease stood like this already: nothing is to be written.
    pub unchanged: bool,
    /// It was reserved, and no guest has had it yet.
    pub untried: bool,
}

/// Why a claim gets nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The address can't be a guest's.
    #[error("{0}")]
    Unfit(#[from] Unfit),
    /// Somebody else holds the address.
    #[error("{} is held by {} ({})", .0.address, .0.holder(), .1)]
    Taken(Box<Lease>, LeaseState),
    /// Something that is not in the registry answers at the address.
    #[error("{} is in use by {mac}, which the registry doesn't know", with_companion(*address, *at))]
    InUse {
        /// The address of the lease.
        address: IpAddr,
        /// Where the answer came from: the same, or the IPv6 address that goes with it.
        at: IpAddr,
        /// Who answered.
        mac: MacAddress,
    },
    /// The same MAC belongs to another owner that is running.
    #[error("MAC {mac} is in use by {} with {}", lease.holder(), lease.address)]
    MacInUse {
        /// The MAC.
        mac: MacAddress,
        /// The other's lease.
        lease: Box<Lease>,
    },
    /// The network gives containers no address that they don't ask for.
    #[error("network {network} has no pool of addresses for containers")]
    NoPool {
        /// The network.
        network: NetworkName,
    },
    /// Every address of the pool is in use.
    #[error("pool full: all {size} addresses of {pool} on network {network} are in use")]
    PoolFull {
        /// The pool.
        pool: AddressRange,
        /// Its size in addresses.
        size: u128,
        /// The network.
        network: NetworkName,
    },
}

fn with_companion(address: IpAddr, at: IpAddr) -> String {
    if at == address { at.to_string() } else { format!("{at}, which goes with {address},") }
}

/// Decides a claim. Times are seconds since 1970.
pub fn decide<V: LeaseView>(
    network: &Network,
    view: &mut V,
    request: &ClaimRequest,
    boot: &BootId,
    now: u64,
) -> Result<Result<Claimed, Refusal>, V::Error> {
    let mut held = view.by_mac(request.mac)?;
    held.sort_by_key(|l| std::cmp::Reverse(l.generation));
    let addresses: Vec<IpAddr> = held.iter().map(|l| l.address).collect();
    let held = held.into_iter().next();
    if let Some(lease) = &held
        && lease.owner.is_some()
        && !lease.is_owned_by(&request.owner.id)
        && (lease.state_now(boot) == LeaseState::Active || !passes_on(lease, request))
    {
        return Ok(Err(Refusal::MacInUse { mac: request.mac, lease: Box::new(lease.clone()) }));
    }
    // Docker never says for whom. The same question again is its retry; another one is another container's with
    // the same MAC, and the first has the address.
    if let Some(lease) = &held
        && request.owner.id.is_endpoint()
        && lease.is_owned_by(&request.owner.id)
        && lease.state_now(boot) == LeaseState::Active
        && request.ip.map_or(lease.fixed && !lease.reserved, |ip| ip != lease.address || !lease.fixed)
    {
        return Ok(Err(Refusal::MacInUse { mac: request.mac, lease: Box::new(lease.clone()) }));
    }

    let (address, fixed, there) = match choose(network, view, request, held.as_ref(), boot)? {
        Ok(choice) => choice,
        Err(refusal) => return Ok(Err(refusal)),
    };
    // The entry that is overwritten: the MAC's own at that address, or another's that gives way.
    let own = held.as_ref().filter(|l| l.address == address);
    let handover = match (own, &there) {
        // Also when DHCP needs it no more: a guest that was saved may come back for it at any time.
        (Some(own), _) => own.handover.clone(),
        // No DHCP lease stands in a container's way.
        (None, Some(_)) if request.owner.origin == Origin::Container => None,
        (None, Some(other)) => match other.mac {
            Some(mac) => (mac != request.mac).then(|| Handover::from(mac, now)),
            // A reservation whose last guest is gone.
            None => other.handover.clone().filter(|h| h.mac != request.mac),
        },
        (None, None) => None,
    };
    let last = held.iter().chain(&there).map(|l| l.generation).max().unwrap_or(0);
    let same_owner = own.is_some_and(|l| l.is_owned_by(&request.owner.id));
    let was_active = own.is_some_and(|l| l.state_now(boot) == LeaseState::Active);
    let mut owner = request.owner.clone();
    if let Some(before) = own.and_then(|l| l.owner.as_ref()).filter(|_| same_owner) {
        owner.name = owner.name.or_else(|| before.name.clone());
    }
    let reserved = own.is_some_and(|l| l.reserved) || there.as_ref().is_some_and(|l| l.reserved);
    // One that nobody has claimed says for whom it is by its host name, also where it is of an older version.
    let reserved_for = own
        .or(there.as_ref())
        .filter(|l| l.reserved)
        .and_then(|l| l.reserved_for.clone().or_else(|| l.hostname.clone().filter(|_| l.mac.is_none())));
    let lease = Lease {
        address,
        mac: Some(request.mac),
        boot: (owner.origin != Origin::Hand).then(|| boot.clone()),
        owner: Some(owner),
        state: LeaseState::Active,
        fixed,
        reserved,
        reserved_for,
        generation: if same_owner { last } else { last + 1 },
        since: own.filter(|_| same_owner).map_or(now, |l| l.since),
        changed: if was_active && same_owner { own.map_or(now, |l| l.changed) } else { now },
        unprobed: own.map_or(request.probe && there.is_none(), |l| l.unprobed),
        hostname: request.hostname.clone(),
        aliases: request.aliases.clone(),
        groups: request.groups.clone(),
        containers: request.containers.clone(),
        running: own.is_some_and(|l| was_active && same_owner && l.running),
        sole_nic: request.sole_nic,
        tap: own.filter(|_| was_active && same_owner).and_then(|l| l.tap.clone()),
        handover,
        address6: own.and_then(|l| l.address6),
    };
    let leaves: Vec<IpAddr> = addresses.into_iter().filter(|a| *a != address).collect();
    let unchanged = leaves.is_empty() && own == Some(&lease);
    let untried = own.or(there.as_ref()).is_some_and(|l| l.owner.is_none());
    Ok(Ok(Claimed { lease, leaves, unchanged, untried }))
}

type Choice = (IpAddr, bool, Option<Lease>);

/// Which address: the one asked for, the one reserved for the host name, the one it has, or a free one.
fn choose<V: LeaseView>(
    network: &Network,
    view: &mut V,
    request: &ClaimRequest,
    held: Option<&Lease>,
    boot: &BootId,
) -> Result<Result<Choice, Refusal>, V::Error> {
    let fit = |address| match request.owner.origin {
        Origin::Container => network.may_lease(address),
        Origin::Domain | Origin::Hand => network.may_lease_to_vm(address),
    };
    if let Some(address) = request.ip {
        if let Err(unfit) = fit(address) {
            return Ok(Err(unfit.into()));
        }
        let there = view.at(address)?;
        return Ok(match there {
            Some(other) if !gives_way(network, &other, request, boot) => {
                let state = other.state_now(boot);
                Err(Refusal::Taken(Box::new(other), state))
            }
            there => Ok((address, true, there)),
        });
    }
    if let Some(lease) = held
        && lease.reserved
        && fit(lease.address).is_ok()
    {
        return Ok(Ok((lease.address, true, Some(lease.clone()))));
    }
    if let Some(hostname) = &request.hostname
        && let Some(reservation) = view.reserved_for(hostname)?
        && fit(reservation.address).is_ok()
    {
        return Ok(Ok((reservation.address, true, Some(reservation))));
    }
    if let Some(lease) = held
        && fit(lease.address).is_ok()
        && !(lease.unprobed && request.avoid.contains(&lease.address))
    {
        return Ok(Ok((lease.address, false, Some(lease.clone()))));
    }
    let family = network.key_family();
    let pool = match request.owner.origin {
        Origin::Container => family.and_then(|f| f.container_pool.as_ref()),
        Origin::Domain | Origin::Hand => family.map(|f| &f.vm_pool),
    };
    let Some(pool) = pool else {
        return Ok(Err(Refusal::NoPool { network: network.name.clone() }));
    };
    let allowed = |a: IpAddr| fit(a).is_ok() && !request.avoid.contains(&a);
    // Docker gives out this very pool, from its lower end.
    let shared = network.follows.is_some() && family.is_some_and(|f| f.container_pool.is_none());
    let free = if shared { highest_free(view, pool, &allowed)? } else { view.lowest_free(pool, &allowed)? };
    if let Some(address) = free {
        return Ok(Ok((address, false, None)));
    }
    // A full pool: what nobody uses, the longest idle first. Fixed and reserved ones are a person's word.
    let oldest = view
        .idle_in(pool)?
        .into_iter()
        .filter(|l| l.state_now(boot) == LeaseState::Idle && !l.fixed && !l.reserved && passes_on(l, request))
        .filter(|l| allowed(l.address))
        .min_by_key(|l| (l.changed, l.address));
    Ok(match oldest {
        Some(lease) => Ok((lease.address, false, Some(lease))),
        None => Err(Refusal::PoolFull { pool: *pool, size: pool.size(), network: network.name.clone() }),
    })
}

/// The highest address of `pool` that has no entry and passes `allowed`.
fn highest_free<V: LeaseView>(
    view: &mut V,
    pool: &AddressRange,
    allowed: &dyn Fn(IpAddr) -> bool,
) -> Result<Option<IpAddr>, V::Error> {
    for number in (ordinal(pool.first())..=ordinal(pool.last())).rev() {
        let Some(address) = address_at(number, pool.first()) else { break };
        if allowed(address) && view.at(address)?.is_none() {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

/// Whether an idle lease can become the claimant's. A container never gets a VM's: not with its MAC, and
/// not because the pool is full.
fn passes_on(lease: &Lease, request: &ClaimRequest) -> bool {
    request.owner.origin != Origin::Container || lease.origin().is_none_or(|o| o == Origin::Container)
}

/// Whether the entry at an address gives way to a request for just that address.
#[must_use]
pub fn gives_way(network: &Network, there: &Lease, request: &ClaimRequest, boot: &BootId) -> bool {
    if there.mac == Some(request.mac) {
        return true;
    }
    match there.state_now(boot) {
        // A container that lost its connection and asks for what it had: Docker gave it another MAC.
        LeaseState::Active => {
            there.origin() == Some(Origin::Container) && there.is_owned_by(&request.owner.id)
        }
        // Reserved by name: only for that name. Reserved for another MAC: never.
        LeaseState::Reserved => {
            there.mac.is_none() && there.hostname.is_some() && there.hostname == request.hostname
        }
        // A static one waits for its owner; the same owner may come back with a new NIC.
        LeaseState::Idle if there.reserved => {
            there.is_owned_by(&request.owner.id) && there.hostname == request.hostname
        }
        // Docker says what and not who, with a new MAC at each start: its own stopped container most likely.
        LeaseState::Idle if request.owner.id.is_endpoint() && there.origin() == Some(Origin::Container) => {
            true
        }
        // Where the registry is asked before Docker gives an address, a stopped VM's is no container's.
        LeaseState::Idle if network.ipam == Ipam::Hybrid && !passes_on(there, request) => false,
        LeaseState::Idle => !there.fixed || there.is_owned_by(&request.owner.id),
    }
}

#[cfg(test)]
mod tests;
