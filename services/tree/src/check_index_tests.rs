//! What a check must find in indexes that only this crate can write: sealed entries that disagree
//! with the data.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use trellis_engine_traits::{Durability, KvBackend, Op, Result, WriteBatch};
use trellis_kv_memory::{MemoryDisk, MemoryKv};
use trellis_log_memory::MemoryLog;
use trellis_runtime::Runtime;

use crate::check::check;
use crate::commit::Commit;
use crate::derivation::{Derivation, Derived, Item, entry_range};
use crate::finding::{CheckOptions, CheckReport, FindingKind};
use crate::input::Input;
use crate::options::TreeOptions;
use crate::path::Path;
use crate::pattern::Pattern;
use crate::repair::repair;
use crate::seal::seal;
use crate::space::{DATA, INDEX, META};
use crate::tree::Tree;

#[derive(Debug)]
struct ByName(Pattern);

#[derive(Debug)]
struct Names;

impl Derivation for Names {
    fn version(&self) -> u32 {
        7
    }

    fn define(&self, definition: &Value) -> Result<Arc<dyn Derived>> {
        Ok(Arc::new(ByName(Pattern::parse(definition.as_str().unwrap_or_default())?)))
    }
}

impl Derived for ByName {
    fn collections(&self) -> &Pattern {
        &self.0
    }

    fn sort_key(&self, item: &Item<'_>) -> Result<Vec<u8>> {
        let name = item.leaf(b"name")?;
        Ok(name.into_iter().flatten().chain([0]).collect())
    }
}

struct Parts {
    kv: MemoryDisk,
    log: trellis_log_memory::MemoryDisk,
}

impl Parts {
    /// A tree of twenty items with an index, closed.
    fn new() -> Self {
        let parts = Self { kv: MemoryDisk::new(), log: trellis_log_memory::MemoryDisk::new() };
        let tree = parts.open();
        let set = |path: &str, value: &str| {
            let value = Input::parse(value.as_bytes()).unwrap();
            let commit = Commit::set(Path::parse(path).unwrap(), value);
            tree.commit(Commit { system: true, ..commit }).unwrap();
        };
        for n in 0..20 {
            set(&format!("a/{n:02}/name"), &format!("\"{}\"", n % 5));
        }
        set("_indexes/one", "\"a\"");
        assert!(tree.wait_for_index("one", Duration::from_secs(600)).unwrap());
        tree.close().unwrap();
        parts
    }

    fn open(&self) -> Tree {
        let options = TreeOptions { derivation: Some(&Names), ..TreeOptions::default() };
        Tree::open(Arc::new(self.kv()), Arc::new(self.log()), Runtime::system(), options).unwrap()
    }

    fn kv(&self) -> MemoryKv {
        MemoryKv::on(&self.kv).unwrap()
    }

    fn log(&self) -> MemoryLog {
        MemoryLog::on(&self.log).unwrap()
    }

    fn change(&self, batch: WriteBatch) {
        self.kv().commit(&batch, Durability::Synced).unwrap();
    }

    fn options() -> CheckOptions {
        CheckOptions { derivation: Some(&Names), ..CheckOptions::default() }
    }

    fn check(&self) -> CheckReport {
        check(Some(&self.kv()), Some(&self.log()), &Self::options()).unwrap()
    }

    fn found(&self) -> Vec<(FindingKind, String)> {
        let findings = self.check().findings.into_iter();
        findings.map(|finding| (finding.kind, finding.place)).collect()
    }

    /// Repairs, and opens: the index is whole again.
    fn repaired(&self) {
        let runtime = Runtime::system();
        let (kv, log) = (self.kv(), self.log());
        let done = repair(&kv, Some(&log), &runtime, &Self::options(), &mut |_| Ok(())).unwrap();
        assert!(!done.repairs.is_empty() && done.report.is_clean(), "{done:?}");
        drop((kv, log));
        let tree = self.open();
        assert!(tree.wait_for_index("one", Duration::from_secs(600)).unwrap());
        let report = tree.check(&CheckOptions::default()).unwrap();
        assert_eq!((report.findings, report.index_entries), (Vec::new(), 20));
        tree.close().unwrap();
    }
}

/// The key of the entry of `a/07`, whose name is 2.
fn entry_key() -> Vec<u8> {
    let start = entry_range("one", b"a", &trellis_engine_traits::KeyRange::all()).start;
    [&*start, b"\x052\x0007"].concat()
}

#[test]
fn an_index_that_agrees_with_the_data_is_clean_and_counted() {
    let parts = Parts::new();
    let report = parts.check();
    assert_eq!((report.findings, report.index_entries), (Vec::new(), 20));
}

#[test]
fn a_missing_entry_is_found_and_the_index_made_anew() {
    let parts = Parts::new();
    parts.change(WriteBatch::new().delete(INDEX, entry_key()));
    assert_eq!(parts.found(), [(FindingKind::MissingIndex, "index one: a/07".to_owned())]);
    parts.repaired();
}

#[test]
fn an_entry_too_many_is_found_and_the_index_made_anew() {
    for (key, place) in [
        ([&*entry_key(), b"x"].concat(), "index one: a/07x"),
        (
            String::from_utf8(entry_key()).unwrap().replace("one", "other").into(),
            "index other: a/07",
        ),
    ] {
        let parts = Parts::new();
        let value = seal(INDEX, &key, &[0, 3]);
        parts.change(WriteBatch::new().put(INDEX, key, value));
        assert_eq!(parts.found(), [(FindingKind::StrayIndex, place.to_owned())]);
        parts.repaired();
    }
}

#[test]
fn a_damaged_entry_is_found_and_the_index_made_anew() {
    let parts = Parts::new();
    parts.change(WriteBatch::new().put(INDEX, entry_key(), &b"\0\x03bad!"[..]));
    assert_eq!(parts.found(), [(FindingKind::Checksum, "index one: a".to_owned())]);
    parts.repaired();
}

#[test]
fn data_that_is_repaired_takes_its_indexes_with_it() {
    let parts = Parts::new();
    parts.change(WriteBatch::new().delete(DATA, &b"a\x0007\0name"[..]));
    parts.repaired();
}

#[test]
fn a_note_that_cannot_be_read_costs_a_build_and_no_open() {
    let parts = Parts::new();
    parts.change(WriteBatch::new().put(META, &b"indexes"[..], &b"damaged"[..]));
    let tree = parts.open();
    assert!(tree.wait_for_index("one", Duration::from_secs(600)).unwrap());
    assert!(tree.check(&CheckOptions::default()).unwrap().is_clean());
}

#[test]
fn a_batch_puts_indexes_before_the_data_that_they_follow_from() {
    let mut table = crate::memtable::MemTable::default();
    let effect = crate::effect::Effect::Put("a".into(), "b".into());
    let clear = crate::effect::Effect::Clear("c".into());
    table.enter(1, 0, &[clear, effect], None, 1);
    let entry = crate::derivation::Entry { key: "z".into(), value: "".into() };
    let clears = vec!["y".into()];
    let changes = crate::derived::IndexEffects { clears, puts: vec![entry], ..Default::default() };
    table.enter_index(1, changes, 1);
    let spaces = table.batch().ops.into_iter().map(|op| match op {
        Op::Put(at, _) | Op::Delete(at) => at.space,
        Op::DeleteRange(space, _) => space,
    });
    assert_eq!(
        spaces.map(|space| space == INDEX).collect::<Vec<_>>(),
        [true, true, false, false, false]
    );
}
