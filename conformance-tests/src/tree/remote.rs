//! Commits of other nodes: merged as one, written with their notes, refused before anything
//! changes; and the gate that a caller's own commits pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde_json::json;
use trellis_engine_traits::ErrorKind;
use trellis_runtime::{Runtime, RuntimeOptions, SeededRandom, SimulatedClock};
use trellis_tree::{
    Author, ChangeCause, ChangeEffect, Commit, CommitError, Committed, Endings, Followed, Gate,
    Passage, PendingCommit, RemoteApplied, RemoteCommit, RemoteRule, Scope, StampedChange,
    StampedOp, Tracking, Tree, TreeOptions, UpstreamCommit, Version, Zone, Zoning,
};

use super::follower::{LONG, ROOMY, any_commit};
use super::tools::{
    commit, delete_op, get, input, leaves, path, refused, rev, set, setting, until,
};
use super::{Ground, TreeWorld};
use crate::{Case, Need};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.remote.levels", &["tree.remote.merge"], levels),
    Case::new("tree.remote.again", &["tree.remote.merge"], again),
    Case::new("tree.remote.pages", &["tree.remote.merge"], pages),
    Case::new("tree.remote.notes", &["tree.remote.whole"], notes),
    Case::new("tree.remote.seen_whole", &["tree.remote.whole"], seen_whole),
    Case::new("tree.remote.chained", &["tree.remote.chained"], chained),
    Case::new("tree.remote.reopen", &["tree.remote.whole"], reopen),
    Case::new("tree.remote.loss_of_power", &["tree.remote.whole"], power).needs(&[Need::PowerLoss]),
    Case::new("tree.remote.refused", &["tree.remote.refused"], refusals),
    Case::new("tree.remote.followed", &["tree.follow.complete", "tree.follow.states"], followed),
    Case::new("tree.remote.gate", &["tree.remote.gate"], gate),
];

/// All but system paths is one zone in which everybody writes.
#[derive(Debug)]
struct Shared;

impl Zoning for Shared {
    fn zone(&self, key: &[u8]) -> Zone {
        let own = key.first() == Some(&b'_');
        let tracking = if own { Tracking::None } else { Tracking::Shared };
        let prefix_bytes = if own { key.iter().position(|byte| *byte == 0) } else { Some(0) };
        let prefix_bytes = prefix_bytes.unwrap_or(key.len());
        Zone { id: u32::from(own), prefix_bytes, tracking, endings: Endings::Everywhere }
    }

    fn carved(&self, _key: &[u8]) -> Vec<Bytes> {
        Vec::new()
    }

    fn any_tracked(&self, key: &[u8]) -> bool {
        key.first() != Some(&b'_')
    }
}

fn divided() -> TreeOptions {
    TreeOptions { zoning: Some(Arc::new(Shared)), ..TreeOptions::default() }
}

fn everything() -> Scope {
    Scope { within: vec![Bytes::new()], except: Vec::new() }
}

fn remote(ops: Vec<StampedOp>) -> RemoteCommit {
    let version = ops.iter().map(|op| op.version).max().unwrap_or_default();
    RemoteCommit {
        author: Author { version, via: Vec::new() },
        cause: ChangeCause::Request,
        ops,
        scope: everything(),
        rule: RemoteRule::Merge,
        notes: Vec::new(),
    }
}

fn at(ms: u64) -> Version {
    Version { hlc: ms << 16, origin: 7 }
}

fn op(at_path: &str, version: Version, change: StampedChange) -> StampedOp {
    StampedOp { key: path(at_path).key().clone(), version, change }
}

fn put(at_path: &str, ms: u64, text: &str) -> StampedOp {
    let stored = [b"\x05", text.as_bytes()].concat();
    op(at_path, at(ms), StampedChange::Put(stored.into()))
}

#[track_caller]
fn apply(tree: &Tree, commit: RemoteCommit) -> RemoteApplied {
    tree.apply_remote(commit).expect("it is applied")
}

/// What a tree holds for others: leaves and endings with their versions.
fn shown(tree: &Tree) -> Vec<StampedOp> {
    let page = tree.view().unwrap().stamped_page(&everything(), b"", usize::MAX, usize::MAX);
    let live = |op: &StampedOp| {
        let is_live = matches!(op.change, StampedChange::Put(_) | StampedChange::Ending(Some(_)));
        is_live && op.key.first() != Some(&b'_')
    };
    page.expect("it is read").ops.into_iter().filter(live).collect()
}

