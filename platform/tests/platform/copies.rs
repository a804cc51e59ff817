//! Backup, restore and migration through the files that an operator sees.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use trellis::{
    ArchiveSource, BackupKind, BackupReport, Config, ErrorKind, Trellis, Until,
    backup_to_directory, backup_to_file, migrate, migrate_from, restore, restore_from, verify,
    verify_backup,
};

use crate::assert_refused;

fn open(at: &Path) -> Trellis {
    Trellis::open(at).expect("it opens")
}

fn back_up(db: &Trellis, into: &Path, kind: BackupKind) -> BackupReport {
    backup_to_directory(db, into, kind, &mut |_| {}).expect("it is backed up")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn digest(db: &Trellis) -> String {
    db.digest().expect("it is read").digest
}

#[test]
fn a_directory_of_backups_gives_back_every_rev_it_covers() {
    let directory = tempfile::tempdir().expect("a directory");
    let (data, backups) = (directory.path().join("data"), directory.path().join("backups"));
    let db = open(&data);
    let mut digests = vec![digest(&db)];
    let write = |db: &Trellis, digests: &mut Vec<String>| {
        let rev = db.set(format!("a/{}", digests.len() % 3), json!({"n": digests.len()}));
        assert_eq!(rev.expect("it is set"), digests.len() as u64);
        digests.push(digest(db));
    };
    (0..5).for_each(|_| write(&db, &mut digests));
    assert_refused(
        backup_to_directory(&db, &backups, BackupKind::Incremental, &mut |_| {}),
        ErrorKind::NotFound,
        &["take a full one first"],
    );
    back_up(&db, &backups, BackupKind::Full);
    (0..3).for_each(|_| write(&db, &mut digests));
    back_up(&db, &backups, BackupKind::Incremental);
    assert!(back_up(&db, &backups, BackupKind::Incremental).file.is_none(), "nothing happened");
    (0..2).for_each(|_| write(&db, &mut digests));
    back_up(&db, &backups, BackupKind::Incremental);
    let expected = ["full-5.trellis", "incremental-5-8.trellis", "incremental-8-10.trellis"];
    assert_eq!(names(&backups), expected);
    assert!(verify_backup(&backups, &mut |_| {}).expect("it is read").problems.is_empty());

    for (index, rev) in [5, 6, 8, 9, 10].into_iter().enumerate() {
        let config = Config::in_directory(directory.path().join(format!("copy-{index}")));
        let report = restore(&backups, config.clone(), Until::Rev(rev), &mut |_| {});
        let report = report.expect("it is restored");
        assert_eq!((report.rev, &report.digest), (rev, &digests[rev as usize]));
        let copy = Trellis::open_config(config).expect("it opens");
        assert_eq!(digest(&copy), digests[rev as usize]);
        assert_eq!(copy.set("more", 1).expect("it goes on"), rev + 1);
        assert_eq!(copy.tree().identity().log_id, report.log_id);
        assert_ne!(report.log_id, db.tree().identity().log_id);
        assert_refused(
            backup_to_directory(&copy, &backups, BackupKind::Incremental, &mut |_| {}),
            ErrorKind::InvalidInput,
            &[],
        );
    }
    assert_eq!(names(&backups), expected, "a refused backup leaves no file");
    let into = Config::in_directory(directory.path().join("copy-0"));
    let again = restore(&backups, into, Until::Newest, &mut |_| {});
    assert_refused(again, ErrorKind::AlreadyExists, &["holds a database"]);
    let into = || Config::in_directory(directory.path().join("never"));
    let early = restore(&backups, into(), Until::Rev(4), &mut |_| {});
    assert_refused(early, ErrorKind::NotFound, &["before the point"]);
    let late = restore(&backups, into(), Until::Rev(11), &mut |_| {});
    assert_refused(late, ErrorKind::NotFound, &["end before this point"]);
    let error = assert_refused(Trellis::open_config(into()), ErrorKind::InvalidInput, &[]);
    assert!(error.message().contains("has not finished"), "{error}");
    // The same place is finished by a restore that can be.
    let report = restore(&backups, into(), Until::Newest, &mut |_| {}).expect("it is restored");
    assert_eq!(report.digest, digests[10]);
}

#[test]
fn damaged_and_missing_backups_are_found_and_never_opened() {
    let directory = tempfile::tempdir().expect("a directory");
    let (data, backups) = (directory.path().join("data"), directory.path().join("backups"));
    let db = open(&data);
    db.set("a", "x".repeat(1000)).expect("it is set");
    let full = back_up(&db, &backups, BackupKind::Full).file.expect("a file");
    db.set("a", 2).expect("it is set");
    back_up(&db, &backups, BackupKind::Incremental);
    db.set("a", 3).expect("it is set");
    back_up(&db, &backups, BackupKind::Incremental);

    let middle = backups.join("incremental-1-2.trellis");
    let aside = directory.path().join("aside");
    std::fs::rename(&middle, &aside).expect("it is moved");
    let check = verify_backup(&backups, &mut |_| {}).expect("it is read");
    assert_eq!((check.archives.len(), check.problems.len()), (2, 1));
    assert!(check.problems[0].1.to_string().contains("one is missing"));
    std::fs::rename(&aside, &middle).expect("it is moved back");

    let whole = std::fs::read(&full).expect("it is read");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    std::fs::write(&full, &damaged).expect("it is written");
    let check = verify_backup(&backups, &mut |_| {}).expect("it is read");
    // The full one, and the incremental one that nothing sound leads up to any more.
    let kinds: Vec<_> = check.problems.iter().map(|(_, error)| error.kind()).collect();
    assert_eq!(kinds, [ErrorKind::Corrupt, ErrorKind::NotFound]);
    let config = Config::in_directory(directory.path().join("copy"));
    let refused = restore(&backups, config.clone(), Until::Newest, &mut |_| {});
    assert_refused(refused, ErrorKind::Corrupt, &["position=", "full-1.trellis"]);
    assert!(Trellis::open_config(config.clone()).is_err(), "nothing may open");
    std::fs::write(&full, &whole[..whole.len() - 1]).expect("it is written");
    let refused = restore(&backups, config.clone(), Until::Newest, &mut |_| {});
    assert_refused(refused, ErrorKind::Corrupt, &["cut short"]);
    std::fs::write(&full, &whole).expect("it is written");
    restore(&backups, config.clone(), Until::Newest, &mut |_| {}).expect("it is restored");
    assert_eq!(Trellis::open_config(config).expect("it opens").get("a").expect("read"), json!(3));
}

#[test]
fn one_file_and_a_stream_restore_as_a_directory_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let db = open(&directory.path().join("data"));
    db.set("a/b", json!({"c": [1, 2, {"d": null}]})).expect("it is set");
    let file = directory.path().join("one.trellis");
    backup_to_file(&db, &file, None, &mut |_| {}).expect("it is backed up");
    let again = backup_to_file(&db, &file, None, &mut |_| {});
    assert_refused(again, ErrorKind::AlreadyExists, &["name another"]);
    let one = Config::in_directory(directory.path().join("one"));
    restore(&file, one.clone(), Until::Newest, &mut |_| {}).expect("it is restored");
    let other = Config::in_directory(directory.path().join("other"));
    let mut stream = db.archive(None).expect("it begins");
    restore_from(&mut stream, other.clone(), Until::Newest, &mut |_| {}).expect("it is restored");
    let one = Trellis::open_existing(one).expect("it opens");
    let other = Trellis::open_existing(other).expect("it opens");
    assert!(verify(&one, &other, 1).expect("it is read").differences.is_empty());
    other.set("a/x", 1).expect("it is set");
    let found = verify(&one, &other, 5).expect("it is read");
    assert_eq!(found.differences.len(), 1);
    assert_eq!(found.differences[0].path.to_string(), "a/x");
}

