//! Namespaces, guests and programs for the tests.

use std::error::Error;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use hybrid_hook::deadline::Deadline;
use hybrid_hook::host::bridge;
use hybrid_hook::model::network_file::NetworkFile;
use hybrid_hook::model::{InterfaceName, Network};

pub(crate) type Outcome = Result<(), Box<dyn Error>>;

const INSIDE: &str = "HYBRID_TEST_NETNS";

/// A network of both families.
pub(crate) const BOTH: &str = "[ipv4]\nsubnet = \"10.0.1.0/24\"\n[ipv6]\nsubnet = \"fd00:1::/64\"";

/// Runs `body` in a network namespace of its own, and sees that it leaves no device behind there.
/// `test` is the calling test's full name.
pub(crate) fn alone(test: &str, body: impl FnOnce() -> Outcome) -> Outcome {
    if std::env::var_os(INSIDE).is_some() {
        let before = names()?;
        body()?;
        assert_eq!(names()?, before, "devices are left behind");
        return Ok(());
    }
    if !hybrid_hook::places::is_root() {
        // Past the harness, which shows what is printed only of tests that fail.
        // In one piece, since tests run beside each other.
        std::io::stderr().write_all(format!("\ntest {test}: skipped: needs root\n").as_bytes())?;
        return Ok(());
    }
    let output = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe()?)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    print!("{text}");
    assert!(output.status.success() && text.contains("1 passed"), "{test} failed in its namespace");
    Ok(())
}

fn names() -> Result<Vec<String>, Box<dyn Error>> {
    Ok(bridge::links(soon())?.into_iter().map(|l| l.name).collect())
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

pub(crate) fn network(text: &str) -> Result<Network, Box<dyn Error>> {
    Ok(NetworkFile::parse(&format!("format = 1\n{text}\n"))?.network(&"hybrid".parse()?)?)
}

pub(crate) fn name(text: &str) -> Result<InterfaceName, Box<dyn Error>> {
    Ok(text.parse()?)
}

/// Runs a program with these words; it must succeed.
pub(crate) fn run(words: &str) -> Result<String, Box<dyn Error>> {
    let output = output(words)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words}: {text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

fn output(words: &str) -> Result<Output, Box<dyn Error>> {
    let mut words = words.split_whitespace();
    let program = words.next().ok_or("no program")?;
    Ok(Command::new(program).args(words).stdin(Stdio::null()).output()?)
}

pub(crate) fn delete(device: &str) -> Outcome {
    run(&format!("ip link del {device}")).map(drop)
}

/// Another network namespace, as a container or a VM would have; it ends with this value.
pub(crate) struct Guest(Child);

impl Guest {
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        let own = std::fs::read_link("/proc/self/ns/net")?;
        let guest = Self(Command::new("unshare").args(["--net", "sleep", "600"]).spawn()?);
        eventually("a namespace", || {
            Ok(std::fs::read_link(format!("/proc/{}/ns/net", guest.0.id())).is_ok_and(|n| n != own))
        })?;
        Ok(guest)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// A veth pair: `host` here, on no bridge yet, and `eth0` inside with that MAC, both up.
    pub(crate) fn wire(&self, host: &str, mac: &str) -> Outcome {
        let pid = self.pid();
        run(&format!("ip link add {host} type veth peer name eth0 address {mac} netns {pid}"))?;
        run(&format!("ip link set {host} up"))?;
        self.run("ip link set lo up")?;
        self.run("ip link set eth0 up")?;
        Ok(())
    }

    pub(crate) fn run(&self, words: &str) -> Result<String, Box<dyn Error>> {
        run(&format!("nsenter -t {} -n {words}", self.pid()))
    }

    /// Whether a TCP packet to a closed port gets there and its refusal back.
    pub(crate) fn reaches(&self, address: &str) -> Result<bool, Box<dyn Error>> {
        let pid = self.pid().to_string();
        let open = format!("exec 3<>/dev/tcp/{address}/9");
        let output = Command::new("timeout")
            .args(["1", "nsenter", "-t", &pid, "-n", "bash", "-c", &open])
            .stdin(Stdio::null())
            .output()?;
        Ok(String::from_utf8_lossy(&output.stderr).contains("refused"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `done`, for what the kernel does a moment later.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> Result<bool, Box<dyn Error>>) -> Outcome {
    let until = Instant::now() + Duration::from_secs(5);
    while !done()? {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Sends one Ethernet frame, given in hexadecimal, on a device of this namespace or of process
/// `within`'s: as another or a hostile host would.
pub(crate) fn send(within: Option<u32>, device: &str, frame: &str) -> Outcome {
    let code = format!(
        "import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); \
         s.bind(('{device}', 0)); s.send(bytes.fromhex('{}').ljust(60, bytes(1)))",
        frame.replace(' ', "")
    );
    let mut command = match within {
        Some(pid) => {
            let mut enter = Command::new("nsenter");
            enter.args(["-t", &pid.to_string(), "-n", "python3"]);
            enter
        }
        None => Command::new("python3"),
    };
    let output = command.arg("-c").arg(code).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