/// Three trees write what they like and hand each other their commits, some twice and out of
/// order; when each has all, they hold the same.
fn levels(world: &TreeWorld) {
    let mut rng = world.rng("commits");
    let mut trees = vec![world.engine().tree_with(divided())];
    trees.extend([100, 200].map(another));
    let mut sent = vec![vec![0_u64; trees.len()]; trees.len()];
    for round in 0..6 {
        for (number, tree) in trees.iter().enumerate() {
            for n in 0..6 {
                // What a tree refuses because of what is there is no commit.
                let _refused =
                    tree.commit(any_commit(&mut rng, round * 100 + number as u64 * 10 + n));
            }
        }
        for (from, source) in trees.iter().enumerate() {
            for (to, target) in trees.iter().enumerate().filter(|(to, _)| *to != from) {
                let mut commits = source.read_commits(sent[from][to], usize::MAX).unwrap();
                sent[from][to] = commits.last().map_or(sent[from][to], |last| last.position.rev);
                let again: Vec<_> = commits.iter().filter(|_| rng.one_in(3)).cloned().collect();
                commits.extend(again);
                for at in (1..commits.len()).rev() {
                    commits.swap(at, rng.below(at + 1));
                }
                for logged in commits.into_iter().filter(|commit| !commit.ops.is_empty()) {
                    let (author, cause) = (logged.author, logged.cause);
                    apply(target, RemoteCommit { author, cause, ..remote(logged.ops) });
                }
            }
        }
    }
    // Two more rounds of what was applied last, without writers.
    for _ in 0..2 {
        for (from, source) in trees.iter().enumerate() {
            for (to, target) in trees.iter().enumerate().filter(|(to, _)| *to != from) {
                for logged in source.read_commits(sent[from][to], usize::MAX).unwrap() {
                    sent[from][to] = logged.position.rev;
                    let (author, cause) = (logged.author, logged.cause);
                    apply(target, RemoteCommit { author, cause, ..remote(logged.ops) });
                }
            }
        }
    }
    let first = shown(&trees[0]);
    assert!(!first.is_empty(), "something is there");
    for tree in &trees[1..] {
        assert_eq!(shown(tree), first);
        assert_eq!(leaves(tree, ""), leaves(&trees[0], ""));
    }
    for tree in &trees[1..] {
        tree.close().unwrap();
    }
}

/// A tree in memory that is another node: with chance of its own it has another id.
fn another(chance: u64) -> Tree {
    let clock = Arc::new(SimulatedClock::at(1_700_000_000_000));
    let random = Arc::new(SeededRandom::new(chance));
    let runtime = Runtime::new(RuntimeOptions { clock, random, ..RuntimeOptions::default() });
    Ground::in_memory().open_on(runtime, divided()).expect("the tree opens")
}

fn again(world: &TreeWorld) {
    let tree = world.engine().tree_with(divided());
    let ops = vec![
        op("a", at(5), StampedChange::Clear),
        put("a/x", 5, "one"),
        put("a/y", 4, "hidden"),
        op("b", at(3), StampedChange::Tomb),
    ];
    let first = apply(&tree, remote(ops.clone()));
    assert_eq!((first.applied, first.lost, first.rev), (3, 1, rev(&tree)));
    let second = apply(&tree, remote(ops));
    assert_eq!((second.applied, second.known, second.rev), (0, 3, first.rev), "nothing is logged");
    assert_eq!(get(&tree, ""), json!({"a": {"x": "one"}}));
    // What is written here next is newer than all that was seen.
    set(&tree, "a/x", json!("mine"));
    assert_eq!(apply(&tree, remote(vec![put("a/x", 5, "late")])).lost, 1);
    assert_eq!(get(&tree, "a/x"), json!("mine"));
}

