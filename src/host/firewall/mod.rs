//! nftables: our own table, and what of others is in the way.
//!
//! The table `inet hybrid_hook` is rendered whole for all networks and replaced in one transaction. It
//! holds NAT, and refuses nothing but questions to our resolver that come from elsewhere. Nobody else's
//! table is ever written.

mod iptables;
mod names;
mod nft_listing;
mod obstacles;
mod packet;
mod ruleset;

use serde_json::Value;

pub use names::redirects;
pub use obstacles::{Obstacle, Stage, obstacles};
pub use ruleset::{TABLE, ruleset};

use super::process::{Output, run};
use super::{Change, resolver};
use crate::deadline::Deadline;
use crate::model::{Fault, Kind, Network, Result};

/// How our table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableState {
    /// There is none.
    Absent,
    /// It is as [`ruleset`] renders it now.
    Current,
    /// It is of another rendering, or somebody changed it.
    Stale,
}

/// How our table is, for these networks; changes nothing.
///
/// # Errors
/// [`Kind::Missing`] where nft is not installed; else nft's own words.
pub fn state(networks: &[Network], deadline: Deadline) -> Result<TableState> {
    let output = nft(&["-j", "list", "table", "inet", TABLE], b"", deadline)?;
    if !output.success() {
        // ENOENT, in the C locale that nft runs in here.
        if output.stderr.contains("No such file or directory") {
            return Ok(TableState::Absent);
        }
        return Err(complaint("cannot list our nftables table", &output));
    }
    // As loose JSON: a rule that somebody put in need not be one that the typed library knows.
    let listed: Value = serde_json::from_slice(&output.stdout)
        .map_err(|e| Fault::failed("nft listed our table in words that we can't read").because(e))?;
    let same = ruleset::marks(&listed) == ruleset::marks(&as_value(networks)?);
    Ok(if same { TableState::Current } else { TableState::Stale })
}

/// Makes our table that of these networks, in one transaction.
///
/// # Errors
/// [`Kind::Missing`] where nft is not installed; else nft's own words. The table is then as it was.
pub fn apply(networks: &[Network], deadline: Deadline) -> Result<Change> {
    if networks.iter().all(|n| !n.nat && n.resolvers().next().is_none()) {
        return remove(deadline);
    }
    match state(networks, deadline) {
        Ok(TableState::Current) => return Ok(Change::None),
        // Without NAT there is nothing that a network could not do without.
        Err(fault) if fault.kind() == Kind::Missing && !networks.iter().any(|n| n.nat) => {
            return Ok(Change::None);
        }
        seen => seen?,
    };
    commit("cannot write our nftables table", &as_value(networks)?, deadline)?;
    Ok(Change::Made)
}

/// Removes our table. Where nft is not installed there is none.
///
/// # Errors
/// nft's own words.
pub fn remove(deadline: Deadline) -> Result<Change> {
    if !may_stand(state(&[], deadline))? {
        return Ok(Change::None);
    }
    let value = serde_json::to_value(ruleset::removal())
        .map_err(|e| Fault::failed("cannot render our nftables table").because(e))?;
    commit("cannot remove our nftables table", &value, deadline)?;
    Ok(Change::Made)
}

/// Whether our table may stand, by what became of the look at it: without nft nobody made one.
pub fn may_stand(seen: Result<TableState>) -> Result<bool> {
    match seen {
        Ok(state) => Ok(state != TableState::Absent),
        Err(fault) if fault.kind() == Kind::Missing => Ok(false),
        Err(fault) => Err(fault),
    }
}

fn as_value(networks: &[Network]) -> Result<Value> {
    serde_json::to_value(ruleset(networks, &resolver::asked_by_containers()))
        .map_err(|e| Fault::failed("cannot render our nftables table").because(e))
}

fn commit(what: &str, transaction: &Value, deadline: Deadline) -> Result<()> {
    let output = nft(&["-j", "-f", "-"], transaction.to_string().as_bytes(), deadline)?;
    if output.success() { Ok(()) } else { Err(complaint(what, &output)) }
}

fn nft(args: &[&str], input: &[u8], deadline: Deadline) -> Result<Output> {
    // Debian's place, which a person's PATH need not have.
    let usual = "/usr/sbin/nft";
    let program = if std::path::Path::new(usual).exists() { usual } else { "nft" };
    run(program, args, input, deadline).map_err(|fault| {
        if fault.kind() == Kind::Missing {
            Fault::missing("nft is not installed: guests have no NAT")
                .hint("install nftables (Debian and Ubuntu: apt install nftables)")
        } else {
            fault
        }
    })
}

fn complaint(what: &str, output: &Output) -> Fault {
    let words = output.stderr.lines().find(|l| !l.trim().is_empty()).unwrap_or("nft said nothing");
    Fault::failed(format!("{what}: {}", words.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_nft_no_table_of_ours_stands() {
        assert!(may_stand(Err(Fault::missing("nft is not installed"))).is_ok_and(|stands| !stands));
        assert!(may_stand(Ok(TableState::Absent)).is_ok_and(|stands| !stands));
        assert!(may_stand(Ok(TableState::Current)).is_ok_and(|stands| stands));
        assert!(may_stand(Ok(TableState::Stale)).is_ok_and(|stands| stands));
        assert!(may_stand(Err(Fault::failed("nft says no"))).is_err());
    }
}
