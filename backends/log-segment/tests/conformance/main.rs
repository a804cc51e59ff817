//! The promises of `StreamLog`, kept by segment files.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod contract;
mod damage;
mod faults;
mod files;
mod model;
mod power;
mod power_files;

use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use files::TestFiles;
use trellis_conformance::{Need, log};
use trellis_engine_traits::{
    Durability, Error, Expect, Offset, ReadBudget, Result, StreamId, StreamLog,
};
use trellis_log_segment::{SegmentLog, SegmentOptions};

fn id(name: &str) -> StreamId {
    StreamId::new(name).unwrap()
}

/// A log with small segments on files that a test can make fail.
struct Bench {
    directory: tempfile::TempDir,
    files: Arc<TestFiles>,
    segment_bytes: u64,
}

impl Bench {
    fn new(segment_bytes: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, files: Arc::new(TestFiles::default()), segment_bytes }
    }

    fn try_open(&self) -> Result<SegmentLog> {
        let options = SegmentOptions::default().segment_bytes(self.segment_bytes);
        let files = Arc::clone(&self.files);
        SegmentLog::open_with(files, self.directory.path(), options)
    }

    fn open(&self) -> SegmentLog {
        self.try_open().unwrap()
    }

    fn path(&self, stream: &str, file: &str) -> PathBuf {
        self.directory.path().join("streams").join(stream).join(file)
    }

    /// The segment files of a stream, oldest first.
    fn segments(&self, stream: &str) -> Vec<PathBuf> {
        let listed = std::fs::read_dir(self.path(stream, "")).unwrap();
        let mut found: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
        found.retain(|path| path.extension().is_some_and(|suffix| suffix == "segment"));
        found.sort();
        found
    }
}

fn segment_name(first: Offset) -> String {
    format!("{first:020}.segment")
}

/// Changes the bytes of a file in place.
fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Turns one bit of a file over.
fn flip(path: &Path, bit: usize) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit as u64 / 8).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], bit as u64 / 8).unwrap();
}

fn append(log: &dyn StreamLog, name: &str, records: &[&[u8]], durability: Durability) {
    let records: Vec<Bytes> = records.iter().copied().map(Bytes::copy_from_slice).collect();
    log.append(&id(name), &records, Expect::Any, durability).unwrap();
}

/// What a read visits, and how it fails if it does.
fn try_read(
    log: &dyn StreamLog,
    name: &str,
    from: Offset,
) -> (Vec<(Offset, Vec<u8>)>, Option<Error>) {
    let mut seen = Vec::new();
    let end = log.read(&id(name), from, ReadBudget::UNLIMITED, &mut |offset, record| {
        seen.push((offset, record.to_vec()));
        ControlFlow::Continue(())
    });
    (seen, end.err())
}

fn read(log: &dyn StreamLog, name: &str, from: Offset) -> Vec<(Offset, Vec<u8>)> {
    let (seen, failure) = try_read(log, name, from);
    assert!(failure.is_none(), "{failure:?}");
    seen
}

/// Every promise of `StreamLog`, by the suite that holds all logs to them.
#[test]
fn conforms() {
    let factory = log::Factory::new("log-segment", |dir| {
        Ok(Arc::new(SegmentLog::open(dir.join("log"), SegmentOptions::default())?))
    })
    .offers(&[Need::Disk]);
    let _shown = log::suite(&factory);
}
