//! Tidy rules for Rust files: size, headers, and what must not be left in them.
//!
//! They look at lines, not at syntax: cheap, and easy to foresee. What needs a parser is clippy's.

use crate::tidy::{Finding, SourceFile, assert_rule};

const FILE_LINES_MAX: usize = 500;
const LINE_COLUMNS_MAX: usize = 100;

/// Looks at each line of each Rust file but those that spell the rules.
fn each_line(
    files: &[SourceFile],
    mut judge: impl FnMut(&SourceFile, &str) -> Option<String>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && !file.spells_the_rules()) {
        for (number, line) in file.lines() {
            if let Some(message) = judge(file, line) {
                findings.push(Finding::new(file, number, message));
            }
        }
    }
    findings
}

/// The part of a line before a comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

/// The number of the line from which a file is test code; past its end if nothing is.
fn first_test_line(file: &SourceFile) -> usize {
    let in_tests = |part: &str| part == "tests" || part == "benches" || part == "conformance-tests";
    if file.path.split('/').any(in_tests) || file.path.ends_with("tests.rs") {
        return 0;
    }
    let lines: Vec<_> = file.text.lines().collect();
    let opens = |pair: &[&str]| {
        let (attribute, item) = (pair[0].trim(), pair[1].trim());
        let test_only = attribute.starts_with("#[cfg(") && attribute.contains("test");
        test_only && (item.starts_with("mod ") && item.ends_with('{') || item.starts_with("#["))
            || attribute == "#[test]"
    };
    lines.windows(2).position(opens).map_or(usize::MAX, |index| index + 1)
}

pub(crate) fn modules_open_with_their_purpose(files: &[SourceFile]) -> Vec<Finding> {
    // Attributes of the crate may come first: a README taken in as documentation is one.
    let opening = |file: &SourceFile| {
        let first = file.text.lines().find(|line| !line.starts_with("#!["));
        first.is_some_and(|line| line.starts_with("//!"))
    };
    let lacks = |file: &&SourceFile| file.is_rust() && !opening(file);
    let message = "open the file with `//!`: its purpose, its invariants, what is deliberately \
                   not in it";
    files.iter().filter(lacks).map(|file| Finding::new(file, 1, message)).collect()
}

pub(crate) fn files_have_at_most_500_lines(files: &[SourceFile]) -> Vec<Finding> {
    let long = |file: &&SourceFile| file.is_rust() && file.text.lines().count() > FILE_LINES_MAX;
    let message = |file: &SourceFile| {
        let lines = file.text.lines().count();
        format!("has {lines} lines, at most {FILE_LINES_MAX}: divide it by meaning")
    };
    files.iter().filter(long).map(|file| Finding::new(file, 0, message(file))).collect()
}

pub(crate) fn lines_have_at_most_100_columns(files: &[SourceFile]) -> Vec<Finding> {
    each_line(files, |_, line| {
        let columns = line.chars().count();
        // Neither an address nor a row of a table in documentation can be broken.
        let row = line.trim_start().starts_with("//! |") || line.trim_start().starts_with("/// |");
        let long = columns > LINE_COLUMNS_MAX && !row && !line.contains("https://");
        long.then(|| format!("has {columns} columns, at most {LINE_COLUMNS_MAX}: break the line"))
    })
}

pub(crate) fn no_test_is_switched_off(files: &[SourceFile]) -> Vec<Finding> {
    each_line(files, |_, line| {
        let line = line.trim();
        let test = line.starts_with("#[ignore");
        let example = line.trim_start_matches(['/', '!', ' ']).starts_with("```ignore");
        if test {
            return Some("a test that never runs proves nothing: mend it or remove it".to_owned());
        }
        example.then(|| "let the example compile: `no_run` if it must not run".to_owned())
    })
}

pub(crate) fn no_comparison_is_thrown_away(files: &[SourceFile]) -> Vec<Finding> {
    // A statement begins after the end of another; `let x =` above makes it an expression.
    let mut begins = true;
    each_line(files, |_, line| {
        let line = code(line).trim();
        let bare = begins && line.starts_with("matches!(") && line.ends_with(");");
        begins = line.is_empty() && begins || line.ends_with([';', '{', '}']);
        bare.then(|| "a bare matches! checks nothing: write assert!(matches!(..))".to_owned())
    })
}

