//! Copies where something is in the way: taken names, sources that fail, endings that are due.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use trellis::{
    ArchiveSource, BackupKind, Commit, Config, ContentDigest, Error, ErrorKind, Expiry, Input,
    Operation, Result, Runtime, Trellis, Until, backup_to_directory, backup_to_file, migrate_from,
    restore,
};
use trellis_runtime::{RuntimeOptions, SimulatedClock};

use crate::assert_refused;

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<_> =
        entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn backups_of_several_databases_never_take_each_others_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let backups = directory.path().join("backups");
    let back_up = |n: u64| {
        let db = Trellis::open(directory.path().join(format!("data-{n}"))).expect("it opens");
        db.set("a", n).expect("it is set");
        let report = backup_to_directory(&db, &backups, BackupKind::Full, &mut |_| {});
        let file = report.expect("it is backed up").file.expect("a file");
        (file, db.digest().expect("it is read").digest)
    };
    let taken: Vec<_> = (0..3).map(back_up).collect();
    assert_eq!(names(&backups), ["full-1-2.trellis", "full-1-3.trellis", "full-1.trellis"]);
    for (n, (file, digest)) in taken.iter().enumerate() {
        let into = Config::in_directory(directory.path().join(format!("copy-{n}")));
        let report = restore(file, into, Until::Newest, &mut |_| {}).expect("it is restored");
        assert_eq!(&report.digest, digest, "{}", file.display());
    }
}

#[test]
fn a_database_opened_paused_keeps_what_is_due() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = Config::in_directory(directory.path());
    // Written long ago, so that it is due at every later open.
    let clock = Arc::new(SimulatedClock::at(1_000));
    let runtime = Runtime::new(RuntimeOptions { clock, ..RuntimeOptions::default() });
    let db = Trellis::open_with(config.clone(), runtime).expect("it opens");
    let set = Operation::Set {
        path: "a".parse().expect("a path"),
        value: Input::parse(b"1").expect("a value"),
        expiry: Some(Expiry::AtMs(2_000)),
    };
    db.commit(Commit::new(vec![set])).expect("it is set");
    let before = db.digest().expect("it is read");
    db.close().expect("it closes");

    let db = Trellis::open_existing_paused(config).expect("it opens");
    assert_refused(db.set("b", 1), ErrorKind::Unavailable, &["paused"]);
    // It waits for whatever was under way.
    db.pause_writes().expect("it is paused");
    assert_eq!(db.digest().expect("it is read"), before);
    db.resume_writes();
    db.set("b", 1).expect("it goes on");
}

/// A source that answers nothing, or breaks off.
struct Failing {
    breaks_off: bool,
}

fn damaged() -> Error {
    Error::new(ErrorKind::Corrupt, "a leaf is damaged")
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _into: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other(damaged()))
    }
}

impl ArchiveSource for Failing {
    fn archive(&self, _since: Option<u64>) -> Result<Box<dyn Read + '_>> {
        if self.breaks_off { Ok(Box::new(Broken)) } else { Err(damaged()) }
    }

    fn pause(&self) -> Result<()> {
        Err(damaged())
    }

    fn resume(&self) -> Result<()> {
        Err(damaged())
    }

    fn digest(&self) -> Result<ContentDigest> {
        Err(damaged())
    }
}

#[test]
fn a_source_that_fails_is_told_as_what_it_is_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    for breaks_off in [false, true] {
        let source = Failing { breaks_off };
        let file = directory.path().join("one.trellis");
        let refused = backup_to_file(&source, &file, None, &mut |_| {});
        assert_refused(refused, ErrorKind::Corrupt, &["a leaf is damaged"]);
        let into = Config::in_directory(directory.path().join("new"));
        let refused = migrate_from(&source, into, &mut |_| {});
        assert_refused(refused, ErrorKind::Corrupt, &["a leaf is damaged"]);
        assert_eq!(names(directory.path()), [""; 0], "breaks off: {breaks_off}");
    }
}
