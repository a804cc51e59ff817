//! The `trellis` command, as a process.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

pub(crate) struct Served {
    process: Child,
    pub(crate) url: String,
}

impl Served {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_at("0", arguments)
    }

    pub(crate) fn start_at(port: &str, arguments: &[&str]) -> Self {
        Self::spawn(trellis(&["serve", "--port", port]).args(arguments))
    }

    /// On any port, with what it logs in a file.
    pub(crate) fn start_logging(arguments: &[&str], log: &Path) -> Self {
        let log = std::fs::File::create(log).expect("a file");
        Self::spawn(trellis(&["serve", "--port", "0"]).args(arguments).stderr(log))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the server starts");
        let stdout = process.stdout.take().expect("piped");
        let mut url = None;
        for line in BufReader::new(stdout).lines() {
            let line = line.expect("a line");
            if let Some(rest) = line.strip_prefix("listening on ") {
                url = rest.split(' ').next().map(ToOwned::to_owned);
                break;
            }
        }
        Self { process, url: url.expect("the listening line") }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        trellis(arguments).args(["--url", &self.url]).output().expect("runs")
    }

    /// SIGTERM, then the exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").arg(&id).status().expect("kill").success());
        self.process.wait().expect("ends").code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

pub(crate) fn trellis(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trellis"));
    command.args(arguments).env_remove("TRELLIS_URL").env_remove("RUST_LOG");
    command
}

