//! The families whose trees live in child processes that are killed, and how a child knows which
//! it is.

use std::path::Path;

use super::combinations::{self, Combination};
use super::trees;
use crate::tree::Ground;
use crate::{Need, crash, linear, live, query};

/// What a child of the family `crash` is started as.
const CRASH: &str = "crash";
/// What a child of the family `linear` is started as.
const LINEAR: &str = "linear";
/// What a child of the family `live` is started as.
const LIVE: &str = "live";
/// What a child of the subscriptions is started as.
const SUBSCRIBE: &str = "subscribe";
/// What a child of the family `chaos` is started as.
const CHAOS: &str = "chaos";
/// What a child of the family `query` is started as.
const QUERY: &str = "query";

/// Every store on disk with every log on disk.
pub(super) fn crash() -> Vec<Combination<Ground>> {
    let mut all = trees::for_children(CRASH);
    for one in &mut all {
        one.factory = one.factory.clone().offers(&[Need::Platform]);
    }
    all
}

/// Every store with every log.
pub(super) fn linear() -> Vec<Combination<Ground>> {
    with_children(LINEAR)
}

/// Every store with every log.
pub(super) fn live() -> Vec<Combination<Ground>> {
    with_children(LIVE)
}

/// Every store with every log.
pub(super) fn subscribe() -> Vec<Combination<Ground>> {
    with_children(SUBSCRIBE)
}

/// Every store with every log.
pub(super) fn query() -> Vec<Combination<Ground>> {
    with_children(QUERY)
}

fn with_children(role: &'static str) -> Vec<Combination<Ground>> {
    let on_disk = trees::for_children(role);
    let name = |one: &Combination<Ground>| one.factory.name().to_owned();
    let children: Vec<_> = on_disk.iter().map(name).collect();
    let mut all = trees::combinations();
    all.retain(|one| !children.contains(&name(one)));
    all.extend(on_disk);
    all
}

/// Plays the child of a case if the environment says so; answers whether it did.
pub(super) fn child_main() -> bool {
    let Some((role, name, dir)) = combinations::child_role() else { return false };
    match role.as_str() {
        #[cfg(feature = "wire")]
        CRASH if crash::is_archive_child() => crash::archive_child(&name, &dir),
        #[cfg(feature = "wire")]
        CRASH if crate::soak::is_soak_child() => crate::soak::soak_child(&name, &dir),
        #[cfg(feature = "wire")]
        CHAOS => crate::chaos::child(&dir),
        CRASH => crash::crash_child(&ground(&crash(), &name, &dir)),
        LIVE => live::live_child(&ground(&live(), &name, &dir)),
        SUBSCRIBE => live::subscribe_child(&ground(&subscribe(), &name, &dir)),
        QUERY => query::index_child(&ground(&query(), &name, &dir)),
        LINEAR => linear::linear_child(&ground(&linear(), &name, &dir), &dir),
        _ => combinations::engine_child(&name, &dir),
    }
    true
}

fn ground(all: &[Combination<Ground>], name: &str, dir: &Path) -> std::sync::Arc<Ground> {
    let one = all.iter().find(|one| one.factory.name() == name).expect("a known combination");
    one.factory.open(dir).expect("a ground is only a directory")
}

/// Nodes as processes, each on a store of its own.
pub(super) fn chaos() -> Vec<Combination<crate::chaos::Field>> {
    const NAME: &str = "hub+relay+edges";
    let factory =
        crate::Factory::new(NAME, |_: &Path| Ok(std::sync::Arc::new(crate::chaos::Field)))
            .offers(&[Need::Platform, Need::Replication])
            .child(|dir| combinations::child_command(CHAOS, NAME, dir));
    vec![Combination { factory, compiled: cfg!(all(feature = "wire", feature = "every-engine")) }]
}
