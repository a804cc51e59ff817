//! Trees on each store, and loading them.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Instant;

use trellis_log_segment::{SegmentLog, SegmentOptions};
use trellis_runtime::Runtime;
use trellis_tree::{Commit, Input, Operation, Path, Tree, TreeOptions};

use crate::Result;
use crate::keys::{self, Random};
use crate::kv::Kv;
use crate::load::once;
use crate::settings::Settings;

/// Leaves of one commit while loading.
const LOAD_LEAVES: usize = 1_000;

/// A tree in a directory, its journal in segment files.
pub(crate) fn open_tree(
    settings: &Settings,
    kv: Kv,
    dir: &FilePath,
    options: TreeOptions,
) -> Result<Tree> {
    std::fs::create_dir_all(dir)?;
    let log = SegmentLog::open(dir.join("log"), SegmentOptions::default())?;
    let store = kv.open(dir, settings.cache_bytes)?;
    Ok(Tree::open(store, Arc::new(log), Runtime::system(), options)?)
}

/// A tree that holds all keys, and the subtree that is read whole.
pub(crate) fn loaded_tree(settings: &Settings, kv: Kv, options: TreeOptions) -> Result<Tree> {
    loaded_tree_of(settings, kv, settings.keys, options)
}

/// The same with so many keys.
pub(crate) fn loaded_tree_of(
    settings: &Settings,
    kv: Kv,
    keys: usize,
    options: TreeOptions,
) -> Result<Tree> {
    let name = format!("tree-{}-{keys}", kv.name());
    let dir = settings.dir.join(&name);
    once(&dir, || {
        let begin = Instant::now();
        let tree = open_tree(settings, kv, &dir, TreeOptions::default())?;
        load(&tree, keys)?;
        tree.close()?;
        eprintln!("{name}: loaded in {:.1} s", begin.elapsed().as_secs_f64());
        Ok(())
    })?;
    open_tree(settings, kv, &dir, options)
}

/// Writes all keys and the subtree, a thousand leaves a commit.
pub(crate) fn load(tree: &Tree, keys: usize) -> Result<()> {
    let mut random = Random::new(1);
    update(tree, (0..keys).map(keys::path_text), &mut random)?;
    update(tree, (0..keys::SUBTREE_LEAVES).map(keys::subtree_path_text), &mut random)?;
    tree.flush()?;
    Ok(())
}

/// Gives each path a new value, a thousand leaves a commit.
pub(crate) fn update(
    tree: &Tree,
    paths: impl Iterator<Item = String>,
    random: &mut Random,
) -> Result<()> {
    let mut updates = Vec::with_capacity(LOAD_LEAVES);
    for path in paths {
        updates.push((Path::parse(&path)?, Input::parse(&keys::value_json(random))?));
        if updates.len() == LOAD_LEAVES {
            commit_all(tree, std::mem::take(&mut updates))?;
        }
    }
    commit_all(tree, updates)
}

fn commit_all(tree: &Tree, updates: Vec<(Path, Input)>) -> Result<()> {
    if !updates.is_empty() {
        tree.commit(Commit::new(vec![Operation::Update { updates, expiry: None }]))?;
    }
    Ok(())
}
