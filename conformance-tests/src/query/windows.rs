//! Live windows against queries that are run again after every commit.

use std::time::Duration;

use serde_json::Value;
use trellis_query::{Item, LiveQuery, Queries, WindowEvent, WindowEventKind};
use trellis_tree::{Change, Followed, Follower, Path, Tree};

use super::answers::{draw, options, page, spec, stir};
use crate::Case;
use crate::tree::TreeWorld;

pub(super) const CASES: &[Case<TreeWorld>] =
    &[Case::new("query.live.random", &["query.live.exact"], random)];

const FRAME_BYTES: usize = 16 << 20;

/// Somebody who knows the first items and the events, and nothing else.
struct Receiver {
    live: LiveQuery,
    query: Value,
    seen: Vec<(Path, Option<String>)>,
}

fn known(items: Vec<Item>) -> Vec<(Path, Option<String>)> {
    items.into_iter().map(|item| (item.path, item.value)).collect()
}

impl Receiver {
    fn begin(tree: &Tree, query: Value) -> Self {
        let view = tree.settled_view().expect("a view");
        let started = LiveQuery::start(&Queries::new(tree), &view, spec(&query), FRAME_BYTES);
        let (live, items) = started.expect("it starts");
        Self { live, query, seen: known(items) }
    }

    fn take(&mut self, event: &WindowEvent) {
        let place = |seen: &[(Path, Option<String>)], path: &Path| {
            seen.iter().position(|(own, _)| own == path).expect("an item that was told of")
        };
        let mut item = (event.path.clone(), event.value.clone());
        if event.kind == WindowEventKind::Changed {
            let at = place(&self.seen, &event.path);
            self.seen[at] = item;
            return;
        }
        if event.kind != WindowEventKind::Added {
            let at = place(&self.seen, &event.path);
            item = self.seen.remove(at);
        }
        if event.kind != WindowEventKind::Removed {
            let at = event.after.as_ref().map_or(0, |after| place(&self.seen, after) + 1);
            self.seen.insert(at, item);
        }
    }
}

fn next_changes(follower: &mut Follower, tree: &Tree) -> Vec<Change> {
    let mut all = Vec::new();
    while follower.position().rev < tree.position().rev {
        match follower.next(Duration::from_secs(60)).expect("it follows") {
            Followed::Changes(mut changes) => all.append(&mut changes),
            other => panic!("{other:?}"),
        }
    }
    all
}

fn random(world: &TreeWorld) {
    let draw = draw(world, "windows");
    let tree = world.engine().tree_with(options());
    let mut follower = tree.follow(64 << 20).expect("it follows");
    let mut receivers: Vec<Receiver> = Vec::new();
    for round in 0..60 {
        while receivers.len() < 3 {
            let mut query = draw.query(&["c", "u/*/c", ""]);
            query["limit"] = (1 + draw.below(5)).into();
            receivers.push(Receiver::begin(&tree, query));
        }
        stir(&draw, &tree);
        for change in next_changes(&mut follower, &tree) {
            for receiver in &mut receivers {
                let events = receiver.live.apply(&change).expect("it follows the commit");
                events.iter().for_each(|event| receiver.take(event));
                let after = change.after().expect("a view");
                let again = page(&Queries::new(&tree), &after, &receiver.query);
                let query = &receiver.query;
                assert_eq!(receiver.seen, known(again.items), "round {round}: {query} {events:?}");
            }
        }
        if draw.below(10) == 0 {
            receivers.remove(0);
        }
    }
}
