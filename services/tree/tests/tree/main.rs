//! Promises of the tree on the memory engines; the conformance suite holds every combination to
//! them.
#![allow(clippy::disallowed_methods, reason = "tests start threads and draw seeds")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails may panic"
)]

mod conditions;
mod drafts;
mod follow;
mod history;
mod indexes;
mod reverse;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_kv_memory::{MemoryDisk as KvDisk, MemoryKv};
use trellis_log_memory::{MemoryDisk as LogDisk, MemoryLog};
use trellis_runtime::{Random, Runtime, RuntimeOptions, SeededRandom, SimulatedClock};
use trellis_tree::{
    Check, Commit, Condition, Expiry, Input, Operation, Path, Tree, TreeOptions, View,
};

struct Bed {
    kv: KvDisk,
    log: LogDisk,
    clock: Arc<SimulatedClock>,
    options: TreeOptions,
}

impl Bed {
    fn new() -> Self {
        let clock = Arc::new(SimulatedClock::at(1_700_000_000_000));
        Self { kv: KvDisk::new(), log: LogDisk::new(), clock, options: TreeOptions::default() }
    }

    fn open(&self) -> Tree {
        let clock = Arc::clone(&self.clock);
        let runtime = Runtime::new(RuntimeOptions { clock, ..RuntimeOptions::default() });
        let kv = Arc::new(MemoryKv::on(&self.kv).unwrap());
        let log = Arc::new(MemoryLog::on(&self.log).unwrap());
        Tree::open(kv, log, runtime, self.options.clone()).unwrap()
    }
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn input(value: Value) -> Input {
    Input::from_json(value).unwrap()
}

fn set(tree: &Tree, at: &str, value: Value) -> u64 {
    tree.commit(Commit::set(path(at), input(value))).unwrap().rev
}

fn get(tree: &Tree, at: &str) -> Value {
    tree.view().unwrap().get(&path(at)).unwrap()
}

#[test]
fn values_read_back_exactly() {
    let tree = Bed::new().open();
    let value = json!({
        "b": true, "i": i64::MIN, "f": 1.5, "s": "\u{1F600} \"\\\n", "e": {},
        "a": [1, null, [], {"x": {}}],
        "..sv": "escaped", "n": {"deep": {"er": "v"}}, "x!": 1, "x": {"y": 2}, "x0": 3,
        "bytes": {".bytes": "AAEC"},
    });
    set(&tree, "v", value.clone());
    for _ in 0..2 {
        assert_eq!(get(&tree, "v"), value);
        assert_eq!(get(&tree, "v/a/0"), json!(1));
        assert_eq!(get(&tree, "v/a/3/x"), json!({}));
        assert_eq!(get(&tree, "v/.sv"), json!("escaped"));
        tree.flush().unwrap();
    }
}

#[test]
fn null_is_absence_and_objects_vanish_with_their_last_child() {
    let tree = Bed::new().open();
    set(&tree, "a", json!({"b": {"c": 1, "d": null}}));
    assert_eq!(get(&tree, "a"), json!({"b": {"c": 1}}));
    set(&tree, "a/b/c", json!(null));
    assert_eq!(get(&tree, "a"), Value::Null);
    assert!(!tree.view().unwrap().exists(&path("a")).unwrap());
    set(&tree, "a", json!({}));
    assert_eq!(get(&tree, "a"), json!({}));
    set(&tree, "a/x", json!(1));
    assert_eq!(get(&tree, "a"), json!({"x": 1}));
    set(&tree, "a/x/y", json!(2));
    assert_eq!(get(&tree, "a"), json!({"x": {"y": 2}}));
    set(&tree, "arr", json!([1]));
    let inside = tree.commit(Commit::set(path("arr/0"), input(json!(2)))).unwrap_err();
    assert_eq!(inside.kind(), ErrorKind::InvalidInput);
}

#[test]
fn conditions_are_all_or_nothing_and_answer_what_is_there() {
    let tree = Bed::new().open();
    let rev = set(&tree, "a", json!(1));
    let when = |check| Condition { path: path("a"), check };
    let commit = |check| Commit::set(path("b"), input(json!(2))).when(when(check));
    for check in [Check::Absent, Check::Value(input(json!(2))), Check::Hash("0".into())] {
        let refused = tree.commit(commit(check)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert_eq!(refused.failed[0].value.get(), "1");
    }
    assert_eq!(get(&tree, "b"), Value::Null);
    let hash = tree.view().unwrap().hash(&path("a")).unwrap().unwrap();
    for check in [Check::Exists, Check::Value(input(json!(1))), Check::Hash(hash), Check::Rev(rev)]
    {
        tree.commit(commit(check)).unwrap();
    }
    tree.flush().unwrap();
    tree.commit(commit(Check::Rev(rev))).unwrap();
    set(&tree, "a", json!(3));
    tree.flush().unwrap();
    assert_eq!(tree.commit(commit(Check::Rev(rev))).unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn a_key_makes_a_repetition_harmless_across_a_restart() {
    let bed = Bed::new();
    let tree = bed.open();
    let increment =
        || Commit::set(path("n"), input(json!({".sv": {"increment": 1}}))).with_key("once");
    let first = tree.commit(increment()).unwrap();
    let again = tree.commit(increment()).unwrap();
    assert_eq!((first.rev, false, true), (again.rev, first.replayed, again.replayed));
    tree.close().unwrap();
    let tree = bed.open();
    assert!(tree.commit(increment()).unwrap().replayed);
    assert_eq!(get(&tree, "n"), json!(1));
    let other = Commit::set(path("n"), input(json!(5))).with_key("once");
    assert_eq!(tree.commit(other).unwrap_err().kind(), ErrorKind::InvalidInput);
    bed.clock.advance_ms(25 * 3600 * 1000);
    while tree.view().unwrap().rev() < 2 {
        std::thread::yield_now();
    }
    assert!(!tree.commit(increment()).unwrap().replayed);
}

#[test]
fn what_is_due_is_hidden_at_once_removed_soon_and_survives_restart() {
    let bed = Bed::new();
    let tree = bed.open();
    let lease = |at: &str, seconds| {
        Commit::new(vec![Operation::Set {
            path: path(at),
            value: input(json!({"x": 1, "y": {"z": 2}})),
            expiry: Some(Expiry::TtlSeconds(seconds)),
        }])
    };
    tree.commit(lease("s/a", 10.0)).unwrap();
    tree.commit(lease("s/b", 1000.0)).unwrap();
    set(&tree, "s/a/later", json!(true));
    tree.close().unwrap();
    let tree = bed.open();
    let before = tree.view().unwrap().rev();
    assert_eq!(get(&tree, "s/a/y/z"), json!(2));
    bed.clock.advance_ms(10_000);
    assert_eq!(get(&tree, "s/a"), Value::Null);
    assert_eq!(get(&tree, "s"), json!({"b": {"x": 1, "y": {"z": 2}}}));
    assert!(!tree.view().unwrap().exists(&path("s/a/later")).unwrap());
    while tree.view().unwrap().rev() == before {
        std::thread::yield_now();
    }
    assert_eq!(get(&tree, "s/a"), Value::Null);
    set(&tree, "s/b", json!("kept"));
    bed.clock.advance_ms(1_000_000);
    assert_eq!(get(&tree, "s/b"), json!("kept"));
}

#[test]
fn a_view_shows_one_rev_whatever_is_written_and_applied() {
    let bed = Bed::new();
    let tree = bed.open();
    set(&tree, "t", json!({"a": 1, "b": {"c": 2}}));
    let view = tree.view().unwrap();
    set(&tree, "t/a", json!(9));
    tree.flush().unwrap();
    tree.commit(Commit::delete(path("t"))).unwrap();
    tree.flush().unwrap();
    set(&tree, "t", json!("new"));
    assert_eq!(view.get(&path("t")).unwrap(), json!({"a": 1, "b": {"c": 2}}));
    assert_eq!(get(&tree, "t"), json!("new"));
}

#[test]
fn writers_at_once_lose_nothing() {
    let tree = Bed::new().open();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let tree = &tree;
            scope.spawn(move || {
                for index in 0..200 {
                    set(tree, &format!("w/{thread}/{index}"), json!(index));
                    set(tree, "sum", json!({".sv": {"increment": 1}}));
                }
            });
        }
    });
    assert_eq!(get(&tree, "sum"), json!(1600));
    let view = tree.view().unwrap();
    assert_eq!(view.rev(), 3200);
    assert_eq!(view.children(&path("w/3"), None, 1000, None).unwrap().items.len(), 200);
}

#[test]
fn push_ids_increase_and_overlaps_are_refused() {
    let tree = Bed::new().open();
    let mut last = String::new();
    for _ in 0..500 {
        let push = Operation::Push { path: path("list"), value: input(json!(1)), expiry: None };
        let id = tree.commit(Commit::new(vec![push])).unwrap().results[0].pushed.clone().unwrap();
        assert!(id > last && id.len() == 20, "{id} after {last}");
        last = id;
    }
    let updates = vec![(path("a/b"), input(json!(1))), (path("a"), input(json!(2)))];
    let overlap = Commit::new(vec![Operation::Update { updates, expiry: None }]);
    assert_eq!(tree.commit(overlap).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(get(&tree, "a"), Value::Null);
    let system = tree.commit(Commit::set(path("_auth/x"), input(json!(1)))).unwrap_err();
    assert_eq!(system.kind(), ErrorKind::Denied);
}

/// The tree as a plain JSON value, for comparison.
fn model_set(model: &mut BTreeMap<String, Value>, at: &str, value: Option<Value>) {
    let below = format!("{at}/");
    model.retain(|key, _| key != at && !key.starts_with(&below));
    let Some(value) = value else { return };
    let mut ancestor = at;
    while let Some(end) = ancestor.rfind('/') {
        ancestor = &ancestor[..end];
        model.remove(ancestor);
    }
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                model.insert(format!("{at}/{name}"), member);
            }
        }
        leaf => {
            model.insert(at.to_owned(), leaf);
        }
    }
}

