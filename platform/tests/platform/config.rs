//! Settings: precedence, and errors that name the place, the key and the remedy.

use std::path::PathBuf;
use std::time::Duration;

use trellis::{Acknowledge, Config, ErrorKind, Profile, ReplicationConfig, Trellis};

use crate::assert_refused;

fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join(name);
    std::fs::write(&path, text).expect("the file is written");
    (directory, path)
}

const NONE: [(&str, &str); 0] = [];

#[test]
fn toml_json_and_environment_say_the_same() {
    let toml = "profile = \"edge\"\ndurability = \"interval:250ms\"\n[server]\nport = 4500\n";
    let json = r#"{"profile":"edge","durability":"interval:250ms","server":{"port":4500}}"#;
    let (_toml, toml) = file("trellis.toml", toml);
    let (_json, json) = file("trellis.json", json);
    let from_toml = Config::builder().file(toml).load().expect("TOML");
    let from_json = Config::builder().file(json).load().expect("JSON");
    let variables = [
        ("TRELLIS_PROFILE", "edge"),
        ("TRELLIS_DURABILITY", "interval:250ms"),
        ("TRELLIS_SERVER__PORT", "4500"),
        ("HOME", "/nowhere"),
        ("TRELLIS_URL", "ws://elsewhere"),
    ];
    let from_variables = Config::builder().variables(variables).load().expect("environment");
    assert_eq!(from_toml, from_json);
    assert_eq!(from_toml, from_variables);
    assert_eq!(from_toml.profile, Profile::Edge);
    let interval = Acknowledge::Interval(Duration::from_millis(250));
    assert_eq!(from_toml.durability.default, interval);
}

#[test]
fn later_sources_override_earlier_ones_key_by_key() {
    let text = "profile = \"edge\"\nkv = \"redb:file.redb\"\n[server]\nport = 1\nhost = \"::1\"\n";
    let (_guard, path) = file("trellis.toml", text);
    let variables = [("TRELLIS_SERVER__PORT", "2"), ("TRELLIS_LOG", "segment:elsewhere")];
    let builder = Config::builder().file(&path).variables(variables);
    let config = builder.clone().set("server.port", 3).load().expect("a configuration");
    assert_eq!(config.server.port, 3);
    assert_eq!(config.server.host, "::1");
    assert_eq!(config.kv_url(), "redb:file.redb");
    assert_eq!(config.log_url(), "segment:elsewhere");
    assert_eq!(config.cache_bytes(), Some(16 << 20), "the profile's, which nothing overrides");
    assert_eq!(builder.load().expect("a configuration").server.port, 2);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let (_guard, path) = file("trellis.toml", "[server]\nprot = 4400\n");
    let name = path.display().to_string();
    assert_refused(
        Config::builder().file(&path).load(),
        ErrorKind::InvalidInput,
        &[&name, "`server.prot`", "did you mean `server.port`?"],
    );
    let (_guard, path) = file("trellis.json", r#"{"port": 1}"#);
    assert_refused(
        Config::builder().file(&path).load(),
        ErrorKind::InvalidInput,
        &["`port`", "did you mean `server.port`?"],
    );
    assert_refused(
        Config::builder().variables([("TRELLIS_LIMITS__LEAF_BYTE_MAX", "1")]).load(),
        ErrorKind::InvalidInput,
        &["TRELLIS_LIMITS__LEAF_BYTE_MAX", "did you mean `limits.leaf_bytes_max`?"],
    );
    assert_refused(
        Config::builder().set("colour", "red").load(),
        ErrorKind::InvalidInput,
        &["option colour", "known here: ", "durability"],
    );
}

#[test]
fn a_value_of_the_wrong_type_names_its_key_and_origin() {
    let (_guard, path) = file("trellis.toml", "[server]\nport = \"many\"\n");
    let name = path.display().to_string();
    assert_refused(
        Config::builder().file(&path).load(),
        ErrorKind::InvalidInput,
        &[&name, "`server.port`", "u16"],
    );
    let cases = [
        ("TRELLIS_SERVER__PORT", "70000", "u16"),
        ("TRELLIS_TREE__APPLY_AFTER", "fast", "250ms"),
        ("TRELLIS_DURABILITY", "sometimes", "interval:1s"),
        ("TRELLIS_DURABILITY", "interval:0s", "always"),
        ("TRELLIS_PROFILE", "embeded", "single-file"),
        ("TRELLIS_LIMITS__LEAF_BYTES_MAX", "-1", "usize"),
    ];
    for (variable, value, word) in cases {
        let loaded = Config::builder().variables([(variable, value)]).load();
        assert_refused(loaded, ErrorKind::InvalidInput, &[variable, word]);
    }
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let (_guard, path) = file("trellis.toml", "profile = \"edge\"\nport = = 1\n");
    let outcome = Config::builder().file(&path).load();
    assert_refused(outcome, ErrorKind::InvalidInput, &["line 2"]);
    let (_guard, path) = file("trellis.yaml", "");
    let outcome = Config::builder().file(&path).load();
    assert_refused(outcome, ErrorKind::InvalidInput, &[".toml or .json"]);
    let outcome = Config::builder().file("/nowhere/trellis.toml").load();
    assert_refused(outcome, ErrorKind::NotFound, &["/nowhere/trellis.toml"]);
}

#[test]
fn durability_may_differ_by_prefix() {
    let text = "[durability]\ndefault = \"always\"\n[durability.prefixes]\n\
                \"sensors/raw\" = \"interval:1s\"\n";
    let (_guard, path) = file("trellis.toml", text);
    let config = Config::builder().file(&path).load().expect("a configuration");
    assert!(!config.durability.is_always());
    assert_eq!(config.durability.to_string(), "always, sensors/raw: interval:1s");
    let (_guard, path) = file("trellis.toml", "[durability]\ndefualt = \"always\"\n");
    let outcome = Config::builder().file(&path).load();
    assert_refused(outcome, ErrorKind::InvalidInput, &["`durability`", "defualt", "`default`"]);
    let config = Config::builder().variables(NONE).load().expect("the defaults");
    assert_eq!(config, Config::default());
}

#[test]
fn a_url_that_names_no_engine_is_refused_with_the_known_ones() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().join("data");
    let open = |key: &str, url: &str| {
        let mut config = Config { data: data.clone(), ..Config::memory() };
        match key {
            "kv" => config.kv = Some(url.to_owned()),
            "log" => config.log = Some(url.to_owned()),
            _ => config.vfs = url.to_owned(),
        }
        Trellis::open_config(config)
    };
    let invalid = ErrorKind::InvalidInput;
    let known = ["memory:", "redb:", "sqlite:", "sled:"];
    assert_refused(open("kv", "rebd:tree.redb"), invalid, &["did you mean `redb:`?"]);
    assert_refused(open("kv", "oracle:x"), invalid, &known);
    assert_refused(open("kv", "tree.redb"), invalid, &["SCHEME:PATH"]);
    assert_refused(open("kv", "redb://tree.redb"), invalid, &["no slashes"]);
    assert_refused(open("kv", "memory:x"), invalid, &["nothing follows"]);
    assert_refused(open("log", "segmnt:log"), invalid, &["did you mean `segment:`?"]);
    assert_refused(open("vfs", "s3:bucket"), ErrorKind::Unsupported, &["not offered yet"]);
    if cfg!(feature = "kv-redb") {
        assert_refused(open("kv", "redb:"), invalid, &["name a file"]);
    }
    if cfg!(all(feature = "kv-redb", feature = "log-kv")) {
        let mut own = Config::in_directory(&data);
        own.kv = Some("redb:tree.redb".to_owned());
        own.log = Some("kv:redb:tree.redb".to_owned());
        assert_refused(Trellis::open_config(own), invalid, &["write log = \"kv:\""]);
        assert_refused(open("log", "kv:rebd:x"), invalid, &["did you mean `redb:`?"]);
    }
    assert!(!data.exists(), "nothing was created");
}

