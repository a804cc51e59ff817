//! `check` and `test`: what has to pass before a change is proposed.
//!
//! The cheapest step comes first, and every step takes the whole workspace (`--workspace`), so that
//! cargo resolves one set of features and builds each dependency once for all of them.

use crate::step::{Outcome, Step};

/// Format, tidy rules, clippy, documentation, licences; stops at the first that fails.
pub(crate) fn check() -> Outcome {
    Step::cargo("fmt --all --check").run()?;
    Step::cargo("test --quiet -p xtask").run()?;
    Step::cargo("clippy --workspace --all-targets -- -D warnings").run()?;
    Step::cargo("doc --workspace --no-deps").environment("RUSTDOCFLAGS", "-D warnings").run()?;
    if Step::cargo("deny --version").succeeds() {
        return Step::cargo("deny check licenses bans sources").run();
    }
    eprintln!(
        "\nNOT RUN: cargo deny check licenses bans sources: cargo-deny is not installed.\n\
         To run it too: cargo install cargo-deny --locked"
    );
    Ok(())
}

/// Every test of the workspace, then every example in the documentation.
pub(crate) fn test() -> Outcome {
    if Step::cargo("nextest --version").succeeds() {
        Step::cargo("nextest run --workspace").run()?;
    } else {
        eprintln!(
            "cargo-nextest is not installed: falling back to cargo test, slower and without a \
             limit on hanging tests.\nTo install it: cargo install cargo-nextest --locked"
        );
        Step::cargo("test --workspace --lib --bins --tests --examples").run()?;
    }
    Step::cargo("test --workspace --doc").run()
}
