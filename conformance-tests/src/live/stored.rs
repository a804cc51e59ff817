//! Writes for the end of a lease: stored, replaced, refused, and what they come to.

use std::sync::Arc;

use serde_json::json;
use trellis_engine_traits::{Error, ErrorKind};
use trellis_presence::{LeaseWrite, Stored};
use trellis_tree::{Commit, CommitError, Gate, Limits, Passage, TreeOptions};

use super::tools::{
    assert_gone, cancelling, counting, gone, restarted, setting_at, start, updating,
};
use crate::Case;
use crate::tree::TreeWorld;
use crate::tree::tools::{exists, get, path, refused, rev, set, until};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("presence.end.one_commit", &["presence.end.once"], one_commit),
    Case::new("presence.end.drops_one_runs_the_rest", &["presence.end.rest"], drops_one),
    Case::new("presence.store.replaced_and_cancelled", &["presence.store.replace"], replaced),
    Case::new("presence.store.transforms", &["presence.store.unresolved"], transforms),
    Case::new("presence.store.limits", &["presence.limits.exact"], limits),
    Case::new("presence.store.refused", &["presence.store.durable"], refused_writes),
];

fn one_commit(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    set(&tree, "list/a", json!({"x": 1}));
    let hold = presence.hold().unwrap();
    for write in [
        setting_at("list/b", json!({"y": [1, 2.5, null], "z": {".bytes": "AAEC"}})),
        LeaseWrite::Delete { path: path("list/a") },
        updating(&[("list/b/z", json!("later")), ("n", json!({".sv": {"increment": 2}}))]),
    ] {
        hold.store(write).wait().unwrap();
    }
    let before = rev(&tree);
    let ended = hold.end().wait().unwrap();
    assert_eq!((ended.rev, rev(&tree)), (before + 1, before + 1), "one commit");
    assert_eq!(ended.writes_run, 4);
    let whole = json!({"list": {"b": {"y": [1, 2.5, null], "z": "later"}}, "n": 2});
    assert_eq!(get(&tree, ""), whole, "in the order in which they were stored");
    assert_gone(&presence, &tree);
    presence.close();
    assert_eq!(get(&ground.reopen(), ""), whole);
}

/// Another node writes `theirs`.
#[derive(Debug)]
struct Theirs;

impl Gate for Theirs {
    fn pass(&self, commit: Commit) -> Passage {
        match self.check_here(&commit) {
            Ok(()) => Passage::Here(commit),
            Err(error) => Passage::Refused(error),
        }
    }

    fn check_here(&self, commit: &Commit) -> Result<(), CommitError> {
        if format!("{commit:?}").contains("theirs") {
            return Err(Error::new(ErrorKind::Denied, "another node writes it").into());
        }
        Ok(())
    }
}

fn drops_one(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let hold = presence.hold().unwrap();
    for write in [
        counting("first"),
        setting_at("list/0/x", json!(1)),
        updating(&[("fine", json!(1)), ("much", json!({".sv": {"multiply": 1e300}}))]),
        counting("last"),
    ] {
        hold.store(write).wait().unwrap();
    }
    // By now they cannot be applied.
    set(&tree, "list", json!([1, 2]));
    set(&tree, "much", json!(1e300));
    let ended = hold.end().wait().unwrap();
    assert_eq!(ended.writes_run, 2);
    assert_eq!(get(&tree, ""), json!({"first": 1, "last": 1, "list": [1, 2], "much": 1e300}));
    assert_eq!((presence.stats().writes_run, presence.stats().writes_dropped), (2, 3));
    // Nothing of it can be applied: the lease ends all the same.
    let hold = presence.hold().unwrap();
    hold.store(setting_at("list/1/x", json!(1))).wait().unwrap();
    assert_eq!(hold.end().wait().unwrap().writes_run, 0);
    assert_eq!(presence.stats().writes_dropped, 4);
    // Another node has come to own the path.
    let hold = presence.hold().unwrap();
    hold.store(counting("theirs")).wait().unwrap();
    hold.store(counting("first")).wait().unwrap();
    tree.set_gate(Arc::new(Theirs)).unwrap();
    assert_eq!(hold.end().wait().unwrap().writes_run, 1);
    assert_eq!((get(&tree, "first"), exists(&tree, "theirs")), (json!(2), false));
    assert_eq!(presence.stats().writes_dropped, 5);
    let hold = presence.hold().unwrap();
    refused(hold.store(counting("theirs")).wait(), ErrorKind::Denied, "of another node");
    hold.end().wait().ok();
    assert_gone(&presence, &tree);
    presence.close();
}

fn replaced(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let hold = presence.hold().unwrap();
    let store = |write| hold.store(write).wait().unwrap().writes;
    // The same request twice, as after a lost answer, is stored once.
    assert_eq!((store(counting("a/n")), store(counting("a/n"))), (1, 1));
    assert_eq!(store(updating(&[("a/m", json!(1)), ("b/x", json!(1)), ("c", json!(1))])), 4);
    assert_eq!(store(setting_at("a", json!({"k": 1}))), 3, "what is below is replaced");
    assert_eq!(store(setting_at("a/later", json!(2))), 4, "what is above is not");
    assert_eq!(store(cancelling("b")), 3, "at and below");
    assert_eq!(store(cancelling("c/below")), 3, "not above");
    assert_eq!(store(cancelling("cc")), 3, "no neighbour");
    hold.end().wait().unwrap();
    assert_eq!(get(&tree, ""), json!({"a": {"k": 1, "later": 2}, "c": 1}));
    let hold = presence.hold().unwrap();
    hold.store(counting("n")).wait().unwrap();
    hold.store(updating(&[("x", json!(1)), ("y", json!(1))])).wait().unwrap();
    let Stored { writes, bytes, .. } = hold.store(cancelling("")).wait().unwrap();
    assert_eq!((writes, bytes), (0, 0));
    assert_eq!(hold.end().wait().unwrap().writes_run, 0);
    assert!(!exists(&tree, "n"));
    assert_gone(&presence, &tree);
    presence.close();
}

