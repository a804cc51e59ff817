//! [`Store`]: what sessions ask of their node's tree, done for real. Blocking.

use bytes::Bytes;
use trellis_engine_traits::{ErrorKind, Result};
use trellis_tree::{Commit, Input, Operation, Path, RemoteApplied, RemoteCommit, Scope, Tree};

use crate::event::Now;
use crate::kept::Kept;
use crate::position::FeedPosition;
use crate::reads;
use crate::slots::{SlotOptions, Slots};
use crate::tails::Tails;
use crate::task::{PageRead, Task, TaskOutcome};

/// A tree and its slots. One for each node; all sessions share it.
///
/// ```
/// use std::sync::Arc;
/// use trellis_kv_memory::MemoryKv;
/// use trellis_log_memory::MemoryLog;
/// use trellis_runtime::Runtime;
/// use trellis_topology::{Now, SlotOptions, Store, Task, TaskOutcome, Topology, TopologySpec};
/// use trellis_tree::{Tree, TreeOptions};
///
/// let topology = Topology::compile(&TopologySpec::default())?;
/// let options = TreeOptions { zoning: Some(topology.zoning()), ..TreeOptions::default() };
/// let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()));
/// let tree = Tree::open(kv, log, Runtime::system(), options)?;
/// let store = Store::open(tree, SlotOptions::default())?;
/// let task = Task::LoadPosition { feed: "upstream".into() };
/// let outcome = store.execute(Now::default(), task);
/// assert!(matches!(outcome, TaskOutcome::Position(None)), "nothing is followed yet");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Store {
    tree: Tree,
    /// Whether positions are of no use that are still there, for lack of room to remove them.
    void_positions: bool,
    pub(crate) slots: Slots,
    tails: Tails,
}