#[test]
fn a_migration_moves_everything_and_leaves_the_source_as_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| Config::in_directory(directory.path().join(name));
    let nothing = migrate(at("nothing"), at("new"), &mut |_| {});
    assert_refused(nothing, ErrorKind::NotFound, &["no database"]);
    let db = open(&directory.path().join("old"));
    for n in 0..50 {
        db.set(format!("data/{n}"), json!({"n": n, "empty": {}})).expect("it is set");
    }
    assert_refused(migrate(at("old"), at("new"), &mut |_| {}), ErrorKind::Locked, &[]);
    let before = db.digest().expect("it is read");
    db.close().expect("it closes");
    let mut steps = Vec::new();
    let report = migrate(at("old"), at("new"), &mut |progress| steps.push(progress.step));
    let report = report.expect("it moves");
    assert_eq!((&report.digest, report.rev), (&before.digest, before.rev));
    steps.dedup();
    assert_eq!(steps, ["copy", "catch up", "verify"]);
    let moved = Trellis::open_existing(at("new")).expect("it opens");
    assert_eq!(moved.digest().expect("it is read"), before);
    assert_eq!(open(&directory.path().join("old")).digest().expect("it is read"), before);
    assert_eq!(moved.set("more", 1).expect("it goes on"), before.rev + 1);
    moved.close().expect("it closes");
    let again = migrate(at("old"), at("new"), &mut |_| {});
    assert_refused(again, ErrorKind::AlreadyExists, &["holds a database"]);
}

