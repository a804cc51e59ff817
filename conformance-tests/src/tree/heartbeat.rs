//! Slow engines never stall an executor: a heart on the same thread goes on beating.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use trellis_tree::{Tree, TreeOptions};

use super::TreeWorld;
use super::gate::{Gate, GatedKv, GatedLog};
use super::tools::{path, set, setting};
use crate::Case;

pub(super) const CASES: &[Case<TreeWorld>] =
    &[Case::new("tree.async.heartbeat", &["tree.read.own_writes", "tree.commit.order"], heartbeat)];

fn heartbeat(world: &TreeWorld) {
    let ground = world.engine();
    let gate = Arc::new(Gate::default());
    let (kv, log) = ground.engines().unwrap();
    let kv = Arc::new(GatedKv(kv, Arc::clone(&gate)));
    let log = Arc::new(GatedLog(log, Arc::clone(&gate)));
    let runtime = ground.runtime();
    let tree = Tree::open(kv, log, Arc::clone(&runtime), TreeOptions::default()).unwrap();
    set(&tree, "a", json!(1));
    tree.flush().unwrap();
    let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    gate.shut(true);
    executor.block_on(async {
        let ended = Arc::new(AtomicBool::new(false));
        let heart = tokio::spawn({
            let (gate, ended) = (Arc::clone(&gate), Arc::clone(&ended));
            async move {
                while !ended.load(Ordering::Relaxed) {
                    gate.beat();
                    tokio::task::yield_now().await;
                }
            }
        });
        // In flight together: reads, commits, a flush of the overlay into the store.
        let read = {
            let tree = tree.clone();
            tokio::spawn({
                let runtime = Arc::clone(&runtime);
                async move { runtime.run(move || tree.view()?.get(&path("a"))).await.unwrap() }
            })
        };
        let commits: Vec<_> =
            (0..10).map(|n| tokio::spawn(tree.submit(setting("b", json!(n))))).collect();
        assert_eq!(read.await.unwrap(), json!(1));
        let mut last = 0;
        for commit in commits {
            let done = commit.await.unwrap().unwrap();
            assert!(done.rev > last, "answered in order");
            last = done.rev;
        }
        let flushed = tree.clone();
        runtime.run(move || flushed.flush()).await.unwrap();
        let after = tree.clone();
        let read = runtime.run(move || after.view()?.get(&path("b")));
        assert_eq!(read.await.unwrap(), json!(9));
        let pairs = tree.clone();
        let usage: Value = runtime.run(move || Ok(json!(pairs.stats()?.live_bytes))).await.unwrap();
        assert!(usage.as_u64().unwrap() > 0);
        ended.store(true, Ordering::Relaxed);
        heart.await.unwrap();
    });
    gate.shut(false);
    let (passed, starved) = gate.passed();
    assert!(!starved, "an engine call waited for a heart that stood still");
    assert!(passed >= 4, "only {passed} engine calls waited");
    tree.close().unwrap();
}
