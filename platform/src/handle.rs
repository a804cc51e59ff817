//! [`Trellis`]: an open database, and its calls for threads that may block.
//!
//! Deliberately absent: anything that the tree does itself. This is the tree with engines behind it
//! and a host's types before it.

use std::fmt;
use std::path::Path as FilePath;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_presence::Presence;
use trellis_runtime::Runtime;
use trellis_subscribe::{Live, LiveStats};
use trellis_tree::{
    Children, Commit, CommitError, Committed, Input, Operation, Path, Tree, TreeStats, WritePause,
};

use crate::config::Config;
use crate::description::Description;
use crate::encode::{self, IntoPath};
use crate::open::Open;
use crate::replication::{Linking, Replication};

/// An open database. Clones are cheap and share it.
///
/// Every call may block on the disk: from async code use [`Trellis::asynchronous`].
///
/// # Closing
/// [`Trellis::close`] waits for what was submitted, makes it durable and gives the files free, and
/// tells whether that worked. When the last handle is dropped without it, the same happens and a
/// failure is only logged. Nothing that was acknowledged depends on either: a process may end at
/// any point.
///
/// ```
/// use serde_json::json;
/// use trellis::Trellis;
///
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path();
/// let db = Trellis::open(directory)?;
/// db.set("users/u1", json!({"name": "Alice", "age": 33}))?;
/// assert_eq!(db.get("users/u1/name")?, json!("Alice"));
/// assert_eq!(db.get_as::<u32>("users/u1/age")?, Some(33));
/// db.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Trellis(Arc<Open>);

impl Trellis {
    /// Opens the database in this directory, and creates it if there is none.
    ///
    /// # Errors
    /// `Locked` while another process, or another handle of this one, has it open; `Denied`,
    /// `Unavailable` when the directory cannot be written; `InvalidInput` when it was made with
    /// other engines; `Unsupported` when a newer version made it, or this build lacks the engines;
    /// `Corrupt` when stored bytes are damaged.
    ///
    /// # Cost
    /// Replays what the journal holds beyond the store: milliseconds after a clean close.
    pub fn open(directory: impl AsRef<FilePath>) -> Result<Self> {
        Self::open_config(Config::in_directory(directory.as_ref()))
    }

    /// Opens an empty database in memory. It needs no directory and ends with its last handle.
    ///
    /// # Errors
    /// `Unavailable` when the system gives no threads.
    pub fn memory() -> Result<Self> {
        Self::open_config(Config::memory())
    }

    /// Opens the database that a configuration describes.
    ///
    /// # Errors
    /// As for [`Trellis::open`]; also `InvalidInput` for a URL or a limit that makes no sense.
    pub fn open_config(config: Config) -> Result<Self> {
        Self::open_with(config, Runtime::system())
    }

    /// Opens a database on a runtime of one's own: a simulated clock, a seed, more threads.
    ///
    /// # Errors
    /// As for [`Trellis::open_config`].
    pub fn open_with(config: Config, runtime: Arc<Runtime>) -> Result<Self> {
        Self::open_as(config, runtime, false, &Linking::Transport)
    }

    pub(crate) fn open_as(
        config: Config,
        runtime: Arc<Runtime>,
        paused: bool,
        linking: &Linking,
    ) -> Result<Self> {
        Ok(Self(Arc::new(Open::all(config, runtime, paused, linking)?)))
    }

    /// The value at a path, `null` where there is none.
    ///
    /// # Errors
    /// `InvalidInput` for a text that is no path; `Corrupt`, `Unavailable`, `Closed`.
    ///
    /// # Cost
    /// Reads the whole value into memory: page a large one with [`Trellis::children`].
    pub fn get(&self, path: impl IntoPath) -> Result<Value> {
        self.0.tree.view()?.get(&path.into_path()?)
    }

