//! What is a torn end, and what is damage.

use trellis_engine_traits::{Durability, ErrorKind, StreamLog};

use crate::{Bench, append, edit, flip, id, read, segment_name, try_read};

const FRAMES_BEGIN: usize = 4096;

/// The end of the frames in a segment file whose records end in no zero.
fn end_of(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1
}

#[test]
fn a_torn_end_is_dropped_at_every_byte_and_never_comes_back() {
    let bench = Bench::new(1 << 20);
    let log = bench.open();
    append(&log, "s", &[b"first"], Durability::Synced);
    let path = bench.path("s", &segment_name(1));
    let start = end_of(&std::fs::read(&path).unwrap());
    append(&log, "s", &[b"second", b"third"], Durability::Buffered);
    drop(log);
    let whole = std::fs::read(&path).unwrap();
    let mark = std::fs::read(bench.path("s", "durable")).unwrap();
    for cut in start..=end_of(&whole) {
        for garbage in [0, 0xA5] {
            edit(&path, |bytes| {
                bytes.clone_from(&whole);
                bytes[cut..end_of(&whole)].fill(garbage);
            });
            std::fs::write(bench.path("s", "durable"), &mark).unwrap();
            let log = bench.open();
            let kept = if cut == end_of(&whole) { 3 } else { 1 };
            assert_eq!(read(&log, "s", 1).len(), kept, "cut at {cut}");
            append(&log, "s", &[b"x"], Durability::Synced);
            drop(log);
            assert_eq!(read(&bench.open(), "s", 1).len(), kept + 1);
        }
        edit(&path, |bytes| *bytes = whole[..cut].to_vec());
        std::fs::write(bench.path("s", "durable"), &mark).unwrap();
        let kept = if cut == end_of(&whole) { 3 } else { 1 };
        assert_eq!(read(&bench.open(), "s", 1).len(), kept, "shortened to {cut}");
    }
}

#[test]
fn a_later_frame_that_was_not_durable_proves_nothing() {
    let bench = Bench::new(1 << 20);
    let log = bench.open();
    append(&log, "s", &[b"first"], Durability::Synced);
    let path = bench.path("s", &segment_name(1));
    let start = end_of(&std::fs::read(&path).unwrap());
    append(&log, "s", &[b"second"], Durability::Buffered);
    append(&log, "s", &[b"third"], Durability::Buffered);
    drop(log);
    edit(&path, |bytes| bytes[start] = 0);
    let log = bench.open();
    assert_eq!(read(&log, "s", 1).len(), 1);
    assert_eq!(log.bounds(&id("s")).unwrap().next, 2);
    // A frame of the same size takes the place of the lost one; the dropped one behind it must not
    // be there to be taken for its successor.
    append(&log, "s", &[b"SECOND"], Durability::Synced);
    drop(log);
    assert_eq!(read(&bench.open(), "s", 1).len(), 2);
}

#[test]
fn a_later_frame_that_says_so_proves_durability_without_the_mark() {
    let bench = Bench::new(1 << 20);
    let log = bench.open();
    for record in [b"one", b"two", b"six"] {
        append(&log, "s", &[record], Durability::Synced);
    }
    drop(log);
    std::fs::remove_file(bench.path("s", "durable")).unwrap();
    let path = bench.path("s", &segment_name(1));
    let whole = std::fs::read(&path).unwrap();
    edit(&path, |bytes| bytes[FRAMES_BEGIN + 50] ^= 1);
    let failure = bench.try_open().unwrap_err();
    assert_eq!((failure.kind(), failure.fact("offset")), (ErrorKind::Corrupt, Some("1")));
    assert!(failure.fact("file").is_some_and(|file| file.ends_with(".segment")));
    assert_eq!(failure.fact("stream"), Some("s"));
    edit(&path, |bytes| bytes.clone_from(&whole));
    assert_eq!(read(&bench.open(), "s", 1).len(), 3);
}