pub(crate) fn text(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

pub(crate) fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// A tree of so many leaves as one JSON text, with what JSON can hold.
fn write_document(file: &Path, leaves: usize) {
    let mut out = std::io::BufWriter::new(std::fs::File::create(file).expect("a file"));
    write!(out, r#"{{"odd":{{"empty":{{}},"list":[1,{{"a":null}}],"raw":{{".bytes":"AAE="}},"#)
        .expect("written");
    write!(out, r#""..sv":"a key","f":-1.5,"\u00e4":"\"" }},"items":{{"#).expect("written");
    for leaf in 0..leaves {
        let comma = if leaf == 0 { "" } else { "," };
        write!(out, r#"{comma}"i{leaf:06}":{{"name":"n{leaf}","count":{leaf}}}"#).expect("written");
    }
    out.write_all(b"}}").expect("written");
}

#[test]
fn what_the_environment_says_ends_no_verb_and_what_contradicts_itself_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let data = data.to_str().expect("text");
    let local = ["set", "a", "1", "--data", data];
    // The name of a module is a filter, of another program perhaps.
    text(&trellis(&local).env("RUST_LOG", "hyper").output().expect("runs"));
    text(&trellis(&local).env("TRELLIS_URL", "ws://127.0.0.1:9/db").output().expect("runs"));
    let url = ["--url", "ws://127.0.0.1:9/db"];
    for (more, words) in [(&["--log-level", "hyper"][..], "no log level"), (&url, "--url")] {
        let output = trellis(&local).args(more).output().expect("runs");
        assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
        assert!(errors(&output).contains(words), "{}", errors(&output));
    }
    let away = trellis(&["get", "a"]).env("TRELLIS_URL", url[1]).output().expect("runs");
    assert!(errors(&away).contains("127.0.0.1:9"), "{}", errors(&away));
}

#[test]
fn the_verbs_work_on_a_server_and_it_stops_cleanly() {
    let server = Served::start(&["--profile", "memory"]);
    text(&server.run(&["set", "users/u1", r#"{"name":"Alice"}"#]));
    assert_eq!(text(&server.run(&["get", "users/u1/name"])), "\"Alice\"\n");
    text(&server.run(&["update", r#"{"users/u2/name":"Bob","n":1}"#]));
    let id = text(&server.run(&["push", "list", "7"]));
    assert_eq!(text(&server.run(&["get", &format!("list/{}", id.trim())])), "7\n");
    assert_eq!(
        text(&server.run(&["children", "users", "--values"])),
        concat!(
            r#"{"key":"u1","value":{"name":"Alice"}}"#,
            "\n",
            r#"{"key":"u2","value":{"name":"Bob"}}"#,
            "\n"
        )
    );
    assert_eq!(text(&server.run(&["children", "users", "--after", "u1"])), "{\"key\":\"u2\"}\n");
    assert_eq!(text(&server.run(&["children", "list", "--after", id.trim()])), "");
    text(&server.run(&["set", "users/u1/balance", "-5"]));
    text(&server.run(&["delete", "users"]));
    assert_eq!(text(&server.run(&["get", "users"])), "null\n");
    let stats: Value = serde_json::from_str(&text(&server.run(&["stats"]))).expect("JSON");
    assert_eq!(stats["tree"]["rev"], 5);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn an_export_imports_to_the_same_tree_over_the_wire_and_on_a_directory() {
    let folder = tempfile::tempdir().expect("a folder");
    let (document, json, lines) = (
        folder.path().join("in.json"),
        folder.path().join("out.json"),
        folder.path().join("o.ndjson"),
    );
    write_document(&document, 3_000);
    let path = |file: &Path| file.to_str().expect("text").to_owned();
    let server = Served::start(&["--profile", "memory"]);
    let imported = server.run(&["import", &path(&document), "--path", "base/x"]);
    text(&imported);
    assert!(errors(&imported).starts_with("imported 6006 leaves in "), "{}", errors(&imported));
    text(&server.run(&["export", "--path", "base/x", "-o", &path(&json)]));
    text(&server.run(&["export", "--path", "base/x", "-o", &path(&lines)]));
    let read = |file: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(file).expect("a file")).expect("JSON")
    };
    let original = read(&document);
    assert_eq!(read(&json), original);

    // The lines, into the directory of a database that no server has open.
    let data = path(&folder.path().join("data"));
    let local = |arguments: &[&str]| {
        let place = ["--data", &data, "--kv", "memory:", "--log", "memory:"];
        trellis(arguments).args(place).output().expect("runs")
    };
    assert!(errors(&local(&["import", &path(&lines)])).contains("imported 6006 leaves"));
    text(&server.run(&["import", &path(&lines), "--path", "copy"]));
    let copy: Value = serde_json::from_str(&text(&server.run(&["get", "copy"]))).expect("JSON");
    assert_eq!(copy, original);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn leaves_larger_than_a_frame_are_imported_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("big.json");
    let big = "x".repeat(3 << 20);
    std::fs::write(&file, format!(r#"{{"a":1,"big":"{big}","z":2}}"#)).expect("written");
    let server = Served::start(&["--profile", "memory"]);
    text(&server.run(&["import", file.to_str().expect("text")]));
    assert_eq!(text(&server.run(&["get", "big"])).len(), big.len() + 3);
    assert_eq!(text(&server.run(&["get", "z"])), "2\n");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn failures_have_their_exit_codes_and_say_what_to_do() {
    let nobody = ["--url", "ws://127.0.0.1:9/db"];
    let refused = trellis(&["get", "a"]).args(nobody).output().expect("runs");
    assert_eq!(refused.status.code(), Some(1));
    assert!(errors(&refused).contains("trellis serve"), "{}", errors(&refused));
    let usage = trellis(&["frobnicate"]).output().expect("runs");
    assert_eq!(usage.status.code(), Some(2));
    let no_json = trellis(&["set", "a", "Alice"]).args(nobody).output().expect("runs");
    assert_eq!(no_json.status.code(), Some(2));
    assert!(errors(&no_json).contains("with quotes"));
    let open = trellis(&["serve", "--profile", "memory", "--host", "0.0.0.0", "--port", "0"]);
    let open = { open }.output().expect("runs");
    assert_eq!(open.status.code(), Some(1));
    assert!(errors(&open).contains("--allow-unprotected-network"));
    let no_level = trellis(&["get", "a", "--log-level", "wrn"]).output().expect("runs");
    assert!(errors(&no_level).contains("is no log level"), "{}", errors(&no_level));
    let completion = trellis(&["completion", "bash"]).output().expect("runs");
    assert!(text(&completion).contains("trellis"));
}

#[test]
fn a_directory_says_its_engines_and_a_missing_one_is_not_made_by_reading() {
    let directory = tempfile::tempdir().expect("a directory");
    let made = directory.path().join("made").display().to_string();
    let run = |arguments: &[&str]| trellis(arguments).output().expect("runs");
    text(&run(&["set", "a", "1", "--data", &made, "--log", "kv:"]));
    assert_eq!(text(&run(&["get", "a", "--data", &made])), "1\n");
    assert_eq!(Served::start(&["--data", &made]).stop(), Some(0));
    let other = run(&["get", "a", "--data", &made, "--log", "segment:log"]);
    assert!(errors(&other).contains("was made with"), "{}", errors(&other));
    let mistyped = directory.path().join("mayde");
    let place = mistyped.display().to_string();
    for verb in [&["get", "a"][..], &["delete", "a"], &["export"], &["stats"], &["query", "a"]] {
        let refused = trellis(verb).args(["--data", &place]).output().expect("runs");
        assert_eq!(refused.status.code(), Some(1), "{verb:?}");
        assert!(errors(&refused).contains("no database at this place"), "{}", errors(&refused));
    }
    assert!(!mistyped.exists());
}

#[test]
fn a_file_that_breaks_off_fails_the_import_and_says_where() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("torn.json");
    std::fs::write(&file, r#"{"a":1,"b":{"#).expect("written");
    let server = Served::start(&["--profile", "memory"]);
    let outcome = server.run(&["import", file.to_str().expect("text")]);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(errors(&outcome).contains("line 1"), "{}", errors(&outcome));
    let file = folder.path().join("bad.ndjson");
    let lines = "{\"path\":\"a\",\"value\":1}\n{\"path\":\"a//b\",\"value\":1}\n";
    std::fs::write(&file, lines).expect("written");
    let outcome = server.run(&["import", file.to_str().expect("text")]);
    assert_eq!(outcome.status.code(), Some(1));
    let told = errors(&outcome);
    assert!(told.contains("line 2") && told.contains("a//b"), "{told}");
    assert_eq!(server.stop(), Some(0));
}
