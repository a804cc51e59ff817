//! [`AsyncTrellis`]: the same calls for async code, under any executor.
//!
//! Invariant: no call blocks the executor. Reads run on the runtime's threads, writes wait for the
//! commit pipeline without a thread.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use trellis_engine_traits::Result;
use trellis_tree::{Children, Commit, CommitError, Committed, Operation, Path};

use crate::encode::IntoPath;
use crate::handle::{self, Trellis};
use crate::transaction::{self, Next};

/// An open database for async code. Clones are cheap and share it.
///
/// Each call does what the call of the same name on [`Trellis`] does, with the same errors. A write
/// is submitted when it is first polled; from then on dropping the future does not take it back.
///
/// ```
/// # fn block_on<F: Future>(future: F) -> F::Output {
/// #     let waker = std::task::Waker::noop();
/// #     let mut context = std::task::Context::from_waker(waker);
/// #     let mut future = std::pin::pin!(future);
/// #     loop {
/// #         if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
/// #             return output;
/// #         }
/// #         std::thread::yield_now();
/// #     }
/// # }
/// # block_on(async {
/// let db = trellis::Trellis::memory()?.asynchronous();
/// db.set("greeting", "hello").await?;
/// assert_eq!(db.get("greeting").await?, "hello");
/// # Ok::<(), trellis::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct AsyncTrellis {
    db: Trellis,
}

impl Trellis {
    /// The same database for async code, under any executor.
    #[must_use]
    pub fn asynchronous(&self) -> AsyncTrellis {
        AsyncTrellis::new(self.clone())
    }
}

impl AsyncTrellis {
    pub(crate) fn new(db: Trellis) -> Self {
        Self { db }
    }

    /// The same database for threads that may block.
    #[must_use]
    pub fn blocking(&self) -> &Trellis {
        &self.db
    }

    /// The value at a path, `null` where there is none.
    ///
    /// # Errors
    /// As for [`Trellis::get`]; `Busy` when too many calls wait for the runtime's threads.
    pub async fn get(&self, path: impl IntoPath) -> Result<Value> {
        self.read(path.into_path()?, |db, path| db.get(path)).await
    }

    /// The value at a path as a type of one's own, `None` where there is none.
    ///
    /// # Errors
    /// As for [`Trellis::get_as`], and `Busy`.
    pub async fn get_as<T>(&self, path: impl IntoPath) -> Result<Option<T>>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.read(path.into_path()?, |db, path| db.get_as(path)).await
    }

    /// Whether there is a value at a path.
    ///
    /// # Errors
    /// As for [`Trellis::exists`], and `Busy`.
    pub async fn exists(&self, path: impl IntoPath) -> Result<bool> {
        self.read(path.into_path()?, |db, path| db.exists(path)).await
    }

    /// The next children of a path in key order, without their values.
    ///
    /// # Errors
    /// As for [`Trellis::children`], and `Busy`.
    pub async fn children(
        &self,
        path: impl IntoPath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Children> {
        let after = after.map(str::to_owned);
        self.read(path.into_path()?, move |db, path| db.children(path, after.as_deref(), limit))
            .await
    }

    /// Replaces the value at a path; `null` removes it. Answers the commit's number.
    ///
    /// # Errors
    /// As for [`Trellis::set`].
    pub async fn set(&self, path: impl IntoPath, value: impl Serialize) -> Result<u64> {
        let operation = handle::set_operation(path, &value);
        drop(value);
        self.write(operation?).await
    }

    /// Writes several paths as one commit: all or nothing.
    ///
    /// # Errors
    /// As for [`Trellis::update`].
    pub async fn update<P: IntoPath, V: Serialize>(
        &self,
        updates: impl IntoIterator<Item = (P, V)>,
    ) -> Result<u64> {
        let operation = handle::update_operation(updates)?;
        self.write(operation).await
    }

    /// Removes a path and everything below.
    ///
    /// # Errors
    /// As for [`Trellis::delete`].
    pub async fn delete(&self, path: impl IntoPath) -> Result<u64> {
        self.write(Operation::Delete { path: path.into_path()? }).await
    }

    /// Adds a child under a new key that sorts after all earlier ones, and answers the key.
    ///
    /// # Errors
    /// As for [`Trellis::push`].
    pub async fn push(&self, path: impl IntoPath, value: impl Serialize) -> Result<String> {
        let operation = handle::push_operation(path, &value);
        drop(value);
        let committed = self.commit(Commit::new(vec![operation?])).await;
        handle::pushed_key(committed.map_err(|refused| refused.error)?)
    }

    /// Commits conditions and operations as one.
    ///
    /// # Errors
    /// As for [`Trellis::commit`].
    pub async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        self.db.tree().submit(commit).await
    }

    /// Reads a value, changes it, and writes it if nobody else has in the meantime.
    ///
    /// # Errors
    /// As for [`Trellis::transaction`].
    pub async fn transaction<F>(&self, path: impl IntoPath, mut change: F) -> Result<Committed>
    where
        F: FnMut(Value) -> Result<Value> + Send + 'static,
    {
        let path = path.into_path()?;
        for tried in 0..transaction::TRIES_MAX {
            let prepared = self.read(path.clone(), move |db, path| {
                transaction::prepare(db, path, &mut change).map(|commit| (commit, change))
            });
            let (commit, unused) = prepared.await?;
            change = unused;
            match transaction::next(&self.db, tried, self.commit(commit).await) {
                Next::Done(outcome) => return outcome,
                Next::Pause(pause) => self.pause(pause).await?,
            }
        }
        Err(transaction::exhausted())
    }

    /// Makes everything durable and gives the files free.
    ///
    /// # Errors
    /// As for [`Trellis::close`].
    pub async fn close(&self) -> Result<()> {
        let db = self.db.clone();
        self.db.runtime().run(move || db.close()).await
    }

    async fn read<T, F>(&self, path: Path, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Trellis, &Path) -> Result<T> + Send + 'static,
    {
        let db = self.db.clone();
        self.db.runtime().run(move || read(&db, &path)).await
    }

    /// No executor's timer is known here, so a thread of the runtime waits.
    async fn pause(&self, pause: std::time::Duration) -> Result<()> {
        let waited = self.db.runtime().run(move || {
            std::thread::sleep(pause);
            Ok(())
        });
        waited.await
    }

    async fn write(&self, operation: Operation) -> Result<u64> {
        let committed = self.commit(Commit::new(vec![operation])).await;
        committed.map(|committed| committed.rev).map_err(|refused| refused.error)
    }
}
