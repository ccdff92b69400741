//! Who listens on which port, by ss(8): it knows to which device a socket is bound, which /proc does not
//! tell, and without which libvirt's own dnsmasq would look like one that listens everywhere.

use std::net::IpAddr;

use super::process::run_ok;
use crate::deadline::Deadline;
use crate::model::Result;

/// A socket that waits for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// `udp` or `tcp`.
    pub protocol: String,
    /// Its address; `None`: every address of the family, or of both.
    pub address: Option<IpAddr>,
    /// The one device that it is bound to.
    pub device: Option<String>,
    /// Its port.
    pub port: u16,
    /// Whose it is. Without root only one's own are told.
    pub process: Option<Process>,
}

/// Whose a socket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its name, as it calls itself.
    pub name: String,
    /// Its number.
    pub pid: u32,
}

/// Every socket that listens on one of these ports.
///
/// # Errors
/// `Missing` where ss is not installed; it does not answer in time.
pub fn listeners(ports: &[u16], deadline: Deadline) -> Result<Vec<Listener>> {
    let output = run_ok("ss", &["-H", "-l", "-n", "-u", "-t", "-p"], b"", deadline)?;
    let text = String::from_utf8_lossy(&output);
    Ok(text.lines().filter_map(parse).filter(|l| ports.contains(&l.port)).collect())
}

/// A line: protocol, state, two queues, local address, peer, users. A user's name can hold anything, so
/// it is last.
fn parse(line: &str) -> Option<Listener> {
    let mut words = line.split_whitespace();
    let protocol = words.next()?.to_owned();
    let local = words.nth(3)?;
    let (host, port) = local.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let (host, device) = match host.split_once('%') {
        Some((host, device)) => (host, Some(device.trim_end_matches(']').to_owned())),
        None => (host, None),
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    Some(Listener {
        protocol,
        address: address.filter(|a| !a.is_unspecified()),
        device,
        port,
        process: line.split_once("users:((\"").and_then(|(_, users)| process(users)),
    })
}

/// The first of `name",pid=7,fd=5),("…`.
fn process(users: &str) -> Option<Process> {
    let (name, rest) = users.split_once("\",pid=")?;
    let pid = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    Some(Process { name: name.to_owned(), pid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_devices_and_owners_are_told_apart() {
        let text = "\
udp UNCONN 0 0 10.0.1.1:53 0.0.0.0:* users:((\"dnsmasq\",pid=411,fd=9))
udp UNCONN 0 0 0.0.0.0%virbr0:67 0.0.0.0:* users:((\"dnsmasq\",pid=77,fd=3))
udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:*
tcp LISTEN 0 32 [fe80::1]%hybr0:53 [::]:* users:((\"odd name\",pid=5,fd=7),(\"b\",pid=6,fd=1))
tcp LISTEN 0 128 *:53 *:*
nonsense";
        let lines: Vec<_> = text
            .lines()
            .filter_map(parse)
            .map(|l| {
                let address = l.address.map_or_else(|| "*".to_owned(), |a| a.to_string());
                let who = l.process.map_or_else(String::new, |p| format!(" {} {}", p.name, p.pid));
                format!("{} {address} {:?} {}{who}", l.protocol, l.device, l.port)
            })
            .collect();
        assert_eq!(
            lines,
            [
                "udp 10.0.1.1 None 53 dnsmasq 411",
                "udp * Some(\"virbr0\") 67 dnsmasq 77",
                "udp 127.0.0.53 Some(\"lo\") 53",
                "tcp fe80::1 Some(\"hybr0\") 53 odd name 5",
                "tcp * None 53",
            ]
        );
    }
}
