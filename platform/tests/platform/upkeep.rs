//! Check, repair, compaction, rebuild: what damage to the files comes to.

use std::path::{Path, PathBuf};

use serde_json::json;
use trellis::{
    CheckOptions, Config, ErrorKind, FindingKind, Remedy, Trellis, check, compact, migrate,
    rebuild, repair,
};

use crate::assert_refused;

/// A database of some values, closed.
fn made(directory: &Path) -> Config {
    let config = Config::in_directory(directory.join("data"));
    let db = Trellis::open_config(config.clone()).expect("opens");
    for n in 0..50 {
        db.set(format!("values/{n:02}"), json!({"text": format!("the value number {n:02}!")}))
            .expect("set");
    }
    db.close().expect("closes");
    config
}

/// Changes one byte in the middle of the last place in a file that holds `text`.
fn damage(file: &Path, text: &str) {
    let mut bytes = std::fs::read(file).expect("a file");
    let at = bytes.windows(text.len()).rposition(|window| window == text.as_bytes());
    let middle = at.expect("it is in the file") + text.len() / 2;
    *bytes.get_mut(middle).expect("within") ^= 1;
    std::fs::write(file, bytes).expect("written");
}

/// The files of the journal's records below a directory.
fn journal_files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let files =
        paths.flat_map(|path| if path.is_dir() { journal_files(&path) } else { vec![path] });
    files.filter(|path| path.to_string_lossy().contains("journal")).collect()
}

#[test]
fn damage_to_the_store_is_named_and_the_store_rebuilt_from_its_journal() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = made(directory.path());
    let options = CheckOptions::default();
    let digest = Trellis::open_config(config.clone()).expect("opens").digest().expect("read");
    let report = check(&config, &options).expect("checked");
    assert_eq!((report.leaves, report.records, report.findings), (50, 50, vec![]));
    damage(&config.data.join("tree.redb"), "the value number 33!");
    let report = check(&config, &options).expect("checked");
    let engine = |found: &trellis::Finding| {
        found.kind == FindingKind::Engine && found.remedy == Remedy::Restore
    };
    assert!(report.findings.iter().any(engine), "{report:?}");
    let rebuilt = rebuild(&config).expect("rebuilt");
    assert_eq!((rebuilt.rev, &rebuilt.digest), (digest.rev, &digest.digest));
    assert!(rebuilt.put_aside[0].exists(), "the old store is kept");
    assert_eq!(check(&config, &options).expect("checked").findings, vec![]);
    // A store that is no store at all.
    std::fs::write(config.data.join("tree.redb"), "nothing of the kind").expect("written");
    let report = check(&config, &options).expect("checked");
    assert_eq!(report.findings[0].place, "the store", "{report:?}");
    assert_eq!(report.records, 50, "the journal is checked all the same");
    let rebuilt = rebuild(&config).expect("rebuilt");
    assert_eq!(rebuilt.digest, digest.digest);
    assert!(rebuilt.put_aside[0].ends_with("tree.redb.before-rebuild-1"), "{rebuilt:?}");
}

#[test]
fn damage_to_the_journal_is_named_and_never_repaired_in_silence() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = made(directory.path());
    let files = journal_files(&config.data.join("log"));
    let records = |path: &&PathBuf| path.extension().is_some_and(|end| end == "segment");
    damage(files.iter().find(records).expect("the journal"), "the value number 20!");
    let report = check(&config, &CheckOptions::default()).expect("checked");
    assert!(!report.is_clean() && report.leaves == 50, "{report:?}");
    let place = &report.findings[0].place;
    assert!(place == "rev 21" || place == "the journal", "{report:?}");
    assert_refused(rebuild(&config), ErrorKind::Corrupt, &["trellis restore"]);
    let repaired = repair(&config, &CheckOptions::default()).expect("it says what it cannot");
    assert_eq!((repaired.repairs, repaired.kept), (vec![], None));
    assert!(!repaired.report.is_clean());
}

#[test]
fn a_rebuild_needs_the_whole_journal_and_a_check_a_closed_database() {
    let directory = tempfile::tempdir().expect("a directory");
    let none = Config::in_directory(directory.path().join("none"));
    assert_refused(check(&none, &CheckOptions::default()), ErrorKind::NotFound, &["no database"]);
    assert!(!none.data.exists(), "nothing was made by looking");
    let config = made(directory.path());
    let db = Trellis::open_config(config.clone()).expect("opens");
    assert_refused(check(&config, &CheckOptions::default()), ErrorKind::Locked, &["close it"]);
    assert_refused(rebuild(&config), ErrorKind::Locked, &["close it"]);
    assert_eq!(db.tree().check(&CheckOptions::default()).expect("checked").findings, vec![]);
    db.close().expect("closes");
    // What was restored or moved has a journal that begins where it was taken.
    let moved = Config::in_directory(directory.path().join("moved"));
    migrate(config, moved.clone(), &mut |_| {}).expect("moved");
    assert_eq!(check(&moved, &CheckOptions::default()).expect("checked").findings, vec![]);
    let words = ["trellis restore", "check --repair"];
    assert_refused(rebuild(&moved), ErrorKind::NotFound, &words);
    let memory = check(&Config::memory(), &CheckOptions::default());
    assert_refused(memory, ErrorKind::InvalidInput, &["--url"]);
}

#[test]
fn compaction_gives_space_back_and_loses_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = Config::in_directory(directory.path().join("data"));
    let db = Trellis::open_config(config.clone()).expect("opens");
    // Text that does not come twice, so that no engine stores it smaller.
    let text = |n: usize| (0..2_000).map(|i| format!("{:x}", n * 7919 + i)).collect::<String>();
    for n in 0..200 {
        db.set(format!("large/{n:03}"), text(n)).expect("set");
    }
    db.set("kept", json!({"a": 1})).expect("set");
    db.tree().flush().expect("flushed");
    db.delete("large").expect("deleted");
    let digest = db.digest().expect("read");
    db.close().expect("closes");
    let compacted = compact(&config).expect("compacted");
    let (before, after) = compacted.store_bytes;
    assert!(after < before / 10, "{compacted:?}");
    assert_eq!(check(&config, &CheckOptions::default()).expect("checked").findings, vec![]);
    let db = Trellis::open_config(config.clone()).expect("opens");
    assert_eq!(db.digest().expect("read"), digest);
    db.close().expect("closes");
}
