//! A writer: one commit after the other, each with a key, repeated after a disconnection until it
//! is answered. It watches everything too, and is told which commits are its own.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::peer::{Broken, Frame, Peer};
use super::stage::{Stage, lock};
use crate::{Rng, Seed};

/// How far subscribers may be behind before writers wait.
const LAG_MAX: u64 = 800;

/// What a writer was answered.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Keys and the revs of their commits.
    pub(super) acknowledged: HashMap<String, u64>,
    /// Keys that came with an event, and its rev.
    pub(super) own: Vec<(String, u64)>,
}

pub(super) struct Writer<'a> {
    stage: &'a Stage,
    number: usize,
    rng: Rng,
    count: u64,
    told: Told,
}

impl<'a> Writer<'a> {
    pub(super) fn new(stage: &'a Stage, number: usize, seed: Seed) -> Self {
        let rng = seed.of(&format!("writer {number}")).rng();
        Self { stage, number, rng, count: 0, told: Told::default() }
    }

    /// Writes until the commits of the run are done.
    pub(super) fn run(mut self) -> Told {
        let mut pending: Option<(String, String)> = None;
        while let Some(port) = self.stage.server.port() {
            if let Ok(()) = self.session(port, &mut pending) {
                break;
            }
        }
        self.told
    }

    fn session(&mut self, port: u16, pending: &mut Option<(String, String)>) -> Result<(), Broken> {
        let (mut peer, scissors) = Peer::connect(port)?;
        *lock(&self.stage.writers[self.number]) = Some(scissors);
        peer.send(r#"{"id":"all","op":"sub","path":"*","mode":"notify"}"#.to_owned())?;
        loop {
            if pending.is_none() {
                if !self.stage.take_turn() {
                    return Ok(());
                }
                self.count += 1;
                let key = format!("w{}-{}", self.number, self.count);
                let body = operation(&mut self.rng, self.stage.places);
                *pending = Some((key.clone(), format!(r#"{{"id":"{key}","key":"{key}",{body}}}"#)));
                self.wait_for_subscribers();
            }
            let Some((key, request)) = pending.clone() else { continue };
            peer.send(request.clone())?;
            let rev = self.answer(&mut peer, &key, &request)?;
            self.told.acknowledged.insert(key, rev);
            self.stage.acknowledged.fetch_add(1, Ordering::AcqRel);
            self.stage.newest.fetch_max(rev, Ordering::AcqRel);
            *pending = None;
        }
    }

    fn answer(&mut self, peer: &mut Peer, key: &str, request: &str) -> Result<u64, Broken> {
        loop {
            let text = peer.receive()?;
            let frame = Frame::parse(&text);
            if let (Some(own), Some(rev)) = (&frame.key, frame.rev) {
                self.told.own.push((own.to_string(), rev));
            }
            if frame.id.as_deref() == Some(key) {
                match (frame.ok, frame.rev) {
                    (Some(true), Some(rev)) => return Ok(rev),
                    _ => {
                        self.stage.complain(format!("{request} is answered {text}"));
                        return Ok(0);
                    }
                }
            }
            if frame.ok == Some(false) || frame.cancel.is_some() {
                self.stage.complain(format!("writer {}: {text}", self.number));
            }
        }
    }

    /// Subscribers that are far behind would be told less, which only some runs are about.
    fn wait_for_subscribers(&self) {
        if self.stage.unthrottled {
            return;
        }
        let is_near = || {
            let slowest = self.stage.sockets.iter().map(|line| line.newest.load(Ordering::Acquire));
            let behind = self.stage.newest.load(Ordering::Acquire);
            behind.saturating_sub(slowest.min().unwrap_or(u64::MAX)) <= LAG_MAX
                || self.stage.is_over()
        };
        self.stage.wait_until("the subscribers to come near", is_near);
    }
}

/// One commit on the places that are watched.
fn operation(rng: &mut Rng, places: usize) -> String {
    let (one, other) = (rng.below(places), rng.below(places));
    let n = rng.below(1000);
    match rng.below(14) {
        0 | 1 => format!(r#""op":"set","path":"u/{one}/n","value":{n}"#),
        2 | 3 => {
            let paths = [
                format!(r#""u/{one}/p/x":{n},"u/{other}/p/y":{n}"#),
                format!(r#""c/{one}":{{".sv":{{"increment":1}}}},"r/{other}/t":"{n}""#),
            ];
            format!(r#""op":"update","updates":{{{}}}"#, paths.join(","))
        }
        4 => {
            let deep = ["", "/p", "/n", "/tags"][rng.below(4)];
            format!(r#""op":"delete","path":"u/{one}{deep}""#)
        }
        5 => {
            let deep = ["/m", "/t", ""][rng.below(3)];
            format!(r#""op":"delete","path":"r/{one}{deep}""#)
        }
        6 => {
            let value = format!(r#"{{"n":{n},"p":{{"x":{n},"y":1}},"tags":["a",{n}]}}"#);
            format!(r#""op":"set","path":"u/{one}","value":{value}"#)
        }
        7 => format!(r#""op":"set","path":"u/{one}/tags","value":[{n},"b"]"#),
        8 => {
            let title = if rng.one_in(2) { format!("{n}") } else { format!(r#"{{"deep":{n}}}"#) };
            format!(r#""op":"set","path":"r/{one}/t","value":{title}"#)
        }
        9 => format!(
            r#""op":"set","path":"r/{one}/m/short{other}","value":{{"text":"{n}"}},"ttl":{}"#,
            1 + rng.below(2)
        ),
        10 => format!(
            r#""op":"update","updates":{{"r/{one}/m/a":{{"text":"{n}"}},"r/{one}/t":null}}"#
        ),
        _ => format!(r#""op":"push","path":"r/{one}/m","value":{{"text":"{n}","by":{other}}}"#),
    }
}
