//! [`Client`]: the operations of the protocol as calls.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, unconstrained};
use tokio::time::timeout;

use crate::answer::{Answer, Children, Hello, Written};
use crate::connection;
use crate::error::{ClientError, ClientErrorKind};
use crate::http::{self, Export, ExportFormat};
use crate::operation::{Condition, Expiry, Operation, WriteOptions};
use crate::options::ClientOptions;
use crate::pending::Shared;
use crate::target::Target;

/// A connection to a server, made anew whenever it is lost. Cheap to clone.
///
/// Every call waits for its place (`in_flight_requests_max`), is sent, and waits for its answer,
/// all within the deadline. A call that is dropped is forgotten; if it was a write, it may happen.
/// When the last clone is dropped the connection is closed.
///
/// ```no_run
/// # async fn example() -> Result<(), trellis_client::ClientError> {
/// use trellis_client::{Check, Client, ClientOptions, Condition, Operation};
///
/// let client = Client::connect("ws://127.0.0.1:4400/db", ClientOptions::default()).await?;
/// let free = Condition { path: "seats/7".to_owned(), check: Check::Exists(false) };
/// let taken = client.commit(&[free], &[Operation::set("seats/7", "Alice".into())], None).await;
/// if let Err(lost) = taken {
///     println!("taken by {}", lost.failed()[0].value);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    target: Target,
    task: Mutex<Option<JoinHandle<()>>>,
    /// Random, so that keys of different clients never meet.
    key_prefix: String,
    keys: AtomicU64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.closed.send_replace(true);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.handle.target.websocket).finish_non_exhaustive()
    }
}

/// A request without its id; absent fields are not written.
#[derive(Debug, Default, Serialize)]
struct Body<'a> {
    op: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updates: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operations: Option<&'a [Operation]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ops: Option<&'a [Operation]>,
    #[serde(rename = "if", skip_serializing_if = "Option::is_none")]
    conditions: Option<&'a [Condition]>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    expiry: Option<Expiry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<bool>,
}

impl Client {
    /// Connects to `ws://host:port/db`.
    ///
    /// # Errors
    /// `Invalid` for an address that is none, `Unreachable` when no server answers. Only this first
    /// connection fails; later ones are tried until the client is closed.
    pub async fn connect(url: &str, options: ClientOptions) -> Result<Self, ClientError> {
        let target = Target::parse(url)?;
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(|error| {
            ClientError::new(ClientErrorKind::Invalid, format!("no randomness: {error}"))
        })?;
        let key_prefix = format!("{:032x}", u128::from_le_bytes(random));
        let (socket, hello) = connection::connect(&target, &options).await?;
        let shared = Arc::new(Shared::new(options, hello));
        let driver = connection::drive(Arc::clone(&shared), target.clone(), socket);
        let task = Mutex::new(Some(tokio::spawn(driver)));
        let keys = AtomicU64::new(0);
        Ok(Self { handle: Arc::new(Handle { shared, target, task, key_prefix, keys }) })
    }

    /// Closes the connection of this client and all its clones; calls that wait end with `Closed`.
    pub async fn close(&self) {
        self.handle.shared.closed.send_replace(true);
        if let Some(task) = self.handle.task.lock().await.take() {
            // The task ends by itself; that it was aborted with its executor is as good.
            let _is_joined = task.await.is_ok();
        }
    }

