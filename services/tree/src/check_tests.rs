//! What a check must find that only this crate can write: sealed values of a wrong shape, and
//! records of the journal.

use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{
    Durability, Expect, KvBackend, Offset, StreamId, StreamLog, WriteBatch,
};
use trellis_kv_memory::{MemoryDisk, MemoryKv};
use trellis_log_memory::MemoryLog;
use trellis_runtime::Runtime;

use crate::check::check;
use crate::commit::Commit;
use crate::finding::{CheckOptions, CheckReport, FindingKind, Remedy};
use crate::input::Input;
use crate::leaf::Leaf;
use crate::options::TreeOptions;
use crate::path::Path;
use crate::record::Record;
use crate::repair::repair;
use crate::seal::seal;
use crate::space::{self, DATA, EXPIRY, EXPIRY_TIME, KEYS_TIME};
use crate::tree::Tree;

struct Parts {
    kv: MemoryDisk,
    log: trellis_log_memory::MemoryDisk,
}

impl Parts {
    /// A tree of twenty leaves, closed.
    fn new() -> Self {
        let parts = Self { kv: MemoryDisk::new(), log: trellis_log_memory::MemoryDisk::new() };
        let (kv, log) = (Arc::new(parts.kv()), Arc::new(parts.log()));
        let tree = Tree::open(kv, log, Runtime::system(), TreeOptions::default()).unwrap();
        for n in 0..20 {
            let path = Path::parse(&format!("a/{n:02}")).unwrap();
            tree.commit(Commit::set(path, Input::parse(b"1").unwrap())).unwrap();
        }
        tree.close().unwrap();
        parts
    }

    fn kv(&self) -> MemoryKv {
        MemoryKv::on(&self.kv).unwrap()
    }

    fn log(&self) -> MemoryLog {
        MemoryLog::on(&self.log).unwrap()
    }

    fn put(&self, space: trellis_engine_traits::SpaceId, key: &[u8], value: &[u8]) {
        let batch = WriteBatch::new().put(space, key.to_vec(), seal(space, key, value));
        self.kv().commit(&batch, Durability::Synced).unwrap();
    }

    fn check(&self) -> CheckReport {
        check(Some(&self.kv()), Some(&self.log()), &CheckOptions::default()).unwrap()
    }

    fn found(&self) -> Vec<(FindingKind, String, Remedy)> {
        let findings = self.check().findings.into_iter();
        findings.map(|finding| (finding.kind, finding.place, finding.remedy)).collect()
    }

