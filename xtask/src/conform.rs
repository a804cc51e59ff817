//! `conform`, `crash` and `power`: the conformance suite, with its selection handed over in
//! environment variables.
//!
//! | variable | value | absent |
//! |---|---|---|
//! | `TRELLIS_MATRIX` | `kv=redb,sled log=segment`, either part may be missing | all combinations |
//! | `TRELLIS_COST` | `quick` or `full` | the suite's default |
//! | `TRELLIS_SEED` | a number | drawn, and printed with each failure |
//! | `TRELLIS_CRASH_ROUNDS` | rounds of each crash case | the suite's default |
//! | `TRELLIS_IMAGES` | images that each case of power loss draws | the suite's default |
//!
//! Deliberately not here: which cases a combination runs. The suite's planner decides that.

use clap::{Args, ValueEnum};

use crate::step::Step;

/// Which engines the matrix is made of.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Engines {
    /// Key-value engines by name, separated by commas: memory, sqlite, redb, sled.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    kv: Vec<String>,
    /// Stream logs by name, separated by commas: memory, segment, kv.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    log: Vec<String>,
}

impl Engines {
    /// The value of `TRELLIS_MATRIX`; none means every combination.
    fn matrix(&self) -> Option<String> {
        let axes = [("kv", &self.kv), ("log", &self.log)];
        let chosen = axes.iter().filter(|(_, names)| !names.is_empty());
        let parts: Vec<_> =
            chosen.map(|(axis, names)| format!("{axis}={}", names.join(","))).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }

    pub(crate) fn set_on(&self, step: Step) -> Step {
        match self.matrix() {
            Some(matrix) => step.environment("TRELLIS_MATRIX", matrix),
            None => step,
        }
    }
}

/// How much a run may cost.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Cost {
    Quick,
    Full,
}

/// The arguments of `cargo xtask conform`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Conform {
    #[command(flatten)]
    engines: Engines,
    /// Only the cases marked quick.
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Every case, the long ones too.
    #[arg(long)]
    full: bool,
    /// Only cases whose id contains this.
    #[arg(long, value_name = "ID")]
    case: Option<String>,
    /// The seed of randomised cases, as a failure printed it.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl Conform {
    fn cost(&self) -> Option<Cost> {
        match (self.quick, self.full) {
            (true, _) => Some(Cost::Quick),
            (false, true) => Some(Cost::Full),
            (false, false) => None,
        }
    }

    /// The one command that this selection stands for.
    pub(crate) fn step(&self) -> Step {
        let mut step = self.engines.set_on(matrix_binary());
        match self.cost() {
            Some(Cost::Quick) => step = step.environment("TRELLIS_COST", "quick"),
            Some(Cost::Full) => step = step.environment("TRELLIS_COST", "full"),
            None => {}
        }
        if let Some(seed) = self.seed {
            step = step.environment("TRELLIS_SEED", seed.to_string());
        }
        match &self.case {
            Some(case) => step.arguments(std::slice::from_ref(case)),
            None => step,
        }
    }
}

/// The arguments of `cargo xtask crash`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Crash {
    /// Rounds on each combination; a round kills one to three children and looks at what is left.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    #[command(flatten)]
    engines: Engines,
    /// The seed of work and kills, as a run printed it.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// An optimised build: more commits in the same time.
    #[arg(long)]
    release: bool,
    /// Kill in the midst of backups, restores and migrations instead; a round takes seconds.
    #[arg(long)]
    archives: bool,
}

impl Crash {
    /// The one command that this selection stands for.
    pub(crate) fn step(&self) -> Step {
        let program = if self.release { matrix_binary_optimised() } else { matrix_binary() };
        let mut step = self.engines.set_on(program).environment("TRELLIS_COST", "full");
        if let Some(seed) = self.seed {
            step = step.environment("TRELLIS_SEED", seed.to_string());
        }
        step.environment("TRELLIS_CRASH_ROUNDS", self.rounds.to_string()).arguments(&[if self
            .archives
        {
            ARCHIVE_CASES
        } else {
            TREE_CASES
        }
        .to_owned()])
    }
}

