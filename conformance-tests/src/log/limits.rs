//! The largest and the smallest of everything.

use bytes::Bytes;
use trellis_engine_traits::{Durability, ErrorKind, Expect};

use super::LogWorld;
use super::tools::{append, bounds, dump, main, records, stream, texts};
use crate::Case;

pub(super) const CASES: &[Case<LogWorld>] = &[
    Case::new("log.limits.largest_record", &["log.append.limits", "log.read.order"], largest),
    Case::new("log.limits.record_too_large", &["log.append.limits"], record_too_large),
    Case::new("log.limits.append_too_large", &["log.append.limits"], append_too_large),
    Case::new("log.limits.append_bytes_full", &["log.append.limits"], append_full).full(),
    Case::new("log.limits.many_records", &["log.append.limits", "log.append.dense"], many_records),
    Case::new("log.limits.longest_name", &["log.streams.listed"], longest_name),
];

fn largest(world: &LogWorld) {
    let log = world.engine();
    let record = world.rng("record").bytes(log.profile().limits.record_bytes_max);
    append(&*log, [&b"before"[..], &record, b"after"]);
    drop(log);
    let log = world.reopen();
    let found = dump(&*log, &main());
    assert_eq!(found.len(), 3);
    assert!(found[1].1 == record, "the largest record was changed");
    assert_eq!(found[2].1, "after");
}

/// Demands that `over` is refused as too large and nothing appended.
fn too_large(world: &LogWorld, over: &[Bytes], limit: &str) {
    let log = world.engine();
    for durability in [Durability::Buffered, Durability::Synced] {
        for target in [main(), stream("new")] {
            let error = log.append(&target, over, Expect::Any, durability).expect_err(limit);
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{error:?}");
            assert!(error.fact(limit).is_some(), "the error names {limit}: {error:?}");
        }
    }
    assert_eq!(texts(&*log), ["a"], "something was appended");
    assert_eq!(log.streams(None, 9).unwrap(), [main()], "a stream was made");
    assert_eq!(bounds(&*log, &stream("new")).next, 1);
}

fn record_too_large(world: &LogWorld) {
    let log = world.engine();
    append(&*log, ["a"]);
    let over = Bytes::from(vec![1; log.profile().limits.record_bytes_max + 1]);
    too_large(world, std::slice::from_ref(&over), "record_bytes_max");
    too_large(world, &[Bytes::from("good"), over, Bytes::from("good")], "record_bytes_max");
    assert_eq!(append(&*log, ["b"]).first, 2, "the log goes on");
}

/// Records of one shared buffer that are `total_bytes` together.
fn of_size(total_bytes: usize, record_bytes: usize) -> Vec<Bytes> {
    let record = Bytes::from(vec![5; record_bytes]);
    let mut all = vec![record.clone(); total_bytes / record_bytes];
    all.push(record.slice(..total_bytes % record_bytes));
    all
}

fn append_too_large(world: &LogWorld) {
    let log = world.engine();
    append(&*log, ["a"]);
    let limits = log.profile().limits;
    let over = of_size(limits.append_bytes_max + 1, limits.record_bytes_max);
    too_large(world, &over, "append_bytes_max");
}

fn append_full(world: &LogWorld) {
    let log = world.engine();
    let limits = log.profile().limits;
    let full = of_size(limits.append_bytes_max, limits.record_bytes_max);
    let at = log.append(&main(), &full, Expect::Next(1), Durability::Synced).expect("the limit");
    assert_eq!(at.next, full.len() as u64 + 1);
    drop(log);
    assert_eq!(dump(&*world.reopen(), &main()).len(), full.len());
}

fn many_records(world: &LogWorld) {
    let log = world.engine();
    let all = records((0..20_000).map(|index| index.to_string()));
    let at = log.append(&main(), &all, Expect::Next(1), Durability::Buffered).unwrap();
    assert_eq!(at.next, 20_001);
    drop(log);
    let found = dump(&*world.reopen(), &main());
    assert!(found.iter().map(|(_, record)| record).eq(all.iter()));
}

fn longest_name(world: &LogWorld) {
    let log = world.engine();
    let names = ["n".repeat(128), "n".repeat(127), format!("{}m", "n".repeat(127)), "n".into()];
    for name in &names {
        let one = records([name]);
        log.append(&stream(name), &one, Expect::Next(1), Durability::Buffered).unwrap();
    }
    drop(log);
    let log = world.reopen();
    assert_eq!(log.streams(None, 9).unwrap().len(), names.len());
    for name in &names {
        assert_eq!(dump(&*log, &stream(name)), [(1, Bytes::copy_from_slice(name.as_bytes()))]);
    }
}
