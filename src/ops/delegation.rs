//! Delegation: a VM gets a block of addresses beside its own, for what runs inside it.

use std::net::IpAddr;

use crate::deadline::Deadline;
use crate::model::claim::{ClaimRequest, LeaseView};
use crate::model::delegation::BlockSize;
use crate::model::{
    DnsLabel, Fault, Lease, LeaseState, MacAddress, Network, NetworkName, Owner, OwnerId, Result,
};
use crate::registry::{Registry, Transaction};

use super::Context;
use super::claim::{self, Granted};
use super::release::{self, Which};

/// What is asked.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// For whom.
    pub owner: Owner,
    /// Beside which NIC.
    pub nic: MacAddress,
    /// How many addresses.
    pub size: BlockSize,
    /// Groups that policies name: those of the NIC.
    pub groups: Vec<DnsLabel>,
}

/// Claims the block that the NIC has already, else the highest free one of the VM pool. All or none.
/// Addresses that nobody held before are probed before anything is written.
pub fn claim(
    context: &Context,
    name: &NetworkName,
    wanted: &Wanted,
    deadline: Deadline,
) -> Result<Vec<Granted>> {
    let registry = Registry::of(&context.places, name);
    let mut avoid: Vec<IpAddr> = Vec::new();
    loop {
        let (network, fresh) = registry.change(deadline, |network, leases| {
            let block = choose(context, network, leases, wanted, &avoid)?;
            let mut fresh = Vec::new();
            for address in &block {
                if leases.at(*address)?.is_none() {
                    fresh.push(*address);
                }
            }
            Ok((network.clone(), fresh))
        })?;
        let heard = probe(context, &network, wanted, &fresh)?;
        if !heard.is_empty() && !deadline.passed() {
            avoid.extend(heard);
            continue;
        }
        return registry.change(deadline, |network, leases| {
            let block = choose(context, network, leases, wanted, &avoid)?;
            let mut granted = Vec::new();
            for (address, mac) in block.into_iter().zip(wanted.size.macs(name, wanted.nic)) {
                let claimed = claim::decide(context, network, leases, &request(wanted, mac, address))?;
                let replaced = claim::write(leases, &claimed)?;
                granted.push(Granted {
                    network: network.clone(),
                    lease: claimed.lease,
                    changed: !claimed.unchanged,
                    replaced,
                });
            }
            let dropped = drop_rest(leases, name, wanted)?;
            if let Some(last) = granted.last_mut().filter(|_| !dropped.is_empty()) {
                if !last.changed {
                    last.replaced.push(last.lease.clone());
                }
                last.changed = true;
                last.replaced.extend(dropped);
            }
            Ok(granted)
        });
    }
}

/// The addresses of the block, in the order of its MACs.
fn choose(
    context: &Context,
    network: &Network,
    leases: &mut Transaction,
    wanted: &Wanted,
    avoid: &[IpAddr],
) -> Result<Vec<IpAddr>> {
    let mut held = Vec::new();
    for mac in wanted.size.macs(&network.name, wanted.nic) {
        held.extend(leases.of_mac(mac)?.filter(|l| l.is_owned_by(&wanted.owner.id)).map(|l| l.address));
    }
    if wanted.size.is_block(&held) && fits(context, network, leases, wanted, &held)? {
        return Ok(held);
    }
    // First what nobody ever held, then what nobody holds now.
    for untouched in [true, false] {
        for block in wanted.size.candidates(network) {
            if block.iter().any(|a| avoid.contains(a)) {
                continue;
            }
            if untouched {
                let mut taken = false;
                for address in &block {
                    taken |= leases.at(*address)?.is_some();
                }
                if taken {
                    continue;
                }
            }
            if fits(context, network, leases, wanted, &block)? {
                return Ok(block);
            }
        }
    }
    let pool = network.key_family().map(|f| f.vm_pool.to_string()).unwrap_or_default();
    Err(Fault::refused(format!(
        "no block of {} addresses is free in the VM pool {pool} of network {}",
        wanted.size, network.name
    ))
    .hint(format!(
        "hybrid-hook gc --network {} frees leases of VMs that are gone; or ask for a smaller block, or widen \
         vm_pool in the network's file",
        network.name
    )))
}

