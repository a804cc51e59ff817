//! Appends: dense offsets, expectations, visibility, streams, the profile, exclusive opening.

use trellis_engine_traits::{Bounds, Durability, ErrorKind, Expect, Persistence};

use super::LogWorld;
use super::tools::{
    append, append_synced, append_to, bounds, dump, main, read, records, refused, stream, texts,
};
use crate::{Case, Need};

pub(super) const CASES: &[Case<LogWorld>] = &[
    Case::new("log.profile.constant", &["log.profile.constant"], profile_constant),
    Case::new("log.profile.minima", &["log.profile.constant", "log.append.limits"], minima),
    Case::new("log.profile.disk", &["log.profile.constant"], profile_disk).needs(&[Need::Disk]),
    Case::new("log.profile.volatile", &["log.profile.constant"], profile_volatile)
        .needs(&[Need::Volatile]),
    Case::new("log.append.offsets", &["log.append.dense"], offsets),
    Case::new("log.append.offsets_after_reopen", &["log.append.dense"], offsets_after_reopen),
    Case::new("log.append.visible_at_once", &["log.append.visible"], visible),
    Case::new("log.append.expect_next", &["log.append.expect"], expect_next),
    Case::new("log.append.expect_is_clean", &["log.append.expect"], expect_is_clean),
    Case::new("log.append.expect_replay", &["log.append.expect"], expect_replay),
    Case::new("log.append.nothing", &["log.append.empty"], empty),
    Case::new("log.append.empty_records", &["log.read.order", "log.append.dense"], empty_records),
    Case::new("log.append.synced_bounds", &["log.bounds.durable"], synced_bounds),
    Case::new("log.bounds.of_nothing", &["log.bounds.durable", "log.read.beyond"], of_nothing),
    Case::new("log.flush.bounds", &["log.bounds.durable", "log.flush.durable"], flush_bounds),
    Case::new("log.flush.beyond", &["log.flush.durable"], flush_beyond),
    Case::new("log.streams.apart", &["log.streams.independent"], streams_apart),
    Case::new("log.streams.trims_apart", &["log.streams.independent"], trims_apart),
    Case::new("log.streams.listed_in_order", &["log.streams.listed"], listed),
    Case::new("log.streams.listed_once_appended", &["log.streams.listed"], listed_when),
    Case::new("log.streams.many", &["log.streams.listed", "log.streams.independent"], many),
    Case::new("log.open.locked", &["log.open.exclusive"], open_locked),
];

fn profile_constant(world: &LogWorld) {
    let log = world.engine();
    let before = log.profile().clone();
    assert!(!before.name.is_empty());
    append(&*log, ["a"]);
    assert_eq!(*log.profile(), before, "after an append");
    append_synced(&*log, ["b"]);
    log.trim(&main(), 2).unwrap();
    assert_eq!(*log.profile(), before, "after a trim");
    log.close().unwrap();
    assert_eq!(*log.profile(), before, "after closing");
    drop(log);
    assert_eq!(*world.reopen().profile(), before, "after a reopen");
}

fn minima(world: &LogWorld) {
    let limits = world.engine().profile().limits;
    assert!(limits.record_bytes_max >= 17 << 20, "{limits:?}");
    assert!(limits.append_bytes_max >= 64 << 20, "{limits:?}");
}

fn profile_disk(world: &LogWorld) {
    assert_eq!(world.engine().profile().persistence, Persistence::Disk);
}

fn profile_volatile(world: &LogWorld) {
    assert_eq!(world.engine().profile().persistence, Persistence::Volatile);
}

fn offsets(world: &LogWorld) {
    let log = world.engine();
    let mut next = 1;
    for count in [1, 2, 5, 1, 100, 3] {
        let at = append(&*log, (0..count).map(|index| format!("{next}+{index}")));
        assert_eq!((at.first, at.next), (next, next + count));
        next = at.next;
        assert_eq!(bounds(&*log, &main()).next, next);
    }
    assert_eq!(dump(&*log, &main()).len() as u64, next - 1);
}