#[test]
fn an_engine_that_is_not_compiled_in_names_its_feature() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let engines = [
        ("redb:x", "segment:log", "kv-redb", cfg!(feature = "kv-redb")),
        ("sqlite:x", "segment:log", "kv-sqlite", cfg!(feature = "kv-sqlite")),
        ("sled:x", "segment:log", "kv-sled", cfg!(feature = "kv-sled")),
        ("memory:", "segment:log", "log-segment", cfg!(feature = "log-segment")),
        ("memory:", "kv:", "log-kv", cfg!(feature = "log-kv")),
    ];
    for (kv, log, feature, _) in engines.iter().filter(|(_, _, _, compiled_in)| !compiled_in) {
        let mut config = Config::in_directory(directory.path());
        (config.kv, config.log) = (Some((*kv).to_owned()), Some((*log).to_owned()));
        assert_refused(Trellis::open_config(config), ErrorKind::Unsupported, &[feature]);
    }
}

#[test]
fn the_example_file_holds_every_key_with_its_default() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("trellis.example.toml");
    let text = std::fs::read_to_string(&path).expect("the example");
    assert_eq!(Config::builder().file(&path).load().expect("the example"), Config::default());
    let replicated = ReplicationConfig { peers: Some(Vec::new()), ..Default::default() };
    let replicated = Config { replication: Some(replicated), ..Config::default() };
    let defaults = serde_json::to_value(replicated).expect("it serialises");
    let mut missing = Vec::new();
    for (key, value) in defaults.as_object().expect("an object") {
        let below = value.as_object().map(|table| table.keys().collect::<Vec<_>>());
        for name in below.unwrap_or_else(|| vec![key]) {
            let named = text.lines().any(|line| {
                line.trim_start_matches(['#', ' ']).split(" = ").next() == Some(name.as_str())
            });
            // A table of lists, each of its entries a table of its own.
            let listed = text.contains(&format!("[[replication.{name}]]"));
            if !named && !listed {
                missing.push(name);
            }
        }
    }
    assert!(missing.is_empty(), "not in the example: {missing:?}");
}