/// Promise: any sequence of writes, applies and reopens leaves what a plain map would hold.
#[test]
fn random_writes_equal_a_model() {
    let seed = std::env::var("TRELLIS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| Runtime::system().random().next_u64());
    println!("TRELLIS_SEED={seed}");
    let random = SeededRandom::new(seed);
    let pick = |count: u64| random.next_u64() % count;
    let mut bed = Bed::new();
    bed.options.overlay_bytes_max = 16 << 10;
    let mut tree = bed.open();
    let mut model = BTreeMap::new();
    for step in 0..3000 {
        let depth = 1 + pick(4);
        let names: Vec<String> =
            (0..depth).map(|_| ["a", "b", "c!", "c"][pick(4) as usize].into()).collect();
        let at = names.join("/");
        match pick(20) {
            0 => tree.flush().unwrap(),
            1 if step % 7 == 0 => {
                tree.close().unwrap();
                tree = bed.open();
            }
            2..=5 => {
                tree.commit(Commit::delete(path(&at))).unwrap();
                model_set(&mut model, &at, None);
            }
            6..=9 => {
                let value = json!({"a": step, "c": "x", "d": [step]});
                set(&tree, &at, value.clone());
                model_set(&mut model, &at, Some(value));
            }
            _ => {
                set(&tree, &at, json!(step));
                model_set(&mut model, &at, Some(json!(step)));
            }
        }
        if step % 10 == 0 {
            let mut leaves = BTreeMap::new();
            let view = tree.view().unwrap();
            let keep = |at: &Path, text: &[u8]| {
                leaves.insert(at.to_string(), serde_json::from_slice::<Value>(text).unwrap());
                ControlFlow::Continue(())
            };
            let mut keep = keep;
            view.for_each_leaf(&Path::root(), &mut keep).unwrap();
            assert_eq!(leaves, model, "step {step}");
            let mut streamed = Vec::new();
            view.stream_json(&path("a"), &mut |slice| {
                streamed.extend_from_slice(slice);
                ControlFlow::Continue(())
            })
            .unwrap();
            assert_eq!(streamed, view.get_json(&path("a"), usize::MAX).unwrap());
        }
    }
}

/// Promise: an ending belongs to what it was set on, not to what comes after it.
#[test]
fn an_ending_goes_with_its_value() {
    let bed = Bed::new();
    let tree = bed.open();
    let lease = Operation::Set {
        path: path("a"),
        value: input(json!({"x": 1})),
        expiry: Some(Expiry::TtlSeconds(10.0)),
    };
    tree.commit(Commit::new(vec![lease])).unwrap();
    tree.commit(Commit::delete(path("a/x"))).unwrap();
    tree.commit(Commit::delete(path("a"))).unwrap();
    set(&tree, "a/y", json!("permanent"));
    bed.clock.advance_ms(11_000);
    assert_eq!(get(&tree, "a"), json!({"y": "permanent"}));
}

/// Promise: an object is not absence, and other values are not touched by what is refused.
#[test]
fn set_if_absent_keeps_an_object() {
    let tree = Bed::new().open();
    set(&tree, "o", json!({"x": 1}));
    set(&tree, "o", json!({".sv": {"setIfAbsent": 5}}));
    set(&tree, "new", json!({".sv": {"setIfAbsent": 5}}));
    assert_eq!((get(&tree, "o"), get(&tree, "new")), (json!({"x": 1}), json!(5)));
}

/// Promise: every writer is answered when a flush fails, however full the overlay is; reads go on,
/// and a close ends.
#[test]
fn poison_answers_everybody() {
    let mut bed = Bed::new();
    bed.options.overlay_bytes_max = 32 << 10;
    let tree = bed.open();
    set(&tree, "kept", json!(1));
    tree.flush().unwrap();
    bed.log.fail_once(trellis_log_memory::Fault::Flush);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..16)
            .map(|writer| {
                let tree = &tree;
                scope.spawn(move || {
                    let write = |index: usize| {
                        let at = path(&format!("w/{writer}/{index}"));
                        tree.commit(Commit::set(at, input(json!("x".repeat(500)))))
                    };
                    (0..50).map(write).filter_map(Result::err).map(|e| e.kind()).collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    assert!(!answers.is_empty());
    let told = [ErrorKind::OutcomeUnknown, ErrorKind::Poisoned];
    assert!(answers.iter().all(|kind| told.contains(kind)), "{answers:?}");
    assert_eq!(get(&tree, "kept"), json!(1));
    assert!(tree.close().is_err());
}

/// Promise: figures can be asked for at any time beside readers and writers.
#[test]
fn stats_stop_nobody() {
    let mut bed = Bed::new();
    bed.options.overlay_bytes_max = 16 << 10;
    let tree = bed.open();
    std::thread::scope(|scope| {
        for asker in 0..2 {
            let tree = &tree;
            scope.spawn(move || {
                for _ in 0..2000 {
                    let stats = tree.stats().unwrap();
                    assert!(stats.applied_rev <= stats.rev, "asker {asker}");
                }
            });
        }
        for index in 0..2000 {
            set(&tree, &format!("k/{}", index % 50), json!("x".repeat(100)));
        }
    });
}

/// Promise: a failed append leaves nothing behind, and the accounts of memory stay true.
#[test]
fn a_clean_failure_takes_back_what_it_resolved() {
    let bed = Bed::new();
    let tree = bed.open();
    set(&tree, "a", json!("x".repeat(10_000)));
    set(&tree, "a", json!("small"));
    bed.log.fail_once(trellis_log_memory::Fault::Append);
    let refused = tree.commit(Commit::set(path("a"), input(json!("lost")))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert_eq!(get(&tree, "a"), json!("small"));
    assert_eq!(set(&tree, "a", json!("next")), 3);
    tree.flush().unwrap();
    assert_eq!(tree.stats().unwrap().overlay_bytes, 0);
}

/// Promise: nesting is bounded while it is read; what is accepted can be read back.
#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let tree = Bed::new().open();
    let deepest = Input::parse(nested(60).as_bytes()).unwrap();
    let at = path(&["d"; 64].join("/"));
    tree.commit(Commit::set(at.clone(), deepest)).unwrap();
    assert!(tree.view().unwrap().get(&Path::root()).unwrap().is_object());
    assert_eq!(Input::parse(nested(61).as_bytes()).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(Input::parse(nested(100_000).as_bytes()).is_err());
    let taken = br#"{"$serde_json::private::RawValue":"[1"}"#;
    assert_eq!(Input::parse(taken).unwrap_err().kind(), ErrorKind::InvalidInput);
    let mut deep = json!(1);
    for _ in 0..500 {
        deep = json!([deep]);
    }
    assert_eq!(Input::from_json(deep).unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// Promise: the key of a commit that changed nothing is remembered too.
#[test]
fn a_key_without_effects_is_remembered() {
    let tree = Bed::new().open();
    let delete = || Commit::delete(path("x")).with_key("gone");
    let first = tree.commit(delete()).unwrap();
    set(&tree, "x", json!("somebody else's"));
    let again = tree.commit(delete()).unwrap();
    assert_eq!((again.rev, again.replayed), (first.rev, true));
    assert_eq!(get(&tree, "x"), json!("somebody else's"));
}
