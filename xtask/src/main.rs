//! The project's commands. `cargo xtask <verb>` is the only entry one needs: the continuous build
//! (`.ci/run`) calls the same verbs, so what is green here is green there.
//!
//! A verb prints each command before it runs it, stops at the first one that fails and returns
//! that one's exit code; every printed line can be pasted into a shell. The rules about the code
//! itself (dependency edges, file sizes, banned words) are ordinary tests of this crate, in the
//! `tidy*` modules. Deliberately not here: anything that changes the code, besides `bless`.

mod chaos;
mod check;
mod conform;
mod features;
mod live;
mod metadata;
mod sim;
mod step;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod tidy_documents;
#[cfg(test)]
mod tidy_edges;
#[cfg(test)]
mod tidy_modules;
#[cfg(test)]
mod tidy_source;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::step::{Outcome, Step};

/// The project's commands. Each prints what it runs and returns the exit code of what failed.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Everything that needs no test run: format, tidy rules, clippy, documentation, licences.
    ///
    /// In this order, the cheapest first: `cargo fmt --check`; the tidy rules (`cargo test -p
    /// xtask`); clippy on all targets with warnings denied; rustdoc with warnings denied; and
    /// `cargo deny check licenses bans sources`, if cargo-deny is installed (if it is not, the
    /// last line says so).
    Check,
    /// Every test of the workspace, then every example in the documentation.
    ///
    /// Runs `cargo nextest run --workspace`, or `cargo test` where cargo-nextest is missing, then
    /// `cargo test --workspace --doc`. Environment: TRELLIS_SEED=N replays a randomised test with
    /// the seed that its failure printed.
    Test,
    /// The conformance suite over chosen combinations of engines.
    ///
    /// Without --kv and --log, all compiled-in combinations. Selecting no trial at all is a
    /// failure. Examples:
    ///
    ///   cargo xtask conform --quick
    ///   cargo xtask conform --kv redb,sled --log segment --full
    ///   cargo xtask conform --kv redb --case kv.scan.reverse_excluded_end --seed 7
    #[command(verbatim_doc_comment)]
    Conform(conform::Conform),
    /// The crash family: a tree under sixteen writers, its process killed again and again.
    ///
    /// A round kills one to three children, one after the other: while they recover, commit,
    /// apply, trim or look after the store. Then it opens what is left: every acknowledged commit
    /// has to be there, once, and nothing may be half-done. Prints for each combination rounds,
    /// kills and what they hit, acknowledged commits, losses and the seed; a failed round keeps
    /// its directory and says what replays it. Leave it running for long before a release:
    ///
    ///   cargo xtask crash --rounds 2000 --kv redb --log segment
    ///   cargo xtask crash --rounds 300
    #[command(verbatim_doc_comment)]
    Crash(conform::Crash),
    /// The soak of subscriptions: writers, sockets that are cut off, a server that is killed.
    ///
    /// Afterwards what every subscriber got is compared with the journal of the closed database:
    /// each change once, in order, with what it changed. Prints what was compared, how often a
    /// subscription was resumed and how often it was told everything anew, and the seed. Example:
    ///
    ///   cargo xtask live --subscriptions 10000 --restarts 10 --disconnects 100 --kv redb \
    ///     --log segment --release
    #[command(verbatim_doc_comment)]
    Live(live::Live),
    /// The power family: images of what loss of power may leave, each opened and checked.
    ///
    /// On every log and store whose files can be recorded, so many images each: what was not
    /// synced is lost, kept, reordered or torn; what was acknowledged has to be there. Example:
    ///
    ///   cargo xtask power --images 20000
    #[command(verbatim_doc_comment)]
    Power(conform::Power),
    /// Nodes as processes that replicate: killed under load, links cut, slowed and half-open.
    ///
    ///   cargo xtask chaos --minutes 10 --release
    #[command(verbatim_doc_comment)]
    Chaos(chaos::Chaos),
    /// The simulation of replication: each seed is a run with crashes, cuts and wrong clocks.
    ///
    /// Nodes write while everything goes wrong; afterwards each has to hold exactly what a
    /// reference merge of all commits says. A seed that fails is printed and replayed by --seed,
    /// with its whole trace; it belongs into conformance-tests/seeds/simulation.txt. Examples:
    ///
    ///   cargo xtask sim --seeds 5000
    ///   cargo xtask sim --seed 4711
    #[command(verbatim_doc_comment)]
    Sim(sim::Sim),
    /// Each feature of the library and the server alone, none, all; and what must stay out.
    ///
    /// Checks that `trellis-db` and `trellis-server` compile with every feature alone, with
    /// none and with all of them. Then proves with `cargo tree` that a server without features
    /// pulls in no storage engine, no TLS and no HTTP client, and `trellis-engine-traits` no async
    /// runtime.
    Features,
    /// Rewrite the ledger of the conformance suite from what the planner selects now.
    ///
    /// Review the difference like code: a cell that went from `run` to `n/a` is a promise less.
    Bless,
    /// The figures: release build of `bench/`, the arguments handed on.
    ///
    ///   cargo xtask bench --help
    #[command(verbatim_doc_comment, disable_help_flag = true)]
    Bench {
        /// Handed to the benchmark program as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Check => check::check(),
        Verb::Test => check::test(),
        Verb::Conform(selection) => selection.step().run(),
        Verb::Crash(selection) => selection.step().run(),
        Verb::Live(selection) => selection.step().run(),
        Verb::Chaos(selection) => selection.step().run(),
        Verb::Power(selection) => selection.step().run(),
        Verb::Sim(selection) => selection.step().run(),
        Verb::Features => features::features(),
        Verb::Bless => Step::cargo("run -p trellis-conformance --bin bless").run(),
        Verb::Bench { arguments } => bench(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("xtask: {}", failed.message);
            ExitCode::from(failed.exit_code)
        }
    }
}

fn bench(arguments: &[String]) -> Outcome {
    Step::cargo("run --release -p trellis-bench --").arguments(arguments).run()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn bench_hands_on_options_it_does_not_know() {
        let parsed = Arguments::parse_from(["cargo xtask", "bench", "--help", "-x", "reads"]);
        let expected = ["--help", "-x", "reads"];
        assert!(matches!(parsed.verb, Verb::Bench { arguments } if arguments == expected));
    }
}