fn transforms(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let hold = presence.hold().unwrap();
    let value = json!({"at": {".sv": "timestamp"}, "n": {".sv": {"increment": 5}}, "..sv": 1});
    hold.store(updating(&[("s", value)])).wait().unwrap();
    hold.store(setting_at("total", json!({".sv": {"increment": 1}}))).wait().unwrap();
    set(&tree, "total", json!(41));
    ground.clock().advance_ms(30_000);
    drop((hold, tree));
    let (tree, presence) = restarted(&ground, &presence, 1_000);
    ground.clock().advance_ms(60_000);
    until("it ends", || gone(&presence));
    let s = get(&tree, "s");
    assert_eq!(s["at"], json!(1_700_000_000_000_u64 + 91_000), "the time of running");
    assert_eq!((&s["n"], &s["..sv"]), (&json!(5), &json!(1)));
    assert_eq!(get(&tree, "total"), json!(42), "what was there when it ran");
    assert_gone(&presence, &tree);
    presence.close();
}

fn limits(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let presence = start(&ground, &tree);
    let hold = presence.hold().unwrap();
    let many: Vec<_> = (0..99).map(|n| format!("many/{n}")).collect();
    let updates: Vec<_> = many.iter().map(|at| (at.as_str(), json!(1))).collect();
    assert_eq!(hold.store(updating(&updates)).wait().unwrap().writes, 99);
    assert_eq!(hold.store(counting("n")).wait().unwrap().writes, 100);
    refused(hold.store(counting("m")).wait(), ErrorKind::TooLarge, "one write more");
    assert_eq!(hold.store(counting("n")).wait().unwrap().writes, 100, "replacing is none more");
    assert_eq!(hold.store(cancelling("many")).wait().unwrap().writes, 1);
    let empty = hold.store(setting_at("text", json!(""))).wait().unwrap().bytes;
    let most = "x".repeat((64 << 10) - empty);
    let over = setting_at("text", json!(format!("{most}x")));
    refused(hold.store(over).wait(), ErrorKind::TooLarge, "one byte more");
    let huge = setting_at("text", json!("x".repeat(1 << 20)));
    refused(hold.store(huge).wait(), ErrorKind::TooLarge, "much more");
    let full = hold.store(setting_at("text", json!(most))).wait().unwrap();
    assert_eq!((full.writes, full.bytes), (2, 64 << 10));
    refused(hold.store(counting("m")).wait(), ErrorKind::TooLarge, "no byte is left");
    assert_eq!(hold.end().wait().unwrap().writes_run, 2);
    assert_eq!(get(&tree, "text").as_str().map(str::len), Some(most.len()));
    assert_gone(&presence, &tree);
    presence.close();
}

fn refused_writes(world: &TreeWorld) {
    let ground = world.engine();
    let limits = Limits { leaf_bytes_max: 100, ..Limits::default() };
    let tree = ground.tree_with(TreeOptions { limits, ..TreeOptions::default() });
    let presence = start(&ground, &tree);
    let hold = presence.hold().unwrap();
    let mut deep = json!(1);
    for _ in 0..63 {
        deep = json!({"d": deep});
    }
    for (write, kind) in [
        (setting_at("_leases/x", json!(1)), ErrorKind::Denied),
        (LeaseWrite::Delete { path: path("_auth") }, ErrorKind::Denied),
        (updating(&[("a", json!(1)), ("_a", json!(1))]), ErrorKind::Denied),
        (setting_at("", json!(1)), ErrorKind::InvalidInput),
        (LeaseWrite::Delete { path: path("") }, ErrorKind::InvalidInput),
        (updating(&[]), ErrorKind::InvalidInput),
        (updating(&[("a", json!(1)), ("a/b", json!(1))]), ErrorKind::InvalidInput),
        (setting_at("a", json!({".sv": "nonsense"})), ErrorKind::InvalidInput),
        (setting_at("a", json!({"x/y": 1})), ErrorKind::InvalidInput),
        (setting_at("a", json!("x".repeat(101))), ErrorKind::TooLarge),
        (setting_at("a", json!({"b": {"c": "x".repeat(101)}})), ErrorKind::TooLarge),
        (setting_at("a/b/c", deep), ErrorKind::TooLarge),
    ] {
        let what = format!("{write:?}");
        refused(hold.store(write).wait(), kind, &what);
    }
    assert_eq!(rev(&tree), 0, "nothing was stored");
    // It is stored as text, which has to be a leaf, too.
    let fits = hold.store(setting_at("a", json!("x".repeat(50)))).wait().unwrap();
    assert_eq!((fits.rev, fits.writes), (1, 1));
    drop((hold, tree));
    let (tree, presence) = restarted(&ground, &presence, 0);
    assert_eq!(presence.stats().writes, 1, "what was acknowledged is durable");
    ground.clock().advance_ms(45_000);
    until("it ends", || gone(&presence));
    assert_eq!(get(&tree, "a").as_str().map(str::len), Some(50));
    assert_gone(&presence, &tree);
    presence.close();
}
