//! Asks resolvers: how many answers a second, how long one takes, and when a name is there.

use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, TYPE};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// So many questions are on their way at once where answers a second are counted.
const WINDOW: usize = 32;
/// One turn of counting.
const TURN: Duration = Duration::from_millis(50);
/// Questions in one turn of waiting for each.
const SINGLE: usize = 50;
/// An answer that takes as long is lost.
const LOST: Duration = Duration::from_secs(1);
/// Stepping by a prime, no two neighbours follow each other.
const STRIDE: usize = 7;

/// A name's question, but for its id, and the address that must be in the answer.
struct Asked {
    question: Vec<u8>,
    address: [u8; 4],
}

/// A server, what it is asked, and how it answered.
struct Server {
    asked: Vec<Asked>,
    socket: UdpSocket,
    /// Answers a second, one a turn.
    rates: Vec<f64>,
    /// How long each took where they went one by one.
    times: Vec<Duration>,
}

/// The servers by turns; FILE SERVER for each. For each prints a line: answers a second, and the median time of
/// one answer, in microseconds, when the questions go one by one. FILE has lines of NAME ADDRESS.
pub(super) fn load(rounds: usize, pairs: &[&str]) -> Outcome {
    let mut servers = Vec::new();
    for pair in pairs.chunks(2) {
        let [file, address] = pair else { return Err("each FILE has its SERVER".into()) };
        let mut asked = Vec::new();
        for line in fs::read_to_string(file)?.lines() {
            let (name, address) = line.split_once(' ').ok_or("a line is NAME ADDRESS")?;
            asked.push(Asked { question: question(name)?, address: address.parse::<Ipv4Addr>()?.octets() });
        }
        servers.push(Server { asked, socket: connect(address)?, rates: Vec::new(), times: Vec::new() });
    }
    for round in 0..=rounds {
        // Each is the first as often as any other: what goes before leaves its mark on the machine's caches.
        let first = round % servers.len().max(1);
        let (after, before) = servers.split_at_mut(first);
        for server in before.iter_mut().chain(after) {
            let rate = many(&server.socket, &server.asked)?;
            let took = one_by_one(&server.socket, &server.asked)?;
            // The first round fills caches.
            if round > 0 {
                server.rates.push(rate);
                server.times.extend(took);
            }
        }
    }
    for Server { mut rates, times, .. } in servers {
        rates.sort_by(f64::total_cmp);
        let rate = rates.get(rates.len() / 2).copied().unwrap_or_default();
        println!("{rate:.0} {:.1}", super::median(times).as_nanos() as f64 / 1000.0);
    }
    Ok(())
}

/// Waits until SERVER answers NAME with ADDRESS, and prints when that was, in nanoseconds since 1970.
pub(super) fn until(name: &str, address: &str, server: &str) -> Outcome {
    let asked = Asked { question: question(name)?, address: address.parse::<Ipv4Addr>()?.octets() };
    let socket = connect(server)?;
    let end = Instant::now() + Duration::from_secs(30);
    let mut id = 0;
    while Instant::now() < end {
        id += 1;
        send(&socket, &asked, id)?;
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer)?;
        if is_right(buffer.get(..length).unwrap_or_default(), &asked, id) {
            println!("{}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos());
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(format!("{server} does not answer {name} with {address}").into())
}

fn connect(server: &str) -> Outcome<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((server, 53))?;
    socket.set_read_timeout(Some(LOST))?;
    Ok(socket)
}

fn question(name: &str) -> Outcome<Vec<u8>> {
    let mut packet = Packet::new_query(0);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(Name::new(name)?, TYPE::A.into(), CLASS::IN.into(), false));
    Ok(packet.build_bytes_vec()?)
}

fn send(socket: &UdpSocket, asked: &Asked, id: u16) -> Outcome {
    let mut bytes = asked.question.clone();
    bytes.splice(..2, id.to_be_bytes());
    socket.send(&bytes)?;
    Ok(())
}

/// Whether this answers that question: the id, no error, at least one answer, and the address in it.
fn is_right(answer: &[u8], asked: &Asked, id: u16) -> bool {
    let [i, d, _, code, _, _, high, low, ..] = answer else { return false };
    [*i, *d] == id.to_be_bytes()
        && code & 0xf == 0
        && (*high, *low) != (0, 0)
        && answer.windows(4).any(|four| four == asked.address)
}

/// Answers a second, with a few questions on their way at any time.
fn many(socket: &UdpSocket, asked: &[Asked]) -> Outcome<f64> {
    let begun = Instant::now();
    let (mut sent, mut answered) = (0, 0_u32);
    let mut buffer = [0; 1500];
    while sent < WINDOW {
        send(socket, of(asked, sent)?, sent as u16)?;
        sent += 1;
    }
    while answered < sent as u32 {
        let length = socket.recv(&mut buffer).map_err(|e| format!("an answer is lost: {e}"))?;
        let answer = buffer.get(..length).unwrap_or_default();
        let id = match answer {
            [i, d, ..] => u16::from_be_bytes([*i, *d]),
            _ => return Err("an answer of no length".into()),
        };
        // Which question that was: the latest with this id.
        let number = sent - 1 - usize::from(((sent - 1) as u16).wrapping_sub(id));
        if !is_right(answer, of(asked, number)?, id) {
            return Err(format!("a wrong answer to question {number}").into());
        }
        answered += 1;
        if begun.elapsed() < TURN {
            send(socket, of(asked, sent)?, sent as u16)?;
            sent += 1;
        }
    }
    Ok(f64::from(answered) / begun.elapsed().as_secs_f64())
}

fn one_by_one(socket: &UdpSocket, asked: &[Asked]) -> Outcome<Vec<Duration>> {
    let mut times = Vec::new();
    let mut buffer = [0; 1500];
    for number in 0..SINGLE {
        let (asked, id) = (of(asked, number)?, number as u16);
        let begun = Instant::now();
        send(socket, asked, id)?;
        let length = socket.recv(&mut buffer).map_err(|e| format!("an answer is lost: {e}"))?;
        times.push(begun.elapsed());
        if !is_right(buffer.get(..length).unwrap_or_default(), asked, id) {
            return Err(format!("a wrong answer to question {number}").into());
        }
    }
    Ok(times)
}

fn of(asked: &[Asked], number: usize) -> Outcome<&Asked> {
    asked.get(number * STRIDE % asked.len().max(1)).ok_or_else(|| "no names".into())
}
