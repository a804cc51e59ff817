//! [`Store`]: what sessions ask of their node's tree, done for real. Blocking.

use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::Tree;

use crate::session::Now;
use crate::slots::SlotOptions;
use crate::task::{Task, TaskOutcome};

/// A tree and its slots. One for each node; all sessions share it.
#[derive(Debug)]
pub struct Store {
    tree: Tree,
    options: SlotOptions,
}

impl Store {
    /// Takes up the slots that are in the tree, and holds the journal for them.
    ///
    /// # Errors
    /// Those of reading.
    pub fn open(tree: Tree, options: SlotOptions) -> Result<Self> {
        Ok(Self { tree, options })
    }

    /// The tree.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Does a task. Blocks: an `Apply` until it is durable.
    pub fn execute(&self, now: Now, task: Task) -> TaskOutcome {
        let _ = (now, task, &self.options);
        TaskOutcome::Failed(Error::new(ErrorKind::Unsupported, "not yet"))
    }
}