pub(crate) fn no_sleep_in_tests(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && !file.spells_the_rules()) {
        let first = first_test_line(file);
        for (number, line) in file.lines().filter(|(number, _)| *number >= first) {
            if code(line).contains("thread::sleep(") || code(line).contains("time::sleep(") {
                let message = "wait for the event itself (a channel, a barrier, the simulated \
                               clock), or name the file in xtask/tidy.toml with the reason";
                findings.push(Finding::new(file, number, message));
            }
        }
    }
    findings
}

pub(crate) fn nothing_is_left_over(files: &[SourceFile]) -> Vec<Finding> {
    each_line(files, |_, line| {
        if line.contains("FIXME") || line.contains("XXX:") {
            return Some("mend it now, or describe it where its reader looks".to_owned());
        }
        let left = ["dbg!(", "todo!(", "unimplemented!("];
        let word = left.iter().find(|word| code(line).contains(*word))?;
        Some(format!("remove {word}..): it is unfinished work"))
    })
}

pub(crate) fn only_runtime_reads_the_clock(files: &[SourceFile]) -> Vec<Finding> {
    const EXEMPT: [&str; 3] = ["services/runtime/", "bench/", "xtask/"];
    let ways = [
        ("SystemTime::now", "ask trellis_runtime::Clock, so that a simulated clock drives it"),
        ("Instant::now", "ask trellis_runtime::Clock, so that a simulated clock drives it"),
        ("thread::spawn", "ask trellis_runtime::Workers: one place starts blocking work"),
        ("thread::Builder", "ask trellis_runtime::Workers: one place starts blocking work"),
        ("spawn_blocking", "ask trellis_runtime::Workers: one place starts blocking work"),
    ];
    let mut findings = Vec::new();
    let judged = |file: &&SourceFile| {
        file.is_rust() && !EXEMPT.iter().any(|folder| file.path.starts_with(folder))
    };
    for file in files.iter().filter(judged) {
        let first = first_test_line(file);
        // The clock of tokio's timers, which a test can pause: the server's way to wait.
        let of_tokio = file.lines().any(|(_, line)| {
            line.trim_start().starts_with("use tokio::time::") && line.contains("Instant")
        });
        for (number, line) in file.lines().take_while(|(number, _)| *number < first) {
            let mut line = code(line).replace("tokio::time::Instant::now", "");
            if of_tokio && !line.contains("time::Instant::now") {
                line = line.replace("Instant::now", "");
            }
            if let Some((way, instead)) = ways.iter().find(|(way, _)| line.contains(way)) {
                findings.push(Finding::new(file, number, format!("{way}: {instead}")));
            }
        }
    }
    findings
}

#[test]
fn every_module_opens_with_its_purpose() {
    assert_rule("modules_open_with_their_purpose");
}

#[test]
fn no_file_is_longer_than_500_lines() {
    assert_rule("files_have_at_most_500_lines");
}

#[test]
fn no_line_is_wider_than_100_columns() {
    assert_rule("lines_have_at_most_100_columns");
}

#[test]
fn no_test_or_example_is_ignored() {
    assert_rule("no_test_is_switched_off");
}

#[test]
fn no_matches_stands_alone() {
    assert_rule("no_comparison_is_thrown_away");
}

#[test]
fn no_test_sleeps() {
    assert_rule("no_sleep_in_tests");
}

#[test]
fn no_unfinished_work_is_left_over() {
    assert_rule("nothing_is_left_over");
}

