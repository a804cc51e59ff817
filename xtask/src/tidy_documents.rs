//! Tidy rules for what people read: no path of one machine, and none that leads nowhere.

use std::path::Path;

use crate::step::workspace_root;
use crate::tidy::{Finding, SourceFile, assert_rule, files};

pub(crate) fn no_paths_of_one_machine(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| !file.spells_the_rules()) {
        for (number, line) in file.lines() {
            if let Some(word) = foreign_word(line) {
                let message = format!(
                    "`{word}` means something on one machine only: use a path \
                     relative to the repository, or say it for any reader"
                );
                findings.push(Finding::new(file, number, message));
            }
        }
    }
    findings
}

fn foreign_word(line: &str) -> Option<&'static str> {
    const FOLDERS: [&str; 6] = ["/work/", "/home/", "/root/", "/Users/", "/mnt/", "/srv/"];
    // Only at the beginning of a path: `rooms/home/lamp` is a path of the tree.
    let begins_a_path = |folder: &&&str| {
        line.match_indices(**folder).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || "_-./}>*".contains(c))
        })
    };
    FOLDERS.iter().find(begins_a_path).copied()
}

pub(crate) fn paths_in_root_documents_exist(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let in_root = |file: &&SourceFile| file.path.ends_with(".md") && !file.path.contains('/');
    for file in files.iter().filter(in_root) {
        for (number, line) in prose(file) {
            for path in backticked(line).filter_map(|word| repository_path(word)) {
                if !exists(files, "", path) {
                    let message = format!("`{path}` does not exist: correct or remove it");
                    findings.push(Finding::new(file, number, message));
                }
            }
        }
    }
    findings
}

/// The lines outside fenced blocks, whose contents are examples.
fn prose(file: &SourceFile) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    file.lines().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

fn backticked(line: &str) -> impl Iterator<Item = &str> {
    // Every second part lies between two backticks.
    line.split('`').skip(1).step_by(2)
}

/// The path that a word means, if it looks like one of this repository's.
fn repository_path(word: &str) -> Option<&str> {
    const FOLDERS: [&str; 15] = [
        ".cargo",
        ".ci",
        ".config",
        "backends",
        "bench",
        "clients",
        "conformance-tests",
        "docs",
        "engine-traits",
        "examples",
        "fuzz",
        "platform",
        "server",
        "services",
        "xtask",
    ];
    let (folder, _) = word.split_once('/')?;
    let placeholder = |c: char| c.is_whitespace() || "*<>{}$()[]|…\"'".contains(c);
    let ours = FOLDERS.contains(&folder) && !word.contains(placeholder);
    let path = word.split(['#', ':']).next().unwrap_or(word).trim_end_matches('/');
    ours.then_some(path)
}

pub(crate) fn links_between_documents_exist(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (number, line) in prose(file) {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let path = target.split('#').next().unwrap_or(target);
                let elsewhere = path.is_empty() || path.contains(':') || path.starts_with('/');
                if !elsewhere && !exists(files, folder, path) {
                    let message = format!("links to {path}, which does not exist: correct it");
                    findings.push(Finding::new(file, number, message));
                }
            }
        }
    }
    findings
}

/// Whether a file or folder of the repository has the path, taken relative to `folder`.
fn exists(files: &[SourceFile], folder: &str, path: &str) -> bool {
    let mut parts: Vec<_> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    let path = parts.join("/");
    let within = format!("{path}/");
    files.iter().any(|file| file.path == path || file.path.starts_with(&within))
        || workspace_root().join(Path::new(&path)).exists()
}

/// The version of the workspace, from the root's Cargo.toml.
fn workspace_version(files: &[SourceFile]) -> String {
    let root = files.iter().find(|file| file.path == "Cargo.toml").expect("a root Cargo.toml");
    let table: toml::Table = root.text.parse().expect("Cargo.toml is TOML");
    let version = table.get("workspace").and_then(|it| it.get("package")?.get("version"));
    version.and_then(toml::Value::as_str).expect("workspace.package.version").to_owned()
}

/// What is wrong with the change log for a version, if anything.
fn change_log_fault(change_log: &str, version: &str) -> Option<String> {
    let names = |line: &str| {
        let words = line.split(|c: char| c.is_whitespace() || "[](),:".contains(c));
        line.starts_with("## ") && words.into_iter().any(|word| word == version)
    };
    let missing = !change_log.lines().any(names);
    missing.then(|| {
        format!("CHANGELOG.md has no heading for {version}: write what its readers must know")
    })
}

#[test]
fn no_file_speaks_of_one_machine_or_workplace() {
    assert_rule("no_paths_of_one_machine");
}

#[test]
fn every_path_that_a_root_document_names_exists() {
    assert_rule("paths_in_root_documents_exist");
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    assert_rule("links_between_documents_exist");
}

#[test]
fn the_change_log_has_a_heading_for_the_version() {
    let files = files();
    let change_log = files.iter().find(|file| file.path == "CHANGELOG.md").expect("CHANGELOG.md");
    let fault = change_log_fault(&change_log.text, &workspace_version(&files));
    assert!(fault.is_none(), "{fault:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_path_is_found_where_it_begins() {
        assert_eq!(foreign_word("see /home/someone/x"), Some("/home/"));
        assert_eq!(foreign_word("`/mnt/disk/x`"), Some("/mnt/"));
        assert_eq!(foreign_word("set rooms/home/lamp and /db/root/x"), None);
        let file = SourceFile::new("docs/a.md", "fine\n/root/x\n");
        let findings = no_paths_of_one_machine(&[file]);
        assert!(findings[0].line == 2 && findings[0].message.contains("any reader"));
    }

    #[test]
    fn a_path_that_leads_nowhere_is_named() {
        let text = "`xtask/src` `xtask/src/main.rs:12` `xtask/absent.rs` `users/u1` `docs/*.md`\n\
                    ```\n`xtask/example`\n```\n`xtask/gone/`\n";
        let files = [SourceFile::new("A.md", text), SourceFile::new("xtask/src/main.rs", "")];
        let findings = paths_in_root_documents_exist(&files);
        let found: Vec<_> = findings.iter().map(|one| (one.line, one.message.as_str())).collect();
        assert_eq!(
            found,
            [
                (1, "`xtask/absent.rs` does not exist: correct or remove it"),
                (5, "`xtask/gone` does not exist: correct or remove it"),
            ]
        );
    }

    #[test]
    fn a_link_is_resolved_from_its_own_document() {
        let text = "[a](b.md#part) [c](../A.md) [d](https://a.example) [e](#here) [f](gone.md)";
        let files = [
            SourceFile::new("docs/index.md", text),
            SourceFile::new("docs/b.md", ""),
            SourceFile::new("A.md", ""),
        ];
        let findings = links_between_documents_exist(&files);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].message.starts_with("links to gone.md"));
    }

    #[test]
    fn a_version_without_a_heading_is_told_to_get_one() {
        assert_eq!(change_log_fault("# Log\n## 0.1.0 (unreleased)\n", "0.1.0"), None);
        assert_eq!(change_log_fault("## [0.1.0], 2026\n", "0.1.0"), None);
        let fault = change_log_fault("## 0.1.0\nsince 0.1.1\n", "0.1.1").unwrap();
        assert!(fault.contains("no heading for 0.1.1: write"), "{fault}");
    }
}
