//! Bad input is refused with a typed error: never a panic, and nothing of it is stored.

use std::fmt::Write as _;

use serde_json::{Value, json};
use trellis_engine_traits::ErrorKind;
use trellis_tree::{Commit, Input, Limits, Path};

use super::TreeWorld;
use super::tools::{get, input, keys, parsed, path, refused, rev, set};
use crate::Case;

const PROVES: &[&str] = &["tree.value.exact", "tree.limits.exact"];

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("tree.bad.paths", PROVES, paths),
    Case::new("tree.bad.json", PROVES, bad_json),
    Case::new("tree.bad.deep", PROVES, deep),
    Case::new("tree.bad.keys_of_objects", PROVES, keys_of_objects),
    Case::new("tree.bad.many_keys", PROVES, many_keys),
    Case::new("tree.limits.leaves_by_default", PROVES, most_keys).full(),
    Case::new("tree.bad.random_bytes", PROVES, random_bytes),
];

fn paths(_: &TreeWorld) {
    let texts = [
        "/", "/a", "a/", "a//b", "//", "a/\0", "\0", "a\u{1}b", "a/\u{1f}", "\u{7f}", "a\nb",
        "a\tb",
    ];
    for text in texts {
        refused(Path::parse(text), ErrorKind::InvalidInput, &format!("the path {text:?}"));
    }
    for segment in ["", "a/b", "/", "\0", "a\0b"] {
        let what = format!("the segment {segment:?}");
        refused(path("x").child(segment), ErrorKind::InvalidInput, &what);
        refused(Path::from_segments([segment]), ErrorKind::InvalidInput, &what);
    }
    assert!(Path::parse("").unwrap().is_root());
    assert!(
        refused(Path::parse(&"a/".repeat(100_000)), ErrorKind::TooLarge, "a long path")
            .to_string()
            .len()
            < 1000
    );
}

