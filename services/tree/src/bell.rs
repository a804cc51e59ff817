//! [`CommitBell`]: tells that something became visible, and nothing of what.
//!
//! For who reads the journal at its own pace: nothing waits here and nothing lags. A bell that was
//! not answered since it rang is not rung again, so a burst of commits costs writers one ring.

use std::fmt;
use std::sync::Arc;

use trellis_runtime::Alarm;

use crate::core::Core;
use crate::followers::Bell;
use crate::tree::Tree;

/// Rings an alarm when commits become visible. Dropping it ends that.
pub struct CommitBell {
    core: Arc<Core>,
    bell: Arc<Bell>,
}

impl Tree {
    /// Has an alarm rung whenever commits become visible, until the bell is dropped.
    ///
    /// # Cost
    /// For writers a short lock for each group, and a ring for the first group since
    /// [`CommitBell::take`].
    ///
    /// ```
    /// use std::sync::Arc;
    /// use trellis_kv_memory::MemoryKv;
    /// use trellis_log_memory::MemoryLog;
    /// use trellis_runtime::{Alarm, Runtime};
    /// use trellis_tree::{Commit, Input, Path, Tree, TreeOptions};
    ///
    /// let runtime = Runtime::system();
    /// let alarm = Alarm::new(runtime.clock().as_ref());
    /// let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()));
    /// let tree = Tree::open(kv, log, Arc::clone(&runtime), TreeOptions::default())?;
    /// let bell = tree.bell(Arc::clone(&alarm));
    /// assert!(!bell.take());
    /// tree.commit(Commit::set(Path::parse("a")?, Input::parse(b"1")?)).unwrap();
    /// alarm.wait(runtime.clock().as_ref(), None);
    /// assert!(bell.take() && !bell.take());
    /// # Ok::<(), trellis_engine_traits::Error>(())
    /// ```
    #[must_use]
    pub fn bell(&self, alarm: Arc<Alarm>) -> CommitBell {
        let core = Arc::clone(self.core());
        let bell = Arc::new(Bell::new(alarm));
        core.bells.lock().push(Arc::clone(&bell));
        CommitBell { core, bell }
    }
}

impl CommitBell {
    /// Whether something became visible since the last call. To be called before
    /// [`Tree::position`] is read: what comes after the call rings again.
    #[must_use]
    pub fn take(&self) -> bool {
        self.bell.take()
    }
}

impl Drop for CommitBell {
    fn drop(&mut self) {
        self.core.bells.lock().retain(|bell| !Arc::ptr_eq(bell, &self.bell));
    }
}

impl fmt::Debug for CommitBell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitBell").finish_non_exhaustive()
    }
}

impl Core {
    /// Something became visible, or the tree was closed.
    pub(crate) fn ring_bells(&self) {
        for bell in self.bells.lock().iter() {
            bell.ring();
        }
    }
}
