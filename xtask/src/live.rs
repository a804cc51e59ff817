//! `live`: the soak of subscriptions, a case of the conformance suite, at a chosen size.
//!
//! `TRELLIS_SOAK_SCALE` hands the size over: subscriptions, writers, disconnections,
//! kills, commits; `TRELLIS_SOAK_UNTHROTTLED`, that writers wait for nobody.

use clap::Args;

use crate::conform::{Engines, matrix_binary, matrix_binary_optimised};
use crate::step::Step;

/// The arguments of `cargo xtask live`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Live {
    /// Subscriptions, on sockets of some 250 each.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    subscriptions: u32,
    /// Connections that write.
    #[arg(long, value_name = "N", default_value_t = 64)]
    writers: u32,
    /// How often a connection is cut off, at a random commit.
    #[arg(long, value_name = "N", default_value_t = 100)]
    disconnects: u32,
    /// How often the server is killed, at a random commit.
    #[arg(long, value_name = "N", default_value_t = 10)]
    restarts: u32,
    /// Commits that the writers make in all.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    commits: u32,
    /// Writers wait for nobody; otherwise for subscribers that are 800 revs behind. Those too slow
    /// are told everything anew, which is then no failure: what they miss or get twice still is.
    #[arg(long)]
    unthrottled: bool,
    #[command(flatten)]
    engines: Engines,
    /// The seed of writes, disconnections and kills, as a run printed it.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// An optimised build.
    #[arg(long)]
    release: bool,
}

impl Live {
    /// The one command that this selection stands for.
    pub(crate) fn step(&self) -> Step {
        let program = if self.release { matrix_binary_optimised() } else { matrix_binary() };
        let Self { subscriptions, writers, disconnects, restarts, commits, .. } = self;
        let scale = format!("{subscriptions},{writers},{disconnects},{restarts},{commits}");
        let mut step = self.engines.set_on(program).environment("TRELLIS_SOAK_SCALE", scale);
        if self.unthrottled {
            step = step.environment("TRELLIS_SOAK_UNTHROTTLED", "1");
        }
        if let Some(seed) = self.seed {
            step = step.environment("TRELLIS_SEED", seed.to_string());
        }
        step.arguments(&["crash.live".to_owned(), "--nocapture".to_owned()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        live: Live,
    }

    #[test]
    fn the_size_of_the_soak_reaches_the_matrix_binary() {
        let line = "live --subscriptions 300 --restarts 2 --disconnects 5 --kv redb --seed 7";
        assert_eq!(
            Line::parse_from(line.split_whitespace()).live.step().to_string(),
            "TRELLIS_MATRIX=kv=redb TRELLIS_SOAK_SCALE=300,64,5,2,20000 TRELLIS_SEED=7 \
             cargo test -p trellis-conformance --test matrix -- crash.live --nocapture"
        );
        let line = "live --kv redb --unthrottled";
        assert_eq!(
            Line::parse_from(line.split_whitespace()).live.step().to_string(),
            "TRELLIS_MATRIX=kv=redb TRELLIS_SOAK_SCALE=10000,64,100,10,20000 \
             TRELLIS_SOAK_UNTHROTTLED=1 cargo test -p trellis-conformance --test matrix -- \
             crash.live --nocapture"
        );
    }
}
