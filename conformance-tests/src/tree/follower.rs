//! What the cases about following and history share: a tree watched commit by commit.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_tree::{
    Change, ChangeCause, ChangeEffect, Commit, Followed, Follower, History, Path, Tree, View,
};

use super::tools::{delete_op, leasing, path, push_op, set_op, setting, update_op};
use crate::Rng;

/// A wait that nothing needs to the end.
pub(super) const LONG: Duration = Duration::from_secs(600);
/// More than any case writes.
pub(super) const ROOMY: usize = 1 << 30;

/// Key and stored bytes of every leaf.
pub(super) type Leaves = BTreeMap<Vec<u8>, Vec<u8>>;

/// Everything in a view, the system's own included.
pub(super) fn all(view: &View) -> Leaves {
    let mut leaves = Leaves::new();
    for top in [Path::root(), path("_system")] {
        view.leaves(&top, None, &mut |key, stored| {
            leaves.insert(key.to_vec(), stored.to_vec());
            ControlFlow::Continue(())
        })
        .expect("it is read");
    }
    leaves
}

/// What a change tells besides its states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) rev: u64,
    at_ms: u64,
    pub(super) cause: ChangeCause,
    pub(super) key: Option<String>,
    effects: Vec<String>,
}

impl Told {
    pub(super) fn of(change: &Change) -> Self {
        Self {
            rev: change.rev(),
            at_ms: change.at_ms(),
            cause: change.cause(),
            key: change.key().map(ToOwned::to_owned),
            effects: change.effects().map(|effect| format!("{effect:?}")).collect(),
        }
    }
}

/// What a follower saw from its beginning on, checked while it came: each commit once and in
/// order, and around each the states of a model that does what it tells.
pub(super) struct Watched {
    /// The rev of the first state.
    from: u64,
    pub(super) told: Vec<Told>,
    states: Vec<Leaves>,
}

impl Watched {
    /// Begins with the state at which a follower begins.
    pub(super) fn begin(tree: &Tree) -> (Self, Follower) {
        let follower = tree.follow(ROOMY).expect("it is followed");
        let view = tree.settled_view().expect("a view");
        assert_eq!(view.rev(), follower.position().rev, "nobody writes while it begins");
        let watched = Self { from: view.rev(), told: Vec::new(), states: vec![all(&view)] };
        (watched, follower)
    }

    pub(super) fn newest(&self) -> &Leaves {
        self.states.last().expect("there is a first one")
    }

    pub(super) fn state(&self, rev: u64) -> &Leaves {
        &self.states[usize::try_from(rev - self.from).expect("few")]
    }

    /// Takes what came, up to a rev at least.
    pub(super) fn through(&mut self, follower: &mut Follower, rev: u64) {
        while follower.position().rev < rev {
            match follower.next(LONG).expect("it goes on") {
                Followed::Changes(changes) => changes.iter().for_each(|change| self.take(change)),
                other => panic!("{other:?} instead of changes up to {rev}"),
            }
            let taken = self.from + self.told.len() as u64;
            assert_eq!(follower.position().rev, taken, "its position is the last one told");
        }
    }

    fn take(&mut self, change: &Change) {
        let rev = self.from + self.told.len() as u64 + 1;
        assert_eq!(change.rev(), rev, "missing, doubled or out of order");
        let mut model = self.newest().clone();
        assert_eq!(all(&change.before().expect("a view")), model, "before {rev}");
        apply(&mut model, change);
        assert_eq!(all(&change.after().expect("a view")), model, "after {rev}");
        self.told.push(Told::of(change));
        self.states.push(model);
    }

    /// A history tells what was seen, and shows the same states.
    pub(super) fn equals(&self, history: &History) {
        let since = history.since();
        let told: Vec<Told> = history.changes().map(Told::of).collect();
        let range = (since - self.from) as usize..(history.through() - self.from) as usize;
        assert_eq!(told, self.told[range], "after {since}");
        for change in history.changes() {
            let rev = change.rev();
            assert_eq!(all(&change.before().expect("a view")), *self.state(rev - 1), "to {rev}");
            assert_eq!(all(&change.after().expect("a view")), *self.state(rev), "at {rev}");
        }
    }
}

/// Does to a model what a change tells.
pub(super) fn apply(model: &mut Leaves, change: &Change) {
    for effect in change.effects() {
        match effect {
            ChangeEffect::Cleared(key) => {
                let top = Path::from_key(key).expect("a path");
                model.retain(|own, _| !top.covers(&Path::from_key(own).expect("a path")));
            }
            ChangeEffect::Put(key, stored) => drop(model.insert(key.to_vec(), stored.to_vec())),
            ChangeEffect::Deleted(key) => drop(model.remove(key)),
        }
    }
}

/// A commit of any kind on a few places.
pub(super) fn any_commit(rng: &mut Rng, n: u64) -> Commit {
    let names = ["a", "b", "c!", "c"];
    let depth = 1 + rng.below(3);
    let segments: Vec<&str> = (0..depth).map(|_| names[rng.below(names.len())]).collect();
    let at = segments.join("/");
    let value = match rng.below(6) {
        0 => json!({"a": n, "c": {"b": [n, {}], "a": "x".repeat(rng.below(300))}}),
        1 => json!([n]),
        2 => json!({}),
        3 => Value::Null,
        _ => json!(n),
    };
    let commit = match rng.below(11) {
        0 | 1 => Commit::new(vec![delete_op(&at)]),
        2 => Commit::new(vec![update_op(&[
            ("a/b", json!({"b": n})),
            ("b", json!(n)),
            ("c/c", value),
        ])]),
        3 => Commit::new(vec![
            set_op(&at, json!("first")),
            set_op(&at, value),
            delete_op("b"),
            push_op("list", json!(n)),
        ]),
        4 => Commit { system: true, ..setting("_system/x", value) },
        5 => leasing(&at, value, 2.0),
        6 => setting("sum", json!({".sv": {"increment": 1}})),
        _ => setting(&at, value),
    };
    if rng.one_in(4) { commit.with_key(format!("key-{n}")) } else { commit }
}

/// Whether the history of the last commits leads, commit by commit, to what the tree shows now; for
/// a tree whose commits nobody watched. Answers how many were looked at.
pub(crate) fn history_fits(tree: &Tree, commits: u64) -> Result<usize, String> {
    let wrong = |error: trellis_engine_traits::Error| format!("no history: {error:?}");
    let since = tree.position().rev.saturating_sub(commits);
    let history = match tree.history(since, ROOMY) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        history => history.map_err(wrong)?,
    };
    if !history.is_exact(since, &|_| true) {
        return Ok(0);
    }
    let mut model: Option<Leaves> = None;
    for change in history.changes() {
        let rev = change.rev();
        let before = all(&change.before().map_err(wrong)?);
        if model.as_ref().is_some_and(|model| *model != before) {
            return Err(format!("the state before {rev} is not the one after the commit before"));
        }
        let mut after = before;
        apply(&mut after, change);
        if all(&change.after().map_err(wrong)?) != after {
            return Err(format!("the state after {rev} is not what the commit made"));
        }
        model = Some(after);
    }
    let now = tree.settled_view().map_err(wrong)?;
    // Meanwhile something may have ended.
    let is_newest = now.rev() == history.through();
    if is_newest && model.is_some_and(|model| model != all(&now)) {
        return Err(format!("the history up to {} does not lead to what is there", now.rev()));
    }
    Ok(history.changes().count())
}