/// A page takes the place of whatever an interval holds; one filled in keeps what is new here.
fn pages(world: &TreeWorld) {
    let tree = world.engine().tree_with(divided());
    for n in 0..700 {
        set(&tree, &format!("users/{n:03}/name"), json!(n));
    }
    set(&tree, "other", json!(1));
    let known_rev = rev(&tree);
    let scope = Scope { within: vec![path("users").key().clone()], except: Vec::new() };
    let until = Some(path("users/600").key().clone());
    let ops = vec![put("users/005/name", 9, "five"), put("users/100", 9, "a leaf")];
    let rule = RemoteRule::Replace { from: Bytes::new(), until };
    let page = RemoteCommit { scope: scope.clone(), rule, ..remote(ops) };
    let applied = apply(&tree, page.clone());
    assert_eq!(applied.applied, 2);
    let users = tree.view().unwrap().children(&path("users"), None, 1000, None).unwrap();
    assert_eq!(users.items.len(), 102, "what the page does not name went");
    assert_eq!(get(&tree, "users/100"), json!("a leaf"));
    assert_eq!(get(&tree, "other"), json!(1));
    assert_eq!(apply(&tree, page).rev, applied.rev, "the same page changes nothing");
    let since = set(&tree, "users/650/new", json!(true));
    let rule = RemoteRule::Fill { from: path("users/600").key().clone(), until: None, known_rev };
    let ops = vec![put("users/601/name", u64::from(u16::MAX), "older than what is here")];
    apply(&tree, RemoteCommit { scope, rule, ..remote(ops) });
    assert!(since > known_rev);
    let kept = json!({"601": {"name": 601}, "650": {"new": true}});
    let mut left = get(&tree, "users");
    left.as_object_mut().unwrap().retain(|key, _| key.as_str() >= "600");
    assert_eq!(left, kept, "what the source knew and has no more went");
}

fn notes(world: &TreeWorld) {
    let tree = world.engine().tree_with(divided());
    let note = |n: u64| vec![(path("_repl/feeds/f"), input(json!({"rev": n, "done": false})))];
    let begin = rev(&tree);
    let with = |ops: Vec<StampedOp>, n: u64| RemoteCommit { notes: note(n), ..remote(ops) };
    assert_eq!(apply(&tree, with(vec![put("a", 1, "x")], 1)).rev, begin + 1, "one commit");
    assert_eq!(get(&tree, "_repl/feeds/f"), json!({"rev": 1, "done": false}));
    assert_eq!(apply(&tree, with(vec![put("a", 1, "x")], 1)).rev, begin + 1, "nothing is new");
    assert_eq!(apply(&tree, with(vec![put("a", 1, "x")], 2)).rev, begin + 2, "the note is");
    assert_eq!(get(&tree, "_repl/feeds/f"), json!({"rev": 2, "done": false}));
    let told = tree.read_commits(begin + 1, usize::MAX).unwrap();
    assert!(told[0].ops.is_empty(), "notes are nobody else's business");
}

fn seen_whole(world: &TreeWorld) {
    let tree = world.engine().tree_with(divided());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            // Once at least, however late it has its turn.
            loop {
                let is_last = done.load(Ordering::Acquire);
                let view = tree.view().expect("a view");
                let one = view.get(&path("pair/one")).expect("it is read");
                assert_eq!(one, view.get(&path("deep/pair/two")).expect("it is read"));
                assert_eq!(one, view.get(&path("_repl/feeds/f")).expect("it is read"));
                if is_last {
                    break;
                }
            }
        });
        let pending: Vec<_> = (1..200)
            .map(|n: u64| {
                let text = n.to_string();
                let ops = vec![put("pair/one", n, &text), put("deep/pair/two", n, &text)];
                let notes = vec![(path("_repl/feeds/f"), input(json!(text)))];
                RemoteCommit { notes, ..remote(ops) }
            })
            .collect();
        let pending = tree.submit_remotes(pending);
        let revs: Vec<u64> = pending.into_iter().map(|one| one.wait().unwrap().rev).collect();
        assert!(revs.is_sorted(), "they are applied in the order of submission");
        done.store(true, Ordering::Release);
        reader.join().expect("the reader sees each whole");
    });
    assert_eq!(get(&tree, "pair/one"), json!("199"));
}

