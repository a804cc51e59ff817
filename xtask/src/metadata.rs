//! The packages of the workspace as their manifests declare them, read from `cargo metadata`.
//!
//! Nothing is resolved (`--no-deps`): it needs neither network nor lock file, and sees optional
//! dependencies and those of other platforms too.

use serde_json::Value;

use crate::step::{Failed, Outcome, Step};

/// A package of the workspace.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "the tidy rules read the rest"))]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Relative to the root: `backends/kv-redb`.
    pub(crate) folder: String,
    /// Every feature but `default`, and those that optional dependencies imply.
    pub(crate) features: Vec<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// A direct dependency of a package.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "the tidy rules read the rest"))]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Whether it is a dev-dependency.
    pub(crate) for_tests: bool,
    /// The folder, if it is a package of this workspace.
    pub(crate) folder: Option<String>,
}

#[cfg(test)]
impl Package {
    pub(crate) fn is_in(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| within(&self.folder, folder))
    }
}

/// Whether a folder is another one or below it.
#[cfg(test)]
pub(crate) fn within(folder: &str, parent: &str) -> bool {
    folder == parent || folder.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'))
}

/// Every package of the workspace.
pub(crate) fn packages() -> Outcome<Vec<Package>> {
    let text = Step::cargo("metadata --no-deps --format-version 1").output()?;
    let metadata: Value = serde_json::from_str(&text)
        .map_err(|error| Failed::new(format!("cargo metadata is no JSON: {error}")))?;
    let root = field(&metadata, "workspace_root");
    let packages: Vec<_> =
        list(&metadata, "packages").filter_map(|value| package(value, root)).collect();
    if packages.is_empty() {
        return Err(Failed::new("cargo metadata names no package"));
    }
    Ok(packages)
}

fn package(value: &Value, root: &str) -> Option<Package> {
    let manifest = relative(field(value, "manifest_path"), root)?;
    let features = value.get("features").and_then(Value::as_object)?;
    Some(Package {
        name: field(value, "name").to_owned(),
        folder: manifest.strip_suffix("/Cargo.toml")?.to_owned(),
        features: features.keys().filter(|name| *name != "default").cloned().collect(),
        dependencies: list(value, "dependencies").map(|one| dependency(one, root)).collect(),
    })
}

fn dependency(value: &Value, root: &str) -> Dependency {
    Dependency {
        name: field(value, "name").to_owned(),
        for_tests: field(value, "kind") == "dev",
        folder: relative(field(value, "path"), root),
    }
}

/// A text of an object; empty if it is absent or null.
fn field<'value>(value: &'value Value, name: &str) -> &'value str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'value>(value: &'value Value, name: &str) -> impl Iterator<Item = &'value Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn relative(path: &str, root: &str) -> Option<String> {
    let below = path.strip_prefix(root)?.trim_start_matches(['/', '\\']);
    Some(below.replace('\\', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_read_with_its_folders_and_edges() {
        let packages = packages().unwrap();
        let own = packages.iter().find(|package| package.name == "xtask").unwrap();
        assert_eq!(own.folder, "xtask");
        let toml = own.dependencies.iter().find(|one| one.name == "toml").unwrap();
        assert!(toml.for_tests && toml.folder.is_none());
        let redb = packages.iter().find(|package| package.name == "trellis-kv-redb").unwrap();
        let traits = redb.dependencies.iter().find(|one| one.name == "trellis-engine-traits");
        assert_eq!(traits.unwrap().folder.as_deref(), Some("engine-traits"));
    }

    #[test]
    fn a_folder_is_within_itself_and_its_parents_only() {
        assert!(within("server", "server") && within("clients/rust", "clients"));
        assert!(!within("server-other", "server"));
    }
}