    /// The value at a path as a type of one's own, `None` where there is none.
    ///
    /// # Errors
    /// As for [`Trellis::get`]; `InvalidInput` when the value does not fit the type.
    ///
    /// ```
    /// #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    /// struct User { name: String }
    ///
    /// let db = trellis::Trellis::memory()?;
    /// db.set("users/u1", User { name: "Alice".into() })?;
    /// assert_eq!(db.get_as::<User>("users/u1")?, Some(User { name: "Alice".into() }));
    /// assert_eq!(db.get_as::<User>("users/u2")?, None);
    /// # Ok::<(), trellis::Error>(())
    /// ```
    pub fn get_as<T: DeserializeOwned>(&self, path: impl IntoPath) -> Result<Option<T>> {
        let json = self.0.tree.view()?.get_json(&path.into_path()?, usize::MAX)?;
        encode::decode(&json)
    }

    /// Whether there is a value at a path.
    ///
    /// # Errors
    /// As for [`Trellis::get`].
    pub fn exists(&self, path: impl IntoPath) -> Result<bool> {
        self.0.tree.view()?.exists(&path.into_path()?)
    }

    /// The next children of a path in key order, without their values.
    ///
    /// # Errors
    /// As for [`Trellis::get`].
    ///
    /// ```
    /// let db = trellis::Trellis::memory()?;
    /// db.set("letters", serde_json::json!({"a": 1, "b": 2, "c": 3}))?;
    /// let page = db.children("letters", None, 2)?;
    /// assert_eq!(page.items.iter().map(|child| &*child.key).collect::<Vec<_>>(), ["a", "b"]);
    /// let page = db.children("letters", page.next.as_deref(), 2)?;
    /// assert_eq!(page.items.len(), 1);
    /// # Ok::<(), trellis::Error>(())
    /// ```
    pub fn children(
        &self,
        path: impl IntoPath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Children> {
        self.0.tree.view()?.children(&path.into_path()?, after, limit, None)
    }

    /// Replaces the value at a path; `null` removes it. Answers the commit's number.
    ///
    /// # Errors
    /// `InvalidInput` for a path or a value that the tree cannot hold (NaN among them), and for the
    /// root; `Denied` for the system's paths; `TooLarge`; `Busy`; `Unavailable`, `Closed`,
    /// `Poisoned`: nothing was changed. `OutcomeUnknown`: reading after a reopen tells.
    ///
    /// # Durability
    /// As configured: by default, durable when it returns.
    ///
    /// # Cost
    /// One flush, shared with every other commit that waits at the time.
    pub fn set(&self, path: impl IntoPath, value: impl Serialize) -> Result<u64> {
        self.write(set_operation(path, &value)?)
    }

    /// Writes several paths as one commit: all or nothing. Paths may not overlap.
    ///
    /// # Errors
    /// As for [`Trellis::set`].
    ///
    /// # Durability
    /// As for [`Trellis::set`].
    ///
    /// ```
    /// let db = trellis::Trellis::memory()?;
    /// db.update([("accounts/a/balance", 90), ("accounts/b/balance", 110)])?;
    /// assert_eq!(db.get_as::<i64>("accounts/b/balance")?, Some(110));
    /// # Ok::<(), trellis::Error>(())
    /// ```
    pub fn update<P: IntoPath, V: Serialize>(
        &self,
        updates: impl IntoIterator<Item = (P, V)>,
    ) -> Result<u64> {
        self.write(update_operation(updates)?)
    }

    /// Removes a path and everything below; that nothing is there is no error.
    ///
    /// # Errors
    /// As for [`Trellis::set`].
    ///
    /// # Durability
    /// As for [`Trellis::set`].
    pub fn delete(&self, path: impl IntoPath) -> Result<u64> {
        self.write(Operation::Delete { path: path.into_path()? })
    }

    /// Adds a child under a new key that sorts after all earlier ones, and answers the key.
    ///
    /// # Errors
    /// As for [`Trellis::set`].
    ///
    /// # Durability
    /// As for [`Trellis::set`].
    pub fn push(&self, path: impl IntoPath, value: impl Serialize) -> Result<String> {
        let committed = self.commit(Commit::new(vec![push_operation(path, &value)?]));
        pushed_key(committed.map_err(|refused| refused.error)?)
    }

    /// Commits conditions and operations as one.
    ///
    /// Where the paths are another node's (`replica`), that node commits it, and
    /// [`Committed::upstream`] says which commit it is there. The answer comes once it is applied
    /// here too, so that one reads what one wrote; after 2 s it comes all the same, and says that
    /// it is not. [`Trellis::set`] and the others do the same, and answer [`Committed::rev`].
    ///
    /// # Errors
    /// As for [`Trellis::set`]; `Conflict` with each failed condition and the current value.
    ///
    /// # Durability
    /// As for [`Trellis::set`].
    pub fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        self.0.tree.commit(commit)
    }

