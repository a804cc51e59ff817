//! History: what a follower saw, told again from the journal.

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_tree::{DurabilityMode, DurabilityPolicy, Tree, TreeOptions};

use super::follow::commit_if_it_can;
use super::follower::{ROOMY, Watched, any_commit};
use super::tools::{path, refused, rev, set, small_overlay, until};
use super::{Ground, TreeWorld};
use crate::{Case, Flag, Need};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.history.as_followed", &["tree.history.exact"], as_followed),
    Case::new("tree.history.bounds_of_exactness", &["tree.history.exact"], bounds),
    Case::new("tree.history.trimmed", &["tree.history.reach"], trimmed),
    Case::new("tree.history.known", &["tree.history.known"], known),
    Case::new("tree.history.power", &["tree.history.known", "tree.history.exact"], power)
        .needs(&[Need::PowerLoss]),
];

/// Wherever the store stands, and however often the tree was closed.
fn as_followed(world: &TreeWorld) {
    let ground = world.engine();
    let mut rng = world.rng("commits");
    let mut tree = ground.tree_with(small_overlay());
    let (mut watched, mut follower) = Watched::begin(&tree);
    for n in 0..300 {
        commit_if_it_can(&tree, any_commit(&mut rng, n));
        if rng.one_in(40) {
            tree.flush().unwrap();
        }
        if rng.one_in(50) {
            ground.clock().advance_ms(1_500);
            tree.settle().unwrap();
        }
        if rng.one_in(100) {
            watched.through(&mut follower, rev(&tree));
            drop((tree, follower));
            tree = ground.reopen_with(small_overlay());
            follower = tree.follow(ROOMY).unwrap();
        }
        if rng.one_in(30) {
            let since = rev(&tree).saturating_sub(rng.below(80) as u64);
            let history = tree.history(since, ROOMY).unwrap();
            watched.through(&mut follower, history.through());
            watched.equals(&history);
            assert!(history.is_exact(since, &|_| true), "nothing here is beyond a bound");
        }
    }
    let history = tree.history(0, ROOMY).unwrap();
    watched.through(&mut follower, history.through());
    watched.equals(&history);
    assert_eq!(tree.stats().unwrap().views, 0, "a history holds nothing of the overlay");
}

fn many(count: usize) -> Value {
    (0..count).map(|n| (format!("{n:04}"), json!(n))).collect::<serde_json::Map<_, _>>().into()
}

/// What was there before a commit is kept up to 4 KiB a leaf and 256 leaves below cleared paths.
fn bounds(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let long = "x".repeat(4 << 10);
    set(&tree, "fits", json!(long[1..]));
    set(&tree, "large", json!(long));
    set(&tree, "some", many(256));
    set(&tree, "more", many(257));
    let (mut watched, mut follower) = Watched::begin(&tree);
    let since = rev(&tree);
    for at in ["fits", "large", "some", "more"] {
        set(&tree, at, json!({"new": 1}));
    }
    tree.flush().unwrap();
    watched.through(&mut follower, rev(&tree));
    drop((tree, follower));
    let tree = ground.reopen();
    let history = tree.history(since, ROOMY).unwrap();
    for (at, is_exact) in [
        ("fits", true),
        ("large", false),
        ("some/0003", true),
        ("more", false),
        ("more/0003", false),
        ("other", true),
    ] {
        let place = path(at);
        let touches = |key: &[u8]| {
            let key = trellis_tree::Path::from_key(key).unwrap();
            key.covers(&place) || place.covers(&key)
        };
        assert_eq!(history.is_exact(since, &touches), is_exact, "{at}");
        if is_exact {
            for change in history.changes() {
                let expected = watched.state(change.rev() - 1).get(place.key().as_ref());
                let found = change.before().unwrap().leaf(&place).unwrap();
                assert_eq!(found.map(|leaf| leaf.encode().to_vec()).as_ref(), expected, "{at}");
            }
        }
    }
    assert!(history.is_exact(rev(&tree), &|_| true));
}

