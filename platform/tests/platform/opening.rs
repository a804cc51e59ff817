//! The data directory: one process, one pair of engines, and everything there at the next open.

#![cfg_attr(
    not(all(feature = "kv-redb", feature = "log-segment")),
    allow(unused_imports, dead_code, reason = "which tests there are depends on the features")
)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use trellis::{Acknowledge, Config, ErrorKind, Profile, Trellis};

use crate::assert_refused;

const HOLD: &str = "TRELLIS_TEST_HOLD";

/// Every pair of engines that this build contains.
pub(crate) fn compiled_in() -> Vec<(&'static str, &'static str)> {
    let stores = [
        ("memory:", true),
        ("redb:tree.redb", cfg!(feature = "kv-redb")),
        ("sqlite:trellis.sqlite", cfg!(feature = "kv-sqlite")),
        ("sled:tree.sled", cfg!(feature = "kv-sled")),
    ];
    let logs = [
        ("memory:", true),
        ("segment:log", cfg!(feature = "log-segment")),
        ("kv:", cfg!(feature = "log-kv")),
        ("kv:redb:log.redb", cfg!(all(feature = "log-kv", feature = "kv-redb"))),
    ];
    let stores = stores.into_iter().filter(|(_, compiled_in)| *compiled_in);
    stores
        .flat_map(|(kv, _)| {
            let logs = logs.into_iter().filter(|(_, compiled_in)| *compiled_in);
            logs.map(move |(log, _)| (kv, log))
        })
        .collect()
}

fn config(data: &Path, kv: &str, log: &str) -> Config {
    let mut config = Config::in_directory(data);
    (config.kv, config.log) = (Some(kv.to_owned()), Some(log.to_owned()));
    config
}

#[test]
fn a_reopened_database_holds_what_was_written_on_every_pair_of_engines() {
    for (kv, log) in compiled_in() {
        if log == "memory:" || (kv, log) == ("memory:", "kv:") {
            continue; // nothing is promised to stay
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        for round in 0..3 {
            let db = Trellis::open_config(config(directory.path(), kv, log));
            let db = db.unwrap_or_else(|error| panic!("{kv} {log}: {error}"));
            let stored = db.get_as::<u32>("rounds/count").expect("a read");
            assert_eq!(stored.unwrap_or(0), round, "{kv} {log}");
            db.update([("rounds/count", json!(round + 1)), ("rounds/last", json!("x"))])
                .unwrap_or_else(|error| panic!("{kv} {log}: {error}"));
            match round {
                // Closed, dropped with the last handle, and dropped after a clone.
                0 => db.close().expect("a close"),
                1 => drop(db),
                _ => drop(db.clone()),
            }
        }
    }
}

#[test]
fn in_memory_needs_no_directory_and_says_so() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().join("data");
    let config = Config { profile: Profile::Memory, ..Config::in_directory(&data) };
    let first = Trellis::open_config(config.clone()).expect("a database");
    let second = Trellis::open_config(config).expect("another database");
    first.set("a", 1).expect("a write");
    assert!(!second.exists("a").expect("a read"));
    assert!(!data.exists());
    let text = first.describe().to_string();
    assert!(text.contains("no data on disk") && text.contains("warning:"), "{text}");
    assert!(text.contains("durability none"), "{text}");
}

#[cfg(all(feature = "kv-redb", feature = "log-segment"))]
#[test]
fn the_default_opens_in_one_line_without_warnings() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let db = Trellis::open(directory.path().join("some/where")).expect("a database");
    let description = db.describe();
    assert_eq!(description.warnings, Vec::<String>::new());
    assert_eq!((description.kv.name, description.log.name), ("redb", "segment"));
    assert_eq!(description.durability, "always");
    let json = serde_json::to_value(description).expect("it serialises");
    assert_eq!(json["profile"], "embedded");
    assert_eq!(json["kv"]["persistence"], "disk");
    let stats = db.stats().expect("counters");
    assert!(serde_json::to_value(stats).expect("it serialises").is_object());
}

#[cfg(feature = "log-segment")]
#[test]
fn a_second_open_is_refused_and_names_the_holder() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = config(directory.path(), "memory:", "segment:log");
    let path = directory.path().display().to_string();
    let pid = format!("pid={}", std::process::id());
    let db = Trellis::open_config(config.clone()).expect("a database");
    let second = Trellis::open_config(config.clone());
    assert_refused(second, ErrorKind::Locked, &[&path, &pid]);
    db.close().expect("a close");
    let reopened = Trellis::open_config(config).expect("free after the close");
    assert_refused(db.get(""), ErrorKind::Closed, &[]);
    reopened.close().expect("a close");
}

/// Not a test of its own: the process that [`another_process_is_refused`] starts.
#[cfg(feature = "log-segment")]
#[test]
fn child_that_holds_the_directory() {
    let Some(data) = std::env::var_os(HOLD) else { return };
    let config = config(Path::new(&data), "memory:", "segment:log");
    let _db = Trellis::open_config(config).expect("a database");
    println!("\nholding");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the end of the input");
}

