//! The life of a handle: every call on a closed store and on the views it gave out.

use std::ops::ControlFlow;

use trellis_engine_traits::{
    CommitSeq, Durability, ErrorKind, KeyRange, KvBackend, KvSnapshot, MaintenanceBudget, Result,
    Scan,
};

use super::KvWorld;
use super::tools::{SPACE, batch, commit, get, names, put, puts, refused};
use crate::Case;

type StoreCall = fn(&dyn KvBackend) -> Result<()>;
type ViewCall = fn(&dyn KvSnapshot) -> Result<()>;

/// Every call of the trait but `profile` and `close`.
const STORE_CALLS: &[(&str, StoreCall)] = &[
    ("snapshot", |kv| kv.snapshot().map(drop)),
    ("commit", |kv| kv.commit(&puts([("k", "x")]), Durability::Buffered).map(drop)),
    ("synced commit", |kv| kv.commit(&puts([("k", "x")]), Durability::Synced).map(drop)),
    ("empty commit", |kv| kv.commit(&batch(), Durability::Synced).map(drop)),
    ("flush", |kv| kv.flush(CommitSeq(1))),
    ("flush of an unknown number", |kv| kv.flush(CommitSeq(u64::MAX))),
    ("maintain", |kv| {
        kv.maintain(MaintenanceBudget { time: std::time::Duration::from_millis(1) }).map(drop)
    }),
    ("check", |kv| kv.check().map(drop)),
    ("usage", |kv| kv.usage().map(drop)),
];

/// Every call of a view but `seq`.
const VIEW_CALLS: &[(&str, ViewCall)] = &[
    ("get", |view| view.get(SPACE, b"k").map(drop)),
    ("get of a missing key", |view| view.get(SPACE, b"none").map(drop)),
    ("scan", |view| {
        let visit = &mut |_: &[u8], _: &[u8]| ControlFlow::Continue(());
        view.scan(&Scan::forward(SPACE, KeyRange::all()), visit).map(drop)
    }),
    ("reverse scan", |view| {
        let visit = &mut |_: &[u8], _: &[u8]| ControlFlow::Continue(());
        view.scan(&Scan::reverse(SPACE, KeyRange::all()), visit).map(drop)
    }),
];

pub(super) const CASES: &[Case<KvWorld>] = &[
    Case::new("kv.closed.store_calls", &["kv.close.idempotent"], store_calls),
    Case::new("kv.closed.view_calls", &["kv.close.idempotent"], view_calls),
    Case::new("kv.closed.again", &["kv.close.idempotent"], closing_again),
    Case::new("kv.closed.before_first_use", &["kv.close.idempotent"], close_unused),
    Case::new("kv.closed.view_dropped_later", &["kv.close.idempotent"], view_dropped_later),
    Case::new(
        "kv.closed.beside_writers",
        &["kv.close.idempotent", "kv.close.durable"],
        close_beside_writers,
    ),
    Case::new("kv.closed.beside_readers", &["kv.close.idempotent"], close_beside_readers),
];

fn store_calls(world: &KvWorld) {
    let kv = world.engine();
    put(&*kv, "k", "v");
    kv.close().unwrap();
    for (name, call) in STORE_CALLS {
        refused(call(&*kv), ErrorKind::Closed, name);
    }
    kv.close().expect("closing twice is fine");
    for (name, call) in STORE_CALLS {
        refused(call(&*kv), ErrorKind::Closed, name);
    }
    drop(kv);
    let kv = world.reopen();
    assert_eq!(get(&*kv, "k").unwrap(), "v", "a refused commit left a trace");
    assert_eq!(names(&*kv), ["k"]);
}

fn view_calls(world: &KvWorld) {
    let kv = world.engine();
    let seq = put(&*kv, "k", "v");
    let (first, second) = (kv.snapshot().unwrap(), kv.snapshot().unwrap());
    kv.close().unwrap();
    for view in [first, second] {
        for (name, call) in VIEW_CALLS {
            refused(call(&*view), ErrorKind::Closed, name);
        }
        assert_eq!(view.seq(), seq);
    }
}

fn closing_again(world: &KvWorld) {
    let kv = world.engine();
    put(&*kv, "k", "v");
    for _ in 0..3 {
        kv.close().expect("closing is idempotent");
    }
    let shared = &*kv;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || shared.close().expect("by any thread"));
        }
    });
    drop(kv);
    let kv = world.reopen();
    let shared = &*kv;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || shared.close().expect("several at once"));
        }
    });
    drop(kv);
    assert_eq!(names(&*world.reopen()), ["k"]);
}

fn close_unused(world: &KvWorld) {
    world.engine().close().unwrap();
    assert_eq!(names(&*world.reopen()), [""; 0]);
    world.engine().close().unwrap();
}

fn view_dropped_later(world: &KvWorld) {
    let kv = world.engine();
    put(&*kv, "k", "v");
    let view = kv.snapshot().unwrap();
    drop(kv);
    let kv = world.reopen();
    put(&*kv, "l", "w");
    refused(view.get(SPACE, b"k"), ErrorKind::Closed, "a view of the closed store");
    drop(view);
    assert_eq!(names(&*kv), ["k", "l"], "the new open is another store");
}

fn close_beside_writers(world: &KvWorld) {
    for round in 0..4 {
        let kv = world.engine();
        let shared = &*kv;
        let accepted: Vec<String> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|writer| scope.spawn(move || write_until_closed(shared, round, writer)))
                .collect();
            while get(shared, key_of(round, 0, 20)).is_none() {
                std::thread::yield_now();
            }
            shared.close().unwrap();
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
        });
        drop(kv);
        let found = names(&*world.reopen());
        for key in accepted {
            assert!(
                found.binary_search(&key).is_ok(),
                "{key} was accepted before the close, and is gone"
            );
        }
    }
}

fn key_of(round: usize, writer: usize, index: usize) -> String {
    format!("{round}/{writer}/{index:06}")
}

fn write_until_closed(kv: &dyn KvBackend, round: usize, writer: usize) -> Vec<String> {
    let mut accepted = Vec::new();
    loop {
        let key = key_of(round, writer, accepted.len());
        match kv.commit(&puts([(&key, "v")]), Durability::Buffered) {
            Ok(_) => accepted.push(key),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
                return accepted;
            }
        }
    }
}

fn close_beside_readers(world: &KvWorld) {
    let kv = world.engine();
    commit(&*kv, &puts((0..300).map(|index| (format!("{index:03}"), "v"))));
    let shared = &*kv;
    std::thread::scope(|scope| {
        let (started, wait) = std::sync::mpsc::channel();
        for _ in 0..3 {
            let started = started.clone();
            scope.spawn(move || {
                loop {
                    let seen = shared.snapshot().and_then(|view| {
                        let all = Scan::forward(SPACE, KeyRange::all());
                        trellis_engine_traits::KvSnapshotExt::collect(&*view, &all, 1_000)
                    });
                    match seen {
                        Ok(pairs) => assert_eq!(pairs.len(), 300, "a scan was cut short"),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
                            return;
                        }
                    }
                    // Nobody waits any more once the close was called.
                    started.send(()).ok();
                }
            });
        }
        for _ in 0..9 {
            wait.recv().unwrap();
        }
        shared.close().unwrap();
    });
}
