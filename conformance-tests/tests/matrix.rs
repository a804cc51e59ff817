//! Every case on every engine: each cell a trial of its own name, `kv.scan.stop [kv-redb]`.
//!
//! `TRELLIS_MATRIX="kv=redb,sled log=segment"` selects, `TRELLIS_COST=full` takes the long cases
//! as well, `TRELLIS_SEED` replays.

use trellis_conformance::{Seed, matrix};

fn main() {
    // The crash cases start this program again as the child that is killed.
    if matrix::child_main() {
        return;
    }
    let arguments = libtest_mimic::Arguments::from_args();
    if !arguments.list {
        eprintln!("TRELLIS_SEED={}", Seed::of_run().0);
    }
    libtest_mimic::run(&arguments, matrix::trials()).exit();
}
