//! What a history is taken from: a tree whose registers and lists are asked.

use std::sync::Mutex;

use serde_json::{Value, json};
use trellis_engine_traits::{Error, ErrorKind};
use trellis_tree::{Check, Commit, CommitError, Path, Tree, View};

use super::history::{Answer, Call};
use crate::tree::tools::{input, path, push_op, set_op, when};

/// What came of a call.
#[derive(Debug)]
pub(crate) enum Done {
    /// It was answered.
    Answered(Answer),
    /// It was refused without effect.
    Dropped,
}

/// A defect of the tree, planted in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// Some reads are answered from an older view.
    StaleView,
    /// A condition is tested first, and the commit done later.
    StaleCondition,
    /// Some pushes are answered before they are done, and never are.
    LostPush,
}

impl Planted {
    /// All of them.
    pub(crate) const ALL: &'static [Self] =
        &[Self::StaleView, Self::StaleCondition, Self::LostPush];
}

/// Places below a prefix of a tree.
#[derive(Debug)]
pub(crate) struct OnTree {
    pub(crate) tree: Tree,
    prefix: String,
    planted: Option<Planted>,
    older: Mutex<Option<View>>,
}

/// How a value is written: some as a leaf, some as two that belong together.
fn written(value: u64) -> Value {
    match value {
        0 => Value::Null,
        _ if value.is_multiple_of(3) => json!(value),
        _ => json!({"v": value, "w": {"v": value}}),
    }
}

/// The value that was written so. Parts that do not belong together are no value that ever was.
fn read(found: &Value) -> u64 {
    match found {
        Value::Null => 0,
        Value::Object(parts) => match (parts.get("v"), found.pointer("/w/v")) {
            (Some(left), Some(right)) if left == right => left.as_u64().unwrap_or(u64::MAX),
            _ => u64::MAX,
        },
        leaf => leaf.as_u64().unwrap_or(u64::MAX),
    }
}

impl OnTree {
    pub(crate) fn new(tree: Tree, prefix: &str, planted: Option<Planted>) -> Self {
        Self { tree, prefix: prefix.to_owned(), planted, older: Mutex::default() }
    }

    fn at(&self, place: usize) -> String {
        format!("{}/{place}", self.prefix)
    }

    fn path(&self, place: usize) -> Path {
        path(&self.at(place))
    }

    /// The value of a register and its hash; outside of the history.
    pub(crate) fn peek(&self, place: usize) -> Option<(u64, Option<String>)> {
        let (view, path) = (self.tree.view().ok()?, self.path(place));
        let hash = view.hash(&path).ok()?;
        Some((read(&view.get(&path).ok()?), hash))
    }

    /// Does a call; a compare-and-set by hash if there is one.
    pub(crate) fn perform(&self, place: usize, call: &Call, hash: Option<&str>) -> Done {
        match self.answer(place, call, hash) {
            Ok(answer) => Done::Answered(answer),
            Err(error) if error.kind() == ErrorKind::Closed => Done::Dropped,
            Err(error) => panic!("{call}: {error:?}"),
        }
    }

    fn answer(&self, place: usize, call: &Call, hash: Option<&str>) -> Result<Answer, Error> {
        let at = self.at(place);
        Ok(match call {
            Call::Get => Answer::Value(read(&self.view_get(place, place % 7 == 1)?)),
            Call::Set(0) | Call::Clear => self.done(Commit::delete(self.path(place)))?,
            Call::Set(value) => self.done(Commit::new(vec![set_op(&at, written(*value))]))?,
            Call::CompareAndSet(old, new) => self.compare_and_set(place, (*old, *new), hash)?,
            Call::Push(value) => {
                let commit = Commit::new(vec![push_op(&at, json!(value))]);
                let commit = if self.planted == Some(Planted::LostPush) && value % 50 == 7 {
                    // Done elsewhere: the id is real, the item is not where it was pushed.
                    Commit::new(vec![push_op("elsewhere", json!(value))])
                } else {
                    commit
                };
                let done = self.tree.commit(commit).map_err(Error::from)?;
                Answer::Pushed(done.results[0].pushed.clone().expect("a push has an id"))
            }
            Call::List => {
                let found = self.tree.view()?.get(&self.path(place))?;
                let items = found.as_object().into_iter().flatten();
                let item = |(id, value): (&String, &Value)| (id.clone(), read(value));
                Answer::Items(items.map(item).collect())
            }
        })
    }

    fn done(&self, commit: Commit) -> Result<Answer, Error> {
        self.tree.commit(commit)?;
        Ok(Answer::Done)
    }

    fn view_get(&self, place: usize, may_be_stale: bool) -> Result<Value, Error> {
        let view = self.tree.view()?;
        if self.planted == Some(Planted::StaleView) && may_be_stale {
            let mut older = self.older.lock().expect("nobody panics with it");
            let found = older.as_ref().unwrap_or(&view).get(&self.path(place));
            *older = Some(view);
            return found;
        }
        view.get(&self.path(place))
    }

    fn compare_and_set(
        &self,
        place: usize,
        (old, new): (u64, u64),
        hash: Option<&str>,
    ) -> Result<Answer, Error> {
        let check = match hash {
            Some(hash) => Check::Hash(hash.to_owned()),
            None if old == 0 => Check::Absent,
            None => Check::Value(input(written(old))),
        };
        let at = self.at(place);
        let mut commit = Commit::new(vec![set_op(&at, written(new))]);
        if self.planted == Some(Planted::StaleCondition) {
            let found = read(&self.tree.view()?.get(&self.path(place))?);
            if found != old {
                return Ok(Answer::Refused(found));
            }
        } else {
            commit = commit.when(when(&at, check));
        }
        match self.tree.commit(commit) {
            Ok(_) => Ok(Answer::Done),
            Err(CommitError { failed, error, .. }) if error.kind() == ErrorKind::Conflict => {
                let found = serde_json::from_str(failed[0].value.get()).expect("JSON");
                Ok(Answer::Refused(read(&found)))
            }
            Err(refused) => Err(refused.into()),
        }
    }
}
