//! Checks and repairs: what is damaged behind the tree's back is named, and made good where it
//! can be.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde_json::json;
use trellis_engine_traits::{Durability, KeyRange, KvSnapshotExt, Scan, SpaceId, WriteBatch};
use trellis_tree::{
    CheckOptions, CheckReport, Commit, FindingKind, Remedy, Repaired, Tree, check, repair,
};

use super::tools::{
    commit, exists, get, incrementing, leasing, leaves, path, set, setting, small_overlay,
};
use super::{Engines, Ground, TreeWorld};
use crate::Case;

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.check.clean_offline", &["tree.check.clean"], clean_offline),
    Case::new("tree.check.clean_beside_writers", &["tree.check.clean"], clean_beside_writers),
    Case::new("tree.check.every_damage", &["tree.check.names", "tree.check.repair"], every_damage),
    Case::new("tree.check.without_journal", &["tree.check.names", "tree.check.repair"], lost),
];

const DATA: SpaceId = SpaceId(1);
const ENDINGS: SpaceId = SpaceId(2);
const ENDING_TIMES: SpaceId = SpaceId(3);
const KEYS: SpaceId = SpaceId(4);
const KEY_TIMES: SpaceId = SpaceId(5);

/// A bit of everything: leaves of every size, subtrees removed and written again, endings, keys.
fn write_all(tree: &Tree, from: u64, rounds: u64) {
    for n in from..from + rounds {
        set(tree, &format!("plain/{}", n % 17), json!({"n": n, "s": "x".repeat(300)}));
        commit(tree, incrementing("sum", 1).with_key(format!("k{n}")));
        commit(tree, leasing(&format!("lease/{}", n % 5), json!({"n": n}), 1e6));
        if n % 3 == 0 {
            commit(tree, Commit::delete(path(&format!("plain/{}", n % 13))));
            // A leaf becomes an object and the reverse.
            set(tree, &format!("turn/{}", n % 2), json!(n));
            set(tree, &format!("turn/{}", n % 2), json!({"a": {"b": n}}));
        }
    }
}

fn checked(engines: &Engines, options: &CheckOptions) -> CheckReport {
    check(Some(engines.0.as_ref()), Some(engines.1.as_ref()), options).expect("it is checked")
}

fn clean_offline(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree_with(small_overlay());
    write_all(&tree, 0, 60);
    ground.close().unwrap();
    let engines = ground.engines().unwrap();
    let report = checked(&engines, &CheckOptions::default());
    assert_eq!(report.findings, [], "{report:?}");
    assert_eq!(report.journal_revs.1, report.applied_rev, "all of it was applied at the close");
    assert_eq!((report.records > 100, report.keys, report.endings), (true, 60, 5), "{report:?}");
    assert!(report.leaves > 20 && report.compared > 100, "{report:?}");
    close(engines);
}

fn clean_beside_writers(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree_with(small_overlay());
    write_all(&tree, 0, 20);
    let (done, checks) = (AtomicBool::new(false), 8);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (1..=2u64)
            .map(|writer| {
                let (tree, done) = (&tree, &done);
                scope.spawn(move || {
                    let mut n = writer * 1_000_000;
                    while !done.load(Ordering::Acquire) {
                        write_all(tree, n, 1);
                        n += 1;
                    }
                })
            })
            .collect();
        for _ in 0..checks {
            let report = tree.check(&CheckOptions::default()).expect("it is checked");
            if !report.is_clean() {
                done.store(true, Ordering::Release);
            }
            assert_eq!(report.findings, []);
        }
        done.store(true, Ordering::Release);
        writers.into_iter().for_each(|writer| writer.join().expect("it writes"));
    });
    tree.flush().unwrap();
    let report = tree.check(&CheckOptions::default()).unwrap();
    assert_eq!(get(&tree, "sum").as_u64(), Some(report.keys), "all keys were looked at");
}

/// The first pair of a space.
fn first(engines: &Engines, space: SpaceId) -> (Bytes, Bytes) {
    let scan = Scan::forward(space, KeyRange::all());
    let pairs = engines.0.snapshot().unwrap().collect(&scan, 1).unwrap();
    pairs.into_iter().next().expect("there is one")
}

/// One byte of a stored value is another.
fn flipped(stored: &[u8]) -> Vec<u8> {
    let mut stored = stored.to_vec();
    stored[0] ^= 0x10;
    stored
}

/// Does all the damage that needs no tree: what is flipped, missing, left over.
fn damage(engines: &Engines) {
    let (leaf, value) = first(engines, DATA);
    let (ending, _) = first(engines, ENDINGS);
    let (ending_time, _) = first(engines, ENDING_TIMES);
    let (key, _) = first(engines, KEYS);
    let (key_time, key_time_seal) = first(engines, KEY_TIMES);
    assert!(ending_time.ends_with(&ending) && key_time.ends_with(&key));
    let batch = WriteBatch::new()
        .put(DATA, leaf, flipped(&value))
        .delete(DATA, "last\0leaf")
        .delete(ENDING_TIMES, ending_time)
        .put(KEY_TIMES, key_time, flipped(&key_time_seal))
        .put(SpaceId(77), "stray", "thing");
    engines.0.commit(&batch, Durability::Synced).unwrap();
}

