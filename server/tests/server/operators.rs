//! The operators' verbs, as processes: on directories, and on a server.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use serde_json::Value;
use trellis::{Commit, Config, Expiry, Input, Operation, Runtime, Trellis};
use trellis_runtime::{RuntimeOptions, SimulatedClock};

use crate::command_line::{Served, errors, text, trellis};

fn run(arguments: &[&str]) -> Output {
    trellis(arguments).output().expect("runs")
}

/// What a command printed and how it ended, whatever that was.
fn ended(arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(arguments);
    let out = String::from_utf8_lossy(&output.stdout).into_owned() + &errors(&output);
    (output.status.code(), out)
}

/// A database of some leaves in `folder/name`, closed.
fn made(folder: &Path, name: &str, kv: &str) -> String {
    let data = folder.join(name).to_str().expect("text").to_owned();
    let lines: String = (0..300)
        .map(|n| format!("{{\"path\":\"items/i{n:03}\",\"value\":\"the text number {n:03}!\"}}\n"))
        .collect();
    let file = folder.join("lines.ndjson");
    std::fs::write(&file, lines).expect("written");
    let file = file.to_str().expect("text").to_owned();
    text(&run(&["import", &file, "--data", &data, "--kv", kv]));
    data
}

/// Changes one byte of the last place in a file that holds a text.
fn damage(file: &Path, text: &str) {
    let mut bytes = std::fs::read(file).expect("a file");
    let at = bytes.windows(text.len()).rposition(|window| window == text.as_bytes());
    bytes[at.expect("it is there") + text.len() / 2] ^= 1;
    std::fs::write(file, bytes).expect("written");
}

fn digest_of(output: &str) -> String {
    let word = output.split_whitespace().find(|word| word.len() == 64);
    word.expect("a digest").to_owned()
}

#[test]
fn a_check_names_a_damaged_leaf_and_a_repair_brings_it_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = made(folder.path(), "db", "sqlite:trellis.sqlite");
    let (code, out) = ended(&["check", "--data", &data]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("300 leaves") && out.contains("nothing is wrong"), "{out}");
    // SQLite keeps no checksums of its own: only the tree's own tell.
    damage(&Path::new(&data).join("trellis.sqlite"), "the text number 123!");
    let (code, out) = ended(&["check", "--data", &data]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("checksum: items/i123:") && out.contains("[journal]"), "{out}");
    assert!(out.contains("check --repair"), "it says what to do: {out}");
    let (code, out) = ended(&["check", "--data", &data, "--json"]);
    let report: Value = serde_json::from_str(out.lines().next().expect("a line")).expect("JSON");
    assert_eq!((code, &report["findings"][0]["place"]), (Some(1), &"items/i123".into()));
    let (code, out) = ended(&["check", "--data", &data, "--repair"]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("items/i123: written again from the journal"), "{out}");
    assert_eq!(ended(&["check", "--data", &data]).0, Some(0));
    let value =
        text(&run(&["get", "items/i123", "--data", &data, "--kv", "sqlite:trellis.sqlite"]));
    assert_eq!(value, "\"the text number 123!\"\n");
}

#[test]
fn what_cannot_be_checked_has_an_exit_code_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("nowhere").to_str().expect("text").to_owned();
    let (code, out) = ended(&["check", "--data", &nowhere]);
    assert_eq!(code, Some(2), "{out}");
    assert!(out.contains("no database"), "{out}");
    let (code, out) = ended(&["check", "--url", "ws://127.0.0.1:9/db"]);
    assert_eq!(code, Some(2), "{out}");
    let (code, out) = ended(&["check", "--repair", "--url", "ws://127.0.0.1:9/db"]);
    assert_eq!(code, Some(2), "{out}");
    assert!(out.contains("stop the server"), "{out}");
    let (code, out) = ended(&["verify", &nowhere, "--against", &nowhere]);
    assert_eq!(code, Some(2), "{out}");
    let (code, out) = ended(&["backup", "--verify", "--to", &nowhere]);
    assert_eq!(code, Some(2), "{out}");
}

