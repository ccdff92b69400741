//! What a crash can leave on the disk, made by hand, and what becomes of it.

use hybrid_hook::deadline::Deadline;
use std::fs;
use std::time::Duration;

use hybrid_hook::registry::snapshot::{self, Snapshot};

use super::Outcome;
use super::host::{Host, mac, nic, uuid};

/// A lease as the registry writes it, held by hand.
fn entry(address: &str, nic: u64, owner: u64, generation: u64) -> String {
    format!(
        "[[lease]]\naddress = \"{address}\"\nmac = \"{}\"\nstate = \"active\"\nfixed = true\n\
         generation = {generation}\nsince = 1700000000\nchanged = 1700000000\n\n\
         [lease.owner]\nid = \"{}\"\norigin = \"hand\"\n",
        mac(nic),
        uuid(owner)
    )
}

fn block(entries: &[String]) -> String {
    format!("format = 2\n\n{}# end\n", entries.join("\n"))
}

#[test]
fn a_block_written_before_the_index_counts() -> Outcome {
    let host = Host::new()?;
    host.claim(1, 1, &[])?;
    let index = fs::read(host.index())?;
    assert_eq!(host.claim(2, 2, &[])?["address"], "10.0.1.129");
    // The power went between the two writes: the index is the one of before.
    fs::write(host.index(), index)?;
    assert_eq!(host.claim(3, 3, &[])?["address"], "10.0.1.130");
    host.check()?;
    // And after a reboot there is none at all.
    fs::remove_dir_all(host.path().join("run"))?;
    assert_eq!(host.claim(4, 4, &[])?["address"], "10.0.1.131");
    assert_eq!(host.claim(2, 2, &[])?["address"], "10.0.1.129");
    host.check()
}

#[test]
fn a_block_from_before_there_was_a_last_line_is_read_and_gets_one() -> Outcome {
    let host = Host::new()?;
    host.claim(1, 1, &["--ip", "10.0.1.200"])?;
    let path = host.block("10.0.1.192");
    let text = fs::read_to_string(&path)?.replace("format = 2", "format = 1").replace("# end\n", "");
    fs::write(&path, text)?;
    assert_eq!(host.leases()?.len(), 1);
    host.claim(2, 2, &["--ip", "10.0.1.201"])?;
    let text = fs::read_to_string(&path)?;
    assert!(text.starts_with("format = 2\n") && text.ends_with("# end\n"), "{text}");
    assert_eq!(host.leases()?.len(), 2);
    Ok(())
}

#[test]
fn an_index_of_another_host_or_of_nobody_is_not_believed() -> Outcome {
    let (host, other) = (Host::new()?, Host::new()?);
    host.claim(1, 1, &["--ip", "10.0.1.200"])?;
    other.claim(9, 9, &["--ip", "10.0.1.201"])?;
    for index in [fs::read(other.index())?, b"hybidx01".to_vec(), vec![0; 4096], vec![0xff; 100_000]] {
        fs::write(host.index(), index)?;
        let refused = host.run(&["claim", "--owner", &uuid(2), "--mac", &mac(2), "--ip", "10.0.1.200"])?;
        assert_eq!(refused.code, 3, "{}", refused.err);
        assert_eq!(host.claim(1, 1, &[])?["address"], "10.0.1.200");
        assert_eq!(host.leases()?.len(), 1);
    }
    // A folder in its place is in nobody's way either.
    fs::remove_file(host.index())?;
    fs::create_dir(host.index())?;
    assert_eq!(host.claim(1, 1, &[])?["address"], "10.0.1.200");
    Ok(())
}

#[test]
fn a_half_written_file_aside_is_no_block_and_is_cleared_away() -> Outcome {
    let host = Host::new()?;
    host.claim(1, 1, &[])?;
    let aside = host.state().join("leases/.new-4711-ThreadId(1)-10.0.1.128.toml");
    fs::write(&aside, "format = 1\n[[lea")?;
    assert_eq!(host.leases()?.len(), 1);
    assert!(aside.exists(), "reading changes nothing");
    host.claim(2, 2, &[])?;
    assert!(!aside.exists());
    host.check()
}

