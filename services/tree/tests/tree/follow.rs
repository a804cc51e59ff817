//! Following: every commit, in order, with the states around it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use serde_json::json;
use trellis_engine_traits::ErrorKind;
use trellis_tree::{
    Change, ChangeCause, ChangeEffect, Commit, Expiry, Followed, Follower, Operation, Path, Tree,
    View,
};

use super::{Bed, input, path, set};

/// Far longer than any test runs.
pub(crate) const LONG: Duration = Duration::from_secs(300);

pub(crate) type Leaves = BTreeMap<Vec<u8>, Vec<u8>>;

/// Everything that a view shows.
pub(crate) fn leaves(view: &View) -> Leaves {
    let mut all = Leaves::new();
    for top in [Path::root(), path("_system")] {
        view.leaves(&top, None, &mut |key, stored| {
            all.insert(key.to_vec(), stored.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    all
}

fn apply(model: &mut Leaves, change: &Change) {
    for effect in change.effects() {
        match effect {
            ChangeEffect::Cleared(key) => {
                let at = Path::from_key(key).unwrap();
                model.retain(|own, _| !at.covers(&Path::from_key(own).unwrap()));
            }
            ChangeEffect::Put(key, stored) => {
                model.insert(key.to_vec(), stored.to_vec());
            }
            ChangeEffect::Deleted(key) => {
                assert!(model.remove(key).is_some(), "a leaf that was there is deleted");
            }
        }
    }
}

/// Takes changes up to a rev, checking that none is missing and that the states around each are
/// those of a model that does what it says.
fn check_through(follower: &mut Follower, model: &mut Leaves, through: u64) {
    let mut rev = follower.position().rev;
    while rev < through {
        let Followed::Changes(changes) = follower.next(LONG).unwrap() else { panic!("no lag") };
        for change in changes {
            rev += 1;
            assert_eq!(change.rev(), rev);
            assert_eq!(leaves(&change.before().unwrap()), *model, "before rev {rev}");
            apply(model, &change);
            assert_eq!(leaves(&change.after().unwrap()), *model, "after rev {rev}");
        }
        assert_eq!(follower.position().rev, rev);
    }
}

fn delete(tree: &Tree, at: &str) {
    tree.commit(Commit::delete(path(at))).unwrap();
}

#[test]
fn a_follower_sees_each_commit_with_the_states_around_it() {
    let tree = Bed::new().open();
    set(&tree, "before", json!(1));
    let mut model = leaves(&tree.view().unwrap());
    let mut follower = tree.follow(1 << 20).unwrap();
    assert_eq!(follower.position(), tree.position());
    set(&tree, "a", json!({"x": 1, "y": {"z": [1, 2]}}));
    set(&tree, "a", json!({"y": "new"}));
    set(&tree, "a/y/deeper", json!(true));
    set(&tree, "a", json!("leaf"));
    delete(&tree, "a");
    let system = Commit { system: true, ..Commit::set(path("_system/x"), input(json!(7))) };
    tree.commit(system.with_key("mine")).unwrap();
    check_through(&mut follower, &mut model, tree.position().rev);
    assert_eq!(follower.position(), tree.position());
    assert!(matches!(follower.next(Duration::ZERO).unwrap(), Followed::Nothing));
    drop(follower);
    assert_eq!(tree.stats().unwrap().views, 0);
}

#[test]
fn a_change_says_why_when_and_with_which_key() {
    let bed = Bed::new();
    let tree = bed.open();
    let mut follower = tree.follow(1 << 20).unwrap();
    let expiry = Some(Expiry::TtlSeconds(5.0));
    let commit =
        Commit::new(vec![Operation::Set { path: path("s"), value: input(json!(1)), expiry }]);
    tree.commit(commit.with_key("k-1")).unwrap();
    bed.clock.advance_ms(5_001);
    tree.settle().unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let Followed::Changes(changes) = follower.next(LONG).unwrap() else { panic!("no lag") };
        seen.extend(changes);
    }
    let [first, second] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((first.cause(), first.key()), (ChangeCause::Request, Some("k-1")));
    assert_eq!((second.cause(), second.key()), (ChangeCause::Ttl, None));
    assert_eq!(second.at_ms() - first.at_ms(), 5_001);
    assert!(second.before().unwrap().exists(&path("s")).unwrap());
    assert!(!second.after().unwrap().exists(&path("s")).unwrap());
    let deleted: Vec<_> = second.effects().collect();
    assert_eq!(deleted, [ChangeEffect::Deleted(b"s")]);
}

#[test]
fn under_eight_writers_nothing_is_missing_doubled_or_out_of_order() {
    let mut bed = Bed::new();
    // Small, so that tables are exchanged all the time.
    bed.options.overlay_bytes_max = 32 << 10;
    let tree = bed.open();
    let mut follower = tree.follow(1 << 30).unwrap();
    let mut model = Leaves::new();
    thread::scope(|scope| {
        for writer in 0..8 {
            let tree = &tree;
            scope.spawn(move || {
                for turn in 0..60 {
                    let key = (writer * 7 + turn * 3) % 11;
                    let (at, value) = match turn % 5 {
                        0 => (format!("o/{key}"), json!({"a": turn, "b": {"c": 1}})),
                        1 => (format!("o/{key}"), json!(null)),
                        2 => (format!("o/{key}"), json!(turn)),
                        3 => (format!("o/{key}/a"), json!(writer)),
                        _ => (format!("p/{writer}/{key}"), json!([turn])),
                    };
                    set(tree, &at, value);
                }
            });
        }
        scope.spawn(|| {
            while follower.position().rev < 200 {
                let next = follower.position().rev + 1;
                check_through(&mut follower, &mut model, next);
            }
        });
    });
    check_through(&mut follower, &mut model, tree.position().rev);
    assert_eq!(follower.position(), tree.position());
    assert_eq!(model, leaves(&tree.view().unwrap()));
}

#[test]
fn a_follower_that_does_not_come_is_told_and_begins_anew() {
    let tree = Bed::new().open();
    let mut follower = tree.follow(2_000).unwrap();
    for turn in 0..50 {
        set(&tree, "a", json!(turn));
    }
    assert_eq!(tree.stats().unwrap().views, 0, "what was dropped keeps nothing");
    assert!(matches!(follower.next(LONG).unwrap(), Followed::Lagged));
    assert_eq!(follower.position(), tree.position());
    let rev = set(&tree, "a", json!("next"));
    let Followed::Changes(changes) = follower.next(LONG).unwrap() else { panic!("no change") };
    assert_eq!(changes.iter().map(Change::rev).collect::<Vec<_>>(), [rev]);
    // One group that is larger than the bound is handed on all the same.
    let rev = set(&tree, "a", json!("x".repeat(10_000)));
    let Followed::Changes(changes) = follower.next(LONG).unwrap() else { panic!("no change") };
    assert_eq!(changes[0].rev(), rev);
}

#[test]
fn a_bell_ends_the_wait_and_a_close_ends_the_following() {
    let tree = Bed::new().open();
    let mut follower = tree.follow(1 << 20).unwrap();
    let bell = follower.bell();
    let waiter = thread::spawn(move || {
        let rung = follower.next(LONG);
        (rung, follower)
    });
    bell.ring();
    let (rung, mut follower) = waiter.join().unwrap();
    assert!(matches!(rung.unwrap(), Followed::Nothing));
    let rev = set(&tree, "a", json!(1));
    let waiter = thread::spawn(move || {
        let first = follower.next(LONG);
        let second = follower.next(LONG);
        (first, second)
    });
    tree.close().unwrap();
    let (first, second) = waiter.join().unwrap();
    let Followed::Changes(changes) = first.unwrap() else {
        panic!("what came before is handed on")
    };
    assert_eq!(changes[0].rev(), rev);
    assert_eq!(second.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(changes[0].after().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(tree.follow(1).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_change_keeps_its_states_however_much_is_written_after() {
    let bed = Bed::new();
    let tree = bed.open();
    let mut follower = tree.follow(1 << 20).unwrap();
    set(&tree, "a", json!(0));
    drop(follower.next(LONG).unwrap());
    set(&tree, "a", json!(1));
    set(&tree, "a", json!(2));
    let Followed::Changes(changes) = follower.next(LONG).unwrap() else { panic!("no change") };
    for turn in 0..100 {
        set(&tree, "a", json!(turn));
        if turn % 30 == 0 {
            tree.flush().unwrap();
        }
    }
    let value = |view: View| view.get(&path("a")).unwrap();
    assert_eq!(value(changes[0].before().unwrap()), json!(0));
    assert_eq!(value(changes[0].after().unwrap()), json!(1));
    assert_eq!(value(changes[1].before().unwrap()), json!(1));
    assert_eq!(value(changes[1].after().unwrap()), json!(2));
    drop((follower, changes));
    assert_eq!(tree.stats().unwrap().views, 0);
}
