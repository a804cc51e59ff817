//! The ledger of all cells, and the table that is rendered from it.
//!
//! Both files are functions of the plan; checking one is comparing text, so that a case that
//! vanished, moved or stopped running on an engine cannot go unnoticed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{Family, Row, families};
use crate::{Cost, Outcome};

fn ledger_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("LEDGER.toml")
}

fn matrix_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/MATRIX.md")
}

/// Writes `LEDGER.toml` and `docs/MATRIX.md` anew.
///
/// # Errors
/// When a file cannot be written.
pub fn bless() -> std::io::Result<()> {
    std::fs::write(ledger_path(), render_ledger(&families()))?;
    std::fs::write(matrix_path(), render_matrix(&families()))
}

pub(super) fn must_match() {
    let families = families();
    let mut ids: Vec<_> =
        families.iter().flat_map(|family| &family.rows).map(|row| row.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "two cases share an id");
    for family in &families {
        let wrong = family.rows.iter().find(|row| row.id.split('.').next() != Some(family.name));
        assert!(
            wrong.is_none(),
            "a case of {} is named {:?}",
            family.name,
            wrong.map(|row| row.id)
        );
    }
    same(&ledger_path(), &render_ledger(&families));
}

pub(super) fn must_be_rendered() {
    same(&matrix_path(), &render_matrix(&families()));
}

fn same(path: &Path, expected: &str) {
    let found = std::fs::read_to_string(path).unwrap_or_default();
    if found == expected {
        return;
    }
    let only = |these: &str, those: &str, sign: char| {
        let those: std::collections::HashSet<_> = those.lines().collect();
        let lines = these.lines().filter(|line| !those.contains(line));
        lines.map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    panic!(
        "{} is not what the plan says; `cargo run -p trellis-conformance --bin bless` writes it \
         anew, then review the difference:\n{}{}",
        path.display(),
        only(&found, expected, '-'),
        only(expected, &found, '+'),
    );
}

/// Outcomes of a row, each with the combinations that have it.
fn outcomes(row: &Row) -> BTreeMap<Outcome, Vec<&str>> {
    let mut outcomes: BTreeMap<Outcome, Vec<&str>> = BTreeMap::new();
    for cell in &row.cells {
        outcomes.entry(cell.outcome).or_default().push(&cell.combination);
    }
    outcomes
}

fn render_ledger(families: &[Family]) -> String {
    let mut text = String::from(
        "# What becomes of each case on each combination: `run`, `negative` (the lack of an \
         ability\n\
         # is shown), or `n/a: reason`. Written by `cargo run -p trellis-conformance --bin \
         bless`;\n\
         # any difference between this file and the plan fails the suite.\n",
    );
    for family in families {
        let names: Vec<_> = family.combinations.iter().map(|name| format!("{name:?}")).collect();
        write!(text, "\n[{}]\ncombinations = [{}]\n", family.name, names.join(", ")).unwrap();
        write!(text, "\n[{}.cases]\n", family.name).unwrap();
        for row in &family.rows {
            let outcomes = outcomes(row);
            if let (1, Some(outcome)) = (outcomes.len(), outcomes.keys().next()) {
                writeln!(text, "{:?} = {:?}", row.id, outcome.to_string()).unwrap();
                continue;
            }
            writeln!(text, "{:?} = {{", row.id).unwrap();
            for (outcome, combinations) in outcomes {
                writeln!(text, "    {:?} = {combinations:?},", outcome.to_string()).unwrap();
            }
            text.push_str("}\n");
        }
    }
    text
}

fn render_matrix(families: &[Family]) -> String {
    let mut text = String::from(
        "# The conformance matrix\n\n\
         What is shown of each engine, by which case. Rendered from `conformance-tests`; do not\n\
         edit. `yes`: the case runs and passes. `no*`: the engine lacks the ability, and it \
         is shown\n\
         how it answers. A number refers to the reasons below a table. Cases marked (full) \
         run only\n\
         with `TRELLIS_COST=full`.\n",
    );
    for family in families {
        let cells: usize = family.rows.iter().flat_map(|row| &row.cells).count();
        let run = family.rows.iter().flat_map(|row| &row.cells);
        let run = run.filter(|cell| !matches!(cell.outcome, Outcome::NotApplicable(_))).count();
        write!(text, "\n## {}\n\n", family.title).unwrap();
        let count = family.rows.len();
        write!(text, "{count} cases, {run} of {cells} cells run.\n\n").unwrap();
        writeln!(text, "| case | promises | {} |", family.combinations.join(" | ")).unwrap();
        writeln!(text, "|---|---|{}", "---|".repeat(family.combinations.len())).unwrap();
        let mut reasons: Vec<&str> = Vec::new();
        for row in &family.rows {
            let full = if row.cost == Cost::Full { " (full)" } else { "" };
            let promises: Vec<_> = row.promises.iter().map(|id| format!("`{id}`")).collect();
            write!(text, "| `{}`{full} | {} |", row.id, promises.join(", ")).unwrap();
            for cell in &row.cells {
                match cell.outcome {
                    Outcome::Run => text.push_str(" yes |"),
                    Outcome::Negative => text.push_str(" no* |"),
                    Outcome::NotApplicable(reason) => {
                        let known = reasons.iter().position(|known| *known == reason);
                        let number = known.unwrap_or_else(|| {
                            reasons.push(reason);
                            reasons.len() - 1
                        });
                        write!(text, " {} |", number + 1).unwrap();
                    }
                }
            }
            text.push('\n');
        }
        text.push('\n');
        for (number, reason) in reasons.iter().enumerate() {
            writeln!(text, "{}. {reason}", number + 1).unwrap();
        }
    }
    text
}