#[test]
fn of_a_move_that_was_cut_the_newer_entry_wins_and_the_stale_one_goes() -> Outcome {
    // The MAC was on its way from .200, in block 10.0.1.192, to .20, in block 10.0.1.0.
    for (old, new) in [("10.0.1.200", "10.0.1.20"), ("10.0.1.20", "10.0.1.200")] {
        let host = Host::new()?;
        host.claim(7, 7, &["--ip", old])?;
        let first = |a: &str| if a == "10.0.1.20" { "10.0.1.0" } else { "10.0.1.192" };
        fs::write(host.block(first(new)), block(&[entry(new, 1, 1, 5)]))?;
        fs::write(host.block(first(old)), block(&[entry(old, 1, 1, 4)]))?;

        let leases = host.leases()?;
        assert_eq!(leases.len(), 1);
        assert_eq!(leases[0]["address"], new);
        let again = host.claim(1, 1, &[])?;
        assert_eq!((&again["address"], &again["generation"]), (&new.into(), &5.into()));
        assert!(!host.block(first(old)).exists(), "the stale entry is still there");
        // Its address is free for anybody.
        assert_eq!(host.claim(2, 2, &["--ip", old])?["address"], old);
        host.check()?;
    }
    Ok(())
}

#[test]
fn a_stale_entry_of_a_cut_move_stops_nobody_else() -> Outcome {
    let host = Host::new()?;
    host.claim(7, 7, &["--ip", "10.0.1.30"])?;
    fs::write(host.block("10.0.1.0"), block(&[entry("10.0.1.20", 1, 1, 4)]))?;
    fs::write(host.block("10.0.1.192"), block(&[entry("10.0.1.200", 1, 1, 5)]))?;
    assert_eq!(host.claim(2, 2, &["--ip", "10.0.1.20"])?["address"], "10.0.1.20");
    assert_eq!(host.claim(1, 1, &[])?["address"], "10.0.1.200");
    host.check()
}

#[test]
fn what_a_cut_move_left_does_not_come_back_when_the_newer_entry_goes() -> Outcome {
    let host = Host::new()?;
    host.claim(7, 7, &["--ip", "10.0.1.30"])?;
    fs::write(host.block("10.0.1.0"), block(&[entry("10.0.1.20", 1, 1, 4)]))?;
    fs::write(host.block("10.0.1.192"), block(&[entry("10.0.1.200", 1, 1, 5)]))?;
    assert_eq!(host.release(1, 1, &["--forget"])?["address"], "10.0.1.200");
    assert!(host.leases()?.is_empty(), "the stale entry is back");
    host.check()
}

#[test]
fn an_empty_block_file_is_refused_and_never_overwritten() -> Outcome {
    let host = Host::new()?;
    host.claim(1, 1, &[])?;
    fs::write(host.block("10.0.1.128"), "")?;
    let ran = host.run(&["claim", "--owner", &uuid(2), "--mac", &mac(2)])?;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("10.0.1.128.toml: it is cut off or empty"), "{}", ran.err);
    assert_eq!(fs::read(host.block("10.0.1.128"))?, b"");
    assert!(host.run(&["leases"])?.code == 1);
    Ok(())
}

#[test]
fn the_registry_and_what_was_published_say_the_same() -> Outcome {
    let host = Host::new()?;
    for number in 1..=5 {
        host.claim(number, number, &[])?;
    }
    host.claim(6, 6, &["--ip", "10.0.1.20", "--hostname", "db", "--aliases", "pg", "--groups", "backend"])?;
    host.release(3, 3, &[])?;
    let context = host.context("x");
    let network = hybrid_hook::registry::networks::load(&context.places, &super::host::network()?)?;
    let leases = host.registry()?.read()?;
    snapshot::publish(&context.places, &Snapshot::of(&network, true, &leases, &context.boot))?;
    let file = host.path().join("run/leases/hybrid.json");
    let published: serde_json::Value = serde_json::from_slice(&fs::read(&file)?)?;
    assert_eq!(published["leases"].as_array(), Some(&host.leases()?));
    assert_eq!(published["format"], 1);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file)?.permissions());
    assert_eq!(mode & 0o777, 0o644);
    // By each door the same NIC holds the same address.
    let held = hybrid_hook::ops::claim::held(
        &context,
        &network.name,
        nic(6)?,
        &super::host::owner(6)?,
        Deadline::after(Duration::from_secs(5)),
    )?;
    assert_eq!(held.map(|l| l.address.to_string()).as_deref(), Some("10.0.1.20"));
    Ok(())
}

#[test]
fn the_registry_is_closed_to_others() -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::new()?;
    host.claim(1, 1, &[])?;
    let mode = |path: std::path::PathBuf| fs::metadata(path).map(|m| m.permissions().mode() & 0o777);
    assert_eq!(mode(host.path().join("state"))?, 0o700);
    assert_eq!(mode(host.state().join("lock"))?, 0o600);
    assert_eq!(mode(host.block("10.0.1.128"))?, 0o600);
    assert_eq!(mode(host.network_file())?, 0o644);
    Ok(())
}
