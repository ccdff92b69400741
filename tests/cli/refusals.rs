//! What a person reads when something is refused: what, on what, why, and what to do next.

use super::Outcome;
use super::host::{Host, mac, uuid};

#[test]
fn claims_that_are_refused() -> Outcome {
    let host = Host::with(&["--vm-pool", "10.0.1.200-10.0.1.202"])?;
    let (one, two, nic1, nic2) = (uuid(1), uuid(2), mac(1), mac(2));
    host.claim(1, 1, &["--ip", "10.0.1.20", "--hostname", "db"])?;
    host.ok(&["reserve", "--ip", "10.0.1.21", "--mac", &mac(9)])?;
    host.ok(&["reserve", "--ip", "10.0.1.22", "--hostname", "web"])?;
    let mut text = String::new();
    for ip in [
        "10.0.1.20",
        "10.0.1.21",
        "10.0.1.22",
        "10.0.1.1",
        "10.0.1.0",
        "10.0.1.255",
        "10.0.1.70",
        "10.0.2.5",
        "fd00::5",
    ] {
        text += &host.transcript(&["claim", "--owner", &two, "--mac", &nic2, "--ip", ip])?;
    }
    text += &host.transcript(&["claim", "--owner", &two, "--mac", &nic1])?;
    for number in 10..13 {
        host.claim(number, number, &[])?;
    }
    text += &host.transcript(&["claim", "--owner", &two, "--mac", &nic2])?;
    text += &host.transcript(&["claim", "--network", "lab", "--owner", &one, "--mac", &nic1])?;
    insta::assert_snapshot!(text);
    Ok(())
}

#[test]
fn releases_and_reservations_that_are_refused() -> Outcome {
    let host = Host::new()?;
    let (one, two, nic1, nic2) = (uuid(1), uuid(2), mac(1), mac(2));
    host.claim(1, 1, &["--ip", "10.0.1.20"])?;
    host.ok(&["reserve", "--ip", "10.0.1.22", "--hostname", "web"])?;
    let mut text = String::new();
    text += &host.transcript(&["release", "--owner", &two, "--mac", &nic1])?;
    text += &host.transcript(&["release", "--owner", &one, "--mac", &nic2])?;
    text += &host.transcript(&["release", "--owner", &one, "--mac", &nic1, "--generation", "7"])?;
    text += &host.transcript(&["reserve", "--ip", "10.0.1.20", "--mac", &nic2])?;
    text += &host.transcript(&["reserve", "--ip", "10.0.1.30", "--mac", &nic1])?;
    text += &host.transcript(&["reserve", "--ip", "10.0.1.23", "--hostname", "web"])?;
    text += &host.transcript(&["reserve", "--ip", "10.0.1.1", "--mac", &nic2])?;
    text += &host.transcript(&["reserve", "--ip", "10.0.1.30"])?;
    text += &host.transcript(&["reserve", "--ip", "10.0.1.30", "--remove"])?;
    insta::assert_snapshot!(text);
    Ok(())
}

#[test]
fn networks_that_are_refused() -> Outcome {
    let host = Host::bare()?;
    let mut text = String::new();
    text += &host.transcript(&["leases"])?;
    text += &host.transcript(&["claim", "--owner", &uuid(1), "--mac", &mac(1)])?;
    text += &host.transcript(&["network", "create", "--offline"])?;
    text += &host.transcript(&["network", "create", "--offline"])?;
    text += &host.transcript(&["network", "create", "--offline", "--mtu", "9000"])?;
    text += &host.transcript(&["network", "create", "lab", "--offline", "--subnet", "10.0.0.0/16"])?;
    text += &host.transcript(&["network", "create", "lab", "--offline", "--bridge", "hybr0"])?;
    text += &host.transcript(&["network", "create", "lab", "--offline", "--zone", "hybrid.internal"])?;
    text += &host.transcript(&["network", "create", "lab", "--offline", "--docker-network", "hybrid-net"])?;
    text += &host.transcript(&["network", "show", "nowhere"])?;
    text += &host.transcript(&["network", "create", "lab", "--offline"])?;
    text += &host.transcript(&["network", "list"])?;
    insta::assert_snapshot!(text);
    Ok(())
}

#[test]
fn a_claim_and_its_lease_as_a_person_sees_them() -> Outcome {
    let host = Host::new()?;
    let mut text = host.transcript(&["leases"])?;
    text += &host.transcript(&[
        "claim",
        "--owner",
        &uuid(1),
        "--mac",
        &mac(1),
        "--ip",
        "10.0.1.200",
        "--hostname",
        "db",
    ])?;
    text += &host.transcript(&["release", "--owner", &uuid(1), "--mac", &mac(1)])?;
    text += &host.transcript(&["release", "--owner", &uuid(1), "--mac", &mac(1), "--forget"])?;
    text += &host.transcript(&["reserve", "--ip", "10.0.1.22", "--hostname", "web"])?;
    text += &host.transcript(&["reserve", "--ip", "10.0.1.22", "--remove"])?;
    text += &host.transcript(&["network", "show"])?;
    insta::assert_snapshot!(text);
    Ok(())
}
