//! Batches of many keys beside a plain map.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use trellis_engine_traits::{At, Durability, KeyRange, KvBackend, Op, Scan, SpaceId, WriteBatch};

use crate::{RedbKv, RedbOptions};

/// Numbers that look drawn, the same each time.
struct Drawn(u64);

impl Drawn {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// Promise: a batch does what its changes do one after the other, whether its keys are new or
/// there, side by side or apart, in order or not; and the live bytes are those of what is there.
#[test]
fn a_batch_does_what_its_changes_do_one_by_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbKv::open(&directory.path().join("a.redb"), RedbOptions::default()).unwrap();
    let mut drawn = Drawn(7);
    let mut model: BTreeMap<(u8, Vec<u8>), Vec<u8>> = BTreeMap::new();
    for round in 0..20 {
        let mut batch = WriteBatch::new();
        for space in [1, 2] {
            // Dense where it begins, sparse from there on; some of it there already.
            let (begin, step) = (drawn.below(40_000), 1 + drawn.below(4) * drawn.below(50));
            for number in 0..drawn.below(700) {
                let place = if drawn.below(50) == 0 { begin } else { begin + number * step };
                let key = format!("k{place:06}").into_bytes();
                let at = At::new(SpaceId(space), key.clone());
                if drawn.below(30) == 0 {
                    batch.ops.push(Op::Delete(at));
                    model.remove(&(space, key));
                } else {
                    let value = vec![b'v'; usize::try_from(drawn.below(40)).unwrap()];
                    batch.ops.push(Op::Put(at, value.clone().into()));
                    model.insert((space, key), value);
                }
            }
        }
        store.commit(&batch, Durability::Buffered).unwrap();
        let mut found = BTreeMap::new();
        for space in [1, 2] {
            let scan = Scan::forward(SpaceId(space), KeyRange::all());
            let view = store.snapshot().unwrap();
            view.scan(&scan, &mut |key, value| {
                found.insert((space, key.to_vec()), value.to_vec());
                ControlFlow::Continue(())
            })
            .unwrap();
        }
        assert!(found == model, "round {round}");
        let bytes: usize = model.iter().map(|((_, key), value)| key.len() + value.len()).sum();
        assert_eq!(store.usage().unwrap().live_bytes, bytes as u64, "round {round}");
    }
}