#[cfg(feature = "log-segment")]
#[test]
fn another_process_is_refused_until_the_holder_ends() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut child = Command::new(std::env::current_exe().expect("the test binary"))
        .args(["opening::child_that_holds_the_directory", "--exact", "--nocapture"])
        .env(HOLD, directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let holds = output.lines().map_while(Result::ok).any(|line| line == "holding");
    assert!(holds, "the child could not open the database");
    let config = config(directory.path(), "memory:", "segment:log");
    let pid = format!("pid={}", child.id());
    assert_refused(Trellis::open_config(config.clone()), ErrorKind::Locked, &[&pid]);
    child.kill().expect("a kill");
    child.wait().expect("its end");
    Trellis::open_config(config).expect("the lock ended with the process");
}

#[cfg(feature = "log-segment")]
#[test]
fn data_of_other_engines_or_a_newer_format_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path();
    let made = config(data, "memory:", "segment:log");
    let db = Trellis::open_config(made.clone()).expect("a database");
    db.set("a", 1).expect("a write");
    db.close().expect("a close");
    let outcome = Trellis::open_config(config(data, "memory:", "segment:other"));
    let words = ["\"segment:log\"", "\"segment:other\"", "trellis migrate"];
    assert_refused(outcome, ErrorKind::InvalidInput, &words);
    let marker = data.join("trellis.json");
    let text = std::fs::read_to_string(&marker).expect("the marker");
    let newer = r#"{"format":2,"layout":"unheard of"}"#;
    std::fs::write(&marker, newer).expect("a write");
    let outcome = Trellis::open_config(made.clone());
    assert_refused(outcome, ErrorKind::Unsupported, &["newer version", "format=2"]);
    let place = data.to_str().expect("UTF-8");
    let error = Config::at(place, None).expect_err("a newer format");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    std::fs::write(&marker, "{").expect("a write");
    assert_refused(Trellis::open_config(made.clone()), ErrorKind::Corrupt, &["trellis.json"]);
    std::fs::write(&marker, text).expect("a write");
    let db = Trellis::open_config(made).expect("a database");
    assert_eq!(db.get("a").expect("a read"), json!(1), "the refusals changed nothing");
}

#[cfg(feature = "log-segment")]
#[test]
fn a_directory_that_cannot_be_made_is_refused_with_its_path() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("file");
    std::fs::write(&file, "in the way").expect("a write");
    let data = file.join("data");
    let path = data.display().to_string();
    let outcome = Trellis::open_config(config(&data, "memory:", "segment:log"));
    assert_refused(outcome, ErrorKind::InvalidInput, &[&path, "a file is in the way"]);
}

#[cfg(all(unix, feature = "log-segment"))]
#[test]
fn a_directory_that_cannot_be_written_is_refused_with_its_path() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().join("data");
    std::fs::create_dir(&data).expect("a directory");
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o555)).expect("its permissions");
    if std::fs::write(data.join("probe"), "").is_ok() {
        eprintln!("skipped: this user may write whatever the permissions say");
        return;
    }
    let path = data.display().to_string();
    let outcome = Trellis::open_config(config(&data, "memory:", "segment:log"));
    assert_refused(outcome, ErrorKind::Denied, &[&path]);
}

#[test]
fn settings_reach_the_tree_and_show_in_the_description() {
    let settings = [
        ("TRELLIS_PROFILE", "memory"),
        ("TRELLIS_LIMITS__LEAF_BYTES_MAX", "100"),
        ("TRELLIS_DURABILITY", "interval:50ms"),
    ];
    let config = Config::builder().variables(settings).load().expect("a configuration");
    let db = Trellis::open_config(config).expect("a database");
    db.set("a", "x".repeat(100)).expect("the limit itself fits");
    let outcome = db.set("a", "x".repeat(101));
    assert_refused(outcome, ErrorKind::TooLarge, &["leaf_bytes_max=100"]);
    let text = db.describe().to_string();
    assert!(text.contains("interval:50ms"), "{text}");

    let mut config = Config::memory();
    config.durability.prefixes.insert("a//b".to_owned(), Acknowledge::Always);
    let outcome = Trellis::open_config(config);
    assert_refused(outcome, ErrorKind::InvalidInput, &["durability.prefixes"]);
}

#[cfg(all(feature = "kv-sled", feature = "log-segment"))]
#[test]
fn an_experimental_store_says_so_and_names_what_its_adapter_emulates() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let db = Trellis::open_config(config(directory.path(), "sled:tree.sled", "segment:log"));
    let text = db.expect("a database").describe().to_string();
    assert!(text.contains("warning: sled") && text.contains("experimental"), "{text}");
    assert!(text.contains("sled emulates: "), "{text}");
}
