//! Configurations: the first byte says JSON or TOML, lines after a NUL are variables.

use trellis::fuzzing::configuration;
use trellis::{Config, ErrorKind};

pub(super) const WORDS: &[&str] = &[
    "profile = \"memory\"\n",
    "kv = \"redb:\"\n",
    "log = \"kv:\"\n",
    "[limits]\n",
    "[tree]\n",
    "[server]\n",
    "[durability]\n",
    "[durability.prefixes]\n",
    "\"interval:1s\"",
    "\"always\"",
    "leaf_bytes_max = 1\n",
    "apply_after = \"1s\"\n",
    "\"18446744073709551615s\"",
    "0x",
    "1e9",
    "TRELLIS_LIMITS__LEAF_BYTES_MAX=1\n",
    "TRELLIS_SERVER__PORT=65536\n",
    "__",
    "\u{0}",
    "=",
    "[[",
    "a.b.c = 1\n",
    "-1",
    "9223372036854775808",
    "\"\"\"",
    "nan",
    "inf",
    "1979-05-27",
];

/// A configuration is refused with a reason, or means the same when it is written and read again.
pub(super) fn text(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let is_json = text.starts_with('{');
    let (text, variables) = text.split_once('\0').unwrap_or((text, ""));
    let variables: Vec<(String, String)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    match configuration(text, is_json, &variables) {
        Ok((config, options)) => {
            let json = serde_json::to_string(&config).expect("a configuration is plain data");
            let (again, same) = configuration(&json, true, &[]).expect("what was written is read");
            assert_eq!(again, config, "another configuration when read again");
            assert_eq!(same, options);
            opens(&config);
        }
        Err(error) => {
            let kinds = [ErrorKind::InvalidInput, ErrorKind::TooLarge];
            assert!(kinds.contains(&error.kind()), "{error}");
            assert!(!error.message().is_empty());
        }
    }
}

/// A database in memory with these settings opens and takes a write, or says why not.
fn opens(config: &Config) {
    if *config == Config::default() {
        return;
    }
    let config =
        Config { kv: None, log: None, profile: trellis::Profile::Memory, ..config.clone() };
    let Ok(db) = trellis::Trellis::open_config(config) else { return };
    let written = db.set("a/b", 1);
    let read = db.get("a/b").expect("a database that opened can be read");
    if written.is_ok() {
        assert_eq!(read, 1, "an acknowledged write is not there");
    }
    db.close().expect("it closes");
}
