//! [`Hold`]: a connection's lease.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use trellis_engine_traits::Result;

use crate::beat::{Beat, moment_ms};
use crate::desk::Desk;
use crate::key::Key;
use crate::options::check_ttl;
use crate::request::{Ended, InfoAnswer, LeaseInfo, Pending, Request, Stored, pending};
use crate::write::LeaseWrite;

/// A lease that a connection holds. Until it is announced or something is stored with it, nobody
/// else knows of it and it costs nothing.
///
/// Dropped without [`Hold::end`] it is silent from then on: without stored writes it is gone, with
/// them it ends when its time is over, unless somebody takes it over before.
pub struct Hold {
    desk: Arc<Desk>,
    id: String,
    key: Key,
    beat: Arc<Beat>,
    /// Whether the worker was told of it, and has to be told of its end.
    is_known: AtomicBool,
}

impl Hold {
    pub(crate) fn new(desk: Arc<Desk>, id: String) -> Result<Self> {
        let key = Key::of(&id)?;
        let ttl_ms = u64::try_from(desk.options.ttl_default.as_millis()).unwrap_or(u64::MAX);
        let beat = Arc::new(Beat::new(moment_ms(desk.clock.as_ref()), ttl_ms));
        Ok(Self { desk, id, key, beat, is_known: AtomicBool::new(false) })
    }

    /// Its id: a secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How long it lasts after it was last heard of, as far as is known here.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        Duration::from_millis(self.beat.ttl_ms())
    }

    /// Whether it ended, or was taken over: it stands for no lease any more.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.beat.is_ended()
    }

    /// It was heard of now. One atomic store.
    pub fn renew(&self) {
        self.beat.touch(moment_ms(self.desk.clock.as_ref()));
    }

    /// Makes the lease known, so that its id can be given away, and sets its time to live.
    ///
    /// # Errors
    /// `InvalidInput` for a time to live outside its bounds, `Busy` at the limit of leases,
    /// `NotFound` when it ended; those of a commit when it has stored writes.
    ///
    /// # Durability
    /// In memory only as long as nothing is stored with it.
    pub fn announce(&self, ttl: Option<Duration>) -> Pending<LeaseInfo> {
        self.attach(ttl, false)
    }

    pub(crate) fn attach(&self, ttl: Option<Duration>, take: bool) -> Pending<LeaseInfo> {
        let ttl_ms = match ttl.map(check_ttl).transpose() {
            Ok(ttl_ms) => ttl_ms,
            Err(error) => {
                if take {
                    self.beat.end();
                }
                return Pending::refused(error);
            }
        };
        let (answer, pending) = pending();
        let answer = InfoAnswer { id: self.id.clone(), answer };
        let beat = Arc::clone(&self.beat);
        let request = Request::Attach { key: self.key, beat, ttl_ms, take, answer };
        if self.desk.shared.send(request) {
            self.is_known.store(true, Ordering::Release);
        } else if take {
            // Not known to the worker, it must never pass for a new lease of this id.
            self.beat.end();
        }
        pending
    }

    /// Stores or cancels a write for the end of the lease.
    ///
    /// # Errors
    /// `Denied` for system paths, `InvalidInput` for what could never be committed, `TooLarge`
    /// beyond a limit, `NotFound` when the lease ended, `Busy` at the limit of leases; those of a
    /// commit. Nothing is stored then, except after `OutcomeUnknown`.
    ///
    /// # Durability
    /// Durable, by the tree's policy for `_leases`, when it is answered.
    ///
    /// # Cost
    /// One commit, shared with whatever else is stored at the time.
    pub fn store(&self, write: LeaseWrite) -> Pending<Stored> {
        self.is_known.store(true, Ordering::Release);
        self.desk.store(self.key, Some(Arc::clone(&self.beat)), write)
    }

    /// Ends the lease: its writes run now.
    ///
    /// # Errors
    /// `NotFound` when it ended already. Whatever else is answered, the lease has ended, and what
    /// could not run (`Unavailable`, `storage_full`) is tried again until it has.
    pub fn end(self) -> Pending<Ended> {
        let (answer, pending) = pending();
        self.is_known.store(false, Ordering::Release);
        let beat = Some(Arc::clone(&self.beat));
        self.desk.shared.send(Request::End { key: self.key, beat, answer: Some(answer) });
        pending
    }

    /// As [`Hold::end`], without an answer, and even when too many requests wait.
    pub fn say_goodbye(self) {
        if self.is_known.swap(false, Ordering::AcqRel) {
            let beat = Some(Arc::clone(&self.beat));
            self.desk.shared.send(Request::End { key: self.key, beat, answer: None });
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.is_known.load(Ordering::Acquire) {
            let beat = Arc::clone(&self.beat);
            self.desk.shared.send(Request::Release { key: self.key, beat });
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The id is a secret.
        f.debug_struct("Hold").field("key", &self.key).finish_non_exhaustive()
    }
}