/// Journal that is gone is told as gone, and what is left is exact.
fn trimmed(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree_with(TreeOptions { journal_retain_bytes: 0, ..small_overlay() });
    let (mut watched, mut follower) = Watched::begin(&tree);
    for n in 0..150_u64 {
        set(&tree, &format!("a/{}", n % 13), json!({"n": n, "text": "x".repeat(300)}));
        if n % 30 == 29 {
            tree.flush().unwrap();
        }
    }
    watched.through(&mut follower, rev(&tree));
    let mut history = None;
    until("what the journal has is there", || {
        let first = tree.stats().unwrap().journal_first_rev;
        history = tree.history(first - 1, ROOMY).ok();
        history.is_some()
    });
    let history = history.unwrap();
    watched.equals(&history);
    assert!(history.is_exact(history.since(), &|_| true));
    if history.since() > 0 {
        let before = tree.history(history.since() - 1, ROOMY);
        refused(before, ErrorKind::NotFound, "what was trimmed");
    }
    refused(tree.history(rev(&tree) + 1, ROOMY), ErrorKind::InvalidInput, "what is not there yet");
    if history.through() > history.since() {
        refused(tree.history(history.since(), 10), ErrorKind::TooLarge, "more than one may read");
    }
}

fn known(world: &TreeWorld) {
    let ground = world.engine();
    let mut tree = ground.tree();
    let mut tokens = Vec::new();
    for round in 0..5_u64 {
        let last = set(&tree, "a", json!(round));
        tokens.push((tree.epoch_token(), last));
        for (token, last) in &tokens {
            assert!(tree.knows(token, *last) && tree.knows(token, 0));
            assert!(!tree.knows(token, *last + 1), "{token} ended, or has not come so far");
        }
        drop(tree);
        tree = ground.reopen();
    }
    let (token, last) = tokens[0].clone();
    let (id, _) = token.split_once('.').expect("an id and an epoch");
    for wrong in ["", ".", "1.1", &format!("{id}."), &format!("{id}.99"), &format!("{id}.x")] {
        assert!(!tree.knows(wrong, 0), "`{wrong}`");
    }
    // A copy goes on from the same rev, by itself.
    let archive = super::copies::full(&tree, &ground.runtime());
    let copy = std::sync::Arc::new(Ground::in_memory());
    super::seeds::restore(&copy, &[&archive]).expect("it is restored");
    let copied = copy.tree();
    assert!(rev(&copied) >= last && !copied.knows(&token, last));
    drop(copied);
    copy.close().unwrap();
}

fn cut(world: &TreeWorld, ground: &Ground, options: &TreeOptions) -> Tree {
    world.throw(Flag::LosePower);
    // Its engines are gone: how it closes says nothing.
    drop(ground.close());
    ground.tree_with(options.clone())
}

/// With an interval of durability what was followed may be lost with the power: its revs are given
/// anew, and nobody takes the new ones for the old.
fn power(world: &TreeWorld) {
    let ground = world.engine();
    let interval = DurabilityMode::Interval(std::time::Duration::from_secs(3_600));
    let durability = DurabilityPolicy { default: interval, ..DurabilityPolicy::default() };
    let options = TreeOptions { durability, ..TreeOptions::default() };
    let mut tree = ground.tree_with(options.clone());
    for round in 0..6 {
        let (mut watched, mut follower) = Watched::begin(&tree);
        let (token, since) = (tree.epoch_token(), rev(&tree));
        for n in 0..20 {
            set(&tree, &format!("a/{}", n % 3), json!({"n": n, "round": round}));
            if n == 7 {
                tree.flush().unwrap();
            }
        }
        watched.through(&mut follower, since + 20);
        drop((tree, follower));
        tree = cut(world, &ground, &options);
        let kept = rev(&tree);
        assert!((since + 8..=since + 20).contains(&kept), "what was applied is there");
        let history = tree.history(since, ROOMY).unwrap();
        watched.equals(&history);
        assert!(history.is_exact(since, &|_| true));
        set(&tree, "other", json!(round));
        assert!(tree.knows(&token, kept) && !tree.knows(&token, kept + 1));
    }
}
