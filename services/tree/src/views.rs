//! The views that are open: which revs they read at, so that the versions they need stay.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use trellis_engine_traits::Result;

use crate::refusal::closed;
use crate::zoning::Zoning;

/// What the views of a tree share.
#[derive(Debug)]
pub(crate) struct Views {
    /// Revs of open views, counted.
    pub(crate) revs: Mutex<BTreeMap<u64, usize>>,
    /// The tree was closed.
    pub(crate) closed: AtomicBool,
    /// How the tree is divided for replication.
    pub(crate) zoning: Option<Arc<dyn Zoning>>,
}

impl Views {
    pub(crate) fn new(zoning: Option<Arc<dyn Zoning>>) -> Arc<Self> {
        Arc::new(Self { revs: Mutex::default(), closed: AtomicBool::new(false), zoning })
    }

    /// # Errors
    /// `Closed`.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(closed()) } else { Ok(()) }
    }

    /// Keeps the versions that can be seen at this rev or later; they have to be there.
    pub(crate) fn open(&self, at: u64) {
        *self.revs.lock().entry(at).or_default() += 1;
    }

    pub(crate) fn close(&self, at: u64) {
        let mut revs = self.revs.lock();
        if let Some(count) = revs.get_mut(&at) {
            *count -= 1;
            if *count == 0 {
                revs.remove(&at);
            }
        }
    }

    /// The oldest rev that a view reads at.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.revs.lock().first_key_value().map(|(rev, _)| *rev)
    }
}