/// Behind one that is refused nothing is applied: the note says no more than what is there.
fn chained(world: &TreeWorld) {
    let tree = world.engine().tree_with(divided());
    let with = |n: u64, stored: &'static [u8]| {
        let change = StampedChange::Put(Bytes::from_static(stored));
        let ops = vec![op(&format!("a/{n}"), at(n), change)];
        RemoteCommit { notes: vec![(path("_repl/feeds/f"), input(json!(n)))], ..remote(ops) }
    };
    let good = b"\x05x";
    let commits = vec![with(1, good), with(2, good), with(3, b"\x09"), with(4, good)];
    let mut outcomes: Vec<_> =
        tree.submit_remotes(commits).into_iter().map(trellis_tree::PendingRemote::wait).collect();
    refused(outcomes.remove(3), ErrorKind::Unavailable, "what is behind it");
    refused(outcomes.remove(2), ErrorKind::Corrupt, "no leaf");
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(get(&tree, "a"), json!({"1": "x", "2": "x"}));
    assert_eq!(get(&tree, "_repl/feeds/f"), json!(2), "what is behind it is still to come");
    let again = tree.submit_remotes(vec![with(3, good), with(4, good)]);
    assert!(again.into_iter().all(|one| one.wait().is_ok()), "another try is another try");
    assert_eq!(get(&tree, "_repl/feeds/f"), json!(4));
}

/// Commits of others and own ones, clears among them.
fn write_some(tree: &Tree, round: u64) {
    for n in 0..40 {
        let ms = round * 100 + n;
        set(tree, &format!("own/{}", n % 7), json!({"n": n, "of": round}));
        let notes = vec![(path("_repl/feeds/f"), input(json!(ms)))];
        let ops = match n % 5 {
            0 => vec![op(&format!("theirs/{}", n % 10), at(ms), StampedChange::Clear)],
            1 => vec![op(&format!("theirs/{n}/x"), at(ms), StampedChange::Tomb)],
            _ => {
                vec![put(&format!("theirs/{n}/x"), ms, "x"), put(&format!("theirs/{n}/y"), ms, "y")]
            }
        };
        apply(tree, RemoteCommit { notes, ..remote(ops) });
        if n % 13 == 0 {
            commit(tree, Commit::new(vec![delete_op(&format!("own/{}", n % 3))]));
        }
    }
}

fn reopen(world: &TreeWorld) {
    let ground = world.engine();
    let mut tree = ground.tree_with(divided());
    for round in 1..4 {
        write_some(&tree, round);
        if round == 2 {
            tree.flush().unwrap();
        }
        let before = (rev(&tree), get(&tree, "_repl"), shown(&tree));
        drop(tree);
        tree = ground.reopen_with(divided());
        assert_eq!((rev(&tree), get(&tree, "_repl"), shown(&tree)), before);
    }
}

fn power(world: &TreeWorld) {
    let ground = world.engine();
    let mut tree = ground.tree_with(divided());
    for round in 1..4 {
        write_some(&tree, round);
        let before = (rev(&tree), get(&tree, "_repl"), shown(&tree));
        tree = super::reopen::cut(world, &ground, divided());
        assert_eq!((rev(&tree), get(&tree, "_repl"), shown(&tree)), before);
    }
}

fn refusals(world: &TreeWorld) {
    let tree = world.engine().tree_with(divided());
    set(&tree, "a", json!(1));
    let before = (rev(&tree), leaves(&tree, ""));
    let bad = |key: &[u8], stored: &[u8]| {
        let (key, stored) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(stored));
        let bad = StampedOp { key, version: at(9), change: StampedChange::Put(stored) };
        remote(vec![put("a", 9, "good"), bad])
    };
    let invalid = [
        ("the root", bad(b"", b"\x01")),
        ("an empty segment", bad(b"a\0\0b", b"\x01")),
        ("a key that is no UTF-8", bad(b"\xff", b"\x01")),
        ("a version of tomorrow", remote(vec![put("a", 1 << 46, "x")])),
        ("too many relays", {
            let author = Author { version: at(9), via: vec![1; 9] };
            RemoteCommit { author, ..remote(vec![put("a", 9, "x")]) }
        }),
        ("a note where all may write", {
            let notes = vec![(path("a"), input(json!(1)))];
            RemoteCommit { notes, ..remote(vec![put("a", 9, "x")]) }
        }),
    ];
    for (what, commit) in invalid {
        refused(tree.apply_remote(commit), ErrorKind::InvalidInput, what);
    }
    refused(tree.apply_remote(bad(b"b", b"\x09")), ErrorKind::Corrupt, "no leaf");
    let long = vec![b'x'; (16 << 20) + 1];
    refused(
        tree.apply_remote(bad(b"b", &[b"\x05", &long[..]].concat())),
        ErrorKind::TooLarge,
        "a leaf",
    );
    assert_eq!((rev(&tree), leaves(&tree, "")), before, "nothing changed");
    let outside = remote(vec![put("_auth/x", 9, "x")]);
    assert_eq!(apply(&tree, outside).clipped, 1, "system paths are left alone");
    let plain = Ground::in_memory();
    let refusal = plain.tree().apply_remote(remote(vec![put("a", 9, "x")]));
    refused(refusal, ErrorKind::Unsupported, "a remote commit without zones");
    plain.close().unwrap();
}