/// What a case starts from: a known tree, closed.
fn prepared(ground: &Ground) -> Vec<(String, String)> {
    let tree = ground.tree();
    set(&tree, "first", json!("a value"));
    commit(&tree, leasing("lease/x", json!({"a": 1}), 1e6));
    commit(&tree, setting("last/leaf", json!(7)).with_key("only"));
    let before = leaves(&tree, "");
    ground.close().unwrap();
    before
}

fn kinds(report: &CheckReport) -> Vec<(FindingKind, Remedy)> {
    let mut kinds: Vec<_> =
        report.findings.iter().map(|finding| (finding.kind, finding.remedy)).collect();
    kinds.sort_by_key(|(kind, _)| format!("{kind:?}"));
    kinds
}

fn repaired(
    ground: &Ground,
    engines: &Engines,
    options: &CheckOptions,
) -> (Repaired, Vec<(String, Vec<u8>)>) {
    let mut kept = Vec::new();
    let runtime = ground.runtime();
    let log = Some(engines.1.as_ref());
    let repaired = repair(engines.0.as_ref(), log, &runtime, options, &mut |removed| {
        kept.push((removed.place.to_owned(), removed.stored.to_vec()));
        Ok(())
    });
    (repaired.expect("it is repaired"), kept)
}

fn close(engines: Engines) {
    engines.1.close().and(engines.0.close()).unwrap();
}

fn every_damage(world: &TreeWorld) {
    let ground = world.engine();
    let before = prepared(&ground);
    let engines = ground.engines().unwrap();
    damage(&engines);
    let report = checked(&engines, &CheckOptions::default());
    let found = kinds(&report);
    let expected = [
        (FindingKind::Checksum, Remedy::Journal),
        (FindingKind::Checksum, Remedy::Journal),
        (FindingKind::Disagreement, Remedy::Journal),
        (FindingKind::Disagreement, Remedy::Journal),
        (FindingKind::MissingIndex, Remedy::Derive),
        (FindingKind::UnknownSpace, Remedy::Restore),
    ];
    assert_eq!(found, expected, "{report:#?}");
    let places: Vec<_> = report.findings.iter().map(|finding| finding.place.as_str()).collect();
    for place in ["first", "last/leaf", "the ending of lease/x", "space 77"] {
        assert!(places.contains(&place), "{places:?}");
    }
    let (repaired, kept) = repaired(&ground, &engines, &CheckOptions::default());
    assert_eq!(kept, [], "the journal held everything");
    assert_eq!(repaired.repairs.len(), 4, "{repaired:#?}");
    assert_eq!(kinds(&repaired.report), [(FindingKind::UnknownSpace, Remedy::Restore)]);
    engines.0.commit(&WriteBatch::new().delete(SpaceId(77), "stray"), Durability::Synced).unwrap();
    close(engines);
    let tree = ground.tree();
    assert_eq!(leaves(&tree, ""), before);
    assert!(commit(&tree, setting("last/leaf", json!(7)).with_key("only")).replayed);
    assert_eq!(tree.check(&CheckOptions::default()).unwrap().findings, []);
    ground.clock().advance_ms(2_000_000_000);
    assert!(!exists(&tree, "lease/x"), "its ending is back");
}

/// The same where the journal no longer tells: what can be derived is, the rest is handed over.
fn lost(world: &TreeWorld) {
    let ground = world.engine();
    prepared(&ground);
    let tree = ground.tree();
    set(&tree, "z", json!(1));
    set(&tree, "z", json!(2));
    ground.close().unwrap();
    let engines = ground.engines().unwrap();
    let (_, flipped_value) = {
        damage(&engines);
        first(&engines, DATA)
    };
    let (ending, value) = first(&engines, ENDINGS);
    let batch = WriteBatch::new().put(ENDINGS, ending, flipped(&value));
    engines.0.commit(&batch, Durability::Synced).unwrap();
    let short = CheckOptions { compare_bytes_max: 0, ..CheckOptions::default() };
    let report = checked(&engines, &short);
    let expected = [
        (FindingKind::Checksum, Remedy::Remove),
        (FindingKind::Checksum, Remedy::Remove),
        (FindingKind::Checksum, Remedy::Derive),
        (FindingKind::UnknownSpace, Remedy::Restore),
    ];
    assert_eq!(kinds(&report), expected, "{report:#?}");
    let (repaired, kept) = repaired(&ground, &engines, &short);
    assert_eq!(kinds(&repaired.report), [(FindingKind::UnknownSpace, Remedy::Restore)]);
    let places: Vec<_> = kept.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(places, ["first", "the ending of lease/x"], "{kept:?}");
    assert!(kept.iter().any(|(_, stored)| *stored == flipped_value), "what was removed is kept");
    close(engines);
    let tree = ground.tree();
    assert!(!exists(&tree, "first") && exists(&tree, "lease/x/a"));
    assert!(commit(&tree, setting("last/leaf", json!(7)).with_key("only")).replayed);
}