    /// The value at `path`; `Value::Null` when there is none.
    ///
    /// # Errors
    /// `too_large` above the server's frame limit: page with [`Client::children`], or
    /// [`Client::export`].
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.call(&Body { op: "get", path: Some(path), ..Body::default() }).await?.read()
    }

    /// The JSON text of the value at `path`, unparsed.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_raw(&self, path: &str) -> Result<Box<RawValue>, ClientError> {
        let body = Body { op: "get", path: Some(path), ..Body::default() };
        Ok(self.call(&body).await?.data)
    }

    /// Whether there is a value at `path`.
    ///
    /// # Errors
    /// What the server answers, e.g. `invalid` for a path that is none.
    pub async fn exists(&self, path: &str) -> Result<bool, ClientError> {
        self.call(&Body { op: "exists", path: Some(path), ..Body::default() }).await?.read()
    }

    /// One page of the children of `path`, after the key `after`, at most `limit` (1 to 1,000).
    ///
    /// # Errors
    /// `invalid` for a limit outside that, `too_large` when not even one value fits a frame.
    pub async fn children(
        &self,
        path: &str,
        after: Option<&str>,
        limit: usize,
        values: bool,
    ) -> Result<Children, ClientError> {
        let body = Body {
            op: "children",
            path: Some(path),
            after,
            limit: Some(limit),
            values: Some(values),
            ..Body::default()
        };
        self.call(&body).await?.read()
    }

    /// Replaces what is at `path`; durable when this returns.
    ///
    /// # Errors
    /// What the server answers; nothing is changed then, except that after `Deadline` or
    /// `outcome_unknown` the write may have happened.
    pub async fn set<T: Serialize + ?Sized>(
        &self,
        path: &str,
        value: &T,
    ) -> Result<Written, ClientError> {
        self.set_with(path, value, WriteOptions::default()).await
    }

    /// As [`Client::set`], with an expiry or a key of one's own.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn set_with<T: Serialize + ?Sized>(
        &self,
        path: &str,
        value: &T,
        options: WriteOptions,
    ) -> Result<Written, ClientError> {
        let value = raw(value)?;
        let body = Body { op: "set", path: Some(path), value: Some(&value), ..Body::default() };
        Ok(written(&self.write(body, options).await?, vec![Value::Null]))
    }

    /// Sets many paths in one commit: a map of path to value.
    ///
    /// # Errors
    /// As [`Client::set`]; `invalid` when one path lies within another.
    pub async fn update<T: Serialize + ?Sized>(&self, updates: &T) -> Result<Written, ClientError> {
        self.update_with(updates, WriteOptions::default()).await
    }

    /// As [`Client::update`], with an expiry or a key of one's own.
    ///
    /// # Errors
    /// As [`Client::update`].
    pub async fn update_with<T: Serialize + ?Sized>(
        &self,
        updates: &T,
        options: WriteOptions,
    ) -> Result<Written, ClientError> {
        let updates = raw(updates)?;
        let body = Body { op: "update", updates: Some(&updates), ..Body::default() };
        Ok(written(&self.write(body, options).await?, vec![Value::Null]))
    }

    /// As [`Client::update`] over HTTP, whose body may be as large as a commit (16 MiB by default).
    ///
    /// Not in order with calls on the WebSocket that are still unanswered. Tried again after a lost
    /// connection, until the deadline.
    ///
    /// # Errors
    /// As [`Client::update`].
    pub async fn update_over_http<T: Serialize + ?Sized>(
        &self,
        updates: &T,
    ) -> Result<(), ClientError> {
        let body = Bytes::from(String::from(Box::<str>::from(raw(updates)?)));
        let key = self.next_key();
        let options = &self.handle.shared.options;
        let attempts = async {
            loop {
                match http::update(&self.handle.target, options, body.clone(), &key).await {
                    Err(error) if error.kind() == ClientErrorKind::Unreachable => {
                        tokio::time::sleep(options.backoff_min).await;
                    }
                    outcome => return outcome.map(|_answer| ()),
                }
            }
        };
        timeout(options.deadline, attempts).await.unwrap_or_else(|_elapsed| Err(late(options)))
    }

    /// Removes what is at `path`.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn delete(&self, path: &str) -> Result<Written, ClientError> {
        let body = Body { op: "delete", path: Some(path), ..Body::default() };
        Ok(written(&self.write(body, WriteOptions::default()).await?, vec![Value::Null]))
    }

    /// Adds a child of `path` and returns its id.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn push<T: Serialize + ?Sized>(
        &self,
        path: &str,
        value: &T,
    ) -> Result<String, ClientError> {
        self.push_with(path, value, WriteOptions::default()).await
    }

    /// As [`Client::push`], with an expiry or a key of one's own.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn push_with<T: Serialize + ?Sized>(
        &self,
        path: &str,
        value: &T,
        options: WriteOptions,
    ) -> Result<String, ClientError> {
        let value = raw(value)?;
        let body = Body { op: "push", path: Some(path), value: Some(&value), ..Body::default() };
        self.write(body, options).await?.read()
    }

    /// Many operations in one commit, all or nothing.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub async fn batch(&self, operations: &[Operation]) -> Result<Written, ClientError> {
        let body = Body { op: "batch", operations: Some(operations), ..Body::default() };
        let answer = self.write(body, WriteOptions::default()).await?;
        let results = answer.read()?;
        Ok(written(&answer, results))
    }

    /// Operations under conditions, all or nothing, in one round trip.
    ///
    /// # Errors
    /// `conflict` when a condition does not hold; [`ClientError::failed`] has the current values.
    pub async fn commit(
        &self,
        conditions: &[Condition],
        operations: &[Operation],
        key: Option<String>,
    ) -> Result<Written, ClientError> {
        #[derive(serde::Deserialize)]
        struct Results {
            results: Vec<Value>,
        }
        let body = Body {
            op: "commit",
            conditions: Some(conditions),
            ops: Some(operations),
            ..Body::default()
        };
        let answer = self.write(body, WriteOptions { expiry: None, key }).await?;
        let Results { results } = answer.read()?;
        Ok(written(&answer, results))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// How the server introduced itself when it was last connected.
    #[must_use]
    pub fn server(&self) -> Hello {
        self.handle.shared.hello()
    }

    /// Asks the server to introduce itself.
    ///
    /// # Errors
    /// `Deadline` without an answer in time.
    pub async fn hello(&self) -> Result<Hello, ClientError> {
        self.call(&Body { op: "hello", ..Body::default() }).await?.read()
    }

    /// Asks for any answer.
    ///
    /// # Errors
    /// `Deadline` without an answer in time.
    pub async fn ping(&self) -> Result<(), ClientError> {
        self.call(&Body { op: "ping", ..Body::default() }).await.map(|_answer| ())
    }

    /// The figures of tree and server.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn stats(&self) -> Result<Value, ClientError> {
        self.call(&Body { op: "stats", ..Body::default() }).await?.read()
    }

    /// Streams the subtree at `path` over HTTP, any size in flat memory, as of one commit.
    ///
    /// # Errors
    /// `Unreachable` without a connection; what the server answers.
    pub async fn export(&self, path: &str, format: ExportFormat) -> Result<Export, ClientError> {
        http::export(&self.handle.target, &self.handle.shared.options, path, format).await
    }

    async fn write(
        &self,
        mut body: Body<'_>,
        options: WriteOptions,
    ) -> Result<Answer, ClientError> {
        let key = options.key.unwrap_or_else(|| self.next_key());
        body.key = Some(&key);
        body.expiry = options.expiry;
        self.call(&body).await
    }

    /// Sends a request, a JSON object without an id, and waits for its answer.
    pub(crate) async fn call<T: Serialize>(&self, body: &T) -> Result<Answer, ClientError> {
        let text = serde_json::to_string(body).map_err(|error| no_json(&error))?;
        let shared = &self.handle.shared;
        let closed = |_| ClientError::new(ClientErrorKind::Closed, "the client was closed");
        let exchange = async {
            // Unconstrained, so that the first poll of a call takes its place or queues for it: the
            // executor's budget would otherwise let later calls overtake.
            let _place = unconstrained(shared.requests.acquire()).await.map_err(closed)?;
            let bytes = text.len().min(shared.options.in_flight_bytes_max.max(1));
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let _room = unconstrained(shared.bytes.acquire_many(bytes)).await.map_err(closed)?;
            let mut waiting = shared.enqueue(&text)?;
            (&mut waiting.answer).await.unwrap_or_else(|_| {
                Err(ClientError::new(ClientErrorKind::Closed, "the client was closed"))
            })
        };
        let deadline = shared.options.deadline;
        timeout(deadline, exchange).await.unwrap_or_else(|_elapsed| Err(late(&shared.options)))
    }

    fn next_key(&self) -> String {
        let count = self.handle.keys.fetch_add(1, Ordering::Relaxed);
        format!("{}-{count}", self.handle.key_prefix)
    }
}

fn written(answer: &Answer, results: Vec<Value>) -> Written {
    Written {
        rev: answer.rev,
        log: answer.log.clone(),
        applied: answer.applied,
        results,
        resolved: answer.resolved.clone(),
    }
}

pub(crate) fn raw<T: Serialize + ?Sized>(value: &T) -> Result<Box<RawValue>, ClientError> {
    to_raw_value(value).map_err(|error| no_json(&error))
}

pub(crate) fn no_json(error: &serde_json::Error) -> ClientError {
    ClientError::new(ClientErrorKind::Invalid, format!("the value is no JSON: {error}"))
}

pub(crate) fn late(options: &ClientOptions) -> ClientError {
    let message =
        format!("no answer within {} ms; a write may have happened", options.deadline.as_millis());
    ClientError::new(ClientErrorKind::Deadline, message)
}
