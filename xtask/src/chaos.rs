//! `chaos`: nodes as real processes under trouble, a case of the conformance suite, for as long as
//! asked.
//!
//! `TRELLIS_CHAOS_SECONDS` hands the time over.

use clap::Args;
use clap::builder::RangedI64ValueParser;

use crate::conform::{matrix_binary, matrix_binary_optimised};
use crate::step::Step;

/// At most a week.
fn minutes() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=10_080)
}

/// The arguments of `cargo xtask chaos`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Chaos {
    /// How long there is trouble; the nodes then have two minutes to agree.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = minutes())]
    minutes: u32,
    /// The seed of writes and troubles, as a failure printed it. The moments of the kills are the
    /// machine's, so that a replay is much like the run and not the same.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// An optimised build.
    #[arg(long)]
    release: bool,
}

impl Chaos {
    /// The one command that this selection stands for.
    pub(crate) fn step(&self) -> Step {
        let program = if self.release { matrix_binary_optimised() } else { matrix_binary() };
        let seconds = u64::from(self.minutes) * 60;
        let mut step = program.environment("TRELLIS_CHAOS_SECONDS", seconds.to_string());
        if let Some(seed) = self.seed {
            step = step.environment("TRELLIS_SEED", seed.to_string());
        }
        step.arguments(&["chaos.nodes".to_owned(), "--nocapture".to_owned()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Chaos,
    }

    #[test]
    fn the_minutes_reach_the_suite() {
        let line = Line::parse_from(["chaos", "--minutes", "2", "--seed", "7"]);
        assert_eq!(
            line.arguments.step().to_string(),
            "TRELLIS_CHAOS_SECONDS=120 TRELLIS_SEED=7 cargo test -p trellis-conformance --test \
             matrix -- chaos.nodes --nocapture"
        );
        assert!(Line::try_parse_from(["chaos", "--minutes", "0"]).is_err());
    }
}
