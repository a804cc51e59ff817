//! Indexes are what deriving them anew would give, whatever happens to data and process.

use serde_json::json;
use trellis_query::{FIELD_INDEXES, IndexDefinition, drop_index};
use trellis_tree::{EntrySpace, Position, Seeding, SeedingSource, Tree, TreeOptions};

use super::index_tools::{
    ITEMS, agrees, all_ready, create, definitions, fill, is_exact, options, write,
};
use crate::tree::tools::{commit, leasing, set, until};
use crate::tree::{Ground, TreeWorld};
use crate::{Case, Flag, Need};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("query.index.random", &["tree.index.exact", "tree.index.build"], random),
    Case::new("query.index.build_beside_writers", &["tree.index.build"], beside_writers),
    Case::new("query.index.build_resumes", &["tree.index.build"], resumes),
    Case::new("query.index.endings", &["tree.index.exact"], endings),
    Case::new("query.index.copied", &["tree.index.build"], copied),
    Case::new("query.index.loss_of_power", &["tree.index.exact"], loss_of_power)
        .needs(&[Need::PowerLoss]),
];

fn random(world: &TreeWorld) {
    let ground = world.engine();
    let mut rng = world.rng("writes");
    let mut tree = ground.tree_with(options());
    let all = definitions();
    for step in 0..240 {
        match rng.below(24) {
            0 => drop(create(&tree, &all[rng.below(all.len())])),
            1 if rng.one_in(3) => {
                let indexes = tree.indexes();
                if let Some(index) = indexes.get(rng.below(indexes.len().max(1))) {
                    assert!(drop_index(&tree, &index.id).unwrap());
                }
            }
            2 if rng.one_in(2) => tree = ground.reopen_with(options()),
            3 => all_ready(&tree),
            _ => write(&tree, &mut rng),
        }
        if step % 8 == 0 {
            agrees(&tree, &mut rng, &format!("step {step}"));
        }
    }
    all.iter().for_each(|definition| drop(create(&tree, definition)));
    all_ready(&tree);
    agrees(&tree, &mut rng, "at the end");
    is_exact(&tree, "at the end");
}

fn beside_writers(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree_with(options());
    fill(&tree);
    let all = definitions();
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (tree, mut rng) = (&tree, world.rng(&format!("writer {writer}")));
            scope.spawn(move || {
                for _ in 0..60 {
                    write(tree, &mut rng);
                    let n = rng.below(ITEMS);
                    set(tree, &format!("other/n{n:05}"), json!(rng.below(97)));
                }
            });
        }
        all.iter().for_each(|definition| drop(create(&tree, definition)));
    });
    all_ready(&tree);
    is_exact(&tree, "built beside writers");
    let built = tree.indexes().iter().map(|index| index.items_built).max();
    assert!(built >= Some(ITEMS as u64), "more than one chunk was built: {built:?}");
}

fn resumes(world: &TreeWorld) {
    let ground = world.engine();
    let mut tree = ground.tree_with(options());
    fill(&tree);
    create(&tree, &definitions()[3]);
    // Closed at whatever point it is.
    tree = ground.reopen_with(options());
    let json = json!({"path": "other", "fields": ["f"]});
    let id = create(&tree, &IndexDefinition::from_json(&json).unwrap());
    until("some of it is built", || {
        tree.indexes().iter().any(|index| index.id == id && index.items_built > 0)
    });
    tree = ground.reopen_with(options());
    let mut rng = world.rng("writes");
    (0..20).for_each(|_| write(&tree, &mut rng));
    all_ready(&tree);
    is_exact(&tree, "after two restarts");
    tree = ground.reopen_with(options());
    assert!(tree.indexes().iter().all(|index| index.ready), "a whole index stays so");
    all_ready(&tree);
    is_exact(&tree, "after the third");
}

/// What ended leaves the indexes with the commit that removes it.
fn endings(world: &TreeWorld) {
    let ground = world.engine();
    let tree = ground.tree_with(options());
    definitions().iter().for_each(|definition| drop(create(&tree, definition)));
    all_ready(&tree);
    for n in 0..20 {
        let at = format!("c/k{n}");
        commit(&tree, leasing(&at, json!({"f": n}), 10.0 + f64::from(n % 2)));
    }
    ground.clock().advance_ms(10_500);
    tree.settle().expect("what is due is removed");
    let mut rng = world.rng("queries");
    agrees(&tree, &mut rng, "half of it ended");
    is_exact(&tree, "half of it ended");
}

fn copied(world: &TreeWorld) {
    let ground = world.engine();
    let elsewhere = Ground::in_memory();
    let source = elsewhere.tree_with(options());
    let mut rng = world.rng("writes");
    (0..100).for_each(|_| write(&source, &mut rng));
    definitions().iter().for_each(|definition| drop(create(&source, definition)));
    let (kv, log) = ground.engines().expect("engines");
    let runtime = ground.runtime();
    let from = SeedingSource { token: [3; 32], epoch: 1 };
    let mut seeding = Seeding::begin(kv.clone(), log.clone(), &runtime, from).expect("it begins");
    let view = source.view().expect("a view");
    for space in EntrySpace::ALL {
        let mut pairs = Vec::new();
        view.visit_entries(space, &[], &mut |key, value| {
            pairs.push((key.to_vec(), value.to_vec()));
            std::ops::ControlFlow::Continue(())
        })
        .expect("it is read");
        for (key, value) in pairs {
            seeding.entry(space, &key, &value).expect("it is taken");
        }
    }
    let rev = view.rev();
    drop(view);
    seeding.entries_end(Position { rev, hash: [0; 16] }).expect("they end");
    seeding.finish().expect("it is a tree");
    let copy = Tree::open(kv, log, runtime, options()).expect("it opens");
    assert_eq!(copy.indexes().len(), definitions().len());
    all_ready(&copy);
    agrees(&copy, &mut rng, "the copy");
    is_exact(&copy, "the copy");
    copy.close().expect("it closes");
}

fn loss_of_power(world: &TreeWorld) {
    let ground = world.engine();
    let mut rng = world.rng("writes");
    let mut tree = ground.tree_with(options());
    definitions().iter().for_each(|definition| drop(create(&tree, definition)));
    for round in 0..6 {
        (0..40).for_each(|_| write(&tree, &mut rng));
        world.throw(Flag::LosePower);
        drop(ground.close());
        tree = ground.tree_with(options());
        all_ready(&tree);
        agrees(&tree, &mut rng, &format!("round {round}"));
        is_exact(&tree, &format!("round {round}"));
        // Whoever keeps no indexes leaves none behind that could be taken for whole.
        if round == 3 {
            let plain = TreeOptions { derivation: None, ..options() };
            tree = ground.reopen_with(plain);
            (0..20).for_each(|_| write(&tree, &mut rng));
            tree =
                ground.reopen_with(TreeOptions { derivation: Some(&FIELD_INDEXES), ..options() });
        }
    }
}
