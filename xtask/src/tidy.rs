//! Rules about the code that no compiler checks, each an ordinary test: `cargo test -p xtask`.
//!
//! A rule is a pure function from the files of the workspace to its findings, so that it can be
//! tried on made-up files. A finding says where, and what to do. `tidy.toml` holds the exceptions,
//! each with its reason. Deliberately not here: what rustfmt, rustc and clippy can say.

use std::path::Path;

use crate::step::workspace_root;
use crate::{tidy_documents, tidy_modules, tidy_source};

/// A text file of the workspace.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl SourceFile {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether the rule's words stand in this file because it spells the rules.
    pub(crate) fn spells_the_rules(&self) -> bool {
        self.path.starts_with("xtask/src/tidy") || self.path == "xtask/tidy.toml"
    }

    /// Numbered from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// One place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) file: String,
    /// 0 where the whole file is meant.
    pub(crate) line: usize,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

impl Finding {
    pub(crate) fn new(file: &SourceFile, line: usize, message: impl Into<String>) -> Self {
        Self { file: file.path.clone(), line, message: message.into() }
    }
}

/// A rule over the files of the workspace.
pub(crate) type Rule = fn(&[SourceFile]) -> Vec<Finding>;

/// The name that `tidy.toml` uses, and the rule.
const RULES: &[(&str, Rule)] = &[
    ("modules_open_with_their_purpose", tidy_source::modules_open_with_their_purpose),
    ("files_have_at_most_500_lines", tidy_source::files_have_at_most_500_lines),
    ("lines_have_at_most_100_columns", tidy_source::lines_have_at_most_100_columns),
    ("no_test_is_switched_off", tidy_source::no_test_is_switched_off),
    ("no_comparison_is_thrown_away", tidy_source::no_comparison_is_thrown_away),
    ("no_sleep_in_tests", tidy_source::no_sleep_in_tests),
    ("nothing_is_left_over", tidy_source::nothing_is_left_over),
    ("only_runtime_reads_the_clock", tidy_source::only_runtime_reads_the_clock),
    ("modules_name_no_circle", tidy_modules::modules_name_no_circle),
    ("no_paths_of_one_machine", tidy_documents::no_paths_of_one_machine),
    ("paths_in_root_documents_exist", tidy_documents::paths_in_root_documents_exist),
    ("links_between_documents_exist", tidy_documents::links_between_documents_exist),
];

/// Runs a rule on the workspace and fails with every finding that `tidy.toml` does not excuse.
pub(crate) fn assert_rule(name: &str) {
    let (_, rule) = RULES.iter().find(|(known, _)| *known == name).expect("a rule of RULES");
    let allowed = allowances();
    let excused = |finding: &Finding| {
        allowed.iter().any(|allow| allow.rule == name && allow.file == finding.file)
    };
    let findings: Vec<_> = rule(&files()).into_iter().filter(|one| !excused(one)).collect();
    assert!(findings.is_empty(), "{}", report(name, &findings));
}

fn report(name: &str, findings: &[Finding]) -> String {
    let mut text = format!("tidy rule `{name}` finds {}:\n", findings.len());
    for Finding { file, line, message } in findings {
        let place = if *line == 0 { file.clone() } else { format!("{file}:{line}") };
        text.push_str(&format!("  {place}: {message}\n"));
    }
    text
}

/// An exception of `tidy.toml`.
#[derive(Debug)]
struct Allowance {
    rule: String,
    file: String,
    reason: String,
}

fn allowances() -> Vec<Allowance> {
    let path = workspace_root().join("xtask/tidy.toml");
    let text = std::fs::read_to_string(path).expect("xtask/tidy.toml is readable");
    let table: toml::Table = text.parse().expect("xtask/tidy.toml is TOML");
    let Some(entries) = table.get("allow") else { return Vec::new() };
    let entries = entries.as_array().expect("`allow` is written as [[allow]]");
    let field = |entry: &toml::Value, name: &str| {
        let value = entry.get(name).and_then(toml::Value::as_str);
        value.expect("an [[allow]] has rule, file and reason").to_owned()
    };
    let allowance = |entry| Allowance {
        rule: field(entry, "rule"),
        file: field(entry, "file"),
        reason: field(entry, "reason"),
    };
    entries.iter().map(allowance).collect()
}

/// Every text file that belongs to the project.
pub(crate) fn files() -> Vec<SourceFile> {
    let mut files = Vec::new();
    collect(&workspace_root(), "", &mut files);
    files.sort_by(|left, right| left.path.cmp(&right.path));
    assert!(files.iter().any(|file| file.path == "xtask/src/tidy.rs"), "the walk finds nothing");
    files
}

/// What a checkout contains beside the project: build output, data, other tools' folders.
fn is_foreign(folder: &str, name: &str) -> bool {
    let hidden = name.starts_with('.') && ![".ci", ".config", ".cargo", ".github"].contains(&name);
    hidden
        || (name.starts_with("target") && !name.ends_with(".rs"))
        || ["node_modules", "Cargo.lock", "package-lock.json"].contains(&name)
        || (folder.is_empty() && name == "data")
}

fn collect(root: &Path, folder: &str, files: &mut Vec<SourceFile>) {
    let Ok(entries) = root.join(folder).read_dir() else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_foreign(folder, &name) {
            continue;
        }
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            collect(root, &path, files);
        } else if kind.is_file() {
            // What is no UTF-8 (fixtures, images) has no lines to judge.
            if let Ok(text) = std::fs::read_to_string(entry.path()) {
                files.push(SourceFile { path, text });
            }
        }
    }
}

#[test]
fn every_exception_names_a_rule_a_reason_and_still_excuses_something() {
    let files = files();
    for Allowance { rule: name, file, reason } in allowances() {
        let known = RULES.iter().find(|(known, _)| *known == name);
        assert!(known.is_some(), "xtask/tidy.toml: there is no rule {name}");
        let (_, rule) = known.expect("asserted above");
        assert!(reason.len() >= 20, "xtask/tidy.toml: say why {file} may break {name}");
        assert!(
            rule(&files).iter().any(|finding| finding.file == file),
            "xtask/tidy.toml: {file} keeps {name} now; remove its exception"
        );
    }
}

#[test]
fn a_report_names_the_rule_and_every_place() {
    let file = SourceFile::new("a/b.rs", "");
    let findings = [Finding::new(&file, 3, "do this"), Finding::new(&file, 0, "do that")];
    assert_eq!(
        report("rule", &findings),
        "tidy rule `rule` finds 2:\n  a/b.rs:3: do this\n  a/b.rs: do that\n"
    );
}
