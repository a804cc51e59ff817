//! The life of a handle: every call on a closed log.

use trellis_engine_traits::{Durability, ErrorKind, Expect, ReadBudget, Result, StreamLog};

use super::LogWorld;
use super::tools::{append, append_to, dump, main, read, records, refused, stream, texts};
use crate::Case;

type Call = fn(&dyn StreamLog) -> Result<()>;

/// Every call of the trait but `profile` and `close`.
const CALLS: &[(&str, Call)] = &[
    ("append", |log| {
        log.append(&main(), &records(["x"]), Expect::Any, Durability::Buffered).map(drop)
    }),
    ("synced append", |log| {
        log.append(&main(), &records(["x"]), Expect::Any, Durability::Synced).map(drop)
    }),
    ("append to a new stream", |log| {
        log.append(&stream("new"), &records(["x"]), Expect::Any, Durability::Synced).map(drop)
    }),
    ("empty append", |log| log.append(&main(), &[], Expect::Any, Durability::Buffered).map(drop)),
    ("read", |log| read(log, &main(), 1, ReadBudget::UNLIMITED).map(drop)),
    ("bounds", |log| log.bounds(&main()).map(drop)),
    ("bounds of an unknown stream", |log| log.bounds(&stream("new")).map(drop)),
    ("trim", |log| log.trim(&main(), 1)),
    ("flush", |log| log.flush(&main(), 1)),
    ("streams", |log| log.streams(None, 9).map(drop)),
];

pub(super) const CASES: &[Case<LogWorld>] = &[
    Case::new("log.closed.calls", &["log.close.idempotent"], calls),
    Case::new("log.closed.again", &["log.close.idempotent"], closing_again),
    Case::new("log.closed.before_first_use", &["log.close.idempotent"], close_unused),
    Case::new(
        "log.closed.beside_writers",
        &["log.close.idempotent", "log.close.durable"],
        close_beside_writers,
    ),
    Case::new("log.closed.beside_readers", &["log.close.idempotent"], close_beside_readers),
];

fn calls(world: &LogWorld) {
    let log = world.engine();
    append(&*log, ["a"]);
    log.close().unwrap();
    for _ in 0..2 {
        for (name, call) in CALLS {
            refused(call(&*log), ErrorKind::Closed, name);
        }
        log.close().expect("closing twice is fine");
    }
    drop(log);
    let log = world.reopen();
    assert_eq!(texts(&*log), ["a"], "a refused append left a trace");
    assert_eq!(log.streams(None, 9).unwrap(), [main()]);
}

fn closing_again(world: &LogWorld) {
    for round in 1..=2u64 {
        let log = world.reopen();
        append(&*log, ["a"]);
        let shared = &*log;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || shared.close().expect("several at once"));
            }
        });
        log.close().expect("and once more");
        drop(log);
        assert_eq!(dump(&*world.reopen(), &main()).len() as u64, round);
    }
}

fn close_unused(world: &LogWorld) {
    world.engine().close().unwrap();
    assert!(texts(&*world.reopen()).is_empty());
    world.engine().close().unwrap();
}

fn close_beside_writers(world: &LogWorld) {
    let name = |writer: usize| stream(&format!("writer{writer}"));
    let mut kept = [0u64; 3];
    for _ in 0..4 {
        let log = world.reopen();
        let shared = &*log;
        let accepted: Vec<u64> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|writer| scope.spawn(move || write_until_closed(shared, writer)))
                .collect();
            while shared.bounds(&name(0)).unwrap().next < kept[0] + 20 {
                std::thread::yield_now();
            }
            shared.close().unwrap();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        drop(log);
        let log = world.reopen();
        for writer in 0..3 {
            let found = dump(&*log, &name(writer)).len() as u64;
            kept[writer] += accepted[writer];
            assert_eq!(found, kept[writer], "what was accepted before the close is there");
        }
    }
}

fn write_until_closed(log: &dyn StreamLog, writer: usize) -> u64 {
    let (name, record) = (stream(&format!("writer{writer}")), records(["a record"]));
    let mut accepted = 0;
    loop {
        match log.append(&name, &record, Expect::Any, Durability::Buffered) {
            Ok(_) => accepted += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
                return accepted;
            }
        }
    }
}

fn close_beside_readers(world: &LogWorld) {
    let log = world.engine();
    append_to(&*log, &main(), (0..300).map(|_| [9; 100]), Durability::Synced);
    let shared = &*log;
    std::thread::scope(|scope| {
        let (started, wait) = std::sync::mpsc::channel();
        for _ in 0..3 {
            let started = started.clone();
            scope.spawn(move || {
                loop {
                    match read(shared, &main(), 1, ReadBudget::UNLIMITED) {
                        Ok((seen, _)) => assert_eq!(seen.len(), 300, "a read was cut short"),
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