#[test]
fn a_store_is_rebuilt_compacted_and_moved() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = made(folder.path(), "db", "redb:tree.redb");
    let moved = folder.path().join("moved");
    let to = format!("sqlite:{}", moved.display());
    let before = digest_of(&text(&run(&["migrate", "--from", &data, "--to", &to])));
    std::fs::write(Path::new(&data).join("tree.redb"), "no store at all").expect("written");
    let (code, out) = ended(&["check", "--data", &data]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("the store") && out.contains("[restore]"), "{out}");
    let rebuilt = text(&run(&["rebuild", "--data", &data]));
    assert_eq!(digest_of(&rebuilt), before);
    assert!(rebuilt.contains("tree.redb.before-rebuild"), "{rebuilt}");
    text(&run(&["compact", "--data", &data]));
    let (code, out) = ended(&["verify", &data, "--against", &to]);
    assert_eq!(code, Some(0), "{out}");
    let sqlite = ["--kv", "sqlite:trellis.sqlite", "--log", "segment:log"];
    let moved = moved.to_str().expect("text");
    let place = ["--data", moved, sqlite[0], sqlite[1], sqlite[2], sqlite[3]];
    text(&trellis(&["set", "items/i007", "8"]).args(place).output().expect("runs"));
    let (code, out) = ended(&["verify", &data, "--against", &to]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("Value: items/i007"), "{out}");
    let (code, out) = ended(&["migrate", "--from", &data, "--to", &to]);
    assert_eq!(code, Some(1), "the place is taken: {out}");
}

#[test]
fn a_server_is_backed_up_checked_and_moved_beside_its_clients() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let server = Served::start(&["--data", &path("live")]);
    let at = |arguments: &[&str]| text(&server.run(arguments));
    at(&["update", r#"{"a/b":1,"a/c":{".bytes":"AAE="},"d":[1,2]}"#]);
    let backups = path("backups");
    assert!(at(&["backup", "--to", &backups]).contains("full-1.trellis"));
    at(&["set", "a/b", "2"]);
    assert!(at(&["backup", "--to", &backups, "--incremental"]).contains("incremental-1-2.trellis"));
    assert!(at(&["backup", "--to", &path("one.trellis")]).contains("up to rev 2"));
    text(&run(&["backup", "--verify", "--to", &backups]));
    let piped = server.run(&["backup", "--to", "-", "--since", "1"]);
    assert!(piped.stdout.starts_with(b"TRELLIS\0"), "{}", errors(&piped));
    assert!(at(&["check"]).contains("nothing is wrong"));
    assert!(at(&["compact"]).contains("stop the server"), "redb compacts alone");

    text(&run(&["restore", "--from", &backups, "--to", &path("then"), "--to-rev", "1"]));
    text(&run(&["restore", "--from", &backups, "--to", &path("now")]));
    let read = |data: &str| text(&run(&["get", "a/b", "--data", data]));
    assert_eq!((read(&path("then")), read(&path("now"))), ("1\n".to_owned(), "2\n".to_owned()));
    let (code, out) =
        ended(&["restore", "--from", &backups, "--to", &path("never"), "--to-time", "1"]);
    assert_eq!((code, Path::new(&path("never")).exists()), (Some(1), false), "{out}");
    assert_eq!(ended(&["verify", &server.url, "--against", &path("now")]).0, Some(0));
    let (code, out) = ended(&["verify", &server.url, "--against", &path("then")]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("Value: a/b"), "{out}");

    let target = format!("sqlite:{}", path("new"));
    let moved = run(&["migrate", "--from", &server.url, "--to", &target]);
    assert!(errors(&moved).contains("refuses writes"), "{}", errors(&moved));
    let refused = server.run(&["set", "late", "1"]);
    assert!(errors(&refused).contains("paused for a migration"), "{}", errors(&refused));
    assert_eq!(ended(&["verify", &server.url, "--against", &target]).0, Some(0));
    let copied = run(&["migrate", "--from", &server.url, "--to", &path("copy"), "--resume"]);
    text(&copied);
    at(&["set", "late", "1"]);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_backup_that_was_not_asked_for_is_never_taken_instead() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = made(folder.path(), "db", "redb:tree.redb");
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    for (to, option, word) in [
        (path("one.trellis"), "--incremental", "--since"),
        ("-".to_owned(), "--incremental", "--since"),
        (path("backups"), "--since=0", "--incremental"),
    ] {
        let (code, out) = ended(&["backup", "--data", &data, "--to", &to, option]);
        assert_eq!(code, Some(2), "{to}: {out}");
        assert!(out.contains(word) && !out.contains("TRELLIS"), "{to}: {out}");
        assert!(!Path::new(&to).exists(), "{to}");
    }
}

#[test]
fn a_copy_holds_what_is_due_and_compares_equal() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("db").to_str().expect("text").to_owned();
    // Written long ago, so that it is due for every process.
    let clock = Arc::new(SimulatedClock::at(1_000));
    let runtime = Runtime::new(RuntimeOptions { clock, ..RuntimeOptions::default() });
    let db = Trellis::open_with(Config::in_directory(&data), runtime).expect("it opens");
    let set = Operation::Set {
        path: "passing".parse().expect("a path"),
        value: Input::parse(b"1").expect("a value"),
        expiry: Some(Expiry::AtMs(2_000)),
    };
    db.commit(Commit::new(vec![set])).expect("it is set");
    db.close().expect("it closes");
    let to = format!("sqlite:{}", folder.path().join("moved").display());
    text(&run(&["migrate", "--from", &data, "--to", &to]));
    for _ in 0..2 {
        let (code, out) = ended(&["verify", &data, "--against", &to]);
        assert_eq!(code, Some(0), "{out}");
    }
}

