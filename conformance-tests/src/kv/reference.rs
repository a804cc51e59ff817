//! The contract as plainly as it can be written: a sorted map, and steps to compare engines by.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use trellis_engine_traits::{
    At, Direction, Durability, Guard, KeyRange, Op, Scan, SpaceId, WriteBatch,
};

use crate::Rng;

/// What a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reference {
    pairs: BTreeMap<(SpaceId, Bytes), Bytes>,
}

impl Reference {
    /// Applies a batch; answers whether its guards held.
    pub(super) fn apply(&mut self, batch: &WriteBatch) -> bool {
        let holds = |guard: &Guard| match guard {
            Guard::Absent(at) => self.get(at.space, &at.key).is_none(),
            Guard::Present(at) => self.get(at.space, &at.key).is_some(),
            Guard::Equals(at, value) => self.get(at.space, &at.key).as_ref() == Some(value),
        };
        if !batch.guards.iter().all(holds) {
            return false;
        }
        for op in &batch.ops {
            match op {
                Op::Put(at, value) => {
                    self.pairs.insert((at.space, at.key.clone()), value.clone());
                }
                Op::Delete(at) => {
                    self.pairs.remove(&(at.space, at.key.clone()));
                }
                Op::DeleteRange(space, range) => {
                    self.pairs.retain(|(at, key), _| at != space || !range.contains(key));
                }
            }
        }
        true
    }

    pub(super) fn get(&self, space: SpaceId, key: &Bytes) -> Option<Bytes> {
        self.pairs.get(&(space, key.clone())).cloned()
    }

    /// The pairs of a scan, at most `limit`.
    pub(super) fn scan(&self, scan: &Scan, limit: usize) -> Vec<(Bytes, Bytes)> {
        let from = Bound::Included((scan.space, scan.range.start.clone()));
        let inside = self
            .pairs
            .range((from, Bound::Unbounded))
            .take_while(|((space, _), _)| *space == scan.space)
            .filter(|((_, key), _)| scan.range.contains(key))
            .map(|((_, key), value)| (key.clone(), value.clone()));
        match scan.direction {
            Direction::Forward => inside.take(limit).collect(),
            Direction::Reverse => {
                let all: Vec<_> = inside.collect();
                all.into_iter().rev().take(limit).collect()
            }
        }
    }
}

/// One step of a history.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Commit(WriteBatch, Durability),
    Get(SpaceId, Bytes),
    Scan(Scan, usize),
    /// Keeps a view of now.
    Hold,
    /// Reads a view that was kept.
    Recall(usize, Scan),
    Reopen,
}

/// Draws the next step: few keys, so that steps meet each other.
pub(super) fn draw(rng: &mut Rng, held: usize) -> Step {
    match rng.below(20) {
        0..=9 => {
            let durability = if rng.one_in(12) { Durability::Synced } else { Durability::Buffered };
            Step::Commit(draw_batch(rng), durability)
        }
        10..=12 => Step::Get(draw_space(rng), draw_key(rng)),
        13..=16 => Step::Scan(draw_scan(rng), draw_limit(rng)),
        17 if held < 4 => Step::Hold,
        17 | 18 => Step::Recall(rng.below(held), draw_scan(rng)),
        _ if rng.one_in(6) => Step::Reopen,
        _ => Step::Scan(Scan::forward(draw_space(rng), KeyRange::all()), usize::MAX),
    }
}

fn draw_space(rng: &mut Rng) -> SpaceId {
    SpaceId([7, 8, 0][rng.below(3)])
}

fn draw_key(rng: &mut Rng) -> Bytes {
    let letters = [0x00, b'_', b'a', b'b', b'%', 0xff];
    let len = rng.below(4);
    (0..len).map(|_| letters[rng.below(letters.len())]).collect::<Vec<u8>>().into()
}

fn draw_limit(rng: &mut Rng) -> usize {
    [1, 2, 5, usize::MAX][rng.below(4)]
}

fn draw_value(rng: &mut Rng) -> Bytes {
    let len = [0, 1, 3, 20, 3_000][rng.below(5)];
    rng.bytes(len).into()
}

fn draw_range(rng: &mut Rng) -> KeyRange {
    match rng.below(5) {
        0 => KeyRange::prefix(&draw_key(rng)),
        1 => KeyRange::new(draw_key(rng), None),
        _ => KeyRange::new(draw_key(rng), Some(draw_key(rng))),
    }
}

fn draw_scan(rng: &mut Rng) -> Scan {
    let direction = if rng.one_in(2) { Direction::Forward } else { Direction::Reverse };
    Scan { space: draw_space(rng), range: draw_range(rng), direction }
}

pub(super) fn draw_batch(rng: &mut Rng) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for _ in 0..rng.below(9) {
        let at = At::new(draw_space(rng), draw_key(rng));
        batch.ops.push(match rng.below(8) {
            0..=4 => Op::Put(at, draw_value(rng)),
            5 | 6 => Op::Delete(at),
            _ => Op::DeleteRange(at.space, draw_range(rng)),
        });
    }
    if rng.one_in(3) {
        let at = At::new(draw_space(rng), draw_key(rng));
        batch.guards.push(match rng.below(3) {
            0 => Guard::Absent(at),
            1 => Guard::Present(at),
            _ => Guard::Equals(at, Bytes::new()),
        });
    }
    batch
}