#[test]
fn a_database_moves_while_it_is_written_and_stays_paused_after() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| Config::in_directory(directory.path().join(name));
    let db = open(&directory.path().join("old"));
    let moved = AtomicBool::new(false);
    let report = std::thread::scope(|scope| {
        let (first, begun) = std::sync::mpsc::channel();
        let (db, moved) = (&db, &moved);
        let writer = scope.spawn(move || {
            let mut acknowledged = 0;
            while !moved.load(Ordering::Acquire) {
                match db.set(format!("data/{}", acknowledged % 100), acknowledged) {
                    Ok(_) => acknowledged += 1,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
                }
                first.send(()).expect("it is waited for");
            }
        });
        // A migration that is faster than the first write would meet no writer.
        begun.recv().expect("it writes");
        let report = migrate_from(db, at("new"), &mut |_| {});
        moved.store(true, Ordering::Release);
        writer.join().expect("it ends");
        report.expect("it moves")
    });
    assert_refused(db.set("more", 1), ErrorKind::Unavailable, &["paused for a migration"]);
    let copy = Trellis::open_existing(at("new")).expect("it opens");
    assert!(verify(&db, &copy, 5).expect("it is read").differences.is_empty());
    assert_eq!(copy.digest().expect("it is read").rev, report.rev);
    db.resume_writes();
    db.set("more", 1).expect("it goes on");
    let again = migrate_from(&db, at("new"), &mut |_| {});
    assert_refused(again, ErrorKind::Locked, &[]);
    db.set("more", 2).expect("a failed migration leaves no pause");
}

#[test]
fn a_place_says_which_engines_and_keeps_to_those_it_was_made_with() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let text = data.to_str().expect("a name");
    let config = Config::at(&format!("redb:{text}"), None).expect("a place");
    assert_eq!((config.kv_url(), config.log_url()), ("redb:tree.redb", "segment:log"));
    Trellis::open_config(config.clone()).expect("it opens").close().expect("it closes");
    let again = Config::at(text, None).expect("a place");
    assert_eq!((again.kv_url(), again.log_url()), (config.kv_url(), config.log_url()));
    let other = Config::at(&format!("sled:{text}"), None);
    assert_refused(other, ErrorKind::InvalidInput, &["holds a database on redb"]);
    assert_refused(Config::at("redb:", None), ErrorKind::InvalidInput, &["names no directory"]);
    for typo in ["sqlit:new", "memory:new"] {
        assert_refused(Config::at(typo, None), ErrorKind::InvalidInput, &["sqlite:", "./"]);
    }
    assert_eq!(Config::at("./a:b", None).expect("a place").data, Path::new("./a:b"));
}

