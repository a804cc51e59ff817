//! Those who write to the nodes, one for each, over plain HTTP: a request, an answer, a note.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::node::Node;
use crate::{Rng, Seed};

/// A forwarded write may take two seconds to be answered, and more in bad weather.
const ANSWER_TIME: Duration = Duration::from_secs(6);
/// Keys of its own that a writer uses, in each place.
const KEYS: usize = 400;
/// Keys that all write.
const CONTESTED: usize = 40;

/// What is known of a key that has one writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Its last write was acknowledged: this is the value, or `None` after a removal.
    Is(Option<u64>),
    /// Nobody knows whether its last write happened.
    Tainted,
}

/// What a writer was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// By path.
    pub(super) keys: BTreeMap<String, Known>,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) unknown: u64,
    /// Answers that must not be.
    pub(super) odd: Vec<String>,
}

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    /// Certainly nothing was done.
    NotDone,
    Unknown,
    Odd(String),
}

/// Writes to `node` until it is told to stop.
pub(super) fn run(node: &Node, seed: Seed, stop: &AtomicBool, pause: &Receiver<()>) -> Told {
    let mut rng = seed.of(node.plan.name).rng();
    let mut told = Told::default();
    let mut count = 0;
    while !stop.load(Ordering::Acquire) {
        let wait = Duration::from_millis(1 + rng.below(16) as u64);
        if pause.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
            break;
        }
        let Some(address) = node.address() else { continue };
        count += 1;
        one_write(node, address, &mut rng, count, &mut told);
    }
    told
}

fn one_write(node: &Node, address: SocketAddr, rng: &mut Rng, count: u64, told: &mut Told) {
    let name = node.plan.name;
    let place = match rng.below(20) {
        0..=10 => format!("shared/own/{name}"),
        11..=13 => format!("central/{name}"),
        14..=15 if node.plan.reports() => format!("reports/{name}"),
        14 | 15 => "local".to_owned(),
        _ => {
            let outcome = contested(address, rng, count);
            return note(told, &outcome);
        }
    };
    let path = format!("{place}/{}", rng.below(KEYS));
    if told.keys.get(&path) == Some(&Known::Tainted) {
        return;
    }
    // Also below a key of its own: the removal is then one of a subtree.
    let removes = rng.one_in(6);
    let outcome = if removes {
        ask(address, "DELETE", &path, "")
    } else if rng.one_in(3) {
        ask(address, "PUT", &path, &format!(r#"{{"n":{count},"more":{{"n":{count}}}}}"#))
    } else {
        ask(address, "PUT", &path, &format!(r#"{{"n":{count}}}"#))
    };
    match outcome {
        Outcome::Acknowledged => {
            told.keys.insert(path, Known::Is((!removes).then_some(count)));
        }
        Outcome::Unknown => drop(told.keys.insert(path, Known::Tainted)),
        Outcome::NotDone | Outcome::Odd(_) => {}
    }
    note(told, &outcome);
}

/// A write to what all write; who wins is the merge's matter.
fn contested(address: SocketAddr, rng: &mut Rng, count: u64) -> Outcome {
    let (group, key) = (rng.below(6), rng.below(CONTESTED));
    match rng.below(8) {
        0 => ask(address, "DELETE", &format!("shared/both/{group}"), ""),
        1 => ask(address, "DELETE", &format!("shared/both/{group}/{key}"), ""),
        2 => {
            let body = format!(r#"{{"{key}":{count},"x":{{"y":{count}}}}}"#);
            ask(address, "PUT", &format!("shared/both/{group}"), &body)
        }
        3 => ask(address, "PUT", &format!("shared/both/{group}/{key}/deep"), &count.to_string()),
        _ => ask(address, "PUT", &format!("shared/both/{group}/{key}"), &count.to_string()),
    }
}

fn note(told: &mut Told, outcome: &Outcome) {
    match outcome {
        Outcome::Acknowledged => told.acknowledged += 1,
        Outcome::NotDone => told.refused += 1,
        Outcome::Unknown => told.unknown += 1,
        Outcome::Odd(answer) if told.odd.len() < 10 => told.odd.push(answer.clone()),
        Outcome::Odd(_) => {}
    }
}

fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Outcome {
    match request(address, method, path, body) {
        Err(Lost::BeforeSending) => Outcome::NotDone,
        Err(Lost::After) => Outcome::Unknown,
        Ok((status, _)) if (200..300).contains(&status) => Outcome::Acknowledged,
        // A removal of what is not there changes nothing.
        Ok((404, _)) if method == "DELETE" => Outcome::Acknowledged,
        Ok((503, text)) if text.contains("\"upstream_unavailable\"") => Outcome::NotDone,
        Ok((status, _)) if status >= 500 => Outcome::Unknown,
        Ok((status, text)) => Outcome::Odd(format!("{method} {path}: {status} {text}")),
    }
}

/// When a connection was lost.
#[derive(Debug)]
pub(super) enum Lost {
    BeforeSending,
    After,
}

/// One request on a connection of its own; answers status and body.
pub(super) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, String), Lost> {
    let connected = TcpStream::connect_timeout(&address, ANSWER_TIME);
    let mut stream = connected.map_err(|_| Lost::BeforeSending)?;
    let exchange = |stream: &mut TcpStream| -> std::io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        stream.set_nodelay(true)?;
        let length = body.len();
        let head = format!(
            "{method} /db/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange(&mut stream).map_err(|_| Lost::After)?;
    parse(&answer).ok_or(Lost::After)
}

/// Status and body of a whole answer.
fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.get(9..12)?.parse().ok()?;
    let mut length = None;
    for line in head.lines().skip(1) {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Some((status, unchunk(body)?));
        }
    }
    // A head without its body is no answer.
    (length.unwrap_or(0) <= body.len()).then(|| (status, body.to_owned()))
}

fn unchunk(mut rest: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (length, tail) = rest.split_once("\r\n")?;
        let length = usize::from_str_radix(length.trim(), 16).ok()?;
        if length == 0 {
            return Some(whole);
        }
        whole.push_str(tail.get(..length)?);
        rest = tail.get(length..)?.strip_prefix("\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_only_when_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(parse(whole), Some((200, "{}".to_owned())));
        assert_eq!(parse(&whole[..whole.len() - 1]), None);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nConte"), None);
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        assert_eq!(parse(chunked), Some((200, "{}".to_owned())));
        assert_eq!(parse(&chunked[..chunked.len() - 5]), None);
        assert_eq!(parse(b""), None);
    }
}
