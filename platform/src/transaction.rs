//! Read, change, write if unchanged: the loop behind `transaction`.

use std::time::Duration;

use serde_json::Value;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{Check, Commit, CommitError, Committed, Condition, Operation, Path};

use crate::encode::{self, IntoPath};
use crate::handle::Trellis;

/// How often a transaction is tried; with the pauses between, some 0.2 s of other writers.
pub(crate) const TRIES_MAX: u32 = 25;

impl Trellis {
    /// Reads a value, changes it, and writes it if nobody else has in the meantime; else tries
    /// again, 25 times at most. `change` may run several times; its error ends the transaction and
    /// is passed on.
    ///
    /// # Errors
    /// As for [`Trellis::set`], whatever `change` answers, and `Conflict` when every try met
    /// another writer. Nothing was changed, except after `OutcomeUnknown`.
    ///
    /// # Durability
    /// As for [`Trellis::set`].
    ///
    /// # Cost
    /// One read and one commit a try. Where one field is counted, an `increment` needs no retries.
    ///
    /// ```
    /// use serde_json::{Value, json};
    ///
    /// let db = trellis::Trellis::memory()?;
    /// let append = |current: Value| Ok(json!(format!("{}x", current.as_str().unwrap_or(""))));
    /// db.transaction("marks", append)?;
    /// db.transaction("marks", append)?;
    /// assert_eq!(db.get("marks")?, json!("xx"));
    /// # Ok::<(), trellis::Error>(())
    /// ```
    pub fn transaction<F>(&self, path: impl IntoPath, change: F) -> Result<Committed>
    where
        F: FnMut(Value) -> Result<Value>,
    {
        run(self, &path.into_path()?, change)
    }
}

/// One try, up to the commit: reads, changes and puts the condition into words.
pub(crate) fn prepare<F>(db: &Trellis, path: &Path, change: &mut F) -> Result<Commit>
where
    F: FnMut(Value) -> Result<Value>,
{
    let view = db.tree().view()?;
    let check = match view.hash(path)? {
        Some(hash) => Check::Hash(hash),
        None => Check::Absent,
    };
    let current = view.get(path)?;
    // An open view keeps old versions on disk, and `change` may take its time.
    drop(view);
    let value = encode::input(&change(current)?)?;
    let operation = Operation::Set { path: path.clone(), value, expiry: None };
    Ok(Commit::new(vec![operation]).when(Condition { path: path.clone(), check }))
}

/// What follows from the outcome of a try.
pub(crate) enum Next {
    Done(Result<Committed>),
    /// Try again after a pause.
    Pause(Duration),
}

/// Decides after the try of this number, counted from 0.
pub(crate) fn next(db: &Trellis, tried: u32, outcome: Result<Committed, CommitError>) -> Next {
    match outcome {
        Ok(committed) => return Next::Done(Ok(committed)),
        Err(refused) if refused.error.kind() == ErrorKind::Conflict => {}
        Err(refused) => return Next::Done(Err(refused.error)),
    }
    if tried + 1 >= TRIES_MAX {
        return Next::Done(Err(exhausted()));
    }
    // Up to 0.1, 0.2, 0.4 ... 12.8 ms, so that competitors do not meet again.
    let bound_us = 100_u64 << tried.min(7);
    let pause_us = db.runtime().random().next_u64() % bound_us;
    Next::Pause(Duration::from_micros(pause_us))
}

fn run<F>(db: &Trellis, path: &Path, mut change: F) -> Result<Committed>
where
    F: FnMut(Value) -> Result<Value>,
{
    for tried in 0..TRIES_MAX {
        let commit = prepare(db, path, &mut change)?;
        match next(db, tried, db.commit(commit)) {
            Next::Done(outcome) => return outcome,
            Next::Pause(pause) => std::thread::sleep(pause),
        }
    }
    Err(exhausted())
}

pub(crate) fn exhausted() -> Error {
    let message = "every try met another writer; use a transform, or fewer writers on the path";
    Error::new(ErrorKind::Conflict, message).operation("transaction").context("tries", TRIES_MAX)
}