/// How the ids of the crash family's cases begin.
const TREE_CASES: &str = "crash.tree";
const ARCHIVE_CASES: &str = "crash.archive";

/// The arguments of `cargo xtask power`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Power {
    /// How many images each combination of engines is shown.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    images: u32,
    #[command(flatten)]
    engines: Engines,
    /// The seed of calls and images, as a failure printed it.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl Power {
    /// The one command that this selection stands for.
    pub(crate) fn step(&self) -> Step {
        let conform = Conform {
            engines: self.engines.clone(),
            full: true,
            case: Some("every_image_holds".to_owned()),
            seed: self.seed,
            ..Conform::default()
        };
        conform.step().environment("TRELLIS_IMAGES", self.images.to_string())
    }
}

pub(crate) fn matrix_binary() -> Step {
    Step::cargo("test -p trellis-conformance --test matrix --")
}

pub(crate) fn matrix_binary_optimised() -> Step {
    Step::cargo("test --release -p trellis-conformance --test matrix --")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line<T: Args> {
        #[command(flatten)]
        arguments: T,
    }

    fn conform(arguments: &str) -> String {
        let line = format!("conform {arguments}");
        Line::<Conform>::parse_from(line.split_whitespace()).arguments.step().to_string()
    }

    #[test]
    fn without_arguments_the_suite_decides_everything() {
        assert_eq!(conform(""), "cargo test -p trellis-conformance --test matrix --");
    }

    #[test]
    fn every_selection_reaches_the_matrix_binary() {
        assert_eq!(
            conform("--kv redb,sled --log segment --full --case kv.scan --seed 7"),
            "TRELLIS_MATRIX='kv=redb,sled log=segment' TRELLIS_COST=full TRELLIS_SEED=7 \
             cargo test -p trellis-conformance --test matrix -- kv.scan"
        );
        assert!(
            conform("--quick --log kv").starts_with("TRELLIS_MATRIX=log=kv TRELLIS_COST=quick")
        );
    }

    #[test]
    fn quick_and_full_exclude_each_other() {
        assert!(Line::<Conform>::try_parse_from(["conform", "--quick", "--full"]).is_err());
    }

    #[test]
    fn crash_runs_its_family_for_the_given_rounds() {
        let line = Line::<Crash>::parse_from(["crash", "--rounds", "50", "--kv", "redb"]);
        assert_eq!(
            line.arguments.step().to_string(),
            "TRELLIS_MATRIX=kv=redb TRELLIS_COST=full TRELLIS_CRASH_ROUNDS=50 \
             cargo test -p trellis-conformance --test matrix -- crash.tree"
        );
        let line = Line::<Crash>::parse_from(["crash", "--rounds=2", "--seed=7", "--release"]);
        assert_eq!(
            line.arguments.step().to_string(),
            "TRELLIS_COST=full TRELLIS_SEED=7 TRELLIS_CRASH_ROUNDS=2 \
             cargo test --release -p trellis-conformance --test matrix -- crash.tree"
        );
        let line = Line::<Crash>::parse_from(["crash", "--rounds=2", "--archives"]);
        assert!(line.arguments.step().to_string().ends_with("-- crash.archive"));
        assert!(Line::<Crash>::try_parse_from(["crash", "--rounds", "0"]).is_err());
    }

    #[test]
    fn power_draws_as_many_images() {
        let line = Line::<Power>::parse_from(["power", "--images", "500", "--seed", "3"]);
        assert_eq!(
            line.arguments.step().to_string(),
            "TRELLIS_COST=full TRELLIS_SEED=3 TRELLIS_IMAGES=500 \
             cargo test -p trellis-conformance --test matrix -- every_image_holds"
        );
    }
}