fn followed(world: &TreeWorld) {
    let tree = world.engine().tree_with(divided());
    set(&tree, "a/x", json!("old"));
    let mut follower = tree.follow(ROOMY).unwrap();
    let cause = ChangeCause::Ttl;
    let ops = vec![put("a/x", 1_700_000_100_000, "new"), op("c", at(5), StampedChange::Tomb)];
    let applied = apply(&tree, RemoteCommit { cause, ..remote(ops) });
    let Followed::Changes(changes) = follower.next(LONG).unwrap() else {
        panic!("the follower is told");
    };
    let change = &changes[0];
    assert_eq!((change.rev(), change.cause()), (applied.rev, cause));
    let put = ChangeEffect::Put(b"a\0x", b"\x05new");
    assert!(change.effects().any(|effect| effect == put));
    assert_eq!(change.before().unwrap().get(&path("a")).unwrap(), json!({"x": "old"}));
    assert_eq!(change.after().unwrap().get(&path("a")).unwrap(), json!({"x": "new"}));
    drop((changes, follower));
    until("nothing is held any more", || tree.stats().unwrap().views == 0);
}

/// Lets nobody in below `closed`, and answers for `away` itself.
#[derive(Debug)]
struct Door;

impl Gate for Door {
    fn pass(&self, commit: Commit) -> Passage {
        let touches = |name: &str| format!("{commit:?}").contains(name);
        if touches("closed") {
            let error = trellis_engine_traits::Error::new(ErrorKind::Denied, "not here");
            return Passage::Refused(CommitError::from(error));
        }
        if !touches("away") {
            return Passage::Here(commit);
        }
        let (pending, sender) = PendingCommit::channel();
        let upstream = UpstreamCommit { log_id: "0".repeat(32), rev: 77, applied: false };
        sender.send(Ok(Committed { upstream: Some(upstream), ..Committed::default() }));
        Passage::Elsewhere(pending)
    }

    fn check_here(&self, commit: &Commit) -> Result<(), CommitError> {
        match self.pass(commit.clone()) {
            Passage::Here(_) => Ok(()),
            Passage::Refused(error) => Err(error),
            Passage::Elsewhere(_) => {
                let message = "only elsewhere";
                Err(trellis_engine_traits::Error::new(ErrorKind::Denied, message).into())
            }
        }
    }
}

fn gate(world: &TreeWorld) {
    let tree = world.engine().tree_with(divided());
    set(&tree, "closed", json!(1));
    tree.set_gate(Arc::new(Door)).unwrap();
    refused(tree.set_gate(Arc::new(Door)), ErrorKind::AlreadyExists, "a second gate");
    let before = rev(&tree);
    for answer in
        [tree.commit(setting("away", json!(1))), tree.submit(setting("away", json!(1))).wait()]
    {
        assert_eq!(answer.unwrap().upstream.map(|upstream| upstream.rev), Some(77));
    }
    refused(tree.commit(setting("closed", json!(2))), ErrorKind::Denied, "what is closed");
    refused(tree.submit(setting("closed", json!(2))).wait(), ErrorKind::Denied, "what is closed");
    assert_eq!((rev(&tree), get(&tree, "closed")), (before, json!(1)), "nothing changed here");
    for path in ["away", "closed"] {
        let kept = tree.check_operation(&setting(path, json!(2)).operations[0]);
        assert_eq!(kept.unwrap_err().kind(), ErrorKind::Denied, "kept for later: {path}");
    }
    tree.check_operation(&setting("open", json!(1)).operations[0]).unwrap();
    set(&tree, "open", json!(1));
    commit(&tree, Commit { system: true, ..setting("closed", json!(2)) });
    assert_eq!(get(&tree, ""), json!({"closed": 2, "open": 1}), "services pass");
}
