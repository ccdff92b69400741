//! `attach` and `detach` against a libvirt that says what a test wants it to say.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use serde_json::json;

use super::Outcome;
use super::host::{Host, Ran, ended, mac, uuid};

/// Answers each question with the file of that name, and writes down what was asked. A question without
/// a file fails.
const HELPER: &str = "#!/bin/sh
folder=${0%/*}
read -r question
kind=${question#*\\\"}
kind=${kind%%\\\"*}
printf '%s\\n' \"$*$question\" >>\"$folder/asked\"
[ -e \"$folder/$kind\" ] || { echo '{\"error\":{\"kind\":\"failed\",\"message\":\"no\",\"hint\":null}}'; exit 1; }
read -r answer <\"$folder/$kind\"
echo \"$answer\"
";

struct Libvirt {
    folder: PathBuf,
}

impl Libvirt {
    fn new(host: &Host) -> Outcome<Self> {
        let folder = host.path().join("libvirt");
        fs::create_dir(&folder)?;
        let helper = folder.join("helper");
        fs::write(&helper, HELPER)?;
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755))?;
        let libvirt = Self { folder };
        libvirt.says("set_metadata", &json!({"done": {}}))?;
        libvirt.says("attach", &json!({"changed": {"changed": true}}))?;
        Ok(libvirt)
    }

    fn says(&self, to: &str, answer: &serde_json::Value) -> Outcome {
        Ok(fs::write(self.folder.join(to), format!("{answer}\n"))?)
    }

    /// Its one domain, which runs and is not defined.
    fn runs(&self, live: &str) -> Outcome {
        self.runs_as(live, None)
    }

    /// Its one domain, which runs, and is defined where `inactive` is given.
    fn runs_as(&self, live: &str, inactive: Option<&str>) -> Outcome {
        let domain = json!({"uuid": uuid(1), "name": "db", "id": 1, "running": true, "managed_save": false,
            "persistent": inactive.is_some(), "autostart": false, "xml": null});
        self.says("define", &json!({"defined": domain}))?;
        self.says("domain", &json!({"domain": {"domain": domain, "inactive": inactive, "live": live}}))
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.folder.join("asked")).unwrap_or_default()
    }

    fn run(&self, host: &Host, args: &[&str]) -> Outcome<Ran> {
        ended(host.command(args).env("HYBRID_LIBVIRT_HELPER", self.folder.join("helper")))
    }
}

/// The domain with a NIC that `attach` made, or with its metadata alone.
fn live(wishes: &str, nic: bool) -> String {
    let nic = if nic {
        format!(
            "<interface type='bridge'><mac address='{}'/><source bridge='hybr0'/><target dev='vnet1'/></interface>",
            mac(1)
        )
    } else {
        String::new()
    };
    format!(
        "<domain type='kvm' id='1'><name>db</name><uuid>{}</uuid><metadata>\
         <h:networks xmlns:h='urn:hybrid-hook:domain:1'><h:network name='hybrid' mac='{}' made='nic' {wishes}/></h:networks>\
         </metadata><devices>{nic}</devices></domain>",
        uuid(1),
        mac(1)
    )
}

#[test]
fn a_nic_that_the_guest_keeps_keeps_its_lease_and_a_later_detach_ends_it() -> Outcome {
    let host = Host::new()?;
    host.claim(1, 1, &["--ip", "10.0.1.20"])?;
    let libvirt = Libvirt::new(&host)?;
    libvirt.runs(&live("", true))?;
    libvirt.says("detach", &json!({"detached": {"changed": true, "pending": true}}))?;
    let ran = libvirt.run(&host, &["detach", "db"])?;
    assert_eq!((ran.code, ran.out.as_str()), (0, "domain db is off network hybrid from its next start\n"));
    assert!(ran.err.starts_with("warning: ") && ran.err.contains("has not let go of its NIC"), "{}", ran.err);
    assert!(!libvirt.asked().contains("set_metadata"), "{}", libvirt.asked());
    assert_eq!(host.lease_at("10.0.1.20")?.ok_or("gone")?["state"], "active");

    // It let go meanwhile, or does now.
    for nic in [true, false] {
        libvirt.says("detach", &json!({"detached": {"changed": true, "pending": false}}))?;
        libvirt.runs(&live("", nic))?;
        host.claim(1, 1, &["--ip", "10.0.1.20"])?;
        let ran = libvirt.run(&host, &["detach", "db"])?;
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(libvirt.asked().trim().ends_with(r#""live":true,"config":false}}"#), "{}", libvirt.asked());
        assert!(libvirt.asked().contains("set_metadata"));
        assert_eq!(host.lease_at("10.0.1.20")?.ok_or("gone")?["state"], "idle");
    }
    Ok(())
}

#[test]
fn gc_asks_the_hosts_own_libvirt_whose_leases_these_are() -> Outcome {
    let host = Host::new()?;
    host.claim(1, 1, &["--ip", "10.0.1.20"])?;
    host.release(1, 1, &[])?;
    let libvirt = Libvirt::new(&host)?;
    libvirt.says("domains", &json!({"domains": []}))?;
    let helper = libvirt.folder.join("helper");
    for elsewhere in ["test:///default", "qemu+ssh://elsewhere/system"] {
        let mut command = host.command(&["gc"]);
        command.env("HYBRID_LIBVIRT_HELPER", &helper).env("LIBVIRT_DEFAULT_URI", elsewhere);
        assert_eq!(ended(&mut command)?.code, 0);
    }
    let asked = libvirt.asked();
    assert!(asked.lines().all(|l| l.starts_with("--connect qemu:///system{\"domains\"")), "{asked}");
    assert!(host.lease_at("10.0.1.20")?.is_none());
    Ok(())
}

/// A network that is up, as far as the registry goes, and somebody to wake: else a child would go to work on it.
fn up(host: &Host) -> Outcome<UnixDatagram> {
    fs::write(host.state().join("status.toml"), "format = 1\nup = true\n")?;
    Ok(UnixDatagram::bind(host.places().wake_socket())?)
}

#[test]
fn another_address_for_a_nic_that_is_in_use_waits_for_the_next_start() -> Outcome {
    let host = Host::new()?;
    host.claim(1, 1, &["--ip", "10.0.1.20"])?;
    host.claim(2, 2, &["--ip", "10.0.1.31"])?;
    let _service = up(&host)?;
    let libvirt = Libvirt::new(&host)?;
    libvirt.says("attach", &json!({"changed": {"changed": false}}))?;
    let text = live("ip='10.0.1.20'", true);
    // One that is not defined has no next start.
    libvirt.runs(&text)?;
    let ran = libvirt.run(&host, &["attach", "db", "--ip", "10.0.1.30"])?;
    assert_eq!(ran.code, 3, "{}", ran.out);
    assert!(ran.err.contains("is transient"), "{}", ran.err);
    libvirt.runs_as(&text, Some(&text))?;
    let ran = libvirt.run(&host, &["attach", "db", "--ip", "10.0.1.30", "--hostname", "pg"])?;
    assert_eq!(
        ran.out, "domain db is on network hybrid with 10.0.1.20, and with 10.0.1.30 from its next start\n",
        "{}",
        ran.err
    );
    let asked = libvirt.asked();
    // What runs keeps the address that its guest knows: were it saved now, it would come back to that.
    assert!(asked.lines().any(|l| l.contains("set_metadata") && l.contains("10.0.1.20")), "{asked}");
    assert!(asked.lines().all(|l| !(l.contains("set_metadata") && l.contains("10.0.1.30"))), "{asked}");
    let lease = host.lease_at("10.0.1.20")?.ok_or("gone")?;
    assert_eq!((&lease["state"], &lease["hostname"]), (&"active".into(), &"pg".into()));
    assert!(host.lease_at("10.0.1.30")?.is_none());
    // What could not be had then is refused now.
    let ran = libvirt.run(&host, &["attach", "db", "--ip", "10.0.1.31"])?;
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("10.0.1.31 is held by"), "{}", ran.err);
    Ok(())
}

#[test]
fn what_can_t_be_noted_is_unplugged_and_leaves_the_registry_as_it_was() -> Outcome {
    let host = Host::new()?;
    host.claim(1, 1, &[])?;
    host.release(1, 1, &[])?;
    let before = host.registry()?.read()?;
    let _service = up(&host)?;
    let libvirt = Libvirt::new(&host)?;
    let bare = format!("<domain id='1'><name>db</name><uuid>{}</uuid><devices></devices></domain>", uuid(1));
    libvirt.runs(&bare)?;
    libvirt.says("detach", &json!({"detached": {"changed": true, "pending": false}}))?;
    fs::remove_file(libvirt.folder.join("set_metadata"))?;
    let attach = ["attach", "db", "--ip", "10.0.1.30", "--mac", &mac(1)];
    assert_eq!(libvirt.run(&host, &attach)?.code, 1);
    assert!(libvirt.asked().contains("detach"), "{}", libvirt.asked());
    assert_eq!(host.registry()?.read()?, before);
    // A guest that keeps the NIC keeps the address as well.
    libvirt.says("detach", &json!({"detached": {"changed": true, "pending": true}}))?;
    let ran = libvirt.run(&host, &attach)?;
    assert!(ran.code == 1 && ran.err.contains("has not let go"), "{}", ran.err);
    assert_eq!(host.lease_at("10.0.1.30")?.ok_or("gone")?["state"], "active");
    Ok(())
}
