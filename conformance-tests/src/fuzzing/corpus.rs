//! The stored inputs of a target.

use std::path::{Path, PathBuf};

use super::Target;
use crate::report::caught;

/// Where the corpus of a target is.
fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target.name)
}

/// Every stored input with its file name, in the order of the names.
pub(super) fn load(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = folder(target);
    let entries = folder.read_dir().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("the corpus can be listed").path();
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("the corpus can be read"))
        })
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty: nothing would be shown", folder.display());
    inputs
}

/// Runs every stored input; fails with the names of those that broke something.
pub(super) fn run_all(target: &Target) {
    let mut failures = Vec::new();
    for (name, input) in load(target) {
        if let Err(message) = caught(false, || (target.run)(&input)) {
            failures.push(format!("fuzz/corpus/{}/{name}: {message}", target.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