#[test]
fn only_the_runtime_reads_the_clock_or_starts_threads() {
    assert_rule("only_runtime_reads_the_clock");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::Rule;

    /// The lines and messages that a rule has for one made-up file.
    fn found(rule: Rule, path: &str, text: &str) -> Vec<(usize, String)> {
        let findings = rule(&[SourceFile::new(path, text)]);
        findings.into_iter().map(|finding| (finding.line, finding.message)).collect()
    }

    #[test]
    fn a_module_without_a_header_is_told_to_open_with_one() {
        let rule = modules_open_with_their_purpose;
        let message = &found(rule, "a/src/lib.rs", "use b;\n//! late\n")[0].1;
        assert!(message.contains("open the file with `//!`"), "{message}");
        assert!(found(rule, "a/src/lib.rs", "//! Purpose.\n").is_empty());
        let readme = "#![doc = include_str!(\"../README.md\")]\n//! Purpose.\n";
        assert!(found(rule, "a/src/lib.rs", readme).is_empty());
        assert!(found(rule, "a/run.sh", "#!/bin/sh\n").is_empty());
    }

    #[test]
    fn a_file_is_measured_at_its_bound() {
        let rule = files_have_at_most_500_lines;
        assert!(found(rule, "a.rs", &"//!\n".repeat(500)).is_empty());
        let message = &found(rule, "a.rs", &"//!\n".repeat(501))[0].1;
        assert!(message.contains("has 501 lines") && message.contains("divide"), "{message}");
    }

    #[test]
    fn a_line_is_measured_in_characters_at_its_bound() {
        let rule = lines_have_at_most_100_columns;
        assert!(found(rule, "a.rs", &"é".repeat(100)).is_empty());
        assert_eq!(found(rule, "a.rs", &format!("\n{}", "é".repeat(101)))[0].0, 2);
        assert!(found(rule, "a.rs", &format!("https://{}", "a".repeat(100))).is_empty());
        assert!(found(rule, "a.rs", &format!("//! | {} |", "a".repeat(100))).is_empty());
    }

    #[test]
    fn an_ignored_test_and_an_ignored_example_are_found() {
        let text = "#[ignore = \"slow\"]\n/// ```ignore\n//! ```ignore\n// not ```ignore\n";
        let lines: Vec<_> =
            found(no_test_is_switched_off, "a.rs", text).into_iter().map(|one| one.0).collect();
        assert_eq!(lines, [1, 2, 3]);
    }

    #[test]
    fn a_comparison_without_an_assertion_is_found() {
        let text = "  matches!(a, B(_));\nassert!(matches!(a, B));\nlet x = matches!(a, B);\n\
                    let y =\n  matches!(a, B);\n";
        let findings = found(no_comparison_is_thrown_away, "a.rs", text);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].0 == 1 && findings[0].1.contains("assert!(matches!(..))"));
    }

    #[test]
    fn a_sleep_is_found_in_tests_only() {
        let rule = no_sleep_in_tests;
        let sleep = "std::thread::sleep(x);\n";
        assert_eq!(found(rule, "server/tests/server.rs", sleep)[0].0, 1);
        assert!(found(rule, "server/src/ping.rs", sleep).is_empty());
        let text = format!("{sleep}#[cfg(test)]\nmod tests {{\n// thread::sleep(\n{sleep}}}\n");
        let findings = found(rule, "server/src/ping.rs", &text);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].0 == 5 && findings[0].1.contains("wait for the event"));
        let out_of_line = format!("#[cfg(test)]\nmod tests;\n{sleep}");
        assert!(found(rule, "server/src/ping.rs", &out_of_line).is_empty());
    }

    #[test]
    fn leftovers_are_named() {
        let text = "dbg!(x);\n// FIXME later\n// todo!() in a comment\n";
        let findings = found(nothing_is_left_over, "a.rs", text);
        assert_eq!(findings.len(), 2);
        assert!(findings[0].1.starts_with("remove dbg!("), "{findings:?}");
    }

    #[test]
    fn the_clock_is_read_in_the_runtime_and_in_tests_only() {
        let rule = only_runtime_reads_the_clock;
        let text = "let now = Instant::now();\n#[cfg(test)]\nmod tests {\nInstant::now();\n}\n";
        let findings = found(rule, "services/tree/src/a.rs", text);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].1.contains("trellis_runtime::Clock"), "{findings:?}");
        assert!(found(rule, "services/runtime/src/clock.rs", text).is_empty());
        assert!(found(rule, "services/tree/tests/tree.rs", text).is_empty());
        assert!(found(rule, "services/tree/src/a.rs", "/// Like Instant::now\n").is_empty());
        let tokio = "use tokio::time::{Instant, sleep};\nlet now = Instant::now();\n";
        assert!(found(rule, "server/src/a.rs", tokio).is_empty());
        let std = format!("{tokio}let now = std::time::Instant::now();\n");
        assert_eq!(found(rule, "server/src/a.rs", &std)[0].0, 3);
    }
}
