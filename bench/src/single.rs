//! One writer, one leaf a commit, against the disk itself: write and fdatasync of as many bytes
//! into blocks that exist.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path as FilePath;
use std::time::Duration;

use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{Durability, Expect, StreamId, StreamLog};
use trellis_kv_memory::MemoryKv;
use trellis_log_memory::MemoryLog;
use trellis_log_segment::{SegmentLog, SegmentOptions};
use trellis_runtime::Runtime;
use trellis_tree::{Commit, Input, Path, Tree, TreeOptions};

use crate::Result;
use crate::engine::open_tree;
use crate::keys::{self, Random};
use crate::measure::rate_for;
use crate::report::{Report, Row};
use crate::settings::Settings;

const GROUP: &str = "single-writer";
const TARGET: f64 = 0.8;
/// A round is this many short turns of each: the disk's speed wanders within seconds.
const SLICES: usize = 8;
/// Keys that the writer goes through at random.
const KEYS: usize = 100_000;
/// Blocks that exist before the bare loop begins; it wraps around at their end.
const BARE_BYTES: usize = 64 << 20;
/// What a journal frame adds to its record, about.
const FRAME_BYTES: usize = 48;
/// A journal record of one leaf of 100 bytes, about.
const JOURNAL_RECORD_BYTES: usize = 160;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let time = Duration::from_millis(if settings.quick { 50 } else { 500 });
    for kv in &settings.kvs {
        let dir = settings.dir.join(format!("single-{}", kv.name()));
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        let tree = open_tree(settings, *kv, &dir, TreeOptions::default())?;
        let mut random = Random::new(7);
        for _ in 0..200 {
            commit_one(&tree, &mut random)?;
        }
        let stats = tree.stats()?;
        let bytes = usize::try_from(stats.journal_bytes / stats.commits.max(1))? + FRAME_BYTES;
        let mut bare = BareLoop::new(&dir.join("bare"), bytes)?;
        let (mut ours, mut rival) = (Vec::new(), Vec::new());
        for _ in 0..settings.rounds * SLICES {
            rival.push(rate_for(time, || bare.step())?);
            ours.push(rate_for(time, || commit_one(&tree, &mut random))?);
        }
        tree.close()?;
        let name = format!("{} + segment log vs pwrite+fdatasync", kv.name());
        let row = Row::ratio(GROUP, name, "commits/s", (&ours, &rival), Some(TARGET));
        report.push(row.note(format!("{bytes} B a write")));
    }
    parts(settings, time, report)
}

/// Where a lone writer's time goes: the journal by itself, and a commit that touches no disk.
fn parts(settings: &Settings, time: Duration, report: &mut Report) -> Result<()> {
    let dir = settings.dir.join("single-parts");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let log = SegmentLog::open(&dir, SegmentOptions::default())?;
    let stream = StreamId::new("journal")?;
    let mut bare = BareLoop::new(&dir.join("bare"), JOURNAL_RECORD_BYTES + FRAME_BYTES)?;
    let record = [Bytes::from(vec![b'x'; JOURNAL_RECORD_BYTES])];
    let (store, memory) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()));
    let tree = Tree::open(store, memory, Runtime::system(), TreeOptions::default())?;
    let mut random = Random::new(7);
    let (mut of_log, mut of_bare, mut microseconds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..settings.rounds * SLICES {
        of_bare.push(rate_for(time, || bare.step())?);
        of_log.push(rate_for(time, || {
            log.append(&stream, &record, Expect::Any, Durability::Synced)?;
            Ok(())
        })?);
        microseconds.push(1e6 / rate_for(time / 4, || commit_one(&tree, &mut random))?);
    }
    let name = "segment log alone vs pwrite+fdatasync";
    report.push(Row::ratio(GROUP, name, "appends/s", (&of_log, &of_bare), None));
    let name = "commit with store and log in memory";
    report.push(Row::bound(GROUP, name, "us", &microseconds, None));
    log.close()?;
    Ok(tree.close()?)
}

fn commit_one(tree: &Tree, random: &mut Random) -> Result<()> {
    let path = Path::parse(&keys::path_text(random.below(KEYS)))?;
    tree.commit(Commit::set(path, Input::parse(&keys::value_json(random))?))?;
    Ok(())
}

/// The floor under every journal.
struct BareLoop {
    file: File,
    record: Vec<u8>,
    position: u64,
}

impl BareLoop {
    fn new(path: &FilePath, bytes: usize) -> Result<Self> {
        let file = File::options().create(true).truncate(true).write(true).open(path)?;
        file.write_all_at(&vec![0; BARE_BYTES], 0)?;
        file.sync_all()?;
        Ok(Self { file, record: vec![b'x'; bytes], position: 0 })
    }

    fn step(&mut self) -> Result<()> {
        self.file.write_all_at(&self.record, self.position)?;
        self.file.sync_data()?;
        let next = self.position + self.record.len() as u64;
        let fits = next + self.record.len() as u64 <= BARE_BYTES as u64;
        self.position = if fits { next } else { 0 };
        Ok(())
    }
}
