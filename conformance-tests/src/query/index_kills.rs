//! Indexes under a process that is killed, while they are built and while they are kept.

use std::sync::Arc;

use trellis_query::drop_index;
use trellis_runtime::Runtime;

use super::index_tools::{agrees, all_ready, create, definitions, fill, is_exact, options, write};
use crate::child::{rounds, run_and_kill, say, told};
use crate::tree::{Ground, TreeWorld};
use crate::{Case, Need, Seed};

const PROMISES: &[&str] = &["tree.index.exact", "tree.index.build", "tree.index.check"];

pub(super) const CASES: &[Case<TreeWorld>] =
    &[Case::new("query.index.killed", PROMISES, killed).needs(&[Need::AllOnDisk, Need::Child])];

const SEED: &str = "TRELLIS_INDEX_SEED";
/// Kills of a run, and lines after which a child is killed at most.
const KILLS: usize = 3;
const LINES_MOST: usize = 60;

/// The child's side: writes, and defines and drops indexes, until it is killed.
///
/// # Panics
/// When the tree does not open; when the parent did not set the environment.
pub fn index_child(ground: &Arc<Ground>) {
    let seed = Seed(told(SEED));
    let tree = ground.open_on(Runtime::system(), options()).expect("the tree opens");
    say("opened");
    let all = definitions();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (tree, mut rng) = (&tree, seed.of(&format!("writer {writer}")).rng());
            scope.spawn(move || {
                loop {
                    write(tree, &mut rng);
                    say("written");
                }
            });
        }
        let mut rng = seed.of("indexes").rng();
        loop {
            let index = create(&tree, &all[rng.below(all.len())]);
            say("created");
            if rng.one_in(4) {
                drop_index(&tree, &index).expect("it is dropped");
                say("dropped");
            }
            std::thread::yield_now();
        }
    });
}

fn killed(world: &TreeWorld) {
    let mut rng = world.rng("kills");
    fill(&world.engine().tree_with(options()));
    world.close();
    for round in 0..rounds(KILLS) {
        let mut command = world.factory().child_command(world.dir());
        command.env(SEED, rng.next_u64().to_string());
        run_and_kill(command, &mut rng, LINES_MOST);
        let ground = world.engine();
        let tree = ground.tree_with(options());
        all_ready(&tree);
        agrees(&tree, &mut rng, &format!("round {round}"));
        is_exact(&tree, &format!("round {round}"));
        drop(tree);
        world.close();
    }
}
