//! An edge of every mode and its hub, written to at random over a link that is cut at random: in
//! the end both hold the same where they should, and what nobody may touch is untouched.
//!
//! `TRELLIS_SEED` replays one seed.

use std::sync::Arc;

use trellis_runtime::{Clock, Runtime, RuntimeOptions, SeededRandom, SimulatedClock};

use crate::pair::{Host, Pair};
use crate::store_tests::{Node, edge, hub, linked, with};
use crate::*;

/// A generator of numbers that are random enough, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len() as u64) as usize]
    }
}

const MODES: &[(&str, Mode)] = &[
    ("files", Mode::Primary),
    ("users", Mode::Replica),
    ("users/own", Mode::Primary),
    ("config", Mode::Sync),
    ("feeds", Mode::Readonly),
    ("telemetry", Mode::Writeonly),
];

/// Writes something somewhere below the paths.
fn write(node: &Node, paths: &[&str], random: &mut Random) {
    let path = format!("{}/{}", random.of(paths), random.of(&["a", "b", "a/x", "a/y", "c/d/e"]));
    match random.below(5) {
        0 => node.delete(&path),
        1 => node.delete(path.rsplit_once('/').unwrap().0),
        2 => node.set(&path, r#"{"x":1,"y":{"z":"deep"}}"#),
        _ => node.set(&path, &random.below(100).to_string()),
    }
}

fn round(pair: &mut Pair<Node>, random: &mut Random) {
    for _ in 0..random.below(8) {
        // A zone cannot be removed from above where another lies in it.
        let here: &[&str] = &["files/v", "users/own", "config", "telemetry/v", "private"];
        let there: &[&str] = &["users/v", "config", "feeds/v", "private"];
        match random.below(2) {
            0 => write(&pair.ends[0].host, here, random),
            _ => write(&pair.ends[1].host, there, random),
        }
        match random.below(20) {
            0 => pair.event(random.below(2) as usize, Event::Resync),
            1 => pair.event(random.below(2) as usize, Event::Verify { repair: true }),
            _ => {}
        }
        pair.turns(random.below(6) as usize);
    }
}

fn hold(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    // Clocks of which one is up to 4 minutes ahead, which is still believed, and hardly goes on.
    let wall_ms = Runtime::system().clock().now_ms() / 60_000 * 60_000;
    let clocks = [0, 1].map(|_| {
        let ahead_ms = random.below(240_000);
        Arc::new(SimulatedClock::at(wall_ms - 120_000 + ahead_ms))
    });
    let mut runtime = |end: usize| {
        let clock = Arc::clone(&clocks[end]) as Arc<dyn Clock>;
        let random = Arc::new(SeededRandom::new(random.below(u64::MAX)));
        Runtime::new(RuntimeOptions { clock, random, ..RuntimeOptions::default() })
    };
    let (mut one, mut other) = (with(&edge(MODES), runtime(0)), with(&hub(), runtime(1)));
    // What it wrote before it followed anybody.
    for _ in 0..random.below(4) {
        write(&one, &["users/v", "feeds/v"], &mut random);
    }
    for _ in 0..10 {
        clocks[random.below(2) as usize].advance_ms(random.below(50));
        let items = 1 + random.below(4) as u32;
        let mut pair = linked(one, other, items);
        pair.turns(random.below(20) as usize);
        round(&mut pair, &mut random);
        let now = pair.now;
        for end in [0, 1] {
            if random.below(2) == 0 {
                pair.event(end, Event::Closed);
            }
        }
        [one, other] = pair.ends.map(|end| end.host);
        if random.below(4) == 0 {
            other.store.upkeep(now).unwrap();
        }
    }
    let mut pair = linked(one, other, 3);
    round(&mut pair, &mut random);
    pair.run();
    for path in ["files", "users/v", "config", "feeds", "telemetry"] {
        let (here, there) = (pair.ends[0].host.get(path), pair.ends[1].host.get(path));
        assert_eq!(here, there, "{path}");
    }
    assert_ne!(pair.ends[0].host.get("_repl"), "null");
    pair.event(0, Event::Verify { repair: true });
    pair.event(1, Event::Verify { repair: true });
    pair.run();
    for end in [0, 1] {
        let pulled = pair.ends[end].session.status().pull.unwrap();
        assert!(pulled.verified > 0 && pulled.diverged == 0, "{end} {pulled:?}");
        assert!(pulled.complete && pulled.position == pair.ends[1 - end].host.head());
    }
}

#[test]
fn both_ends_agree_whenever_the_link_was_cut() {
    let given = std::env::var("TRELLIS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = given.map_or(0..20, |seed: u64| seed..seed + 1);
    for seed in seeds {
        println!("TRELLIS_SEED={seed}");
        hold(seed);
    }
}
