//! Promises of replication under the simulation.

use super::{run, shape_of};

/// Seeds that every run of the tests takes; `cargo xtask sim` takes more.
const SEEDS: u64 = 60;
/// Where one node at a time writes; the others are run by command.
const OWNED: [&str; 6] =
    ["pair primary", "pair replica", "pair readonly", "pair writeonly", "two sources", "cycle"];

/// Promise: whatever goes wrong, every node comes to hold what was written, and nothing else.
#[test]
fn what_was_written_is_what_every_node_holds() {
    let mut commits = 0;
    for seed in (0..SEEDS).filter(|seed| OWNED.contains(&shape_of(*seed).as_str())) {
        let run = run(seed, false);
        assert!(run.failure.is_none(), "{run}\n{}", run.trace);
        commits += run.commits;
    }
    assert!(commits > SEEDS * 5, "somebody wrote: {commits}");
}
