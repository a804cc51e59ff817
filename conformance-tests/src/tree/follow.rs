//! Following: every commit that becomes visible, once and in order, with the states around it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use trellis_engine_traits::ErrorKind;
use trellis_tree::{ChangeCause, ChangeEffect, Commit, Followed};

use super::TreeWorld;
use super::follower::{LONG, ROOMY, Watched, all, any_commit};
use super::tools::{
    block_on, commit, delete_op, exists, leasing, path, refused, rev, set, setting, small_overlay,
    until,
};
use crate::{Case, Flag, Need};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.follow.writers", &["tree.follow.complete", "tree.follow.states"], writers),
    Case::new("tree.follow.several", &["tree.follow.complete"], several),
    Case::new("tree.follow.append_fails", &["tree.follow.complete"], append_fails)
        .needs(&[Need::WriteFault]),
    Case::new("tree.follow.reopen", &["tree.follow.complete"], reopen),
    Case::new("tree.follow.endings", &["tree.follow.states", "tree.follow.settled"], endings),
    Case::new("tree.follow.held", &["tree.follow.states"], held),
    Case::new("tree.follow.lag", &["tree.follow.lag"], lag),
    Case::new("tree.follow.pause_and_close", &["tree.follow.end"], pause_and_close),
];

/// Commits of a writer of its own places, and of one that all share.
fn work(writer: u64, n: u64) -> Commit {
    let at = format!("w{writer}/{}", n % 5);
    match n % 6 {
        0 => setting("shared", json!({"by": writer, "n": n, "deep": {"er": [n]}})),
        1 => Commit::new(vec![delete_op(&at)]),
        2 => setting(&format!("shared/n/{writer}"), json!(n)),
        3 => Commit::new(vec![delete_op(&format!("w{writer}"))]),
        4 => setting(&at, json!({"text": "x".repeat(100), "n": n})),
        _ => setting(&at, json!(n)),
    }
}

fn writers(world: &TreeWorld) {
    let tree = world.engine().tree_with(small_overlay());
    set(&tree, "before", json!(1));
    let (mut watched, mut follower) = Watched::begin(&tree);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let tree = &tree;
                scope.spawn(move || (0..50).for_each(|n| drop(commit(tree, work(writer, n)))))
            })
            .collect();
        let (watched, follower, done, tree) = (&mut watched, &mut follower, &done, &tree);
        scope.spawn(move || {
            while !done.load(Ordering::Acquire) {
                let next = (follower.position().rev + 1).min(rev(tree));
                watched.through(follower, next);
            }
        });
        let ended: Vec<_> = writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Release);
        assert!(ended.iter().all(Result::is_ok), "a writer failed");
    });
    watched.through(&mut follower, rev(&tree));
    assert_eq!(*watched.newest(), all(&tree.settled_view().unwrap()));
    assert_eq!(follower.position(), tree.position());
    assert_eq!(watched.told.len(), 400 - unchanged(&tree, &watched));
    drop(follower);
    until("nothing is held any more", || tree.stats().unwrap().views == 0);
}

/// Commits that changed nothing have no rev.
fn unchanged(tree: &trellis_tree::Tree, watched: &Watched) -> usize {
    let last = watched.told.last().expect("something was told").rev;
    assert_eq!(last, rev(tree));
    400 - (last as usize - 1)
}

/// Followers that begin at different times see the same, and one that goes takes nothing with it.
fn several(world: &TreeWorld) {
    let tree = world.engine().tree();
    let mut rng = world.rng("commits");
    let mut all_of_them = Vec::new();
    for round in 0..4 {
        all_of_them.push(Watched::begin(&tree));
        for n in 0..15 {
            commit_if_it_can(&tree, any_commit(&mut rng, round * 15 + n));
        }
        if round == 2 {
            drop(all_of_them.remove(0));
        }
    }
    let end = rev(&tree);
    for (watched, follower) in &mut all_of_them {
        watched.through(follower, end);
        assert_eq!(*watched.newest(), all(&tree.settled_view().unwrap()));
    }
}

/// What is drawn may lead into an array, which changes nothing.
pub(super) fn commit_if_it_can(tree: &trellis_tree::Tree, commit: Commit) {
    if let Err(error) = tree.commit(commit) {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    }
}

/// What was taken back was never followed; what comes after has its revs.
fn append_fails(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let (mut watched, mut follower) = Watched::begin(&tree);
    let mut failures = 0;
    for round in 0..10 {
        world.throw(Flag::FailWrite);
        let pending: Vec<_> = (0..40)
            .map(|n| tree.submit(setting(&format!("q/{}", n % 7), json!({"n": n, "r": round}))))
            .collect();
        failures += pending.into_iter().filter_map(|one| block_on(one).err()).count();
        commit(&tree, setting("alone", json!(round)));
        watched.through(&mut follower, rev(&tree));
        assert_eq!(*watched.newest(), all(&tree.settled_view().unwrap()));
    }
    assert!(failures > 0, "no fault was met");
    assert_eq!(follower.position(), tree.position());
}

