//! Bad input: each gets one clear line and its exit code, and changes nothing.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::Outcome;
use super::host::{Host, ended, mac, uuid};

/// Everything under a host's folders, with its content.
fn content(host: &Host) -> Outcome<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut folders = vec![host.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "toml") {
                found.push((path.display().to_string(), fs::read(&path)?));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn bad_networks_are_refused_in_one_line() -> Outcome {
    let host = Host::bare()?;
    let long = "x".repeat(300);
    let mut text = String::new();
    for name in ["../../x", "$(reboot)", "Lab", "-lab", "lab-", "", "läb", &long] {
        // `--` keeps a name that begins with a hyphen from being an option.
        text += &host.transcript(&["network", "create", "--offline", "--", name])?;
    }
    for subnet in [
        "10.0.1.0/30",
        "10.0.1.0/31",
        "10.0.1.0/32",
        "10.0.1.5/24",
        "10.0.1.0",
        "10.0.1.0/33",
        "10.0.0.0/7",
        "224.0.0.0/24",
        "127.0.0.0/8",
        "0.0.0.0/0",
        "fd00::/121",
        "x",
        "",
    ] {
        text += &host.transcript(&["network", "create", "--offline", "--subnet", subnet])?;
    }
    for pool in ["10.0.1.9-10.0.1.3", "10.0.2.0/26", "10.0.1.65/26", "10.0.1.1-fd00::1", "fd00::/120", "x"] {
        text += &host.transcript(&["network", "create", "--offline", "--vm-pool", pool])?;
    }
    for options in [
        ["--container-pool", "10.0.1.192/26", "--vm-pool", "10.0.1.128/25"],
        ["--subnet", "10.0.1.0/24", "--subnet", "10.0.2.0/24"],
        ["--gateway", "10.0.2.1", "--mtu", "1500"],
        ["--gateway", "10.0.1.255", "--mtu", "1500"],
        ["--gateway", "10.0.1.1", "--gateway", "10.0.1.2"],
        ["--mtu", "100", "--bridge", "x"],
        ["--mtu", "100000", "--bridge", "x"],
        ["--mtu", "1500", "--bridge", "a-name-longer-than-15"],
        ["--mtu", "1500", "--bridge", "a/b"],
        ["--mtu", "1500", "--bridge", ".."],
        ["--mtu", "1500", "--zone", "a..b"],
        ["--mtu", "1500", "--docker-network", "a b"],
    ] {
        text += &host.transcript(&[&["network", "create", "--offline"], options.as_slice()].concat())?;
    }
    assert!(content(&host)?.is_empty(), "something was written");
    insta::assert_snapshot!(text);
    Ok(())
}

#[test]
fn bad_words_of_a_claim_are_refused_in_one_line() -> Outcome {
    let host = Host::new()?;
    let before = content(&host)?;
    let (owner, nic) = (uuid(1), mac(1));
    let long = "x".repeat(300);
    let mut text = String::new();
    for mac in
        ["", "52:54:00", "52:54:00:00:00:0g", "01:00:5e:00:00:01", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"]
    {
        text += &host.transcript(&["claim", "--owner", &owner, "--mac", mac])?;
    }
    for owner in ["", "x", "../../x", "$(reboot)", &long] {
        text += &host.transcript(&["claim", "--owner", owner, "--mac", &nic])?;
    }
    for ip in ["", "10.0.1", "10.0.1.200/24", "10.0.1.300", "db"] {
        text += &host.transcript(&["claim", "--owner", &owner, "--mac", &nic, "--ip", ip])?;
    }
    for hostname in ["", "a.b", "DB", "-db", "d\nb", &long] {
        text += &host.transcript(&["claim", "--owner", &owner, "--mac", &nic, "--hostname", hostname])?;
    }
    for containers in ["", "x", "label=", "name=", "label=a b=c"] {
        text += &host.transcript(&["claim", "--owner", &owner, "--mac", &nic, "--containers", containers])?;
    }
    text += &host.transcript(&["claim", "--network", "../../x", "--owner", &owner, "--mac", &nic])?;
    text += &host.transcript(&["claim"])?;
    text += &host.transcript(&["nonsense"])?;
    text += &host.transcript(&["hook", "nonsense"])?;
    assert_eq!(content(&host)?, before);
    insta::assert_snapshot!(text);
    Ok(())
}

#[test]
fn a_registry_that_can_t_be_read_is_said_and_left_alone() -> Outcome {
    let host = Host::new()?;
    host.claim(1, 1, &["--ip", "10.0.1.200"])?;
    let path = host.block("10.0.1.192");
    let whole = fs::read_to_string(&path)?;
    let cut = whole.get(..whole.len() / 2).ok_or("cut in a letter")?;
    let claim = ["claim", "--owner", &uuid(2), "--mac", &mac(2)];
    let mut text = String::new();
    for (what, content) in [
        ("cut", cut.to_owned()),
        ("cut where what is left is whole", "format = 2\n".to_owned()),
        ("cut before the owner", whole.split("[lease.owner]").next().unwrap_or_default().to_owned()),
        ("newer format", whole.replace("format = 2", "format = 3\nshape = \"round\"")),
        ("unknown field", whole.replace("generation = ", "mood = \"good\"\ngeneration = ")),
        ("a stranger's address", whole.replace("10.0.1.200", "10.0.1.5")),
        ("no TOML", "]]]".to_owned()),
        ("a wrong MAC", whole.replace("52:54:00", "52:54")),
    ] {
        fs::write(&path, &content)?;
        text += &format!("{what}\n");
        for command in [claim.as_slice(), &["leases"], &["release", "--owner", &uuid(1), "--mac", &mac(1)]] {
            text += &host.transcript(command)?;
        }
        assert_eq!(fs::read_to_string(&path)?, content, "{what}");
    }
    insta::assert_snapshot!(text);
    Ok(())
}

#[test]
fn a_network_s_file_that_can_t_be_used_is_said() -> Outcome {
    let host = Host::new()?;
    let mut text = String::new();
    for content in [
        "",
        "format = 2\n",
        "format = 1\n",
        "format = 1\nbrigde = \"x\"\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n",
        "format = 1\n[ipv4]\nsubnet = \"10.0.1.0/31\"\n",
        "format = 1\n[ipv6]\nsubnet = \"10.0.1.0/24\"\n",
        "format = 1\nbridge = \"a b\"\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n",
    ] {
        fs::write(host.network_file(), content)?;
        text += &host.transcript(&["claim", "--owner", &uuid(1), "--mac", &mac(1)])?;
    }
    insta::assert_snapshot!(text);
    Ok(())
}

#[test]
fn a_held_lock_is_named_by_its_holder_and_not_waited_for_for_ever() -> Outcome {
    let host = Host::new()?;
    host.claim(1, 1, &[])?;
    // A process that holds the lock: this one, through the same door as any other.
    let lock = hybrid_hook::registry::lock::Lock::try_take(&host.state().join("lock"))?;
    assert!(lock.is_some());
    let begun = Instant::now();
    let claim = ["claim", "--owner", &uuid(2), "--mac", &mac(2)];
    let ran = ended(host.command(&claim).env("HYBRID_LOCK_TIMEOUT", "0.5"))?;
    let took = begun.elapsed();
    assert_eq!(ran.code, 1);
    let pid = std::process::id();
    assert_eq!(
        ran.err,
        format!(
            "error: the registry of network hybrid is locked by process {pid}, and it did not let go in time\n\
             hint: ps -p {pid} shows what it is; HYBRID_LOCK_TIMEOUT sets how many seconds to wait\n"
        )
    );
    // Half a second, and room for a machine that is busy with other things.
    assert!((Duration::from_millis(500)..Duration::from_secs(20)).contains(&took), "{took:?}");
    // Reading waits for nobody.
    assert_eq!(host.leases()?.len(), 1);
    drop(lock);
    host.claim(2, 2, &[])?;
    Ok(())
}

#[test]
fn a_registry_that_is_not_ours_to_read_is_said() -> Outcome {
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root may read everything; run the tests as an ordinary user to see this one");
        return Ok(());
    }
    let host = Host::new()?;
    host.claim(1, 1, &[])?;
    let block = host.block("10.0.1.128");
    fs::set_permissions(&block, fs::Permissions::from_mode(0o0))?;
    for args in [vec!["leases"], vec!["claim", "--owner", &uuid(2), "--mac", &mac(2)]] {
        let ran = host.run(&args)?;
        assert_eq!(ran.code, 1);
        assert!(ran.err.starts_with("error: cannot read"), "{}", ran.err);
        assert!(ran.err.contains("hint: run it as root"), "{}", ran.err);
    }
    Ok(())
}

#[test]
fn a_reader_that_goes_away_is_no_failure() -> Outcome {
    let host = Host::new()?;
    for number in 0..40 {
        host.claim(number, number, &["--no-probe"])?;
    }
    let mut child = host.command(&["leases", "--json"]).stdout(Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    assert_eq!(child.wait()?.code(), Some(0));
    Ok(())
}

#[test]
fn xml_of_any_kind_on_standard_input_ends_in_one_line() -> Outcome {
    let host = Host::new()?;
    let nested = "<a>".repeat(200_000);
    let huge = format!("<domain><name>x</name><!--{}--></domain>", "x".repeat(100 << 20));
    for (xml, what) in
        [("", "empty"), ("<domain", "cut"), (nested.as_str(), "nested"), (huge.as_str(), "huge")]
    {
        let mut child = host
            .command(&["rewrite"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let xml = xml.to_owned();
        // It may stop reading before we stop writing.
        let writer = std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(xml.as_bytes())));
        let output = child.wait_with_output()?;
        let _ = writer.join();
        let err = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(1), "{what}: {err}");
        assert!(output.stdout.is_empty(), "{what}");
        assert!(err.starts_with("error: "), "{what}: {err}");
        assert!(err.lines().count() <= 2 && err.len() < 600, "{what}: {err}");
    }
    Ok(())
}
