//! Windows of live queries against queries run again after every commit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use trellis_query::{LiveQuery, Queries, WindowEvent, WindowEventKind};
use trellis_tree::{Followed, Path, Tree, View};

use crate::bed::{self, Computed};
use crate::draw::Draw;
use crate::random;

const PATHS: [&str; 5] = ["c", "u/*/c", "c", "", "*/*"];

/// A receiver that knows nothing but the events.
struct Receiver {
    live: LiveQuery,
    query: Value,
    seen: Vec<(Path, Option<String>)>,
}

impl Receiver {
    fn new(queries: &Queries, view: &View, query: Value) -> Self {
        let (live, items) =
            LiveQuery::start(queries, view, bed::spec(query.clone()), 1 << 24).unwrap();
        let seen = items.into_iter().map(|item| (item.path, item.value)).collect();
        Self { live, query, seen }
    }

    fn place(&self, path: &Path) -> usize {
        self.seen.iter().position(|(own, _)| own == path).expect("an item that was told of")
    }

    fn insert(&mut self, after: Option<&Path>, item: (Path, Option<String>)) {
        let at = after.map_or(0, |after| self.place(after) + 1);
        self.seen.insert(at, item);
    }

    fn take(&mut self, event: &WindowEvent) {
        match event.kind {
            WindowEventKind::Removed => {
                let at = self.place(&event.path);
                self.seen.remove(at);
            }
            WindowEventKind::Added => {
                assert!(self.seen.iter().all(|(own, _)| *own != event.path), "added twice");
                let item = (event.path.clone(), event.value.clone());
                self.insert(event.after.as_ref(), item);
            }
            WindowEventKind::Moved => {
                let at = self.place(&event.path);
                let item = self.seen.remove(at);
                self.insert(event.after.as_ref(), item);
            }
            WindowEventKind::Changed => {
                let at = self.place(&event.path);
                assert_ne!(self.seen[at].1, event.value, "changed to what it was");
                self.seen[at].1.clone_from(&event.value);
            }
        }
    }
}

fn live_query(draw: &Draw) -> Value {
    let mut query = draw.query(&PATHS);
    query["limit"] = (1 + draw.below(6)).into();
    if draw.below(4) == 0 {
        query["select"] = match draw.below(3) {
            0 => json!([]),
            1 => json!(["a"]),
            _ => json!(["b", "p/x", "tags"]),
        };
    }
    query
}

fn next_changes(follower: &mut trellis_tree::Follower, tree: &Tree) -> Vec<trellis_tree::Change> {
    let mut all = Vec::new();
    while follower.position().rev < tree.view().unwrap().rev() {
        match follower.next(Duration::from_secs(10)).unwrap() {
            Followed::Changes(mut changes) => all.append(&mut changes),
            other => panic!("{other:?}"),
        }
    }
    all
}

#[test]
fn windows_are_those_of_the_query_run_again_after_every_commit() {
    let draw = Draw::seeded();
    let tree = bed::open();
    let queries = [
        Queries::new(&tree),
        Queries::with_indexes(&tree, Computed::of(&draw.indexes(&["c", "u/*/c"]))),
    ];
    let mut follower = tree.follow(64 << 20).unwrap();
    let mut receivers: Vec<Receiver> = Vec::new();
    let mut kinds = BTreeSet::new();
    let (mut commits, rounds) = (0, random::rounds(2_000));
    // A run whose queries order by what seldom changes goes on until something has moved.
    while commits < rounds || kinds.len() < 4 && commits < 10 * rounds {
        while receivers.len() < 4 {
            let which = usize::try_from(draw.below(2)).unwrap();
            let view = tree.view().unwrap();
            receivers.push(Receiver::new(&queries[which], &view, live_query(&draw)));
        }
        random::stir(&draw, &tree);
        for change in next_changes(&mut follower, &tree) {
            commits += 1;
            for receiver in &mut receivers {
                let events = receiver.live.apply(&change).unwrap();
                let order: Vec<WindowEventKind> = events.iter().map(|event| event.kind).collect();
                assert!(order.is_sorted(), "{order:?}");
                kinds.extend(order.iter().map(|kind| format!("{kind:?}")));
                events.iter().for_each(|event| receiver.take(event));
                let again = bed::page(
                    &queries[0],
                    &change.after().unwrap(),
                    &bed::spec(receiver.query.clone()),
                );
                let again: Vec<(Path, Option<String>)> =
                    again.items.into_iter().map(|item| (item.path, item.value)).collect();
                assert_eq!(receiver.seen, again, "{} {events:?}", receiver.query);
            }
        }
        if draw.below(20) == 0 {
            receivers.remove(usize::try_from(draw.below(4)).unwrap());
        }
    }
    assert_eq!(kinds.len(), 4, "every kind of event was seen: {kinds:?}");
    drop(Arc::new(receivers));
}

#[test]
fn a_window_draws_the_next_item_in_when_one_leaves() {
    let tree = bed::open();
    bed::set(&tree, "c", json!({ "a": 1, "b": 2, "d": 3, "e": 4 }));
    let mut follower = tree.follow(1 << 20).unwrap();
    let query = json!({ "path": "c", "orderBy": "$value", "limit": 2 });
    let mut receiver = Receiver::new(&Queries::new(&tree), &tree.view().unwrap(), query);
    tree.commit(trellis_tree::Commit::delete(bed::path("c/a"))).unwrap();
    let changes = next_changes(&mut follower, &tree);
    let events = receiver.live.apply(&changes[0]).unwrap();
    let told: Vec<_> = events.iter().map(|event| (event.kind, event.path.to_string())).collect();
    let expected =
        [(WindowEventKind::Removed, "c/a".to_owned()), (WindowEventKind::Added, "c/d".to_owned())];
    assert_eq!(told, expected);
    assert_eq!(events[1].after.as_ref().unwrap().to_string(), "c/b");
}
