//! The files of the segment log, damaged in any way: what an open and the reads after it make of
//! them.
//!
//! The first byte of an input says what is made of the rest:
//!
//! | byte | the rest |
//! |---|---|
//! | even | damage to a log of some records: place (2), kind (1), value (1), again and again |
//! | odd | bytes behind the header of a segment; those of frames get checksums that hold |

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{
    Durability, ErrorKind, Expect, Offset, ReadBudget, Result, StreamId, StreamLog,
};
use trellis_log_segment::{SegmentLog, SegmentOptions};

use super::files::Disk;

const DIRECTORY: &str = "log";
const SEGMENT: &str = ".segment";
/// Where frames begin, and the bytes of a frame's header before its checksum.
const FRAMES_BEGIN: usize = 4096;
const HEADER_BYTES: usize = 40;

/// Damage is refused or found while reading; a record that is read is the one that was written.
pub(super) fn files(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let disk = Disk::default();
    let written = write(&disk, usize::from(kind / 2 % 6) + 1);
    if kind % 2 == 0 {
        damage(&disk, rest);
        let before = disk.files(SEGMENT);
        match open(&disk) {
            Ok(log) => {
                let read = read(&log).unwrap_or_default();
                assert!(read.iter().all(|(at, record)| written[*at as usize - 1] == *record));
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                assert!(disk.files(SEGMENT) == before, "an open that was refused changed files");
            }
        }
    } else {
        forge(&disk, rest);
        if let Ok(log) = open(&disk) {
            drop(read(&log));
            continues(&disk, log);
        }
    }
}

fn open(disk: &Disk) -> Result<SegmentLog> {
    let options = SegmentOptions::default().segment_bytes(8192);
    SegmentLog::open_with(Arc::new(disk.clone()), Path::new(DIRECTORY), options)
}

fn stream() -> StreamId {
    StreamId::new("s").expect("a name")
}

/// A log of so many appends, closed; what it holds.
fn write(disk: &Disk, appends: usize) -> Vec<Vec<u8>> {
    let log = open(disk).expect("an empty log opens");
    let mut written = Vec::new();
    for number in 0..appends {
        let record = |part: usize| vec![b'a' + number as u8; 1 + 700 * part * number];
        let records = [record(0), record(1), record(3)];
        let bytes: Vec<Bytes> = records.iter().cloned().map(Bytes::from).collect();
        log.append(&stream(), &bytes, Expect::Any, Durability::Synced).expect("it appends");
        written.extend(records);
    }
    log.close().expect("it closes");
    written
}

/// Every record, until one that cannot be read.
fn read(log: &SegmentLog) -> Result<Vec<(Offset, Vec<u8>)>> {
    let mut found = Vec::new();
    let bounds = log.bounds(&stream())?;
    log.read(&stream(), bounds.first, ReadBudget::UNLIMITED, &mut |offset, record| {
        found.push((offset, record.to_vec()));
        ControlFlow::Continue(())
    })?;
    assert_eq!(found.len() as u64, bounds.next - bounds.first, "a read that leaves some out");
    Ok(found)
}

/// What opened goes on: one more record is there after the next open.
fn continues(disk: &Disk, log: SegmentLog) {
    let next = log.bounds(&stream()).expect("bounds").next;
    if next > u64::MAX / 2 {
        return;
    }
    let record = Bytes::from_static(b"one more");
    let appended = log.append(&stream(), &[record], Expect::Next(next), Durability::Synced);
    appended.expect("a log that opened takes a record");
    log.close().expect("it closes");
    let log = open(disk).expect("a log that was closed opens");
    let mut last = Vec::new();
    let end = log.read(&stream(), next, ReadBudget::UNLIMITED, &mut |_, record| {
        last = record.to_vec();
        ControlFlow::Continue(())
    });
    end.expect("the record is there");
    assert_eq!(last, b"one more");
}

/// Changes files as the script says; each step takes four bytes.
fn damage(disk: &Disk, script: &[u8]) {
    let files: Vec<PathBuf> = disk.files("").into_iter().map(|(path, _)| path).collect();
    let damaged: Vec<&PathBuf> =
        files.iter().filter(|path| path.to_string_lossy().ends_with(SEGMENT)).collect();
    for step in script.chunks_exact(4).take(16) {
        let place = usize::from(u16::from_le_bytes([step[0], step[1]]));
        let file = disk.file(damaged[usize::from(step[2] >> 3) % damaged.len()]);
        file.change(|bytes| {
            let at = place % bytes.len().max(1);
            match step[2] & 7 {
                0 | 1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= step[3]),
                2 => bytes.truncate(at),
                3 => bytes[at..].fill(0),
                4 => bytes.iter_mut().skip(at / 512 * 512).take(512).for_each(|byte| *byte = 0),
                5 => bytes.iter_mut().skip(at).take(4).for_each(|byte| *byte = 0xFF),
                6 => bytes.extend(vec![step[3]; at % 512]),
                _ => {
                    let part: Vec<u8> = bytes[at..].iter().take(600).copied().collect();
                    let to = FRAMES_BEGIN.min(bytes.len());
                    bytes.iter_mut().skip(to).zip(part).for_each(|(byte, other)| *byte = other);
                }
            }
        });
    }
}

/// Puts bytes behind the header of the only segment, and forgets what proves how far it went.
/// Whatever begins like a frame gets checksums that hold, so that its fields are believed.
fn forge(disk: &Disk, frames: &[u8]) {
    let (path, segment) = disk.files(SEGMENT).into_iter().next().expect("a segment");
    for (path, _) in disk.files("").into_iter().filter(|(other, _)| other.ends_with("durable")) {
        disk.file(&path).change(Vec::clear);
    }
    for (path, _) in disk.files(SEGMENT).iter().skip(1) {
        disk.file(path).change(|bytes| bytes.truncate(FRAMES_BEGIN));
    }
    let nonce = segment[16..24].to_vec();
    let mut forged = frames.to_vec();
    let mut at = 0;
    while let Some(frame) = forged.get_mut(at..).filter(|rest| rest.len() >= HEADER_BYTES + 4) {
        let claimed = u32::from_le_bytes([frame[8], frame[9], frame[10], frame[11]]) as usize;
        let end = claimed.clamp(HEADER_BYTES + 4, frame.len());
        let body = crc32fast::hash(&frame[HEADER_BYTES + 4..end]);
        frame[..4].copy_from_slice(b"TLF1");
        frame[4..8].copy_from_slice(&body.to_le_bytes());
        frame[32..HEADER_BYTES].copy_from_slice(&nonce);
        let sum = crc32fast::hash(&frame[..HEADER_BYTES]);
        frame[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(&sum.to_le_bytes());
        at += end;
    }
    disk.file(&path).change(|bytes| {
        bytes.truncate(FRAMES_BEGIN);
        bytes.extend(forged);
    });
}
