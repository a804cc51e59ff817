//! `trellis watch` and `trellis query`, as processes.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::command_line::{Served, errors, text, trellis};

/// A watching process, which ends with its test.
struct Watch {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(server: &Served, arguments: &[&str]) -> Self {
        let mut process = trellis(&["watch"])
            .args(arguments)
            .args(["--url", &server.url])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        Self { process, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line").expect("text")
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).expect("JSON")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn a_watch_goes_on_across_a_restart_of_the_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().to_str().expect("text");
    let server = Served::start(&["--data", data]);
    let port = server.url.rsplit(':').next().and_then(|rest| rest.split('/').next());
    let port = port.expect("a port").to_owned();
    let set = |server: &Served, value: &str| text(&server.run(&["set", "n", value]));
    set(&server, "1");
    let mut watch = Watch::start(&server, &["n", "--json"]);
    assert_eq!(watch.json(), json!({"type": "snapshot", "rev": 1, "data": 1}));
    set(&server, "2");
    assert_eq!(watch.json(), json!({"rev": 2, "events": [{"type": "value", "value": 2}]}));
    assert_eq!(server.stop(), Some(0));
    let server = Served::start_at(&port, &["--data", data]);
    for value in 3..6 {
        set(&server, &value.to_string());
        let told = json!({"rev": value, "events": [{"type": "value", "value": value}]});
        assert_eq!(watch.json(), told);
    }
}

#[test]
fn a_watch_prints_lines_for_people_and_ends_when_it_was_told_to() {
    let server = Served::start(&["--profile", "memory"]);
    let mut watch = Watch::start(&server, &["users", "--event", "child", "--events", "3"]);
    assert_eq!(watch.line(), "0  snapshot  {}");
    text(&server.run(&["set", "users/u1", r#"{"name":"Alice"}"#]));
    assert_eq!(watch.line(), r#"1  + u1 {"name":"Alice"}"#);
    text(&server.run(&["delete", "users/u1"]));
    assert_eq!(watch.line(), "2  - u1");
    assert!(watch.lines.next().is_none(), "it goes on");
    assert!(watch.process.wait().expect("ends").success());

    let contradiction = server.run(&["watch", "users", "--event", "child", "--where", "a=1"]);
    assert_eq!(contradiction.status.code(), Some(2));
    assert!(errors(&contradiction).contains("--event query"));
}

#[test]
fn a_query_gives_the_same_from_a_server_and_from_a_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().to_str().expect("text");
    let users = r#"{"u1":{"age":33},"u2":{"age":12},"u3":{"age":45}}"#;
    let queries: [&[&str]; 5] = [
        &["query", "users", "--where", "age>=18", "--order-by", "age desc"],
        &["query", "users", "--where", "age>=18", "--where", r#"["age","<",40]"#],
        &["query", "users", "--where", "age>=18", "--count"],
        &["query", "users", "--aggregate", r#"{"sum":["age"]}"#],
        &["query", "users", "--where", "age>=18", "--explain"],
    ];
    let server = Served::start(&["--data", data]);
    text(&server.run(&["set", "users", users]));
    let remote = queries.map(|query| text(&server.run(query)));
    assert_eq!(
        remote[0],
        concat!(
            "{\"path\":\"users/u3\",\"key\":\"u3\",\"value\":{\"age\":45}}\n",
            "{\"path\":\"users/u1\",\"key\":\"u1\",\"value\":{\"age\":33}}\n",
        )
    );
    assert_eq!(remote[2], "2\n");
    let page = server.run(&["query", "users", "--limit", "2"]);
    assert_eq!(text(&page).lines().count(), 2);
    let cursor = errors(&page);
    let cursor = cursor.trim().rsplit(' ').next().expect("a cursor");
    let last = text(&server.run(&["query", "users", "--limit", "2", "--cursor", cursor]));
    assert!(last.starts_with("{\"path\":\"users/u3\""), "{last}");
    let nonsense = server.run(&["query", "users", "--where", "age"]);
    assert_eq!(nonsense.status.code(), Some(2));
    assert!(errors(&nonsense).contains("age>=18"));
    assert_eq!(server.stop(), Some(0));
    for (query, remote) in queries.iter().zip(remote) {
        let local = trellis(query).args(["--data", data]).output().expect("runs");
        assert_eq!(text(&local), remote, "{query:?}");
    }
}
