//! What was read of the journal for one follower is there for the next: followers of the same
//! scope get on in the same steps, and what a commit costs is spent once.
//!
//! Invariant: what is kept is of commits that survive loss of power, and bounded.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{Scope, StampedChange, StampedOp, Tree};

use crate::message::WireRecord;
use crate::project::{is_echo, relays};
use crate::reads::record;
use crate::task::TailRead;

/// Bytes kept. Followers that are apart by more read for themselves.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// Bytes of a stretch, of a commit and of an op, whatever is in them: what holds nothing takes room
/// too.
const STRETCH_BYTES: usize = 512;
const COMMIT_BYTES: usize = 96;
const OP_BYTES: usize = 64;

/// Commits behind one, projected onto a scope; for whoever follows it.
#[derive(Debug)]
struct Stretch {
    scope: Scope,
    after: u64,
    through: u64,
    hash: [u8; 16],
    commits: Vec<WireRecord>,
    /// In memory, about.
    bytes: usize,
}

/// The stretches that were read last, the oldest first, and their bytes.
#[derive(Debug, Default)]
struct Kept {
    stretches: VecDeque<Arc<Stretch>>,
    bytes: usize,
}

/// What was read last.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    kept: Mutex<Kept>,
}

impl Tails {
    /// Commits behind one for a peer: none that it wrote or relayed.
    pub(crate) fn read(
        &self,
        tree: &Tree,
        scope: Scope,
        after: u64,
        peer: u64,
        bytes_max: usize,
    ) -> Result<TailRead> {
        let head = tree.position().rev;
        let stretch = match self.kept(&scope, after, bytes_max) {
            Some(kept) => kept,
            None => self.keep(read(tree, scope, after, bytes_max)?),
        };
        let all = stretch.commits.iter();
        let commits: Vec<_> =
            all.filter(|commit| !is_echo(&commit.author, peer)).cloned().collect();
        let echoes = stretch.commits.len() - commits.len();
        Ok(TailRead {
            commits,
            through: stretch.through,
            hash: stretch.hash,
            head: head.max(stretch.through),
            echoes: u64::try_from(echoes).unwrap_or(0),
        })
    }

    fn kept(&self, scope: &Scope, after: u64, bytes_max: usize) -> Option<Arc<Stretch>> {
        let kept = self.kept.lock();
        let fits = |one: &&Arc<Stretch>| {
            one.after == after && one.bytes <= bytes_max && one.scope == *scope
        };
        kept.stretches.iter().rev().find(fits).cloned()
    }

    fn keep(&self, stretch: Stretch) -> Arc<Stretch> {
        let stretch = Arc::new(stretch);
        // What is not durable yet is asked for again.
        if stretch.through > stretch.after && stretch.bytes <= KEPT_BYTES_MAX {
            let mut kept = self.kept.lock();
            kept.bytes += stretch.bytes;
            kept.stretches.push_back(Arc::clone(&stretch));
            while kept.bytes > KEPT_BYTES_MAX
                && let Some(oldest) = kept.stretches.pop_front()
            {
                kept.bytes -= oldest.bytes;
            }
        }
        stretch
    }
}

fn read(tree: &Tree, scope: Scope, after: u64, bytes_max: usize) -> Result<Stretch> {
    let zoning = tree.options().zoning.clone().ok_or_else(unsupported)?;
    let (mut through, mut hash, mut commits, mut bytes) =
        (after, [0; 16], Vec::new(), scope_bytes(&scope));
    for commit in tree.read_commits(after, bytes_max)? {
        (through, hash) = (commit.position.rev, commit.position.hash);
        if relays(&commit.author, tree.origin()).is_none() {
            tracing::warn!(rev = through, "a commit passed too many nodes: it ends here");
        } else if let Some(record) = record(&commit, &scope, zoning.as_ref()) {
            bytes += COMMIT_BYTES + record.ops.iter().map(op_bytes).sum::<usize>();
            commits.push(record);
        }
    }
    Ok(Stretch { scope, after, through, hash, commits, bytes })
}

fn scope_bytes(scope: &Scope) -> usize {
    let keys = scope.within.iter().chain(&scope.except);
    STRETCH_BYTES + keys.map(|key| OP_BYTES + key.len()).sum::<usize>()
}

fn op_bytes(op: &StampedOp) -> usize {
    let stored = if let StampedChange::Put(stored) = &op.change { stored.len() } else { 0 };
    OP_BYTES + op.key.len() + stored
}

fn unsupported() -> Error {
    Error::new(ErrorKind::Unsupported, "this tree keeps no stamps: open it with a topology")
        .operation("replicate")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test may panic")]

    use bytes::Bytes;

    use super::*;
    use crate::store_tests::{hub, node};

    fn scope(prefix: &'static str) -> Scope {
        Scope { within: vec![Bytes::from_static(prefix.as_bytes())], except: Vec::new() }
    }

    /// Promise: what was read for one follower is what another would have read for itself: of its
    /// own scope, none of its own commits, and no more than it has credit for.
    #[test]
    fn what_is_kept_is_what_each_follower_would_read() {
        let hub = node(&hub());
        let (tree, tails) = (hub.store.tree(), Tails::default());
        hub.set("a/one", "1");
        hub.set("b/one", "2");
        hub.set("a/two", "3");
        let all = usize::MAX;
        let read = |prefix, after, peer| tails.read(tree, scope(prefix), after, peer, all).unwrap();
        let first = read("a", 0, 7);
        assert_eq!((first.commits.len(), first.through), (2, tree.position().rev));
        hub.set("a/three", "4");
        let second = read("a", 0, 8);
        assert_eq!((&second.commits, second.through), (&first.commits, first.through));
        assert_eq!(second.head, first.head + 1, "there is more");
        assert_eq!(read("a", first.through, 8).commits.len(), 1);
        assert_eq!(read("b", 0, 7).commits.len(), 1);
        let own = read("a", 0, tree.origin());
        assert_eq!((own.commits.len(), own.echoes), (0, 2));
        let small = tails.read(tree, scope("a"), 0, 7, 1).unwrap();
        assert!(small.through < first.through);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let hub = node(&hub());
        let (tree, tails) = (hub.store.tree(), Tails::default());
        let value = format!("\"{}\"", "x".repeat(KEPT_BYTES_MAX / 4));
        (0..6).for_each(|_| hub.set("a", &value));
        for after in 0..tree.position().rev {
            assert!(tails.read(tree, scope("a"), after, 7, 1).unwrap().through > after);
        }
        let stretches_max = KEPT_BYTES_MAX / STRETCH_BYTES;
        for _ in 0..=stretches_max {
            // Nothing that this follower is told.
            let after = tree.position().rev;
            hub.set("b", "1");
            assert!(tails.read(tree, scope("a"), after, 7, 1).unwrap().commits.is_empty());
        }
        assert!(tails.kept.lock().stretches.len() <= stretches_max);
        (0..6).for_each(|_| hub.set("a", &value));
        for after in tree.position().rev - 6..tree.position().rev {
            assert!(tails.read(tree, scope("a"), after, 7, 1).unwrap().through > after);
        }
        let kept = tails.kept.lock();
        let bytes: usize = kept.stretches.iter().map(|stretch| stretch.bytes).sum();
        assert!(kept.bytes == bytes && bytes <= KEPT_BYTES_MAX && kept.stretches.len() == 3);
    }
}