fn offsets_after_reopen(world: &LogWorld) {
    let mut expected = Vec::new();
    for round in 0..8u64 {
        let log = world.reopen();
        let at = append(&*log, [format!("{round}a"), format!("{round}b")]);
        assert_eq!(at.first, round * 2 + 1);
        expected.extend([format!("{round}a"), format!("{round}b")]);
    }
    assert_eq!(texts(&*world.reopen()), expected);
}

fn visible(world: &LogWorld) {
    let log = world.engine();
    for round in 0..50 {
        let durability = if round % 10 == 0 { Durability::Synced } else { Durability::Buffered };
        let at = append_to(&*log, &main(), [format!("{round}")], durability);
        let (seen, _) =
            read(&*log, &main(), at.first, trellis_engine_traits::ReadBudget::UNLIMITED).unwrap();
        assert_eq!(seen, [(at.first, format!("{round}").into())]);
    }
}

fn expect_next(world: &LogWorld) {
    let log = world.engine();
    let add = |expected| {
        log.append(&main(), &records(["r"]), Expect::Next(expected), Durability::Buffered)
    };
    for wrong in [0, 2, 100, u64::MAX] {
        refused(add(wrong), ErrorKind::Conflict, "another next offset");
    }
    assert_eq!(add(1).unwrap().next, 2);
    for wrong in [0, 1, 3] {
        refused(add(wrong), ErrorKind::Conflict, "another next offset");
    }
    let three = records(["x", "y", "z"]);
    let at = log.append(&main(), &three, Expect::Next(2), Durability::Synced).unwrap();
    assert_eq!((at.first, at.next), (2, 5));
    log.trim(&main(), 5).unwrap();
    refused(add(1), ErrorKind::Conflict, "an offset used before the trim");
    assert_eq!(add(5).unwrap().first, 5);
}

fn expect_is_clean(world: &LogWorld) {
    let log = world.engine();
    append(&*log, ["a", "b"]);
    for durability in [Durability::Buffered, Durability::Synced] {
        let result = log.append(&main(), &records(["never", "ever"]), Expect::Next(2), durability);
        refused(result, ErrorKind::Conflict, "another next offset");
        let other = log.append(&stream("other"), &records(["never"]), Expect::Next(2), durability);
        refused(other, ErrorKind::Conflict, "another next offset of a new stream");
        assert_eq!(texts(&*log), ["a", "b"]);
    }
    append(&*log, ["c"]);
    drop(log);
    let log = world.reopen();
    assert_eq!(texts(&*log), ["a", "b", "c"]);
    assert_eq!(bounds(&*log, &stream("other")).next, 1);
    assert_eq!(log.streams(None, 9).unwrap(), [main()], "a refused append made a stream");
}

fn expect_replay(world: &LogWorld) {
    let mut expected = Vec::new();
    for number in 1..=10u64 {
        let log = world.reopen();
        // A producer that does not know whether its last append arrived sends it again.
        for attempt in 0..2 {
            let record = records([format!("record {number}")]);
            let sent = log.append(&main(), &record, Expect::Next(number), Durability::Synced);
            match attempt {
                0 => assert_eq!(sent.unwrap().first, number),
                _ => refused(sent, ErrorKind::Conflict, "the same append again"),
            }
        }
        expected.push(format!("record {number}"));
    }
    assert_eq!(texts(&*world.engine()), expected);
}

