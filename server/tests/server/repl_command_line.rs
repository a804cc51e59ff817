//! `trellis repl`, as a process: of a running node, of a closed one, and what an operator is told.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use trellis_runtime::Runtime;

use crate::command_line::{Served, errors, text, trellis};
use crate::harness::PATIENCE;

const TOKEN: &str = "the-token-of-the-edges";
const WRONG: &str = "not-the-token-of-edges";
/// Nobody listens there.
const NOBODY: &str = "ws://127.0.0.1:9/db";

/// Writes the configuration of a node.
fn configure(directory: &Path, name: &str, settings: &str) -> PathBuf {
    let file = directory.join(format!("{name}.toml"));
    let text = format!("[replication]\nname = \"{name}\"\n{settings}");
    std::fs::write(&file, text).expect("written");
    file
}

fn plain(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Asks until the answer has these words.
fn until(ask: impl Fn() -> Output, words: &str) -> String {
    let runtime = Runtime::system();
    let clock = runtime.clock();
    let began = clock.monotonic();
    loop {
        let answer = text(&ask());
        if answer.contains(words) {
            return answer;
        }
        assert!(clock.monotonic() < began + PATIENCE, "{words:?}: {answer}");
    }
}

#[test]
fn a_wrong_token_is_told_at_both_ends_and_shown_at_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = directory.path();
    let peers = format!("[[replication.peers]]\nrole = \"edge\"\ntoken = \"{TOKEN}\"\n");
    let logs = ["hub", "edge"].map(|name| folder.join(format!("{name}.log")));
    let start = |config: &Path, log: &Path| {
        Served::start_logging(&["--profile", "memory", "--config", plain(config)], log)
    };
    let hub = start(&configure(folder, "hub", &peers), &logs[0]);
    let upstream = format!(
        "primaryUrl = \"{}\"\ntoken = \"{WRONG}\"\npaths = [\"config\"]\n",
        hub.url.trim_end_matches('/')
    );
    let edge = start(&configure(folder, "edge", &upstream), &logs[1]);
    let status = until(|| edge.run(&["repl", "status"]), "knows no peer with the token");
    assert!(status.contains("config: not_connected"), "{status}");
    for (node, verb, code, words) in [
        (&edge, &["verify"][..], 2, "nothing is followed"),
        (&edge, &["resync", "elsewhere"], 1, "upstream"),
        (&hub, &["resync", "upstream"], 1, "ask the nodes that follow it"),
        (&hub, &["drop-slot", "nobody"], 1, "trellis repl slots"),
        (&hub, &["drop-set-aside", "upstream/1-1"], 1, "trellis repl set-asides"),
    ] {
        let outcome = node.run(&[&["repl"], verb].concat());
        let said = errors(&outcome);
        assert!(outcome.status.code() == Some(code) && said.contains(words), "{verb:?}: {said}");
    }
    // Remembered until the link is up.
    assert!(text(&edge.run(&["repl", "resync", "upstream"])).contains("that is remembered"));
    let status = text(&edge.run(&["repl", "status"]));
    assert!(status.contains("is filled anew when it is next up"), "{status}");
    assert_eq!((edge.stop(), hub.stop()), (Some(0), Some(0)));
    let read = |log| std::fs::read_to_string(log).expect("the log");
    let logs = logs.map(read).concat() + &status;
    assert!(logs.contains("a peer is not let in") && logs.contains("a link is down"), "{logs}");
    for hidden in [TOKEN, WRONG, "\u{1b}["] {
        assert!(!logs.contains(hidden), "{hidden:?} in {logs}");
    }
}

