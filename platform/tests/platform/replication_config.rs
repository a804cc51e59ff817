//! `replication` in a configuration: each mistake by its key, and no token anywhere.

use std::time::Duration;

use trellis::{
    Config, ConfigBuilder, ErrorKind, PathConfig, PeerConfig, ReplicationConfig, Secret,
    SourceConfig, Trellis,
};

use crate::assert_refused;

const TOKEN: &str = "secret-that-nobody-may-see";

fn json(text: &str) -> (tempfile::TempDir, ConfigBuilder) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("trellis.json");
    std::fs::write(&path, text).expect("the file is written");
    let builder = Config::builder().file(path).set("profile", "memory");
    (directory, builder)
}

#[test]
fn toml_json_and_environment_say_the_same_of_replication() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("trellis.toml");
    let text = format!(
        "[replication]\nprimaryUrl = \"ws://hub:4400/db\"\ntoken = \"{TOKEN}\"\n\
         paths = [\"config\", {{ path = \"users\", mode = \"replica\" }}]\nbatchSize = 50\n\
         maxTailAge = \"1h\"\nexcludePrefixes = [\"a\", \"b\"]\n\
         [[replication.peers]]\nrole = \"edge\"\npull = [\"config\"]\n"
    );
    std::fs::write(&path, text).expect("the file is written");
    let toml = Config::builder().file(path).load().expect("TOML");
    let (_guard, builder) = json(&format!(
        r#"{{"replication": {{"primaryUrl": "ws://hub:4400/db", "token": "{TOKEN}", "batchSize": 50,
             "paths": ["config", {{"path": "users", "mode": "replica"}}], "maxTailAge": "1h",
             "excludePrefixes": ["a", "b"], "peers": [{{"role": "edge", "pull": ["config"]}}]}}}}"#
    ));
    let from_json = builder.load().expect("JSON").replication;
    let variables = [
        ("TRELLIS_REPLICATION__PRIMARY_URL", "ws://hub:4400/db"),
        ("TRELLIS_REPLICATION__TOKEN", TOKEN),
        ("TRELLIS_REPLICATION__PATHS", r#"["config", {"path": "users", "mode": "replica"}]"#),
        ("TRELLIS_REPLICATION__BATCHSIZE", "50"),
        ("TRELLIS_REPLICATION__MAX_TAIL_AGE", "1h"),
        ("TRELLIS_REPLICATION__EXCLUDE_PREFIXES", "a, b"),
        ("TRELLIS_REPLICATION__PEERS", r#"[{"role": "edge", "pull": ["config"]}]"#),
    ];
    let variables = Config::builder().variables(variables).load().expect("environment");
    let meant = ReplicationConfig {
        primary_url: Some("ws://hub:4400/db".to_owned()),
        token: Some(Secret::new(TOKEN)),
        paths: vec!["config".into(), PathConfig::new("users", "replica")],
        batch_size: 50,
        max_tail_age: Duration::from_secs(3_600),
        exclude_prefixes: vec!["a".to_owned(), "b".to_owned()],
        peers: Some(vec![PeerConfig {
            role: Some("edge".to_owned()),
            pull: vec!["config".to_owned()],
            ..PeerConfig::default()
        }]),
        ..ReplicationConfig::default()
    };
    assert_eq!(toml.replication.as_ref(), Some(&meant));
    assert_eq!(from_json.as_ref(), Some(&meant));
    assert_eq!(variables.replication.as_ref(), Some(&meant));
    assert_eq!(Config::default().replication, None, "nobody replicates unasked");
}

#[test]
fn an_unknown_key_of_replication_is_refused_with_the_nearest_one() {
    for (text, words) in [
        (r#"{"rôle": "primary"}"#, ["`replication.rôle`", "did you mean `replication.role`?"]),
        (r#"{"primary_url": "x"}"#, ["`replication.primary_url`", "`replication.primaryUrl`"]),
        (r#"{"peers": [{}, {"pul": []}]}"#, ["`replication.peers[1].pul`", "peers[].pull"]),
        (
            r#"{"sources": [{"localprefix": 1}]}"#,
            ["`replication.sources[0].localprefix`", "[].localPrefix"],
        ),
        (
            r#"{"paths": [{"path": "a", "mod": "sync"}]}"#,
            ["`replication.paths[0].mod`", "paths[].mode"],
        ),
    ] {
        let (_guard, builder) = json(&format!(r#"{{"replication": {text}}}"#));
        assert_refused(builder.load(), ErrorKind::InvalidInput, &words);
    }
}

/// What is written under `replication`, the key that is at fault, and a word of the remedy.
type Mistake = (String, &'static str, &'static str);

fn mistakes_of_the_node() -> Vec<Mistake> {
    let up = r#""primaryUrl": "ws://hub/db""#;
    vec![
        (r#"{"role": "leader"}"#.into(), "replication.role", "write primary or replica"),
        (r#"{"role": "replica"}"#.into(), "replication.role", "set replication.primaryUrl"),
        (r#"{"primaryUrl": ""}"#.into(), "replication.primaryUrl", "leave it out"),
        (r#"{"primaryUrl": "http://h"}"#.into(), "replication.primaryUrl", "ws://host:4400/db"),
        (r#"{"primaryUrl": "ws://"}"#.into(), "replication.primaryUrl", "ws://host:4400/db"),
        (r#"{"primaryUrl": "ws://h:99999/db"}"#.into(), "replication.primaryUrl", "ws://host:4400"),
        (r#"{"primaryUrl": "ws://h h/db"}"#.into(), "replication.primaryUrl", "ws://host:4400"),
        (
            format!(r#"{{"primaryUrl": "ws://h/db?token={TOKEN}"}}"#),
            "replication.primaryUrl",
            "set the token beside",
        ),
        (r#"{"primaryUrl": "ws://a:b@h"}"#.into(), "replication.primaryUrl", "set the token"),
        (r#"{"primaryUrl": "wss://h/db"}"#.into(), "replication.primaryUrl", "tunnel or proxy"),
        (r#"{"token": ""}"#.into(), "replication.token", "leave it out"),
        (r#"{"token": "a b"}"#.into(), "replication.token", "without spaces"),
        (r#"{"token": "a", "tokenFile": "b"}"#.into(), "replication.tokenFile", "keep one"),
        (r#"{"name": ""}"#.into(), "replication.name", "1 to 64 bytes"),
        (
            format!(r#"{{{up}, "paths": [{{"path": "a", "mode": "both"}}]}}"#),
            "replication.paths[0].mode",
            "write primary",
        ),
        (format!(r#"{{{up}, "paths": ["a", "a"]}}"#), "replication.paths[1].path", "keep one"),
        (r#"{"paths": ["a"]}"#.into(), "replication.paths[0].mode", "set replication.primaryUrl"),
        (
            r#"{"excludePrefixes": [""]}"#.into(),
            "replication.excludePrefixes[0]",
            "exclude the paths",
        ),
        (r#"{"writeProxy": "maybe"}"#.into(), "replication.writeProxy", "proxy or reject"),
        (r#"{"batchSize": 0}"#.into(), "replication.batchSize", "1 to 5000"),
        (r#"{"batchSize": 5001}"#.into(), "replication.batchSize", "1 to 5000"),
        (r#"{"maxTailBytes": 1}"#.into(), "replication.maxTailBytes", "65536"),
        (r#"{"maxTailAge": "0s"}"#.into(), "replication.maxTailAge", "24h"),
        (r#"{"slotIdleTimeout": "0s"}"#.into(), "replication.slotIdleTimeout", "24h"),
        (r#"{"linksMax": 0}"#.into(), "replication.linksMax", "1 to 10000"),
        (r#"{"fillsMax": 0}"#.into(), "replication.fillsMax", "1 to 10000"),
    ]
}

fn mistakes_of_links() -> Vec<Mistake> {
    let peer = |fields: &str| format!(r#"{{"peers": [{{"token": "{TOKEN}", {fields}}}]}}"#);
    let source = |fields: &str| {
        format!(r#"{{"sources": [{{"id": "s", "url": "ws://s/db", "paths": ["a"], {fields}}}]}}"#)
    };
    vec![
        (
            source(r#""url": "tcp:x""#).replacen(r#""url": "ws://s/db", "#, "", 1),
            "replication.sources[0].url",
            "ws://host",
        ),
        (source(r#""localPrefix": "//""#), "replication.sources[0].localPrefix", "write a path"),
        (
            source(r#""excludePrefixes": ["b"]"#),
            "replication.sources[0].excludePrefixes[0]",
            "below",
        ),
        (source(r#""token": "ä""#), "replication.sources[0].token", "visible ASCII"),
        (
            r#"{"sources": [{"id": "s", "url": "ws://s"}]}"#.into(),
            "replication.sources[0].paths",
            "name what is taken",
        ),
        (r#"{"sources": [{"id": "a b"}]}"#.into(), "replication.sources[0].id", "1 to 40"),
        (peer(r#""role": "e", "merge": "mine""#), "replication.peers[0].merge", "lww or owner"),
        (peer(r#""role": "e", "node": "n""#), "replication.peers[0].role", "two entries"),
        (peer(r#""role": "e", "push": ["_repl"]"#), "replication.peers[0].push[0]", "leave it out"),
        (r#"{"peers": [{"token": "short"}]}"#.into(), "replication.peers[0].token", "long random"),
        (
            peer(&format!(r#""role": "a"}}, {{"role": "b", "token": "{TOKEN}""#)),
            "replication.peers[1].token",
            "give each its own",
        ),
    ]
}

#[test]
fn every_mistake_is_refused_with_its_key_and_a_remedy() {
    for (text, key, remedy) in mistakes_of_the_node().into_iter().chain(mistakes_of_links()) {
        let (_guard, builder) = json(&format!(r#"{{"replication": {text}}}"#));
        let config = builder.load().unwrap_or_else(|error| panic!("{text}: {error}"));
        let refused = Trellis::open_config(config);
        if cfg!(feature = "repl-ws")
            || !matches!(key.rsplit('.').next(), Some("url" | "primaryUrl" | "token" | "tokenFile"))
        {
            let error =
                assert_refused(refused, ErrorKind::InvalidInput, &[&format!("{key}: "), remedy]);
            assert!(!format!("{error:?}{error}").contains(TOKEN), "{error}");
        }
    }
}

#[test]
fn another_type_is_refused_in_words() {
    for (text, words) in [
        (r#"{"paths": "a"}"#, "`replication.paths`: another type: expected a list"),
        (r#"{"peers": ["a"]}"#, "`replication.peers[0]`: another type: expected a table"),
        (r#"{"batchSize": "a"}"#, "`replication.batchSize`: another type: expected a whole"),
    ] {
        let (_guard, builder) = json(&format!(r#"{{"replication": {text}}}"#));
        assert_refused(builder.load(), ErrorKind::InvalidInput, &[words]);
    }
}

#[test]
fn a_token_is_in_no_error_of_reading_wherever_it_stands() {
    let number = "1234567890123456";
    for text in [
        format!(r#"{{"token": {number}}}"#),
        format!(r#"{{"token": ["{TOKEN}"]}}"#),
        format!(r#"{{"peers": "{TOKEN}"}}"#),
        format!(r#"{{"peers": ["{TOKEN}"]}}"#),
        format!(r#"{{"peers": [{{"token": {{"a": "{TOKEN}"}}}}]}}"#),
        format!(r#"{{"peers": {{"token": "{TOKEN}"}}}}"#),
        format!(r#"{{"linksMax": "{TOKEN}"}}"#),
        format!(r#"{{"maxTailBytes": {number}.5}}"#),
        format!(r#"{{"verifyEvery": ["{TOKEN}"]}}"#),
        format!(r#""{TOKEN}""#),
    ] {
        let (_guard, builder) = json(&format!(r#"{{"replication": {text}}}"#));
        let error = assert_refused(builder.load(), ErrorKind::InvalidInput, &["`replication"]);
        let shown = format!("{error:?}{error}");
        assert!(!shown.contains(TOKEN) && !shown.contains(number), "{shown}");
    }
    for peers in [format!(r#"[{{"token": "{TOKEN}""#), format!(r#"{{"token": "{TOKEN}"}}"#)] {
        let outcome = Config::builder().variables([("TRELLIS_REPLICATION__PEERS", peers)]).load();
        let error =
            assert_refused(outcome, ErrorKind::InvalidInput, &["TRELLIS_REPLICATION__PEERS"]);
        assert!(!format!("{error:?}{error}").contains(TOKEN), "{error}");
    }
}

#[test]
fn a_token_is_in_no_text_that_a_configuration_or_a_database_gives() {
    let secret = || Some(Secret::new(TOKEN));
    let replication = ReplicationConfig {
        primary_url: Some("ws://127.0.0.1:9/db".to_owned()),
        token: secret(),
        sources: vec![SourceConfig {
            id: "s".to_owned(),
            url: "ws://127.0.0.1:9/db".to_owned(),
            token: secret(),
            paths: vec!["a".to_owned()],
            ..SourceConfig::default()
        }],
        peers: Some(vec![PeerConfig { token: secret(), ..PeerConfig::default() }]),
        ..ReplicationConfig::default()
    };
    let config = Config { replication: Some(replication), ..Config::memory() };
    let mut shown = format!("{config:?}");
    shown.push_str(&serde_json::to_string(&config).expect("it serialises"));
    let db = Trellis::open_alone(config).expect("it opens");
    shown.push_str(&format!("{db:?}{:?}{}", db.describe(), db.describe()));
    shown.push_str(&serde_json::to_string(db.describe()).expect("it serialises"));
    shown.push_str(&serde_json::to_string(&db.stats().expect("stats")).expect("it serialises"));
    assert!(shown.contains("ws://127.0.0.1:9/db") && !shown.contains(TOKEN), "{shown}");
}

#[test]
fn a_token_may_stand_in_a_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("token");
    let config = || {
        let replication =
            ReplicationConfig { token_file: Some(file.clone()), ..Default::default() };
        Config { replication: Some(replication), ..Config::memory() }
    };
    if cfg!(feature = "repl-ws") {
        let missing = Trellis::open_config(config());
        assert_refused(missing, ErrorKind::NotFound, &["replication.tokenFile", "check the path"]);
        std::fs::write(&file, "two words\n").expect("the file is written");
        let bad = Trellis::open_config(config());
        let error =
            assert_refused(bad, ErrorKind::InvalidInput, &["replication.tokenFile: it holds"]);
        assert!(!error.to_string().contains("two words"), "{error}");
        for (text, peers, message) in [
            ("short", 1, "replication.peers[0].tokenFile: it has fewer"),
            ("long enough for a token".replace(' ', "-").as_str(), 2, "peers[1].tokenFile: it is"),
        ] {
            std::fs::write(&file, text).expect("the file is written");
            let peer = |number: usize| PeerConfig {
                node: Some(format!("node{number}")),
                token_file: Some(file.clone()),
                ..PeerConfig::default()
            };
            let peers = Some((0..peers).map(peer).collect());
            let replication = ReplicationConfig { peers, ..ReplicationConfig::default() };
            let config = Config { replication: Some(replication), ..Config::memory() };
            assert_refused(Trellis::open_config(config), ErrorKind::InvalidInput, &[message]);
        }
    }
}

#[test]
fn alone_a_database_writes_what_is_its_own_and_refuses_the_rest() {
    let replication = ReplicationConfig {
        primary_url: Some("ws://127.0.0.1:9/db".to_owned()),
        paths: vec![PathConfig::new("users", "replica"), PathConfig::new("feeds", "readonly")],
        ..ReplicationConfig::default()
    };
    let config = Config { replication: Some(replication), ..Config::memory() };
    let db = Trellis::open_alone(config).expect("it opens");
    assert!(db.replication().is_none() && db.peer_entrance().is_none());
    db.set("own/a", 1).expect("its own");
    for (path, kind, reason) in [
        ("users/u1", ErrorKind::Unavailable, "upstream_unavailable"),
        ("feeds/f1", ErrorKind::Denied, "read_only_path"),
    ] {
        assert_refused(db.set(path, 1), kind, &[reason]);
        assert!(!db.exists(path).expect("a read"));
    }
    db.close().expect("it closes");
}