fn empty(world: &LogWorld) {
    let log = world.engine();
    for durability in [Durability::Buffered, Durability::Synced] {
        let at = log.append(&main(), &[], Expect::Any, durability).unwrap();
        assert_eq!((at.first, at.next), (1, 1));
    }
    assert!(log.streams(None, 9).unwrap().is_empty(), "a stream begins with its first record");
    append(&*log, ["a", "b"]);
    let at = log.append(&main(), &[], Expect::Any, Durability::Synced).unwrap();
    assert_eq!((at.first, at.next), (3, 3));
    let at = log.append(&main(), &[], Expect::Next(3), Durability::Buffered).unwrap();
    assert_eq!(at.next, 3);
    let wrong = log.append(&main(), &[], Expect::Next(2), Durability::Buffered);
    refused(wrong, ErrorKind::Conflict, "another next offset, with no records");
    assert_eq!(append(&*log, ["c"]).first, 3);
    assert_eq!(texts(&*log), ["a", "b", "c"]);
}

fn empty_records(world: &LogWorld) {
    let log = world.engine();
    append(&*log, ["", "a", "", ""]);
    append(&*log, [""]);
    drop(log);
    assert_eq!(texts(&*world.reopen()), ["", "a", "", "", ""]);
    assert_eq!(append(&*world.engine(), ["b"]).first, 6);
    assert_eq!(texts(&*world.kill_and_reopen())[..5], ["", "a", "", "", ""]);
}

fn synced_bounds(world: &LogWorld) {
    let log = world.engine();
    let mut durable = 1;
    for round in 0..20 {
        let synced = round % 3 == 2;
        let at = if synced { append_synced(&*log, ["x", "y"]) } else { append(&*log, ["x"]) };
        let now = bounds(&*log, &main());
        assert_eq!(now.next, at.next);
        assert!(now.durable_next >= durable, "durable_next fell: {now:?}");
        assert!(!synced || now.durable_next == at.next, "after a synced append: {now:?}");
        durable = now.durable_next;
    }
}

fn of_nothing(world: &LogWorld) {
    let log = world.engine();
    let none = Bounds { first: 1, next: 1, durable_next: 1 };
    assert_eq!(bounds(&*log, &main()), none);
    assert!(dump(&*log, &main()).is_empty());
    log.trim(&main(), 1).expect("nothing to trim");
    log.flush(&main(), 1).expect("nothing to flush");
    assert_eq!(bounds(&*log, &main()), none);
    assert!(log.streams(None, 9).unwrap().is_empty());
    drop(log);
    assert_eq!(bounds(&*world.reopen(), &main()), none);
}

fn flush_bounds(world: &LogWorld) {
    let log = world.engine();
    let mut durable = 1;
    for round in 0..10 {
        let at = append(&*log, [format!("{round}"), "more".into()]);
        log.flush(&main(), at.first + 1).unwrap();
        let now = bounds(&*log, &main());
        assert!(now.durable_next > at.first && now.durable_next >= durable, "{now:?}");
        log.flush(&main(), at.next).unwrap();
        durable = bounds(&*log, &main()).durable_next;
        assert_eq!(durable, at.next, "everything was flushed");
        log.flush(&main(), 1).expect("an older offset");
        assert_eq!(bounds(&*log, &main()).durable_next, durable);
    }
}

fn flush_beyond(world: &LogWorld) {
    let log = world.engine();
    refused(log.flush(&main(), 2), ErrorKind::InvalidInput, "beyond the end of nothing");
    append(&*log, ["a", "b"]);
    for beyond in [4, 100, u64::MAX] {
        refused(log.flush(&main(), beyond), ErrorKind::InvalidInput, "beyond the end");
    }
    log.flush(&main(), 3).expect("the log goes on");
    assert_eq!(texts(&*log), ["a", "b"]);
}

fn streams_apart(world: &LogWorld) {
    let log = world.engine();
    let (a, b) = (stream("a"), stream("ab"));
    for round in 0..10 {
        assert_eq!(
            append_to(&*log, &a, [format!("a{round}")], Durability::Buffered).first,
            round + 1
        );
        let at = append_to(&*log, &b, [format!("b{round}"), "b".into()], Durability::Buffered);
        assert_eq!(at.first, round * 2 + 1);
    }
    assert_eq!(dump(&*log, &a).len(), 10);
    assert!(dump(&*log, &a).iter().all(|(_, record)| record.starts_with(b"a")));
    assert!(dump(&*log, &b).iter().all(|(_, record)| record.starts_with(b"b")));
    assert_eq!(bounds(&*log, &stream("abc")).next, 1);
    drop(log);
    let log = world.reopen();
    assert_eq!((dump(&*log, &a).len(), dump(&*log, &b).len()), (10, 20));
}