#[cfg(feature = "kv-sqlite")]
#[test]
fn a_database_moves_from_redb_to_sqlite_and_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |place: &str| {
        let (scheme, name) = place.split_once(':').expect("a scheme");
        let data = directory.path().join(name);
        Config::at(&format!("{scheme}:{}", data.display()), None).expect("a place")
    };
    let db = Trellis::open_config(at("redb:a")).expect("it opens");
    db.set("users", json!({"a": {"name": "A"}, "b": [1, 2.5, "x"]})).expect("it is set");
    let before = db.digest().expect("it is read");
    db.close().expect("it closes");
    let there = migrate(at("redb:a"), at("sqlite:b"), &mut |_| {}).expect("it moves");
    let back = migrate(at("sqlite:b"), at("redb:c"), &mut |_| {}).expect("it moves");
    assert_eq!((&there.digest, &back.digest), (&before.digest, &before.digest));
    let db = Trellis::open_existing(at("redb:c")).expect("it opens");
    assert_eq!(db.digest().expect("it is read"), before);
}

#[test]
fn a_store_in_memory_under_a_journal_on_disk_is_restored_and_survives_a_reopen() {
    let directory = tempfile::tempdir().expect("a directory");
    let db = open(&directory.path().join("data"));
    db.set("a", json!({"b": [1, 2], "c": {}})).expect("it is set");
    db.set("big", "x".repeat(3 << 20)).expect("it is set");
    let file = directory.path().join("one.trellis");
    backup_to_file(&db, &file, None, &mut |_| {}).expect("it is backed up");
    let into = Config {
        kv: Some("memory:".to_owned()),
        ..Config::in_directory(directory.path().join("copy"))
    };
    let report = restore(&file, into.clone(), Until::Newest, &mut |_| {}).expect("it is restored");
    assert_eq!(report.digest, digest(&db));
    for round in 0..3 {
        let copy = Trellis::open_config(into.clone()).expect("it opens");
        assert_eq!(copy.get("a").expect("it is read"), json!({"b": [1, 2], "c": {}}));
        assert_eq!(digest(&copy) == report.digest, round == 0, "round {round}");
        assert_eq!(copy.tree().identity().log_id, report.log_id);
        assert_eq!(copy.set("more", round).expect("it goes on"), report.rev + round + 1);
        copy.close().expect("it closes");
    }
    let again = restore(&file, into, Until::Newest, &mut |_| {});
    assert_refused(again, ErrorKind::AlreadyExists, &["holds a database"]);
}

#[test]
fn a_restore_that_never_began_leaves_no_empty_database() {
    let directory = tempfile::tempdir().expect("a directory");
    let (data, backups) = (directory.path().join("data"), directory.path().join("backups"));
    let db = open(&data);
    db.set("a", 1).expect("it is set");
    back_up(&db, &backups, BackupKind::Full);
    let target = Config::in_directory(directory.path().join("target"));
    let refused = restore(&backups, target.clone(), Until::Rev(0), &mut |_| {});
    assert_refused(refused, ErrorKind::NotFound, &[]);
    // Who starts a server there now must not be given an empty database for the lost one.
    assert_refused(Trellis::open_existing(target.clone()), ErrorKind::NotFound, &[]);
    restore(&backups, target.clone(), Until::Newest, &mut |_| {}).expect("it is restored");
    assert_eq!(Trellis::open_existing(target).expect("it opens").get("a").expect("read"), 1);
}
