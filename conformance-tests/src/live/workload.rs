//! Random commits and random subscriptions for them.

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_subscribe::{Mode, Pattern, SubscribeRequest};
use trellis_tree::{Commit, Tree};

use super::watch::History;
use crate::Rng;
use crate::tree::Ground;
use crate::tree::tools::{delete_op, get, leasing, rev, set_op, setting};

fn draw_path(rng: &mut Rng, names: &[&str]) -> String {
    let depth = 1 + rng.below(4);
    let names: Vec<_> = (0..depth).map(|_| names[rng.below(names.len())]).collect();
    names.join("/")
}

const NAMES: [&str; 5] = ["a", "b", "c!", "é", "0"];

/// Anything, seldom absent.
fn draw_value(rng: &mut Rng, depth: usize) -> Value {
    match rng.below(if depth < 3 { 12 } else { 7 }) {
        0 => Value::Null,
        1 => json!({}),
        2 => json!([{"a": rng.below(2), "0": [1]}, rng.below(3)]),
        3 => json!({".bytes": "AAEC"}),
        4 => json!("s".repeat(rng.below(40))),
        5 | 6 => json!(rng.below(3)),
        _ => {
            let count = 1 + rng.below(4);
            let members = (0..count)
                .map(|_| (NAMES[rng.below(NAMES.len())].to_owned(), draw_value(rng, depth + 1)));
            Value::Object(members.collect())
        }
    }
}

/// A commit of some operations; it may be refused, because it leads into an array.
pub(super) fn draw_commit(rng: &mut Rng) -> Commit {
    let at = draw_path(rng, &NAMES);
    match rng.below(12) {
        0 => leasing(&at, draw_value(rng, 0), 5.0),
        1 => {
            let commit = setting(&format!("_own/{at}"), json!(rng.below(9)));
            Commit { system: true, ..commit }
        }
        2 => Commit::new(vec![delete_op(NAMES[rng.below(NAMES.len())])]),
        _ => {
            let operations = (0..1 + rng.below(3)).map(|_| {
                let at = draw_path(rng, &NAMES);
                if rng.one_in(3) { delete_op(&at) } else { set_op(&at, draw_value(rng, 0)) }
            });
            Commit::new(operations.collect())
        }
    }
}

/// Something to watch: any depth, any wildcards, any event and mode.
pub(super) fn draw_request(rng: &mut Rng) -> SubscribeRequest {
    let names = ["a", "b", "c!", "é", "0", "*", "*", "*"];
    let text = if rng.one_in(12) { String::new() } else { draw_path(rng, &names) };
    let pattern = Pattern::parse(&text).expect("a good pattern");
    let request = match rng.below(2) {
        0 => SubscribeRequest::value(pattern),
        _ => SubscribeRequest::child(pattern),
    };
    request.mode([Mode::Full, Mode::Patch, Mode::Notify][rng.below(3)])
}

/// A tree that is written step by step, and what it held at every rev.
pub(super) struct Writing<'a> {
    pub(super) ground: &'a Ground,
    pub(super) tree: Tree,
    pub(super) history: History,
}

impl<'a> Writing<'a> {
    pub(super) fn new(ground: &'a Ground, tree: Tree) -> Self {
        let mut new = Self { ground, tree, history: History::new() };
        new.note();
        new
    }

    pub(super) fn note(&mut self) {
        let tree = get(&self.tree, "");
        self.history.insert(rev(&self.tree), tree);
    }

    /// One random commit, or time that passes.
    pub(super) fn step(&mut self, rng: &mut Rng) {
        if rng.one_in(15) {
            self.ground.clock().advance_ms(3000);
            // Whoever removes what is due, this or the tree by itself, it is one commit.
            self.tree.settle().expect("what is due goes");
        } else if let Err(error) = self.tree.commit(draw_commit(rng)) {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        }
        self.note();
    }

    /// A commit that every watch of `path` must hear of.
    pub(super) fn mark(&mut self, at: &str) -> u64 {
        let number = get(&self.tree, at).as_u64().unwrap_or(0);
        let commit = Commit { system: true, ..setting(at, json!(number + 1)) };
        let done = self.tree.commit(commit).expect("it is committed");
        self.note();
        done.rev
    }
}