fn trims_apart(world: &LogWorld) {
    let log = world.engine();
    let (a, b) = (stream("a"), stream("b"));
    for name in [&a, &b] {
        append_to(&*log, name, ["1", "2", "3"], Durability::Synced);
    }
    log.trim(&a, 4).unwrap();
    assert_eq!(bounds(&*log, &b).first, 1);
    assert_eq!(dump(&*log, &b).len(), 3);
    drop(log);
    let log = world.reopen();
    assert_eq!(dump(&*log, &b).len(), 3);
    assert_eq!((bounds(&*log, &a).next, bounds(&*log, &b).next), (4, 4));
}

fn listed(world: &LogWorld) {
    let log = world.engine();
    let longest = "z".repeat(128);
    let mut names = vec!["b", "a", "a-b", "a.b", "a_b", "0", "zz", "a0", &longest, "-", "_"];
    for name in &names {
        append_to(&*log, &stream(name), ["r"], Durability::Buffered);
        append_to(&*log, &stream(name), ["s"], Durability::Buffered);
    }
    names.sort_unstable();
    let expected: Vec<_> = names.iter().map(|name| stream(name)).collect();
    drop(log);
    let log = world.reopen();
    assert_eq!(log.streams(None, usize::MAX).unwrap(), expected);
    assert_eq!(log.streams(None, 0).unwrap(), []);
    for limit in 1..=expected.len() + 1 {
        let mut paged = Vec::new();
        loop {
            let page = log.streams(paged.last(), limit).unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            assert!(paged.last() < page.first(), "a page goes on after the one before");
            paged.extend(page);
        }
        assert_eq!(paged, expected, "in pages of {limit}");
    }
    let after = log.streams(Some(&stream("a5")), 2).unwrap();
    assert_eq!(after, [stream("a_b"), stream("b")], "after a name that does not exist");
    assert_eq!(dump(&*log, &stream(&longest)).len(), 2);
}

fn listed_when(world: &LogWorld) {
    let log = world.engine();
    bounds(&*log, &stream("asked"));
    dump(&*log, &stream("read"));
    append(&*log, ["a"]);
    log.trim(&main(), 2).unwrap();
    assert_eq!(log.streams(None, 9).unwrap(), [main()], "a trimmed stream is still one");
    drop(log);
    assert_eq!(world.reopen().streams(None, 9).unwrap(), [main()]);
}

fn many(world: &LogWorld) {
    let log = world.engine();
    let name = |index: u32| stream(&format!("s{index:03}"));
    for round in 0..3 {
        for index in 0..60 {
            let record = [format!("{index}:{round}")];
            append_to(&*log, &name(index), record, Durability::Buffered);
        }
    }
    drop(log);
    let log = world.reopen();
    assert_eq!(log.streams(None, 1_000).unwrap(), (0..60).map(name).collect::<Vec<_>>());
    for index in 0..60 {
        let expected: Vec<_> =
            (0..3u64).map(|round| (round + 1, format!("{index}:{round}").into())).collect();
        assert_eq!(dump(&*log, &name(index)), expected);
    }
}

fn open_locked(world: &LogWorld) {
    let log = world.engine();
    append(&*log, ["a"]);
    for _ in 0..3 {
        refused(world.open_again(), ErrorKind::Locked, "a second open");
    }
    append(&*log, ["b"]);
    assert_eq!(texts(&*log), ["a", "b"], "the first open goes on");
    drop(log);
    assert_eq!(texts(&*world.reopen()), ["a", "b"], "free again after a close");
    assert_eq!(texts(&*world.kill_and_reopen()), ["a", "b"], "free again after a drop");
}
