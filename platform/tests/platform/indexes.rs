//! Indexes declared in the configuration and created at run time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

use std::time::Duration;

use serde_json::json;
use trellis::{Config, ErrorKind, IndexConfig, IndexDefinition, Trellis};

const LONG: Duration = Duration::from_secs(600);

fn index(path: &str, fields: serde_json::Value) -> IndexConfig {
    serde_json::from_value(json!({"path": path, "fields": fields})).unwrap()
}

#[test]
fn a_declared_index_is_there_after_every_open_and_stays_when_it_is_no_longer_named() {
    let directory = tempfile::tempdir().unwrap();
    let plain = Config::in_directory(directory.path());
    let db = Trellis::open_config(plain.clone()).unwrap();
    db.set("users", json!({"a": {"age": 1}, "b": {"age": 2}})).unwrap();
    db.close().unwrap();

    let indexes = vec![index("users", json!([["age", "desc"], "name"]))];
    for _ in 0..2 {
        let config = Config { indexes: indexes.clone(), ..plain.clone() };
        let db = Trellis::open_config(config).unwrap();
        let found = db.indexes();
        assert_eq!(found.len(), 1);
        assert!(db.wait_for_index(&found[0].id, LONG).unwrap());
        db.close().unwrap();
    }
    let db = Trellis::open_config(plain).unwrap();
    let found = db.indexes();
    assert!(found[0].ready && found[0].items_built == 2);
    assert_eq!(found[0].definition, json!({"path": "users", "fields": [["age", "desc"], "name"]}));
    assert!(db.drop_index(&found[0].id).unwrap());
    assert!(!db.drop_index(&found[0].id).unwrap());
    assert!(db.indexes().is_empty());
}

#[test]
fn an_index_travels_with_a_copy_and_is_built_there() {
    let directory = tempfile::tempdir().unwrap();
    let from = Config::in_directory(directory.path().join("from"));
    let db = Trellis::open_config(from.clone()).unwrap();
    db.set("users", json!({"a": {"age": 1}, "b": {"age": 2}})).unwrap();
    let json = json!({"path": "users", "fields": ["age"]});
    let id = db.create_index(&IndexDefinition::from_json(&json).unwrap()).unwrap().id;
    assert!(db.wait_for_index(&id, LONG).unwrap());
    db.close().unwrap();
    let to = Config::in_directory(directory.path().join("to"));
    trellis::migrate(from, to.clone(), &mut |_| {}).unwrap();
    let db = Trellis::open_config(to).unwrap();
    assert!(db.wait_for_index(&id, LONG).unwrap());
    assert_eq!(db.indexes()[0].items_built, 2);
}

#[test]
fn a_definition_that_makes_no_sense_is_refused_with_its_key() {
    for (path, fields) in
        [("users/", json!(["a"])), ("users", json!([])), ("_auth", json!(["a"])), ("u", json!([1]))]
    {
        let indexes = vec![index(path, fields.clone())];
        let error = Trellis::open_config(Config { indexes, ..Config::memory() }).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Denied), "{path}");
        assert_eq!(error.fact("key"), Some("indexes"), "{path} {fields}");
    }
    let unknown = serde_json::from_value::<IndexConfig>(json!({"path": "a", "feilds": ["b"]}));
    assert!(unknown.is_err());
}

#[test]
fn there_is_a_bound_to_the_number_of_indexes() {
    let db = Trellis::memory().unwrap();
    let create = |n: usize| {
        let json = json!({"path": "c", "fields": [format!("f{n}")]});
        db.create_index(&IndexDefinition::from_json(&json).unwrap())
    };
    for n in 0..trellis::INDEXES_MAX {
        create(n).unwrap();
    }
    assert_eq!(create(trellis::INDEXES_MAX).unwrap_err().kind(), ErrorKind::TooLarge);
    // One that is there is no further one.
    assert!(create(0).is_ok());
    assert_eq!(db.indexes().len(), trellis::INDEXES_MAX);
}
