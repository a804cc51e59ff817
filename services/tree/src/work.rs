//! What the pipeline is asked to do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::commit::Commit;
use crate::pending::AppliedSlot;
use crate::stamp::RemoteCommit;

/// What the pipeline is asked to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// A caller's commit.
    Commit(Commit),
    /// Remove what is due.
    Expire,
    /// Forget idempotency keys that are old enough.
    ForgetKeys,
    /// Forget stamps of what is gone: their keys and revs.
    Collect(Vec<(Bytes, u64)>),
    /// Another node's commit.
    Remote(Box<RemoteWork>),
}

/// Another node's commit on its way.
#[derive(Debug)]
pub(crate) struct RemoteWork {
    pub(crate) commit: RemoteCommit,
    /// Where what came of it is noted.
    pub(crate) applied: AppliedSlot,
    /// Those it stands on, and its place among them.
    pub(crate) chain: Arc<Chained>,
    pub(crate) at: usize,
}

impl Work {
    /// It is not applied: what stands on it is not either.
    pub(crate) fn tear(&self) {
        if let Self::Remote(remote) = self {
            remote.chain.tear(remote.at);
        }
    }
}

/// Commits of which each stands on those before it.
#[derive(Debug)]
pub(crate) struct Chained {
    /// The first of them that is not applied.
    torn_at: AtomicUsize,
    /// How often resolved commits had been taken back when its first one was resolved.
    rollbacks: OnceLock<u64>,
}

impl Default for Chained {
    fn default() -> Self {
        Self { torn_at: AtomicUsize::new(usize::MAX), rollbacks: OnceLock::new() }
    }
}

impl Chained {
    /// This one is not applied.
    pub(crate) fn tear(&self, at: usize) {
        self.torn_at.fetch_min(at, Ordering::AcqRel);
    }

    /// Refuses one where one before it is not there, or may not be any more.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn check(&self, at: usize, rollbacks: u64) -> Result<()> {
        let before = *self.rollbacks.get_or_init(|| rollbacks);
        if before == rollbacks && at <= self.torn_at.load(Ordering::Acquire) {
            return Ok(());
        }
        let message = "a commit that this one stands on was not applied";
        Err(Error::new(ErrorKind::Unavailable, message).operation("apply_remote"))
    }
}
