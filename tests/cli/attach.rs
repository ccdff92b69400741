//! `attach` and `detach` against a libvirt that says what a test wants it to say.

use std::fs;
use std::os::unix::fs::PermissionsExt;
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
        let domain = json!({"uuid": uuid(1), "name": "db", "id": 1, "running": true, "managed_save": false,
            "persistent": false, "autostart": false, "xml": null});
        self.says("domain", &json!({"domain": {"domain": domain, "inactive": null, "live": live}}))
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
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("has not let go of its NIC") && ran.err.contains("hint: "), "{}", ran.err);
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
