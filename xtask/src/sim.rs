//! `sim`: seeds of the simulation of replication, in an optimised build.

use clap::Args;

use crate::step::Step;

/// The arguments of `cargo xtask sim`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Sim {
    /// Seeds to run, one after the other.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, value_name = "S", default_value_t = 0)]
    from: u64,
    /// One seed only, with everything that happens in it.
    #[arg(long, value_name = "X", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Plants each known defect in turn, and looks for a seed that finds it.
    #[arg(long, conflicts_with = "seed")]
    planted: bool,
}

impl Sim {
    /// The one command that this selection stands for.
    pub(crate) fn step(&self) -> Step {
        let program = Step::cargo(
            "run --release -p trellis-conformance --no-default-features --features matrix \
             --bin sim --",
        );
        let Self { seeds, from, .. } = self;
        let arguments = match self.seed {
            Some(seed) => vec!["--seed".to_owned(), seed.to_string()],
            None if self.planted => vec!["--planted".to_owned(), seeds.to_string()],
            None => vec![seeds.to_string(), from.to_string()],
        };
        program.arguments(&arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        sim: Sim,
    }

    fn step(line: &str) -> String {
        let text = Line::parse_from(line.split_whitespace()).sim.step().to_string();
        text.rsplit_once("--bin sim -- ").unwrap().1.to_owned()
    }

    #[test]
    fn seeds_reach_the_program() {
        assert_eq!(step("sim --seeds 50 --from 7"), "50 7");
        assert_eq!(step("sim --seed 12"), "--seed 12");
        assert_eq!(step("sim --planted --seeds 500"), "--planted 500");
    }
}
