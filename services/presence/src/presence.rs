//! [`Presence`]: the leases of a database.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use trellis_engine_traits::Result;
use trellis_runtime::{Alarm, Runtime, Worker};
use trellis_tree::Tree;

use crate::beat::moment_ms;
use crate::desk::Desk;
use crate::hold::Hold;
use crate::key::{Key, new_id};
use crate::options::{PresenceOptions, check_ttl};
use crate::request::{Ended, InfoAnswer, LeaseInfo, Pending, Request, Shared, Stored, pending};
use crate::stats::PresenceStats;
use crate::worker;
use crate::write::LeaseWrite;

/// The leases of a database. Clones share them; the last one to go closes them.
///
/// ```
/// use std::sync::Arc;
/// use trellis_kv_memory::MemoryKv;
/// use trellis_log_memory::MemoryLog;
/// use trellis_presence::{LeaseWrite, Presence, PresenceOptions};
/// use trellis_runtime::Runtime;
/// use trellis_tree::{Path, Tree, TreeOptions};
///
/// let runtime = Runtime::system();
/// let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()));
/// let tree = Tree::open(kv, log, Arc::clone(&runtime), TreeOptions::default())?;
/// let presence = Presence::start(tree.clone(), runtime, PresenceOptions::default())?;
///
/// let path = Path::parse("status/alice")?;
/// let lease = presence.hold()?;
/// let json = serde_json::from_str(r#""offline""#)?;
/// lease.store(LeaseWrite::Set { path: path.clone(), json }).wait()?;
/// lease.end().wait()?;
/// assert_eq!(tree.view()?.get(&path)?, "offline");
///
/// presence.close();
/// tree.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Presence {
    handle: Arc<Handle>,
}

struct Handle {
    desk: Arc<Desk>,
    runtime: Arc<Runtime>,
    worker: Mutex<Option<Worker>>,
}

impl Presence {
    /// Starts the worker, which takes up the leases that are stored.
    ///
    /// Start it once for a tree: two would both run what is stored.
    ///
    /// # Errors
    /// `InvalidInput` for options that make no sense, `Unavailable` without another thread.
    pub fn start(tree: Tree, runtime: Arc<Runtime>, options: PresenceOptions) -> Result<Self> {
        options.check()?;
        // Half of a commit is for the writes, the rest for what they come to.
        let commit_bytes_max = tree.options().limits.commit_bytes_max;
        let bytes_max = options.bytes_max.min(commit_bytes_max / 2);
        let options = PresenceOptions { bytes_max, ..options };
        let clock = Arc::clone(runtime.clock());
        let alarm = Alarm::new(clock.as_ref());
        let shared = Arc::new(Shared::new(alarm, options.requests_max));
        let (own, own_tree, own_options) = (Arc::clone(&shared), tree.clone(), options.clone());
        let own_clock = Arc::clone(&clock);
        let worker = runtime.spawn_worker("presence", move || {
            worker::run(own, own_tree, own_clock, own_options);
        })?;
        let desk = Arc::new(Desk { shared, clock, tree, options });
        let worker = Mutex::new(Some(worker));
        Ok(Self { handle: Arc::new(Handle { desk, runtime, worker }) })
    }

    /// Makes a lease for somebody without a connection, who has to renew it.
    ///
    /// # Errors
    /// `InvalidInput` for a time to live outside its bounds, `Busy` at the limit of leases; those
    /// of a commit.
    ///
    /// # Durability
    /// Durable when it is answered.
    pub fn create(&self, ttl: Option<Duration>) -> Pending<LeaseInfo> {
        let desk = &self.handle.desk;
        let made = check_ttl(ttl.unwrap_or(desk.options.ttl_default)).and_then(|ttl_ms| {
            let id = new_id(self.handle.runtime.random().as_ref())?;
            Ok((ttl_ms, Key::of(&id)?, id))
        });
        let (ttl_ms, key, id) = match made {
            Ok(made) => made,
            Err(error) => return Pending::refused(error),
        };
        let (answer, pending) = pending();
        desk.shared.send(Request::Create { key, ttl_ms, answer: InfoAnswer { id, answer } });
        pending
    }

    /// Renews a lease.
    ///
    /// # Errors
    /// `NotFound` when it ended or never was; `Busy`, `Closed`.
    ///
    /// # Durability
    /// Noted durably within a third of its time to live.
    pub fn renew(&self, id: &str) -> Pending<LeaseInfo> {
        let desk = &self.handle.desk;
        let key = match Key::of(id) {
            Ok(key) => key,
            Err(error) => return Pending::refused(error),
        };
        let (answer, pending) = pending();
        let at_ms = moment_ms(desk.clock.as_ref());
        let answer = InfoAnswer { id: id.to_owned(), answer };
        desk.shared.send(Request::Renew { key, at_ms, answer });
        pending
    }

    /// Stores or cancels a write for the end of a lease, whoever holds it.
    ///
    /// # Errors
    /// As for [`Hold::store`].
    ///
    /// # Durability
    /// As for [`Hold::store`].
    pub fn store(&self, id: &str, write: LeaseWrite) -> Pending<Stored> {
        match Key::of(id) {
            Ok(key) => self.handle.desk.store(key, None, write),
            Err(error) => Pending::refused(error),
        }
    }

    /// Ends a lease, whoever holds it: its writes run now.
    ///
    /// # Errors
    /// As for [`Hold::end`].
    pub fn end(&self, id: &str) -> Pending<Ended> {
        let key = match Key::of(id) {
            Ok(key) => key,
            Err(error) => return Pending::refused(error),
        };
        let (answer, pending) = pending();
        let request = Request::End { key, beat: None, answer: Some(answer) };
        self.handle.desk.shared.send(request);
        pending
    }

    /// A lease of its own for a connection. In the caller's hands only, until it is announced or
    /// something is stored with it.
    ///
    /// # Errors
    /// `Unavailable` without randomness.
    pub fn hold(&self) -> Result<Hold> {
        let id = new_id(self.handle.runtime.random().as_ref())?;
        Hold::new(Arc::clone(&self.handle.desk), id)
    }

    /// Takes a lease over, e.g. after a reconnect: who held it before holds nothing from then on,
    /// and its writes do not run. The answer says whether that worked; if not, the hold is ended.
    ///
    /// # Errors
    /// `NotFound` for what can be no id; in the answer as for [`Hold::announce`].
    pub fn take_over(&self, id: &str, ttl: Option<Duration>) -> Result<(Hold, Pending<LeaseInfo>)> {
        let hold = Hold::new(Arc::clone(&self.handle.desk), id.to_owned())?;
        let pending = hold.attach(ttl, true);
        Ok((hold, pending))
    }

    /// The limits in force.
    #[must_use]
    pub fn options(&self) -> &PresenceOptions {
        &self.handle.desk.options
    }

    /// Where presence stands.
    #[must_use]
    pub fn stats(&self) -> PresenceStats {
        *self.handle.desk.shared.stats.lock()
    }

    /// Finishes what is under way and stops. Leases do not end by it: those that are stored go on
    /// when presence is started again. Idempotent; every later request is answered with `Closed`.
    pub fn close(&self) {
        self.handle.close();
    }
}

impl Handle {
    fn close(&self) {
        self.desk.shared.close();
        // A second caller waits for the first.
        let mut worker = self.worker.lock();
        if let Some(worker) = worker.take() {
            worker.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