/// What is replayed at open is not followed: it was before.
fn reopen(world: &TreeWorld) {
    let ground = world.engine();
    let mut tree = ground.tree();
    for round in 0..3 {
        let (mut watched, mut follower) = Watched::begin(&tree);
        assert!(matches!(follower.next(Duration::ZERO).unwrap(), Followed::Nothing));
        for n in 0..20 {
            set(&tree, &format!("r{round}/{n}"), json!(n));
        }
        watched.through(&mut follower, rev(&tree));
        assert_eq!(watched.told.len(), 20);
        drop((tree, follower));
        tree = ground.reopen();
    }
}

/// An ending is a commit like others; until it is made, the states around commits hold what is due.
fn endings(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    commit(&tree, leasing("due/a", json!({"x": 1, "y": 2}), 5.0));
    commit(&tree, leasing("due/b", json!(1), 5.0));
    commit(&tree, leasing("later", json!(1), 50.0));
    let (mut watched, mut follower) = Watched::begin(&tree);
    ground.clock().advance_ms(5_000);
    tree.settle().unwrap();
    let view = tree.settled_view().unwrap();
    assert_eq!(all(&view), all(&tree.view().unwrap()), "nothing is hidden");
    assert!(!exists(&tree, "due"));
    watched.through(&mut follower, view.rev());
    assert_eq!(*watched.newest(), all(&view));
    let causes: Vec<_> = watched.told.iter().map(|told| told.cause).collect();
    assert!(!causes.is_empty() && causes.iter().all(|cause| *cause == ChangeCause::Ttl));
    tree.settle().unwrap();
    assert_eq!(rev(&tree), view.rev(), "settling what is settled commits nothing");
    let keyed = commit(&tree, setting("k", json!(1)).with_key("mine")).rev;
    watched.through(&mut follower, keyed);
    let last = watched.told.last().unwrap();
    assert_eq!((last.cause, last.key.as_deref()), (ChangeCause::Request, Some("mine")));
}

/// A change that is held shows its states whatever is written, applied and freed meanwhile.
fn held(world: &TreeWorld) {
    let tree = world.engine().tree_with(small_overlay());
    let mut follower = tree.follow(ROOMY).unwrap();
    let mut kept = Vec::new();
    for n in 0..40_u64 {
        let rev = set(&tree, "hot", json!({"n": n, "fill": "f".repeat(200)}));
        while follower.position().rev < rev {
            let Followed::Changes(changes) = follower.next(LONG).unwrap() else { panic!("lag") };
            kept.extend(changes.into_iter().filter(|change| change.rev() % 3 == 0));
        }
    }
    tree.flush().unwrap();
    let value = |view: trellis_tree::View| view.get(&path("hot/n")).unwrap();
    for change in &kept {
        assert_eq!(value(change.before().unwrap()), json!(change.rev() - 2));
        assert_eq!(value(change.after().unwrap()), json!(change.rev() - 1));
        let puts = change.effects().filter(|effect| matches!(effect, ChangeEffect::Put(..)));
        assert_eq!(puts.count(), 2);
    }
    drop((kept, follower));
    assert_eq!(tree.stats().unwrap().views, 0);
}

/// Nobody waits for a follower that does not come; it is told, and begins where the tree is then.
fn lag(world: &TreeWorld) {
    let tree = world.engine().tree_with(small_overlay());
    let mut follower = tree.follow(10_000).unwrap();
    for round in 0..3 {
        for n in 0..60 {
            set(&tree, &format!("a/{}", n % 9), json!("x".repeat(500)));
        }
        let Followed::Lagged = follower.next(LONG).unwrap() else { panic!("it did not lag") };
        assert_eq!(follower.position(), tree.position(), "round {round}");
        assert_eq!(tree.stats().unwrap().views, 0, "what was dropped holds nothing");
        let rev = set(&tree, "a/next", json!(round));
        let Followed::Changes(changes) = follower.next(LONG).unwrap() else { panic!("a change") };
        assert_eq!(changes.iter().map(trellis_tree::Change::rev).collect::<Vec<_>>(), [rev]);
    }
}

fn pause_and_close(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let mut follower = tree.follow(ROOMY).unwrap();
    let pause = tree.pause_writes().unwrap();
    refused(tree.commit(setting("a", json!(1))), ErrorKind::Unavailable, "a write in a pause");
    assert!(matches!(follower.next(Duration::ZERO).unwrap(), Followed::Nothing));
    let bell = follower.bell();
    bell.ring();
    assert!(matches!(follower.next(LONG).unwrap(), Followed::Nothing), "a bell ends the wait");
    drop(pause);
    let rev = set(&tree, "a", json!(2));
    drop(tree);
    let waits = std::thread::spawn(move || {
        let Followed::Changes(changes) = follower.next(LONG).unwrap() else { panic!("a change") };
        assert_eq!(changes[0].rev(), rev);
        refused(follower.next(LONG), ErrorKind::Closed, "following what is closed");
    });
    ground.close().unwrap();
    waits.join().unwrap();
}
