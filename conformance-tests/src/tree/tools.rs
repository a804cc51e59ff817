//! Short names for what the cases of this family do all the time.

use std::fmt;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{
    Check, Commit, CommitError, Committed, Condition, Expiry, Input, Operation, Path, Scope,
    StampedChange, StampedOp, Tree, TreeOptions,
};

pub(crate) fn path(text: &str) -> Path {
    Path::parse(text).expect("a good path")
}

pub(crate) fn input(value: Value) -> Input {
    Input::from_json(value).expect("a good value")
}

pub(crate) fn parsed(json: &str) -> Input {
    Input::parse(json.as_bytes()).expect("good JSON")
}

pub(crate) fn set_op(at: &str, value: Value) -> Operation {
    Operation::Set { path: path(at), value: input(value), expiry: None }
}

pub(crate) fn delete_op(at: &str) -> Operation {
    Operation::Delete { path: path(at) }
}

pub(crate) fn push_op(at: &str, value: Value) -> Operation {
    Operation::Push { path: path(at), value: input(value), expiry: None }
}

pub(crate) fn update_op(updates: &[(&str, Value)]) -> Operation {
    let updates = updates.iter().map(|(at, value)| (path(at), input(value.clone()))).collect();
    Operation::Update { updates, expiry: None }
}

/// A commit of one `set`.
pub(crate) fn setting(at: &str, value: Value) -> Commit {
    Commit::new(vec![set_op(at, value)])
}

/// A commit of one `set` that ends after `seconds`.
pub(crate) fn leasing(at: &str, value: Value, seconds: f64) -> Commit {
    let expiry = Some(Expiry::TtlSeconds(seconds));
    Commit::new(vec![Operation::Set { path: path(at), value: input(value), expiry }])
}

/// A commit that adds to a number.
pub(crate) fn incrementing(at: &str, by: i64) -> Commit {
    setting(at, json!({".sv": {"increment": by}}))
}

pub(crate) fn when(at: &str, check: Check) -> Condition {
    Condition { path: path(at), check }
}

#[track_caller]
pub(crate) fn commit(tree: &Tree, commit: Commit) -> Committed {
    tree.commit(commit).expect("it is committed")
}

#[track_caller]
pub(crate) fn set(tree: &Tree, at: &str, value: Value) -> u64 {
    commit(tree, setting(at, value)).rev
}

#[track_caller]
pub(crate) fn get(tree: &Tree, at: &str) -> Value {
    tree.view().expect("a view").get(&path(at)).expect("it is read")
}

#[track_caller]
pub(crate) fn exists(tree: &Tree, at: &str) -> bool {
    tree.view().expect("a view").exists(&path(at)).expect("it is read")
}

pub(crate) fn rev(tree: &Tree) -> u64 {
    tree.view().expect("a view").rev()
}

/// The keys of the children, in the order in which they are listed.
pub(crate) fn keys(tree: &Tree, at: &str) -> Vec<String> {
    let page = tree.view().expect("a view").children(&path(at), None, usize::MAX - 1, None);
    page.expect("they are listed").items.into_iter().map(|child| child.key).collect()
}

/// Every leaf at and below a path, path and JSON text.
pub(crate) fn leaves(tree: &Tree, at: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let view = tree.view().expect("a view");
    view.for_each_leaf(&path(at), &mut |path, json| {
        all.push((path.to_string(), String::from_utf8(json.to_vec()).expect("JSON is text")));
        ControlFlow::Continue(())
    })
    .expect("they are read");
    all
}

/// Errors of the engines and of commits.
pub(crate) trait Refusal: fmt::Debug {
    fn kind_of(&self) -> ErrorKind;
}

impl Refusal for Error {
    fn kind_of(&self) -> ErrorKind {
        self.kind()
    }
}

impl Refusal for CommitError {
    fn kind_of(&self) -> ErrorKind {
        self.kind()
    }
}

#[track_caller]
pub(crate) fn refused<T, E: Refusal>(result: Result<T, E>, kind: ErrorKind, what: &str) -> E {
    match result {
        Ok(_) => panic!("{what} is {kind}, but it succeeded"),
        Err(error) => {
            assert_eq!(error.kind_of(), kind, "{what} is {kind}, not {error:?}");
            error
        }
    }
}

/// Options with an overlay so small that it is frozen and applied all the time.
pub(crate) fn small_overlay() -> TreeOptions {
    TreeOptions { overlay_bytes_max: 8 << 10, ..TreeOptions::default() }
}

/// Waits for what a background thread does; a case that waits in vain says for what.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end in this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// What a scope shows, leaves and endings, with their versions.
///
/// # Errors
/// Those of reading.
pub(crate) fn shown(tree: &Tree, scope: &Scope) -> Result<Vec<StampedOp>> {
    let page = tree.view()?.stamped_page(scope, b"", usize::MAX, usize::MAX)?;
    let is_shown = |op: &StampedOp| {
        matches!(op.change, StampedChange::Put(_) | StampedChange::Ending(Some(_)))
    };
    Ok(page.ops.into_iter().filter(is_shown).collect())
}
