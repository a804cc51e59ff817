//! Promises of replication under the simulation, what the simulation is worth, and that a seed is
//! a run.
//!
//! Nothing here depends on the seed of a build: the same runs, every time.

use parking_lot::RwLock;

use super::planted::Defect;
use super::{FORGETFUL, ROUGH, kept_seeds, run};

/// Seeds that every run of the tests takes; `cargo xtask sim` takes more.
const SEEDS: u64 = 200;

/// A planted defect is planted for the whole process: runs of the simulation wait for one another
/// here. Whatever else works on trees meanwhile has the defect too, so that these tests want a
/// process each (`cargo nextest`, as the build runs them), or `--test-threads=1`.
static PLANTED: RwLock<()> = RwLock::new(());

fn passes(seeds: impl Iterator<Item = u64>) -> u64 {
    let _sound = PLANTED.read();
    let mut commits = 0;
    for seed in seeds {
        let run = run(seed, false);
        assert!(run.failure.is_none(), "{run}\n{}", run.trace);
        commits += run.commits;
    }
    commits
}

/// Promise: whatever goes wrong, every node comes to hold what was written, and nothing else.
#[test]
fn what_was_written_is_what_every_node_holds() {
    let commits =
        passes((0..SEEDS).chain(ROUGH..ROUGH + SEEDS / 2).chain(FORGETFUL..FORGETFUL + SEEDS / 2));
    assert!(commits > SEEDS * 20, "somebody wrote: {commits}");
}

/// Promise: what was once found stays mended.
#[test]
fn seeds_that_once_failed_pass() {
    let seeds = kept_seeds();
    assert!(!seeds.is_empty());
    passes(seeds.into_iter());
}

/// Promise: a seed is a run, the same every time.
#[test]
fn a_seed_runs_the_same_every_time() {
    let _sound = PLANTED.read();
    for seed in [3, 16, 96, 117, 134, 147, 236, 314, ROUGH, ROUGH + 5] {
        let (one, other) = (run(seed, false), run(seed, false));
        let counted = |run: &super::Run| (run.hash, run.events, run.commits, run.messages);
        assert_eq!(counted(&one), counted(&other), "{one}\n{other}");
    }
}

/// Promise: a defect of the merge or of the sessions is found, by the seed that is known to; where
/// a change elsewhere has made another run of that, by one of the first.
#[test]
fn planted_defects_are_found() {
    use trellis_topology::planted::Planted as Session;
    use trellis_tree::planted::Planted as Tree;
    let _unsound = PLANTED.write();
    let planted = [
        (Defect::Tree(Tree::ClearNotClipped), 27),
        (Defect::Tree(Tree::ClearTakesNewer), 2),
        (Defect::Tree(Tree::AncestorsIgnored), 2),
        (Defect::Tree(Tree::LeafLeavesNothing), 12),
        (Defect::Tree(Tree::TombForgotten), 44),
        (Defect::Tree(Tree::ReplaceKeepsAbsent), 15),
        (Defect::Tree(Tree::FillTakesUnknown), 63),
        (Defect::Session(Session::SlotPinnedLate), 15),
        (Defect::Session(Session::ProjectionIgnored), ROUGH + 23),
        (Defect::Session(Session::SyncReplaced), 3),
        (Defect::Session(Session::PositionFirst), 11),
    ];
    let missed = planted.iter().filter(|(defect, seed)| {
        defect.plant();
        let first = [0, ROUGH, FORGETFUL].into_iter().flat_map(|at| at..at + SEEDS);
        let found =
            std::iter::once(*seed).chain(first).any(|seed| run(seed, false).failure.is_some());
        defect.take_back();
        !found
    });
    let missed: Vec<_> = missed.collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