#[test]
fn damage_to_an_archive_is_found_and_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = made(folder.path(), "db", "redb:tree.redb");
    let backups = folder.path().join("backups").to_str().expect("text").to_owned();
    text(&run(&["backup", "--data", &data, "--to", &backups]));
    let file = std::fs::read_dir(&backups).expect("a folder").next().expect("one").expect("one");
    damage(&file.path(), "the text number 200!");
    let (code, out) = ended(&["backup", "--verify", "--to", &backups]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("corrupt") && out.contains(".trellis"), "{out}");
    let copy = folder.path().join("copy").to_str().expect("text").to_owned();
    let (code, out) = ended(&["restore", "--from", &backups, "--to", &copy]);
    assert_eq!(code, Some(1), "{out}");
    let (code, out) = ended(&["get", "items", "--data", &copy]);
    assert_eq!(code, Some(1), "half a restore opens to nobody: {out}");
}

#[test]
fn an_index_is_created_listed_and_dropped_on_a_closed_database_and_on_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = made(folder.path(), "db", "redb:tree.redb");
    let create = ["index", "create", "items", "$value:desc", "--data", &data];
    let index: Value = serde_json::from_str(&text(&run(&create))).expect("JSON");
    assert_eq!((&index["ready"], &index["items_built"]), (&true.into(), &300.into()));
    let out = text(&run(&["check", "--data", &data]));
    assert!(out.contains("300 index entries") && out.contains("nothing is wrong"), "{out}");
    let id = index["id"].as_str().expect("an id");
    let server = Served::start(&["--data", &data]);
    let at = |arguments: &[&str]| text(&server.run(arguments));
    let listed = at(&["index", "list"]);
    assert_eq!(serde_json::from_str::<Value>(&listed).expect("JSON"), index);
    at(&["index", "create", "items", "name", "age"]);
    assert_eq!(at(&["index", "list"]).lines().count(), 2);
    at(&["index", "drop", id]);
    let (code, out) = ended(&["index", "drop", id, "--url", &server.url]);
    assert!(code == Some(1) && out.contains("no index"), "{out}");
    assert_eq!(at(&["index", "list"]).lines().count(), 1);
}

#[test]
fn a_difference_is_known_also_where_it_cannot_be_told_where() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = made(folder.path(), "db", "redb:tree.redb");
    let server = Served::start(&["--profile", "memory"]);
    let mut verify = trellis(&["verify", &server.url, "--against", &data]);
    let output = verify.env("TMPDIR", folder.path().join("nowhere")).output().expect("runs");
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    assert!(errors(&output).contains("the two differ"), "{}", errors(&output));
    let out = String::from_utf8(output.stdout).expect("text");
    assert!(out.contains(&server.url) && out.contains(&data), "{out}");
}

#[test]
fn verbs_that_only_read_a_closed_database_leave_it_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let settings = directory.path().join("settings.toml");
    // Whoever opens it to write creates the index, and removes what is due.
    std::fs::write(&settings, "[[indexes]]\npath = \"users\"\nfields = [\"age\"]\n")
        .expect("written");
    let plain = |path: &Path| path.to_str().expect("text").to_owned();
    let (data, settings) = (plain(&data), plain(&settings));
    text(&trellis(&["set", "users/a", r#"{"age":1}"#, "--data", &data]).output().expect("runs"));
    text(&trellis(&["set", "b", "2", "--ttl", "0.01", "--data", &data]).output().expect("runs"));
    let run = |arguments: &[&str]| {
        let place = ["--data", &data, "--config", &settings];
        text(&trellis(arguments).args(place).output().expect("runs"))
    };
    let rev = || {
        let stats: Value = serde_json::from_str(&run(&["stats"])).expect("JSON");
        stats["rev"].as_u64().expect("a rev")
    };
    let before = rev();
    assert_eq!(run(&["get", "users/a/age"]), "1\n");
    assert_eq!(run(&["children", "users"]), "{\"key\":\"a\"}\n");
    assert!(run(&["query", "users", "--where", "age >= 1"]).contains("\"a\""));
    assert!(run(&["export", "--path", "users"]).contains("\"age\":1"));
    assert_eq!(run(&["index", "list"]), "");
    assert_eq!(rev(), before, "one of them wrote");
}