    /// The journal's records, changed, as the journal of the same store.
    fn rewrite_journal(&mut self, change: impl FnOnce(&mut Vec<Bytes>)) {
        let mut streams = Vec::new();
        let old = self.log();
        for name in ["openings", "journal"] {
            let stream = StreamId::new(name).unwrap();
            let mut records = Vec::new();
            let all = trellis_engine_traits::ReadBudget::UNLIMITED;
            old.read(&stream, 1, all, &mut |_, bytes| {
                records.push(Bytes::copy_from_slice(bytes));
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
            streams.push((stream, records));
        }
        old.close().unwrap();
        self.log = trellis_log_memory::MemoryDisk::new();
        change(&mut streams[1].1);
        let new = self.log();
        for (stream, records) in streams {
            new.append(&stream, &records, Expect::Any, Durability::Synced).unwrap();
        }
        new.close().unwrap();
    }

    fn damage_record(&self, offset: Offset) {
        assert!(self.log.damage(&StreamId::new("journal").unwrap(), offset));
    }
}

#[test]
fn sealed_values_of_a_wrong_shape_are_named_and_removed() {
    let parts = Parts::new();
    parts.put(DATA, b"b", &[99]);
    parts.put(DATA, b"c", &Leaf::Float(f64::NAN).encode());
    parts.put(DATA, b"d", &Leaf::Array("[1,".to_owned()).encode());
    parts.put(DATA, b"e\0\0f", &Leaf::Bool(true).encode());
    parts.put(DATA, b"g/h", &Leaf::Bool(true).encode());
    parts.put(EXPIRY, b"a", b"seven b");
    parts.put(EXPIRY_TIME, b"short", b"");
    parts.put(KEYS_TIME, &space::time_key(7, b"nobody"), b"");
    let expected = [
        (FindingKind::Shape, "b", Remedy::Remove),
        (FindingKind::Shape, "c", Remedy::Remove),
        (FindingKind::Shape, "d", Remedy::Remove),
        (FindingKind::Shape, "e//f", Remedy::Remove),
        (FindingKind::Shape, "g/h", Remedy::Remove),
        (FindingKind::Shape, "the ending of a", Remedy::Remove),
        (FindingKind::Shape, "the order of endings: short", Remedy::Derive),
        (FindingKind::StrayIndex, "the order of forgetting: nobody at 7", Remedy::Derive),
    ];
    let expected = expected.map(|(kind, place, remedy)| (kind, place.to_owned(), remedy));
    assert_eq!(parts.found(), expected);
    let mut kept = 0;
    let (kv, log) = (parts.kv(), parts.log());
    let runtime = Runtime::system();
    let repaired = repair(&kv, Some(&log), &runtime, &CheckOptions::default(), &mut |_| {
        kept += 1;
        Ok(())
    });
    drop((kv, log));
    assert_eq!((repaired.unwrap().repairs.len(), kept), (8, 6));
    assert_eq!(parts.found(), []);
}

#[test]
fn a_leaf_above_others_is_named_also_across_pages() {
    let parts = Parts::new();
    parts.put(DATA, b"a", &Leaf::Bool(true).encode());
    let (kv, mut batch) = (parts.kv(), WriteBatch::new());
    for n in 0..5000 {
        let key = format!("many\0{n:05}");
        let leaf = Leaf::Int(n).encode();
        batch = batch.put(DATA, key.clone(), seal(DATA, key.as_bytes(), &leaf));
    }
    kv.commit(&batch, Durability::Synced).unwrap();
    drop(kv);
    for n in 0..5000 {
        // Wherever a page ends, somewhere an upper leaf is its last pair.
        parts.put(DATA, format!("many\0{n:05}\0x").as_bytes(), &Leaf::Bool(true).encode());
    }
    let report = parts.check();
    let above = report.findings.iter().filter(|found| found.kind == FindingKind::LeafAbove).count();
    assert_eq!((above as u64 + report.more_findings, report.leaves), (5001, 10_021));
    assert_eq!(report.findings[0].place, "a");
}

#[test]
fn a_damaged_record_is_named_and_what_is_not_applied_needs_a_backup() {
    let parts = Parts::new();
    parts.damage_record(7);
    let found = parts.found();
    assert_eq!(found, [(FindingKind::Record, "rev 7".to_owned(), Remedy::Remove)]);
    let (kv, log) = (parts.kv(), parts.log());
    let options = CheckOptions::default();
    let repaired = repair(&kv, Some(&log), &Runtime::system(), &options, &mut |_| Ok(())).unwrap();
    assert_eq!((repaired.repairs.len(), repaired.report.findings), (1, vec![]));
    drop((kv, log));
    // A store that ends before the damage lacks what the record says.
    let parts = Parts { kv: MemoryDisk::new(), ..Parts::new() };
    parts.damage_record(7);
    assert_eq!(parts.found(), [(FindingKind::Record, "rev 7".to_owned(), Remedy::Restore)]);
}

#[test]
fn records_that_do_not_belong_together_are_named() {
    let mut parts = Parts::new();
    parts.rewrite_journal(|records| {
        let mut record = Record::decode(&records[9]).unwrap();
        record.at_ms += 1;
        records[9] = record.encode().unwrap();
    });
    assert_eq!(parts.found(), [(FindingKind::History, "rev 11".to_owned(), Remedy::Restore)]);
    parts.rewrite_journal(|records| {
        records.truncate(15);
    });
    let found = parts.found();
    assert_eq!(found[0], (FindingKind::Pair, "store and journal".to_owned(), Remedy::Restore));
    let other = Parts::new();
    let mixed = Parts { kv: parts.kv, log: other.log };
    let found = mixed.found();
    assert_eq!(found[0], (FindingKind::Pair, "store and journal".to_owned(), Remedy::Restore));
}

#[test]
fn findings_beyond_the_bound_are_counted() {
    let parts = Parts::new();
    for n in 0..30 {
        parts.put(DATA, format!("x{n}").as_bytes(), &[99]);
    }
    let options = CheckOptions { findings_max: 10, ..CheckOptions::default() };
    let report = check(Some(&parts.kv()), Some(&parts.log()), &options).unwrap();
    assert_eq!((report.findings.len(), report.more_findings), (10, 20));
    let (kv, log) = (parts.kv(), parts.log());
    let repaired = repair(&kv, Some(&log), &Runtime::system(), &options, &mut |_| Ok(())).unwrap();
    assert_eq!((repaired.repairs.len(), repaired.report.is_clean()), (30, true));
}

#[test]
fn compaction_removes_the_journal_that_is_beyond_what_is_retained() {
    // A store on disk would; one in memory needs its whole journal.
    let open = |persistence_matters: bool| {
        let log = trellis_log_memory::MemoryDisk::new();
        let log = Arc::new(MemoryLog::on(&log).unwrap());
        let kv: Arc<dyn KvBackend> = match persistence_matters {
            true => Arc::new(OnDisk(MemoryKv::new())),
            false => Arc::new(MemoryKv::new()),
        };
        // Applied when it is asked for and not before: the journal is whole until then.
        let apply_after = std::time::Duration::from_secs(3600);
        let journal_retain_bytes = 3 << 20;
        let options = TreeOptions { journal_retain_bytes, apply_after, ..TreeOptions::default() };
        Tree::open(kv, log, Runtime::system(), options).unwrap()
    };
    for (on_disk, trimmed) in [(true, true), (false, false)] {
        let tree = open(on_disk);
        let value = format!("\"{}\"", "x".repeat(512 << 10));
        for n in 0..20 {
            let path = Path::parse(&format!("a/{n:02}")).unwrap();
            tree.commit(Commit::set(path, Input::parse(value.as_bytes()).unwrap())).unwrap();
        }
        let compacted = tree.compact().unwrap();
        let (before, after) = compacted.journal_first_rev;
        assert_eq!((before, after > 10 && after < 16), (1, trimmed), "{compacted:?}");
        assert!(tree.check(&CheckOptions::default()).unwrap().is_clean());
    }
}

/// A store that says that it is on disk.
#[derive(Debug)]
struct OnDisk(MemoryKv);

const ON_DISK: trellis_engine_traits::KvProfile = trellis_engine_traits::KvProfile {
    name: "disk",
    limits: trellis_engine_traits::KvLimits::DEFAULT,
    persistence: trellis_engine_traits::Persistence::Disk,
    emulated: &[],
    optional: &[],
};

impl KvBackend for OnDisk {
    fn profile(&self) -> &trellis_engine_traits::KvProfile {
        &ON_DISK
    }

    fn snapshot(
        &self,
    ) -> trellis_engine_traits::Result<Box<dyn trellis_engine_traits::KvSnapshot>> {
        self.0.snapshot()
    }

    fn commit(
        &self,
        batch: &WriteBatch,
        durability: Durability,
    ) -> trellis_engine_traits::Result<trellis_engine_traits::CommitSeq> {
        self.0.commit(batch, durability)
    }

    fn flush(&self, seq: trellis_engine_traits::CommitSeq) -> trellis_engine_traits::Result<()> {
        self.0.flush(seq)
    }

    fn maintain(
        &self,
        budget: trellis_engine_traits::MaintenanceBudget,
    ) -> trellis_engine_traits::Result<trellis_engine_traits::MaintenanceReport> {
        self.0.maintain(budget)
    }

    fn check(&self) -> trellis_engine_traits::Result<trellis_engine_traits::EngineCheck> {
        self.0.check()
    }

    fn usage(&self) -> trellis_engine_traits::Result<trellis_engine_traits::SpaceUsage> {
        self.0.usage()
    }

    fn close(&self) -> trellis_engine_traits::Result<()> {
        self.0.close()
    }
}