    /// The subscriptions of this database, for whoever hands many of them on, as a server does;
    /// [`Trellis::subscribe`] is for one. Started when it is first asked for.
    ///
    /// # Errors
    /// `Unavailable` when the system gives no thread.
    pub fn live(&self) -> Result<Live> {
        let mut live = self.0.live.lock();
        if let Some(live) = &*live {
            return Ok(live.clone());
        }
        let options = crate::options::live_options(&self.0.config);
        let started = Live::start(self.0.tree.clone(), &self.0.runtime, options)?;
        Ok(live.insert(started).clone())
    }

    /// Where the subscriptions stand; all zero while nobody has asked for one.
    #[must_use]
    pub fn live_stats(&self) -> LiveStats {
        self.0.live.lock().as_ref().map(Live::stats).unwrap_or_default()
    }

    /// The tree itself: snapshots, streaming reads, submissions that do not wait.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.0.tree
    }

    /// The clock, the randomness and the threads of this database.
    #[must_use]
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.0.runtime
    }

    /// The configuration that it was opened with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// What is open and what it promises.
    #[must_use]
    pub fn describe(&self) -> &Description {
        &self.0.description
    }

    /// Counters and positions of the moment, for metrics and status pages.
    ///
    /// # Errors
    /// `Closed`; `Unavailable` when the engines cannot say how much space they take.
    pub fn stats(&self) -> Result<TreeStats> {
        self.0.tree.stats()
    }

    pub(crate) fn compiled_topology(&self) -> Option<&trellis_topology::Topology> {
        self.0.topology.as_deref()
    }

    pub(crate) fn replication_part(&self) -> Option<&Replication> {
        self.0.replication.as_ref()
    }

    pub(crate) fn presence_slot(&self) -> &Mutex<Option<Presence>> {
        &self.0.presence
    }

    pub(crate) fn pause_slot(&self) -> &Mutex<Option<WritePause>> {
        &self.0.pause
    }

    /// Waits for what was submitted, makes it durable and gives the files free. Idempotent; every
    /// other call on any handle then answers `Closed`.
    ///
    /// # Errors
    /// The first failure; the database is closed all the same.
    pub fn close(&self) -> Result<()> {
        self.0.close()
    }

    fn write(&self, operation: Operation) -> Result<u64> {
        let committed = self.commit(Commit::new(vec![operation]));
        committed.map(|committed| committed.rev).map_err(|refused| refused.error)
    }
}

/// What it stands on; never what it holds.
impl fmt::Debug for Trellis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let description = self.describe();
        f.debug_struct("Trellis")
            .field("data", &description.data)
            .field("kv", &description.kv.url)
            .field("log", &description.log.url)
            .finish_non_exhaustive()
    }
}

pub(crate) fn set_operation<V>(path: impl IntoPath, value: &V) -> Result<Operation>
where
    V: Serialize + ?Sized,
{
    Ok(Operation::Set { path: path.into_path()?, value: encode::input(value)?, expiry: None })
}

pub(crate) fn push_operation<V>(path: impl IntoPath, value: &V) -> Result<Operation>
where
    V: Serialize + ?Sized,
{
    Ok(Operation::Push { path: path.into_path()?, value: encode::input(value)?, expiry: None })
}

pub(crate) fn update_operation<P: IntoPath, V: Serialize>(
    updates: impl IntoIterator<Item = (P, V)>,
) -> Result<Operation> {
    let updates = updates
        .into_iter()
        .map(|(path, value)| Ok((path.into_path()?, encode::input(&value)?)))
        .collect::<Result<Vec<(Path, Input)>>>()?;
    Ok(Operation::Update { updates, expiry: None })
}

pub(crate) fn pushed_key(committed: Committed) -> Result<String> {
    let result = committed.results.into_iter().next();
    result.and_then(|result| result.pushed).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "the commit answered no key for the push").operation("push")
    })
}