#[test]
fn a_closed_node_is_looked_at_and_takes_wishes_for_its_next_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = directory.path();
    let (data, hub_data) = (folder.join("edge"), folder.join("hub"));
    // Written before the node follows anything, so that it is set aside when it does.
    text(&trellis(&["set", "users/mine", "1", "--data", plain(&data)]).output().expect("runs"));
    let hub_config = configure(folder, "hub", "");
    let hub = Served::start(&["--data", plain(&hub_data), "--config", plain(&hub_config)]);
    text(&hub.run(&["set", "users/u1", "1"]));
    let follows = |url: &str| {
        let url = url.trim_end_matches('/');
        let rule = "paths = [{ path = \"users\", mode = \"replica\" }]";
        configure(folder, "edge", &format!("primaryUrl = \"{url}\"\n{rule}\n"))
    };
    let config = follows(&hub.url);
    let edge = Served::start(&["--data", plain(&data), "--config", plain(&config)]);
    let running = until(|| edge.run(&["repl", "status"]), "ready  yes");
    assert!(running.contains("aside  1 copies"), "{running}");
    assert_eq!((edge.stop(), hub.stop()), (Some(0), Some(0)));

    let on = |arguments: &[&str], data: &Path, config: Option<&Path>| {
        let mut verb = trellis(&["repl"]);
        verb.args(arguments).args(["--data", plain(data)]);
        config.map(|config| verb.args(["--config", plain(config)]));
        verb.output().expect("runs")
    };
    let status = text(&on(&["status"], &data, Some(&config)));
    for words in ["closed: ", "pull: came to commit", "aside  1 copies", "users  "] {
        assert!(status.contains(words), "{words:?}: {status}");
    }
    // Looking needs no configuration, and changes nothing.
    assert!(text(&on(&["status"], &data, None)).contains("pull: came to commit"));
    let slot = text(&on(&["slots", "--json"], &hub_data, None));
    let slot: Value = serde_json::from_str(&slot).expect("one follower");
    let consumer = slot["consumer"].as_str().expect("a name");
    let asides = text(&on(&["set-asides", "--json"], &data, None));
    let aside: Value = serde_json::from_str(&asides).expect("one of them");
    assert_eq!(aside["leaves"], 1);
    let name = aside["name"].as_str().expect("a name");

    let refused = on(&["drop-set-aside", name], &data, None);
    assert_eq!(refused.status.code(), Some(2));
    assert!(errors(&refused).contains("--config"), "{}", errors(&refused));
    assert!(text(&on(&["drop-set-aside", name], &data, Some(&config))).contains("dropped"));
    assert_eq!(text(&on(&["set-asides"], &data, None)), "nothing was set aside\n");
    assert_eq!(on(&["drop-set-aside", name], &data, Some(&config)).status.code(), Some(1));
    assert!(text(&on(&["drop-slot", consumer], &hub_data, Some(&hub_config))).contains("dropped"));
    assert_eq!(on(&["drop-slot", consumer], &hub_data, Some(&hub_config)).status.code(), Some(1));
    assert_eq!(on(&["resync", "elsewhere"], &data, Some(&config)).status.code(), Some(1));
    assert!(text(&on(&["resync", "upstream"], &data, Some(&config))).contains("remembered"));
    let status = text(&on(&["status"], &data, Some(&config)));
    assert!(status.contains("is filled anew when it is next up"), "{status}");
    for (verb, code) in [("verify", 2), ("repair", 2)] {
        let refused = on(&[verb], &data, Some(&config));
        assert_eq!(refused.status.code(), Some(code));
        assert!(errors(&refused).contains("the node running"), "{}", errors(&refused));
    }

    let hub = Served::start(&["--data", plain(&hub_data), "--config", plain(&hub_config)]);
    let config = follows(&hub.url);
    let edge = Served::start(&["--data", plain(&data), "--config", plain(&config)]);
    until(|| edge.run(&["repl", "status"]), "ready  yes");
    let status = edge.run(&["repl", "status", "--json"]);
    let status: Value = serde_json::from_str(&text(&status)).expect("JSON");
    let link = &status["links"][0];
    assert_eq!((&link["resync"], &link["pull"]["opened"]), (&false.into(), &"snapshot".into()));
}

#[test]
fn a_verb_finds_the_server_of_the_configuration_that_it_is_given() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Served::start(&["--profile", "memory"]);
    let port = server.url.rsplit(':').next().and_then(|rest| rest.split('/').next());
    let config = directory.path().join("named.toml");
    let write = |port: &str| {
        let text = format!("[server]\nhost = \"0.0.0.0\"\nport = {port}\n");
        std::fs::write(&config, text).expect("written");
    };
    write(port.expect("a port"));
    let named = ["--config", plain(&config)];
    text(&trellis(&["set", "n", "1"]).args(named).output().expect("runs"));
    assert_eq!(text(&trellis(&["get", "n"]).args(named).output().expect("runs")), "1\n");
    let watch = trellis(&["watch", "n", "--events", "1"]).args(named).output();
    assert!(text(&watch.expect("runs")).contains("snapshot"));
    let status = trellis(&["stats"]).args(named).output().expect("runs");
    let status: Value = serde_json::from_str(&text(&status)).expect("JSON");
    assert_eq!(status["tree"]["rev"], 1);
    // What is said by itself counts more.
    let elsewhere = trellis(&["get", "n", "--url", NOBODY]).args(named).output().expect("runs");
    assert_eq!(elsewhere.status.code(), Some(1));
    write("0");
    let unknown = trellis(&["get", "n"]).args(named).output().expect("runs");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(errors(&unknown).contains("--url"), "{}", errors(&unknown));
    let missing = trellis(&["get", "n", "--config", "no-such-file.toml"]).output().expect("runs");
    assert_eq!(missing.status.code(), Some(1));
}
