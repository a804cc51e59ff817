//! Random calls, against a list of records per stream.

use std::collections::BTreeMap;

use bytes::Bytes;
use trellis_engine_traits::{Durability, Expect, Offset, StreamId, StreamLog};

use crate::{Bench, id, read};

/// The seed from `TRELLIS_SEED`, or a new one; printed, so that a failure can be repeated.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("TRELLIS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("TRELLIS_SEED={seed}");
    seed
}

/// A small generator of the xorshift kind.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

#[test]
fn random_calls_agree_with_a_model() {
    let mut random = Random::new(seed());
    let bench = Bench::new(8192);
    let mut log = bench.open();
    let mut model: BTreeMap<StreamId, (Offset, Vec<Vec<u8>>)> = BTreeMap::new();
    for _ in 0..1500 {
        let stream = id(["a", "b", "b-1"][random.below(3) as usize]);
        let (first, records) = model.entry(stream.clone()).or_insert((1, Vec::new()));
        let next = records.len() as u64 + 1;
        match random.below(20) {
            0 => {
                log.close().unwrap();
                log = bench.open();
            }
            1 => {
                drop(log);
                log = bench.open();
            }
            2 => {
                let before = 1 + random.below(next);
                log.trim(&stream, before).unwrap();
                let trimmed = log.bounds(&stream).unwrap().first;
                assert!(trimmed <= before.max(*first) && trimmed >= *first);
                assert!(before < next || trimmed == next);
                *first = trimmed;
            }
            3 => log.flush(&stream, next).unwrap(),
            _ => {
                let large = if random.below(20) == 0 { 20_000 } else { 200 };
                let new: Vec<Vec<u8>> = (0..random.below(5))
                    .map(|_| vec![random.below(256) as u8; random.below(large) as usize])
                    .collect();
                let sent: Vec<Bytes> = new.iter().cloned().map(Bytes::from).collect();
                let synced = random.below(2) == 0;
                let durability = if synced { Durability::Synced } else { Durability::Buffered };
                log.append(&stream, &sent, Expect::Next(next), durability).unwrap();
                records.extend(new);
            }
        }
        let bounds = log.bounds(&stream).unwrap();
        assert_eq!((bounds.first, bounds.next), (*first, records.len() as u64 + 1));
        let from = *first + random.below(bounds.next - *first + 1);
        let expected: Vec<(Offset, Vec<u8>)> =
            (1..).zip(records.iter().cloned()).skip(from as usize - 1).collect();
        assert_eq!(read(&log, stream.as_str(), from), expected);
    }
}
