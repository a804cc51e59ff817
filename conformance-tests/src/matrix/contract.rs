//! Every promise has a case: the ids of the `# Contract` lists against those that cases name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::families;

/// Promises that no engine of this repository is held to yet, by the beginning of their ids. An
/// entry must go when a case names such a promise, or none is left.
const NOT_YET: &[(&str, &str)] = &[("vfs.", "no blob store is offered yet")];

/// Where `# Contract` lists are.
const SOURCES: &[&str] = &["engine-traits/src", "services"];

pub(super) fn must_be_covered() {
    let promised = promised();
    let mut named = BTreeSet::new();
    for row in families().iter().flat_map(|family| &family.rows) {
        assert!(!row.promises.is_empty(), "{} proves nothing", row.id);
        for promise in row.promises {
            assert!(
                promised.contains(*promise),
                "{} names {promise}, which nobody promises",
                row.id
            );
            named.insert((*promise).to_owned());
        }
    }
    let later = |id: &str| NOT_YET.iter().any(|(prefix, _)| id.starts_with(prefix));
    let bare: Vec<_> = promised.difference(&named).filter(|id| !later(id)).collect();
    assert!(bare.is_empty(), "promises without a case: {bare:?}");
    for (prefix, _) in NOT_YET {
        let stale = named.iter().find(|id| id.starts_with(prefix));
        assert!(stale.is_none(), "{prefix} is offered by now: {stale:?} has a case");
        let left = promised.iter().any(|id| id.starts_with(prefix));
        assert!(left, "no promise begins with {prefix} any more");
    }
}

/// The ids of all `# Contract` lists.
fn promised() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut ids = BTreeSet::new();
    for source in SOURCES {
        for file in rust_files(&root.join(source)) {
            let text = std::fs::read_to_string(&file).expect("a source file can be read");
            ids.extend(text.lines().filter_map(id_of_line).map(str::to_owned));
        }
    }
    assert!(ids.len() > 40, "the lists were not found: {ids:?}");
    ids
}

/// The id in a line like "/// - `kv.commit.atomic`: after a crash ...", of an item or a module.
fn id_of_line(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))?;
    let (id, _) = text.strip_prefix(" - `")?.split_once("`:")?;
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    (id.contains('.') && id.split('.').all(word)).then_some(id)
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::id_of_line;

    #[test]
    fn an_id_is_read_from_its_line() {
        let line = "    /// - `kv.commit.atomic`: after a crash all or none.";
        assert_eq!(id_of_line(line), Some("kv.commit.atomic"));
        assert_eq!(id_of_line("//! - `tree.read.own_writes`: held."), Some("tree.read.own_writes"));
        assert_eq!(id_of_line("/// - `Create`: only a new blob."), None);
        assert_eq!(id_of_line("/// - `a.b` is mentioned"), None);
        assert_eq!(id_of_line("// - `kv.commit.atomic`: no doc"), None);
    }
}
