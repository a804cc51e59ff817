//! History: what was committed after a rev, as a follower saw it, with the states around it.

use std::time::Duration;

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_runtime::{Random, Runtime, SeededRandom};
use trellis_tree::{
    Change, ChangeCause, Commit, Expiry, Followed, Follower, History, Operation, Tree,
};

use super::follow::{LONG, Leaves, leaves};
use super::{Bed, input, path, set};

/// What a change tells besides its states.
type Told = (u64, u64, ChangeCause, Option<String>, Vec<String>);

fn told(change: &Change) -> Told {
    let effects = change.effects().map(|effect| format!("{effect:?}")).collect();
    (change.rev(), change.at_ms(), change.cause(), change.key().map(ToOwned::to_owned), effects)
}

/// Everything that a follower saw: of each rev what it was told, and the state it left.
#[derive(Default)]
struct Seen {
    told: Vec<Told>,
    states: Vec<Leaves>,
}

impl Seen {
    fn take(&mut self, follower: &mut Follower, through: u64) {
        while follower.position().rev < through {
            let Followed::Changes(changes) = follower.next(LONG).unwrap() else { panic!("no lag") };
            for change in changes {
                if self.states.is_empty() {
                    self.states.push(leaves(&change.before().unwrap()));
                }
                self.told.push(told(&change));
                self.states.push(leaves(&change.after().unwrap()));
            }
        }
    }

    /// A history tells the same, and shows the same states.
    fn equals(&self, history: &History, since: u64) {
        let revs: Vec<u64> = (since + 1..=history.through()).collect();
        assert_eq!(history.changes().map(Change::rev).collect::<Vec<_>>(), revs);
        for change in history.changes() {
            let rev = usize::try_from(change.rev()).unwrap();
            assert_eq!(told(change), self.told[rev - 1]);
            assert_eq!(leaves(&change.before().unwrap()), self.states[rev - 1], "before {rev}");
            assert_eq!(leaves(&change.after().unwrap()), self.states[rev], "after {rev}");
        }
    }
}

fn any_commit(pick: &dyn Fn(u64) -> u64, step: u64) -> Commit {
    let names = ["a", "b", "c!", "c"];
    let name = |depth: u64| {
        let one = || names[usize::try_from(pick(4)).unwrap()].to_owned();
        (0..depth).map(|_| one()).collect::<Vec<_>>().join("/")
    };
    let at = path(&name(1 + pick(3)));
    let value = match pick(5) {
        0 => json!({"a": step, "c": {"b": [step, {}]}}),
        1 => json!([step]),
        2 => json!({}),
        _ => json!(step),
    };
    let expiry = if pick(8) == 0 { Some(Expiry::TtlSeconds(2.0)) } else { None };
    match pick(10) {
        0..=2 => Commit::delete(at),
        3 => {
            let updates = ["a/b", "b", "c/c/a"].map(|at| (path(at), input(json!({"b": step}))));
            Commit::new(vec![Operation::Update { updates: updates.to_vec(), expiry }])
        }
        4 if pick(3) == 0 => Commit::new(
            [1, 2]
                .map(|n| Operation::Set { path: at.clone(), value: input(json!(n)), expiry })
                .into(),
        ),
        4 => Commit::new(vec![
            Operation::Set { path: at.clone(), value: input(json!("first")), expiry: None },
            Operation::Set { path: at.clone(), value: input(value), expiry: None },
            Operation::Delete { path: at.parent().filter(|up| !up.is_root()).unwrap_or(path("b")) },
            Operation::Push { path: path("list"), value: input(json!(step)), expiry },
        ]),
        5 => Commit { system: true, ..Commit::set(path("_x/y"), input(value)) },
        _ => Commit::new(vec![Operation::Set { path: at, value: input(value), expiry }]),
    }
}

