//! Where a tree stands: its engines, opened as often as a case wants, its clock and its chance.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use trellis_engine_traits::{KvBackend, Result, StreamLog};
use trellis_runtime::{Runtime, RuntimeOptions, SeededRandom, SimulatedClock};
use trellis_tree::{Tree, TreeOptions};

use crate::Engine;

/// A store, and the log that holds the journal.
pub type Engines = (Arc<dyn KvBackend>, Arc<dyn StreamLog>);

type Open = Arc<dyn Fn() -> Result<Engines> + Send + Sync>;

/// What a tree stands on. Opening it again finds the same data; the clock stands until a case
/// moves it, and does not go back at a reopen.
pub struct Ground {
    open: Open,
    clock: Arc<SimulatedClock>,
    random: Arc<SeededRandom>,
    tree: Mutex<Option<Tree>>,
}

impl Ground {
    /// A ground whose engines `open` opens.
    #[must_use]
    pub fn new(open: Open) -> Self {
        Self {
            open,
            clock: Arc::new(SimulatedClock::at(1_700_000_000_000)),
            random: Arc::new(SeededRandom::new(7)),
            tree: Mutex::new(None),
        }
    }

    /// A ground in memory, for comparison.
    pub(crate) fn in_memory() -> Self {
        let kv = trellis_kv_memory::MemoryDisk::new();
        let log = trellis_log_memory::MemoryDisk::new();
        Self::new(Arc::new(move || {
            let kv = Arc::new(trellis_kv_memory::MemoryKv::on(&kv)?);
            Ok((kv as _, Arc::new(trellis_log_memory::MemoryLog::on(&log)?) as _))
        }))
    }

    /// The clock of every tree that is opened here.
    pub(crate) fn clock(&self) -> &SimulatedClock {
        &self.clock
    }

    /// A runtime with this ground's clock and chance.
    pub(crate) fn runtime(&self) -> Arc<Runtime> {
        let (clock, random) = (Arc::clone(&self.clock), Arc::clone(&self.random));
        Runtime::new(RuntimeOptions { clock, random, ..RuntimeOptions::default() })
    }

    /// The engines, without a tree.
    pub(crate) fn engines(&self) -> Result<Engines> {
        (self.open)()
    }

    /// Opens a tree that the caller closes.
    pub(crate) fn open(&self, options: TreeOptions) -> Result<Tree> {
        self.open_on(self.runtime(), options)
    }

    /// The same with another runtime.
    pub(crate) fn open_on(&self, runtime: Arc<Runtime>, options: TreeOptions) -> Result<Tree> {
        let (kv, log) = self.engines()?;
        let opened = Tree::open(Arc::clone(&kv), Arc::clone(&log), runtime, options);
        if opened.is_err() {
            drop(log.close().and(kv.close()));
        }
        opened
    }

    /// The open tree; opened with the default options at its first use.
    pub(crate) fn tree(&self) -> Tree {
        self.tree_with(TreeOptions::default())
    }

    /// The open tree; opened with these options if it is not.
    pub(crate) fn tree_with(&self, options: TreeOptions) -> Tree {
        let mut slot = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert_with(|| self.open(options).expect("the tree opens")).clone()
    }

    /// Closes the tree, and opens it again.
    pub(crate) fn reopen(&self) -> Tree {
        self.reopen_with(TreeOptions::default())
    }

    /// Closes the tree, and opens it again with these options.
    pub(crate) fn reopen_with(&self, options: TreeOptions) -> Tree {
        self.close().expect("the tree closes");
        self.tree_with(options)
    }

    /// Closes the tree and forgets it.
    pub(crate) fn close(&self) -> Result<()> {
        let tree = self.tree.lock().unwrap_or_else(PoisonError::into_inner).take();
        tree.map_or(Ok(()), |tree| tree.close())
    }
}

impl Engine for Ground {
    fn close_engine(&self) -> Result<()> {
        self.close()
    }
}

impl fmt::Debug for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ground").field("clock", &self.clock).finish_non_exhaustive()
    }
}