fn bad_json(world: &TreeWorld) {
    let tree = world.engine().tree();
    let texts: &[&[u8]] = &[
        b"",
        b" ",
        b"{",
        b"[1,",
        b"nul",
        b"1e400",
        b"-1e400",
        b"[1e999]",
        b"01",
        b"1.",
        b"NaN",
        b"Infinity",
        b"\"\\ud800\"",
        b"\"\\udc00\\ud800\"",
        b"[\"\\ud83d\"]",
        b"{\"\\ud800\":1}",
        b"{\"a\":1,\"a\":2}",
        b"{\"x\":{\"a\":1,\"b\":2,\"a\":3}}",
        b"[{\"a\":1,\"a\":1}]",
        b"\"\xff\"",
        b"{\"\xc0\xaf\":1}",
        b"\"\xed\xa0\x80\"",
        b"1 2",
        b"{} {}",
        b"'a'",
        b"{a:1}",
        b"\"a\x01b\"",
        b"\"\n\"",
        b"[1,]",
        b"{\"a\":1,}",
        b"\xef\xbb\xbf1",
        b"\0",
    ];
    for text in texts {
        let what = String::from_utf8_lossy(text).into_owned();
        refused(Input::parse(text), ErrorKind::InvalidInput, &what);
    }
    // Strings may hold what paths may not; escapes mean what they say.
    for (text, value) in [
        (r#""\u0000""#, json!("\0")),
        (r#""\ud83d\ude00""#, json!("\u{1F600}")),
        (r#"{"a\u002eb":1}"#, json!({"a.b": 1})),
        (" [ 1 , 2 ] ", json!([1, 2])),
    ] {
        super::tools::commit(&tree, Commit::set(path("v"), parsed(text)));
        assert_eq!(get(&tree, "v"), value, "{text}");
    }
}

fn deep(world: &TreeWorld) {
    const LEVELS: usize = 100_000;
    let tree = world.engine().tree();
    let shapes = [
        "[".repeat(LEVELS),
        format!("{}{}", "[".repeat(LEVELS), "]".repeat(LEVELS)),
        "{\"a\":".repeat(LEVELS),
        format!("{}1{}", "{\"a\":".repeat(LEVELS), "}".repeat(LEVELS)),
        format!("{}1{}", "[{\"a\":".repeat(LEVELS), "}]".repeat(LEVELS)),
        format!("{}1{}", "{\".sv\":{\"append\":".repeat(LEVELS), "}}".repeat(LEVELS)),
    ];
    for text in shapes {
        let error = Input::parse(text.as_bytes()).expect_err("it is nested 100,000 deep");
        let kind = error.kind();
        assert!(matches!(kind, ErrorKind::InvalidInput | ErrorKind::TooLarge), "{kind}");
    }
    assert_eq!(rev(&tree), 0);
}

fn keys_of_objects(world: &TreeWorld) {
    let tree = world.engine().tree();
    for text in
        [r#"{"":1}"#, r#"{"a/b":1}"#, r#"{"\u0000":1}"#, r#"{"x":{"a\nb":1}}"#, r#"{"\u007f":1}"#]
    {
        refused(Input::parse(text.as_bytes()), ErrorKind::InvalidInput, text);
    }
    let long = format!(r#"{{"{}":1}}"#, "k".repeat(769));
    assert!(Input::parse(long.as_bytes()).is_err(), "a key beyond 768 bytes");
    // Inside an array they are text.
    let text = r#"[{"":1,"a/b":{"\n":2}}]"#;
    super::tools::commit(&tree, Commit::set(path("a"), parsed(text)));
    assert_eq!(get(&tree, "a"), json!([{"": 1, "a/b": {"\n": 2}}]));
}

fn object_of(count: usize) -> Input {
    let mut text = String::from("{");
    for n in 0..count {
        let comma = if n > 0 { "," } else { "" };
        write!(text, "{comma}\"k{n:07}\":{n}").unwrap();
    }
    text.push('}');
    parsed(&text)
}

fn many_keys(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let million = tree.commit(Commit::set(path("m"), object_of(1_000_000)));
    refused(million, ErrorKind::TooLarge, "a commit of 1,000,000 leaves");
    assert_eq!((get(&tree, ""), rev(&tree)), (Value::Null, 0));
    super::tools::commit(&tree, Commit::set(path("m"), object_of(5_000)));
    tree.flush().unwrap();
    assert_eq!(keys(&tree, "m").len(), 5_000);
    assert_eq!(get(&tree, "m/k0001234"), json!(1_234));
    let tree = ground.reopen();
    assert_eq!(keys(&tree, "m").len(), 5_000);
}

/// The limit that trees are opened with, exactly.
fn most_keys(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree();
    let most = Limits::default().commit_operations_max;
    let over = tree.commit(Commit::set(path("m"), object_of(most + 1)));
    refused(over, ErrorKind::TooLarge, "one leaf too many");
    super::tools::commit(&tree, Commit::set(path("m"), object_of(most)));
    drop(tree);
    assert_eq!(keys(&ground.reopen(), "m").len(), most);
}

/// Whatever is accepted reads back as what it was read as.
fn random_bytes(world: &TreeWorld) {
    let tree = world.engine().tree();
    let mut rng = world.rng("bytes");
    let scraps = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\u",
        "\\ud800",
        "1",
        "-",
        "1e9",
        "null",
        "true",
        "\".sv\"",
        "\".bytes\"",
        "\"a\"",
        "\"b\":",
        " ",
        "increment",
        "\u{fffd}",
        "AA==",
    ];
    let mut accepted = 0;
    for _ in 0..4000 {
        let mut text = Vec::new();
        for _ in 0..rng.below(12) {
            match rng.below(12) {
                0 => text.extend(rng.bytes(2)),
                _ => text.extend(scraps[rng.below(scraps.len())].as_bytes()),
            }
        }
        let Ok(value) = Input::parse(&text) else { continue };
        accepted += 1;
        if let Ok(plain) = serde_json::from_slice::<Value>(&text)
            && !plain.to_string().contains(".sv")
        {
            assert_eq!(value, input(plain), "text and value are read alike");
        }
        let outcome = tree.commit(Commit::set(path("r"), value));
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", String::from_utf8_lossy(&text));
        }
    }
    assert!(accepted > 20, "nothing was accepted");
    set(&tree, "after", json!(1));
}