/// Promise: a history is what a follower saw, exactly, wherever the store stands.
#[test]
fn a_history_is_what_a_follower_saw() {
    let seed = std::env::var("TRELLIS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| Runtime::system().random().next_u64());
    println!("TRELLIS_SEED={seed}");
    let random = SeededRandom::new(seed);
    let pick = |count: u64| random.next_u64() % count;
    let mut bed = Bed::new();
    // Tables are exchanged now and then by themselves.
    bed.options.overlay_bytes_max = 24 << 10;
    let mut tree = bed.open();
    let mut follower = tree.follow(1 << 30).unwrap();
    let mut seen = Seen::default();
    for step in 0..1500 {
        let commit = any_commit(&pick, step);
        let commit = if pick(4) == 0 { commit.with_key(format!("k{step}")) } else { commit };
        // Into an array no path leads; nothing changes then.
        let _refused = tree.commit(commit);
        if pick(40) == 0 {
            tree.flush().unwrap();
        }
        if pick(60) == 0 {
            bed.clock.advance_ms(1_500);
            tree.settle().unwrap();
        }
        if pick(150) == 0 {
            seen.take(&mut follower, tree.position().rev);
            tree.close().unwrap();
            tree = bed.open();
            follower = tree.follow(1 << 30).unwrap();
        }
        if pick(25) == 0 {
            let since = tree.position().rev.saturating_sub(pick(120));
            let history = tree.history(since, 1 << 30).unwrap();
            seen.take(&mut follower, history.through());
            seen.equals(&history, since);
            assert!(history.is_exact(since, &|_| true));
        }
    }
    assert!(tree.stats().unwrap().applied_rev > 0, "the store was never ahead");
}

fn history(tree: &Tree, since: u64) -> History {
    tree.history(since, 1 << 30).unwrap()
}

fn before(history: &History, at: &str) -> Value {
    let first = history.changes().next().unwrap();
    first.before().unwrap().get(&path(at)).unwrap()
}

/// Promise: what was too large to be kept is not exact, and nothing else.
#[test]
fn only_what_is_beyond_a_bound_is_not_exact() {
    let tree = Bed::new().open();
    let long = "x".repeat(4 << 10);
    let many = |count: usize| -> Value {
        (0..count).map(|n| (format!("{n:04}"), json!(n))).collect::<serde_json::Map<_, _>>().into()
    };
    // One byte of a stored leaf is its tag.
    set(&tree, "fits", json!(long[1..]));
    set(&tree, "large", json!(long));
    set(&tree, "some", many(256));
    set(&tree, "more", many(257));
    set(&tree, "mixed", json!({"small": 1, "large": long}));
    let since = tree.position().rev;
    for (index, at) in ["fits", "large", "some", "more", "mixed"].iter().enumerate() {
        let rev = set(&tree, at, json!("new"));
        assert_eq!(rev, since + 1 + index as u64);
    }
    set(&tree, "large", json!("newer"));
    // The store has none of it: the journal alone is enough, whatever is in it.
    if tree.stats().unwrap().applied_rev <= since {
        assert!(history(&tree, since).is_exact(since, &|_| true));
    }
    tree.flush().unwrap();
    let all = history(&tree, since);
    let touches = |place: &str| {
        let place = path(place);
        move |key: &[u8]| {
            let key = trellis_tree::Path::from_key(key).unwrap();
            key.covers(&place) || place.covers(&key)
        }
    };
    for (at, is_exact) in [
        ("fits", true),
        ("large", false),
        ("some", true),
        ("some/0001", true),
        ("more", false),
        ("more/0001", false),
        ("mixed", false),
        ("mixed/small", true),
        ("mixed/large", false),
        ("other", true),
    ] {
        assert_eq!(all.is_exact(since, &touches(at)), is_exact, "{at}");
        for later in 0..5 {
            let slow = all.is_exact(since + later, &touches(at));
            assert_eq!(all.is_exact_at(since + later, &path(at)), slow, "{at} {later}");
        }
    }
    assert!(!all.is_exact_at(since, &path("mixed/large/below")), "it lies below what is unknown");
    assert!(!all.is_exact_at(since, &trellis_tree::Path::root()));
    assert!(!all.is_exact_at(since - 1, &path("fits")));
    assert_eq!(before(&all, "fits"), json!(long[1..]));
    assert_eq!(before(&all, "some"), many(256));
    assert_eq!(before(&all, "mixed/small"), json!(1));
    // After the commit of which something is not known, all is known again.
    assert!(!all.is_exact(since + 1, &touches("large")));
    assert!(all.is_exact(since + 2, &touches("large")));
    assert!(all.is_exact(since + 5, &|_| true));
    assert!(!all.is_exact(since - 1, &|_| false), "before the history nothing is known");
}

/// Promise: the images of one commit are bounded, and what fits is known.
#[test]
fn a_commit_keeps_no_more_than_64_kib_of_what_was() {
    let tree = Bed::new().open();
    let value = "x".repeat(1 << 10);
    let sets = |value: &str| {
        let set = |n: usize| Operation::Set {
            path: path(&format!("n/{n:03}")),
            value: input(json!(value)),
            expiry: None,
        };
        Commit::new((0..100).map(set).collect())
    };
    let since = tree.commit(sets(&value)).unwrap().rev;
    tree.commit(sets("new")).unwrap();
    tree.flush().unwrap();
    let known = |n: usize| {
        let place = path(&format!("n/{n:03}"));
        history(&tree, since).is_exact(since, &|key| key == place.key().as_ref())
    };
    let count = (0..100).filter(|n| known(*n)).count();
    // 1,025 bytes each: text and tag.
    assert_eq!(count, (64 << 10) / 1025);
    assert!(known(0) && !known(99));
}

/// Promise: a bound on memory is kept, and what is not there is told.
#[test]
fn a_history_is_bounded_and_says_what_it_cannot_tell() {
    let tree = Bed::new().open();
    for n in 0..50 {
        set(&tree, "a", json!("x".repeat(100 + n)));
    }
    let rev = tree.position().rev;
    assert_eq!(tree.history(0, 5_000).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(tree.history(rev + 1, 1 << 20).unwrap_err().kind(), ErrorKind::InvalidInput);
    let none = tree.history(rev, 5_000_000).unwrap();
    assert_eq!((none.since(), none.through(), none.changes().count()), (rev, rev, 0));
    drop(none);
    let held = tree.history(0, 1 << 20).unwrap();
    assert_eq!(tree.stats().unwrap().views, 0, "a history keeps nothing of the overlay");
    set(&tree, "a", json!("later"));
    tree.flush().unwrap();
    assert_eq!(held.through(), rev);
    let last = held.changes().last().unwrap();
    assert_eq!(last.after().unwrap().get(&path("a")).unwrap(), json!("x".repeat(149)));
    tree.close().unwrap();
    assert_eq!(tree.history(0, 1 << 20).unwrap_err().kind(), ErrorKind::Closed);
}

/// Promise: a rev is known only in the history that made it.
#[test]
fn a_rev_is_known_in_its_own_history_only() {
    let mut bed = Bed::new();
    bed.options.durability.default =
        trellis_tree::DurabilityMode::Interval(Duration::from_secs(3_600));
    let tree = bed.open();
    let first = tree.epoch_token();
    let rev = set(&tree, "a", json!(1));
    assert!(tree.knows(&first, rev) && tree.knows(&first, 0));
    assert!(!tree.knows(&first, rev + 1), "it has not happened yet");
    tree.close().unwrap();
    let tree = bed.open();
    let second = tree.epoch_token();
    assert_ne!(first, second);
    assert!(tree.knows(&first, rev));
    set(&tree, "a", json!(2));
    assert!(!tree.knows(&first, rev + 1), "the first epoch ended before");
    assert!(tree.knows(&second, rev + 1));
    for text in
        ["", ".", "x", "1.", ".1", &first[1..], &format!("{first}0"), "0.99999999999999999999"]
    {
        assert!(!tree.knows(text, 0), "`{text}`");
    }
    let (id, _) = first.split_once('.').unwrap();
    assert!(!tree.knows(&format!("{id}.3"), 0), "an epoch that is not there yet");
    assert!(!tree.knows(&format!("{id}.+1"), 0));
    drop(tree);
    // What was acknowledged and not yet durable is lost with the power, and its revs come again.
    let mut lost = false;
    for round in 0..200 {
        let tree = bed.open();
        let token = tree.epoch_token();
        assert!(tree.knows(&first, rev));
        let last = set(&tree, "a", json!(round));
        bed.log.lose_power();
        bed.kv.lose_power();
        drop(tree);
        let tree = bed.open();
        let kept = tree.position().rev;
        set(&tree, "a", json!("another"));
        set(&tree, "a", json!("more"));
        assert!(tree.knows(&first, rev) && tree.knows(&token, kept));
        assert!(!tree.knows(&token, kept + 1), "the same number, another commit");
        assert!(tree.knows(&tree.epoch_token(), kept + 2));
        // The upkeep may have made it durable just before.
        lost = kept < last;
        if lost {
            break;
        }
    }
    assert!(lost, "nothing was ever lost");
    let other = Bed::new().open();
    set(&other, "a", json!(1));
    assert!(!other.knows(&first, 0), "another history");
}
