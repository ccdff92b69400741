//! Asks a resolver, ours or another, for real.

use std::hash::{BuildHasher as _, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};

use crate::deadline::Deadline;
use crate::model::{Fault, Result};

/// So long for one try: a lost packet costs no more.
const TRY: Duration = Duration::from_millis(700);
/// The longest answer without TCP (RFC 1035, section 2.3.4, and dnsmasq's own limit).
const LONGEST: usize = 4096;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// The name of an address.
    Ptr,
}

/// What a resolver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These addresses or names; none where the name is there, but not with what was asked.
    Records(Vec<String>),
    /// There is no such name.
    NoSuchName,
    /// It would not, or could not: `REFUSED`, `SERVFAIL` and the like.
    Error(String),
}

impl Answer {
    /// The records, if there are any.
    #[must_use]
    pub fn records(&self) -> &[String] {
        match self {
            Self::Records(records) => records,
            _ => &[],
        }
    }
}

/// Asks by UDP. A lost packet is sent again until the deadline.
///
/// # Errors
/// No answer in time; a name that can't be asked for; the network's refusal.
pub fn ask(server: SocketAddr, name: &str, kind: Kind, deadline: Deadline) -> Result<Answer> {
    let broken = |e: std::io::Error| Fault::failed(format!("cannot ask {server}")).because(e);
    // Not to be guessed by who would answer in the server's place.
    let hash = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let id = u16::try_from(hash & 0xffff).unwrap_or_default();
    let question = question(id, name, kind)?;
    let any =
        if server.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).map_err(broken)?;
    // Connected: an answer from elsewhere is not heard, and a refusal by ICMP is.
    socket.connect(server).map_err(broken)?;
    loop {
        socket.send(&question).map_err(broken)?;
        let turn = deadline.at_most(TRY);
        while !turn.passed() {
            socket.set_read_timeout(Some(turn.left().max(Duration::from_millis(1)))).map_err(broken)?;
            let mut buffer = [0; LONGEST];
            match socket.recv(&mut buffer) {
                Ok(length) => {
                    if let Some(answer) = buffer.get(..length).and_then(|bytes| read(bytes, id)) {
                        return Ok(answer);
                    }
                }
                Err(e) if is_timeout(&e) => break,
                Err(e) => return Err(broken(e)),
            }
        }
        if deadline.passed() {
            return Err(Fault::failed(format!("{server} did not answer in time")));
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

fn question(id: u16, name: &str, kind: Kind) -> Result<Vec<u8>> {
    let wrong = |e: simple_dns::SimpleDnsError| {
        Fault::usage(format!("{name:?} can't be asked for")).because(e.to_string())
    };
    let kind = match kind {
        Kind::A => TYPE::A,
        Kind::Aaaa => TYPE::AAAA,
        Kind::Ptr => TYPE::PTR,
    };
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).map_err(wrong)?;
    packet.questions.push(Question::new(name, kind.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().map_err(wrong)
}

/// The answer to the question `id`; `None` for what is none.
fn read(bytes: &[u8], id: u16) -> Option<Answer> {
    let packet = Packet::parse(bytes).ok()?;
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    Some(match packet.rcode() {
        RCODE::NoError => Answer::Records(packet.answers.iter().filter_map(|a| record(&a.rdata)).collect()),
        RCODE::NameError => Answer::NoSuchName,
        RCODE::Refused => Answer::Error("REFUSED".to_owned()),
        RCODE::ServerFailure => Answer::Error("SERVFAIL".to_owned()),
        other => Answer::Error(format!("{other:?}")),
    })
}

fn record(data: &RData<'_>) -> Option<String> {
    match data {
        RData::A(a) => Some(Ipv4Addr::from(a.address).to_string()),
        RData::AAAA(a) => Some(Ipv6Addr::from(a.address).to_string()),
        RData::PTR(name) => Some(name.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::A;

    type TestResult<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

    #[test]
    fn the_right_answer_is_taken_and_a_forged_one_is_not() -> TestResult {
        let server = UdpSocket::bind("127.0.0.1:0")?;
        let address = server.local_addr()?;
        let answering = std::thread::spawn(move || -> std::result::Result<(), String> {
            let mut buffer = [0; 512];
            let (length, from) = server.recv_from(&mut buffer).map_err(|e| e.to_string())?;
            let asked = buffer.get(..length).unwrap_or_default().to_vec();
            let query = Packet::parse(&asked).map_err(|e| e.to_string())?;
            for (id, last) in [(query.id().wrapping_add(1), 6), (query.id(), 7)] {
                let mut reply = Packet::new_reply(id);
                let name = Name::new("db.hybrid.internal").map_err(|e| e.to_string())?;
                let data = RData::A(A::from(Ipv4Addr::new(10, 0, 1, last)));
                reply.answers.push(ResourceRecord::new(name, CLASS::IN, 0, data));
                server
                    .send_to(&reply.build_bytes_vec().map_err(|e| e.to_string())?, from)
                    .map_err(|e| e.to_string())?;
            }
            Ok(())
        });
        let soon = Deadline::after(Duration::from_secs(5));
        let answer = ask(address, "db.hybrid.internal", Kind::A, soon)?;
        assert_eq!(answer, Answer::Records(vec!["10.0.1.7".to_owned()]));
        assert_eq!(answering.join().ok(), Some(Ok(())));
        Ok(())
    }

    #[test]
    fn nobody_there_is_told_at_once_and_an_impossible_name_is_a_wrong_call() -> TestResult {
        let free = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let began = std::time::Instant::now();
        assert!(ask(free, "db", Kind::A, Deadline::after(Duration::from_secs(30))).is_err());
        assert!(began.elapsed() < Duration::from_secs(5));
        let kind = ask(free, &"a".repeat(64), Kind::A, Deadline::after(Duration::from_secs(1)));
        assert_eq!(kind.err().map(|f| f.kind()), Some(crate::model::Kind::Usage));
        Ok(())
    }
}
