//! Reading a range backwards gives what reading it forwards gives, in the other order.

use std::ops::ControlFlow;

use serde_json::json;
use trellis_engine_traits::KeyRange;
use trellis_runtime::{Random, SeededRandom};
use trellis_tree::{Commit, Path, View};

use crate::{Bed, path, set};

fn collect(view: &View, range: &KeyRange, reverse: bool, limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    view.leaves_in(range, reverse, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .unwrap();
    found
}

fn draw(random: &SeededRandom, below: u64) -> u64 {
    random.next_u64() % below
}

#[test]
fn a_range_reads_backwards_as_it_reads_forwards() {
    let seed = std::env::var("TRELLIS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand_seed);
    println!("TRELLIS_SEED={seed}");
    let random = SeededRandom::new(seed);
    let tree = Bed::new().open();
    for round in 0..300 {
        let at = format!("c/k{:02}", draw(&random, 60));
        match draw(&random, 12) {
            0 => drop(tree.commit(Commit::delete(path("c")))),
            1 => tree.flush().unwrap(),
            2..4 => drop(tree.commit(Commit::delete(path(&at)))),
            4 => {
                let many: serde_json::Map<_, _> =
                    (0..80).map(|n| (format!("m{n:02}"), json!(round))).collect();
                set(&tree, &at, many.into());
            }
            _ => drop(set(&tree, &format!("{at}/v"), json!(round))),
        }
        let view = tree.view().unwrap();
        let key = || Path::parse(&format!("c/k{:02}", draw(&random, 60))).unwrap().key().clone();
        for range in [KeyRange::all(), KeyRange::new(key(), Some(key()))] {
            let mut forwards = collect(&view, &range, false, usize::MAX);
            let backwards = collect(&view, &range, true, usize::MAX);
            forwards.reverse();
            assert_eq!(forwards, backwards, "round {round}");
            let few = collect(&view, &range, true, 3);
            assert_eq!(few, forwards[..forwards.len().min(3)], "round {round}");
        }
    }
}

fn rand_seed() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
}