impl Store {
    /// Takes up the slots that are in the tree, and holds the journal for them. Slots of the node
    /// that this tree was restored from go, and so do the positions of all feeds when the tree was
    /// written without stamps meanwhile: what was followed may have changed.
    ///
    /// # Errors
    /// Those of the tree.
    pub fn open(tree: Tree, options: SlotOptions) -> Result<Self> {
        let void_positions = match forget_positions(&tree) {
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                tracing::warn!(%error, "feeds begin anew at each start until there is room");
                true
            }
            forgotten => forgotten.map(|()| false)?,
        };
        let slots = Slots::open(tree.clone(), tree.node_id(), options)?;
        Ok(Self { tree, void_positions, slots, tails: Tails::default() })
    }

    /// The tree.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// This node's id, which is that of its log.
    #[must_use]
    pub fn node(&self) -> u128 {
        self.slots.node
    }

    /// What of it an operator sees and acts on.
    pub(crate) fn kept(&self) -> Kept {
        Kept::new(self.tree.clone())
    }

    /// Does a task. Blocks: an `Apply` until it is durable.
    pub fn execute(&self, now: Now, task: Task) -> TaskOutcome {
        let outcome = match task {
            Task::OpenSlot(wanted) => return self.slots.open_slot(&wanted, now),
            Task::LoadPosition { feed } => self.load(&feed).map(TaskOutcome::Position),
            Task::BeginAnew { feed } => self.kept().begin_anew(&feed).map(|()| TaskOutcome::Done),
            Task::SavePosition { feed, position } => self.save(&feed, position),
            Task::ReadPage { scope, start, items_max, bytes_max } => {
                let page = reads::page(&self.tree, &scope, &start, items_max, bytes_max);
                page.map(TaskOutcome::Page)
            }
            Task::ReadDelta { scope, after, start, items_max, bytes_max } => {
                self.delta(&scope, after, start, items_max, bytes_max)
            }
            Task::ReadTail { scope, after, peer, bytes_max } => {
                match self.tails.read(&self.tree, scope, after, peer, bytes_max) {
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(TaskOutcome::TailGone),
                    read => read.map(TaskOutcome::Tail),
                }
            }
            Task::AckSlot { consumer, at, applied, settled } => {
                let valid = self.slots.acknowledge(&consumer, at, applied, settled, now);
                valid.map(|valid| if valid { TaskOutcome::Done } else { TaskOutcome::TailGone })
            }
            Task::Filled { consumer } => {
                self.slots.table.lock().places.leave(&consumer);
                Ok(TaskOutcome::Done)
            }
            Task::CloseSlot { consumer } => {
                self.slots.close(&consumer, now).map(|()| TaskOutcome::Done)
            }
            Task::Apply { commits } => self.apply(commits).map(TaskOutcome::Applied),
            Task::SetAside { feed, id, scope } => {
                crate::set_aside::copy(&self.tree, &feed, &id, &scope).map(TaskOutcome::SetAside)
            }
            Task::HashAt { rev } => self.hash(rev),
            Task::Digest { scope, local_prefix } => self.digest(&scope, &local_prefix),
            Task::ReadBuckets { scope, local_prefix, buckets, start, bytes_max } => {
                self.buckets(&scope, &local_prefix, &buckets, &start, bytes_max)
            }
        };
        outcome.unwrap_or_else(TaskOutcome::Failed)
    }

    /// A page of what changed, unless something of it may be gone by now: whoever lost its slot
    /// meanwhile is not waited for.
    fn delta(
        &self,
        scope: &Scope,
        after: u64,
        start: Option<Bytes>,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<TaskOutcome> {
        let page = reads::delta(&self.tree, scope, after, start, items_max, bytes_max)?;
        let gone = after < self.tree.gc_floor()?;
        Ok(if gone { TaskOutcome::TailGone } else { TaskOutcome::Page(page) })
    }

    /// Submits all, so that they share flushes, and waits for each.
    fn apply(&self, commits: Vec<RemoteCommit>) -> Result<Vec<RemoteApplied>> {
        let pending = self.tree.submit_remotes(commits);
        // All are waited for, also behind one that failed: what is under way is known then.
        let results: Vec<_> = pending.into_iter().map(trellis_tree::PendingRemote::wait).collect();
        results.into_iter().collect()
    }

    fn load(&self, feed: &str) -> Result<Option<FeedPosition>> {
        if self.void_positions {
            return Ok(None);
        }
        self.kept().position(feed)
    }

    fn save(&self, feed: &str, position: FeedPosition) -> Result<TaskOutcome> {
        let (path, value) = position.note(feed)?;
        self.tree.commit(Commit { system: true, ..Commit::set(path, value) })?;
        Ok(TaskOutcome::Position(Some(position)))
    }

    fn hash(&self, rev: u64) -> Result<TaskOutcome> {
        let head = self.tree.position().rev;
        let hash = if rev <= head { self.tree.hash_at(rev)? } else { None };
        Ok(TaskOutcome::Hash { head, hash })
    }

    fn digest(&self, scope: &Scope, local_prefix: &Bytes) -> Result<TaskOutcome> {
        let (digest, buckets) = reads::digest(&self.tree, scope, local_prefix)?;
        Ok(TaskOutcome::Digest { digest, buckets })
    }

    fn buckets(
        &self,
        scope: &Scope,
        local_prefix: &Bytes,
        buckets: &[u8],
        start: &Bytes,
        bytes_max: usize,
    ) -> Result<TaskOutcome> {
        let page: PageRead =
            reads::buckets(&self.tree, scope, local_prefix, buckets, start, bytes_max)?;
        Ok(TaskOutcome::Page(page))
    }
}

/// Removes the positions of feeds if they are from before the tree was written without stamps:
/// `_repl/stamped` says since when it was stamped when they were written.
fn forget_positions(tree: &Tree) -> Result<()> {
    let note = Path::from_segments(["_repl", "stamped"])?;
    let since = tree.stamped_since().oldest;
    if tree.view()?.get(&note)?.as_u64().unwrap_or(0) == since {
        return Ok(());
    }
    let value = Input::from_json(since.into())?;
    let operations = vec![
        Operation::Delete { path: Path::from_segments(["_repl", "feeds"])? },
        Operation::Set { path: note, value, expiry: None },
    ];
    tree.commit(Commit { system: true, operations, ..Commit::default() })?;
    Ok(())
}