/// Whether each address could be claimed.
fn fits(
    context: &Context,
    network: &Network,
    leases: &mut Transaction,
    wanted: &Wanted,
    block: &[IpAddr],
) -> Result<bool> {
    for (address, mac) in block.iter().zip(wanted.size.macs(&network.name, wanted.nic)) {
        let request = request(wanted, mac, *address);
        let decided = crate::model::claim::decide(network, leases, &request, &context.boot, context.now())?;
        if decided.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn request(wanted: &Wanted, mac: MacAddress, address: IpAddr) -> ClaimRequest {
    ClaimRequest {
        owner: wanted.owner.clone(),
        mac,
        ip: Some(address),
        hostname: None,
        aliases: Vec::new(),
        groups: wanted.groups.clone(),
        containers: None,
        sole_nic: false,
        avoid: Vec::new(),
        probe: false,
    }
}

/// Where somebody answers whom the registry doesn't know. All are asked at once, so it takes as long
/// as asking one.
fn probe(context: &Context, network: &Network, wanted: &Wanted, fresh: &[IpAddr]) -> Result<Vec<IpAddr>> {
    let answers: Vec<Result<Option<IpAddr>>> = std::thread::scope(|scope| {
        let asking: Vec<_> = fresh
            .iter()
            .map(|address| {
                scope.spawn(move || {
                    let request = request(wanted, wanted.nic, *address);
                    let heard = claim::answer(context, network, *address, &request)?;
                    Ok(heard.map(|_| *address))
                })
            })
            .collect();
        asking
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(Fault::failed("a probe ended early"))))
            .collect()
    });
    let heard: Result<Vec<Option<IpAddr>>> = answers.into_iter().collect();
    Ok(heard?.into_iter().flatten().collect())
}

/// Frees what a larger block had and this one doesn't, and tells what that was.
fn drop_rest(leases: &mut Transaction, name: &NetworkName, wanted: &Wanted) -> Result<Vec<Lease>> {
    let mut dropped = Vec::new();
    for mac in BlockSize::all_macs(name, wanted.nic).skip(wanted.size.get().into()) {
        if let Some(lease) = leases.of_mac(mac)?
            && lease.is_owned_by(&wanted.owner.id)
            && !lease.reserved
        {
            dropped.extend(leases.take(lease.address)?);
        }
    }
    Ok(dropped)
}

/// Frees the block that a NIC has and no longer asks for. Most have none, which costs one look.
pub fn forget(
    context: &Context,
    name: &NetworkName,
    owner: &OwnerId,
    nic: MacAddress,
    deadline: Deadline,
) -> Result<()> {
    let macs: Vec<MacAddress> = BlockSize::all_macs(name, nic).collect();
    // Every block begins with the first.
    let first = macs.first().map(|mac| claim::held(context, name, *mac, owner, deadline)).transpose()?;
    if first.flatten().is_none() {
        return Ok(());
    }
    let which = Which { owner: owner.clone(), macs, generation: None };
    release::release(context, name, &which, true, deadline).map(drop)
}

/// Whether the whole block is held and active. Without a lock.
pub fn holds(context: &Context, name: &NetworkName, wanted: &Wanted) -> Result<bool> {
    let leases: Vec<Lease> = Registry::of(&context.places, name).read()?;
    Ok(wanted.size.macs(name, wanted.nic).all(|mac| {
        leases.iter().any(|l| {
            l.mac == Some(mac)
                && l.is_owned_by(&wanted.owner.id)
                && l.state_now(&context.boot) == LeaseState::Active
        })
    }))
}
