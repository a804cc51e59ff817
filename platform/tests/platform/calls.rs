//! The calls of a host: types of its own, threads, tasks, and transactions that meet others.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trellis::{
    Check, Commit, Condition, Error, ErrorKind, Input, IntoPath, Operation, Path, Trellis,
};

use crate::assert_refused;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest executor: whatever works here needs no async runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    celsius: f64,
    note: Option<String>,
}

#[test]
fn values_of_a_hosts_own_types_read_back_as_written() {
    let db = Trellis::memory().expect("a database");
    let reading = Reading { sensor: "s1".into(), celsius: -2.5, note: None };
    db.set("readings/r1", &reading).expect("a write");
    assert_eq!(db.get_as("readings/r1").expect("a read"), Some(reading));
    assert_eq!(db.get_as::<Reading>("readings/r2").expect("a read"), None);
    assert_eq!(db.get("readings/r1/celsius").expect("a read"), json!(-2.5));
    let wrong = db.get_as::<Vec<u8>>("readings/r1");
    let error = assert_refused(wrong, ErrorKind::InvalidInput, &["does not fit the type"]);
    assert!(!error.to_string().contains("s1"), "no value in a message");
}

#[test]
fn numbers_that_json_cannot_hold_are_refused_instead_of_deleting() {
    let db = Trellis::memory().expect("a database");
    db.set("a", 1.5).expect("a write");
    let bad = [json_unsafe(f64::NAN), json_unsafe(f64::INFINITY)];
    for reading in bad {
        assert_refused(db.set("a", &reading), ErrorKind::InvalidInput, &["NaN"]);
        assert_refused(db.set("a", vec![Some((1, reading))]), ErrorKind::InvalidInput, &["NaN"]);
    }
    assert_refused(db.set("a", f32::NEG_INFINITY), ErrorKind::InvalidInput, &["NaN"]);
    assert_eq!(db.get("a").expect("a read"), json!(1.5));
}

fn json_unsafe(celsius: f64) -> Reading {
    Reading { sensor: "s1".into(), celsius, note: None }
}

#[test]
fn each_call_does_what_it_says() {
    let db = Trellis::memory().expect("a database");
    let first = db.set("users/u1", json!({"name": "Alice"})).expect("a write");
    let second = db.update([("users/u1/age", 33), ("users/u2/age", 44)]).expect("a write");
    assert!(second > first);
    let key = db.push("events", "signed in").expect("a push");
    assert_eq!(db.get(format!("events/{key}")).expect("a read"), json!("signed in"));
    assert!(db.push("events", 2).expect("a push") > key);
    assert!(db.exists("users/u2").expect("a read"));
    db.delete("users/u2").expect("a delete");
    assert!(!db.exists("users/u2").expect("a read"));
    let users = db.children("users", None, 10).expect("a read");
    assert_eq!(users.items.iter().map(|child| &*child.key).collect::<Vec<_>>(), ["u1"]);
    assert_eq!(db.get("users").expect("a read"), json!({"u1": {"age": 33, "name": "Alice"}}));
    assert_refused(db.set("a//b", 1), ErrorKind::InvalidInput, &[]);
    assert_refused(db.set("_auth/x", 1), ErrorKind::Denied, &[]);
}

fn path(text: &str) -> Path {
    text.into_path().expect("a path")
}

fn set(text: &str, value: Value) -> Operation {
    let value = Input::from_json(value).expect("a value");
    Operation::Set { path: path(text), value, expiry: None }
}

#[test]
fn a_refused_commit_tells_what_stood_in_its_way() {
    let db = Trellis::memory().expect("a database");
    db.set("stock", 3).expect("a write");
    let commit = Commit::new(vec![set("stock", json!(1))]);
    let commit = commit.when(Condition { path: path("stock"), check: Check::Absent });
    let refused = db.commit(commit).expect_err("the condition does not hold");
    assert_eq!(refused.error.kind(), ErrorKind::Conflict);
    let failed: Vec<&str> = refused.failed.iter().map(|failed| failed.value.get()).collect();
    assert_eq!(failed, ["3"]);
}

#[test]
fn transactions_that_meet_lose_nothing() {
    let db = Trellis::memory().expect("a database");
    let add_one = |current: Value| Ok(json!(current.as_i64().unwrap_or(0) + 1));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    db.transaction("counter", add_one).expect("a transaction");
                }
            });
        }
    });
    assert_eq!(db.get("counter").expect("a read"), json!(100));
    let tasks = db.asynchronous();
    let committed = block_on(tasks.transaction("counter", add_one)).expect("a transaction");
    assert_eq!(committed.rev, 101);
}

#[test]
fn a_transaction_ends_with_its_own_error_or_after_25_tries() {
    let db = Trellis::memory().expect("a database");
    let stop = |_| Err(Error::new(ErrorKind::Denied, "not on a Sunday"));
    assert_refused(db.transaction("a", stop), ErrorKind::Denied, &["Sunday"]);
    let mut tries = 0;
    let overtaken = db.transaction("a", |_| {
        tries += 1;
        db.set("a", tries)?;
        Ok(json!("mine"))
    });
    assert_refused(overtaken, ErrorKind::Conflict, &["tries=25"]);
    assert_eq!(db.get("a").expect("a read"), json!(25));
}

#[test]
fn tasks_need_no_async_runtime_and_share_the_database_with_threads() {
    let db = Trellis::memory().expect("a database");
    let tasks = db.asynchronous();
    block_on(async {
        tasks.set("a/b", json!([1, 2])).await?;
        tasks.update([("a/c", 1), ("a/d", 2)]).await?;
        tasks.delete("a/d").await?;
        assert_eq!(tasks.get("a").await?, json!({"b": [1, 2], "c": 1}));
        assert_eq!(tasks.get_as::<Vec<u8>>("a/b").await?, Some(vec![1, 2]));
        let key = tasks.push("list", "x").await?;
        assert!(tasks.exists(format!("list/{key}")).await?);
        assert_eq!(tasks.children("a", Some("b"), 1).await?.items.len(), 1);
        Ok::<(), Error>(())
    })
    .expect("the calls");
    assert_eq!(db.get("a/c").expect("a read"), json!(1));
    block_on(tasks.close()).expect("a close");
    assert_refused(db.get("a"), ErrorKind::Closed, &[]);
    assert_refused(db.set("a", 1), ErrorKind::Closed, &[]);
    assert_refused(block_on(tasks.set("a", 1)), ErrorKind::Closed, &[]);
}