#[test]
fn every_flipped_bit_of_a_durable_frame_is_found() {
    let bench = Bench::new(1 << 20);
    let log = bench.open();
    append(&log, "s", &[b"first"], Durability::Synced);
    append(&log, "s", &[b"second", b"third"], Durability::Synced);
    log.close().unwrap();
    let path = bench.path("s", &segment_name(1));
    let whole = std::fs::read(&path).unwrap();
    for bit in (0..28 * 8).chain(FRAMES_BEGIN * 8..end_of(&whole) * 8) {
        flip(&path, bit);
        assert_eq!(bench.try_open().unwrap_err().kind(), ErrorKind::Corrupt, "bit {bit}");
        flip(&path, bit);
    }
    assert_eq!(std::fs::read(&path).unwrap(), whole, "what is corrupt is not changed");
    assert_eq!(read(&bench.open(), "s", 1).len(), 3);
}

#[test]
fn every_flipped_bit_of_a_sealed_segment_is_found_by_a_read() {
    let bench = Bench::new(8192);
    let log = bench.open();
    append(&log, "s", &[b"first"], Durability::Buffered);
    append(&log, "s", &[b"second", b"third"], Durability::Buffered);
    append(&log, "s", &[&[7; 8000]], Durability::Synced);
    drop(log);
    let path = bench.path("s", &segment_name(1));
    let whole = std::fs::read(&path).unwrap();
    let log = bench.open();
    for bit in FRAMES_BEGIN * 8..end_of(&whole) * 8 {
        flip(&path, bit);
        let (seen, failure) = try_read(&log, "s", 1);
        assert_eq!(failure.unwrap().kind(), ErrorKind::Corrupt, "bit {bit}");
        let right: Vec<(u64, Vec<u8>)> = vec![(1, b"first".into()), (2, b"second".into())];
        assert!(right.starts_with(&seen), "bit {bit}: what was visited is valid");
        flip(&path, bit);
    }
    assert_eq!(read(&log, "s", 1).len(), 4);
}

#[test]
fn missing_files_are_damage() {
    let bench = Bench::new(8192);
    let log = bench.open();
    for _ in 0..30 {
        append(&log, "s", &[&[7; 500]], Durability::Buffered);
    }
    log.close().unwrap();
    let segments = bench.segments("s");
    let taken = std::fs::read(&segments[1]).unwrap();
    std::fs::remove_file(&segments[1]).unwrap();
    let (seen, failure) = try_read(&bench.open(), "s", 1);
    assert_eq!((seen.len(), failure.unwrap().fact("offset")), (7, Some("8")));
    std::fs::write(&segments[1], taken).unwrap();
    std::fs::remove_file(segments.last().unwrap()).unwrap();
    assert_eq!(bench.try_open().unwrap_err().kind(), ErrorKind::Corrupt);
    segments.iter().for_each(|path| drop(std::fs::remove_file(path)));
    assert_eq!(bench.try_open().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn newer_and_foreign_formats_are_refused() {
    let bench = Bench::new(8192);
    bench.open().close().unwrap();
    let path = bench.directory.path().join("FORMAT");
    std::fs::write(&path, "trellis-log-segment 2\n").unwrap();
    let failure = bench.try_open().unwrap_err();
    assert_eq!((failure.kind(), failure.fact("format")), (ErrorKind::Unsupported, Some("2")));
    std::fs::write(&path, "something else").unwrap();
    assert_eq!(bench.try_open().unwrap_err().kind(), ErrorKind::Corrupt);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(bench.try_open().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_segment_whose_creation_was_cut_short_is_forgotten() {
    let bench = Bench::new(8192);
    let log = bench.open();
    append(&log, "s", &[b"a"], Durability::Synced);
    drop(log);
    let unfinished = bench.path("s", &(segment_name(2) + ".new"));
    std::fs::write(&unfinished, b"part of a header").unwrap();
    assert_eq!(read(&bench.open(), "s", 1).len(), 1);
    assert!(!unfinished.exists());
}
