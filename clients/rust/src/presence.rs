//! Presence: writes for when this client is gone, and whether it is connected.
//!
//! Invariants: writes are stored with one lease; a new connection takes it over before anything
//! else is sent, so that they do not run while the client is back; when it has ended meanwhile,
//! that is told, and the next write is stored with a new one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use crate::answer::Hello;
use crate::client::{Client, raw};
use crate::error::{ClientError, ClientErrorKind};
use crate::pending::Shared;

/// Leases that a write tries, should each end before it is stored.
const LEASES_MAX: usize = 5;

/// How a client stands with its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionState {
    /// Whether there is a connection.
    pub is_connected: bool,
    /// Whether the client was closed: there will be no connection any more.
    pub is_closed: bool,
    /// Since when it is so.
    pub since: Instant,
    /// How often the lease of this client ended although it was not closed, so that what was stored
    /// with [`Client::on_disconnect`] has run. When this grows, store it anew, and write again that
    /// the client is there.
    pub leases_lost: u64,
    /// The server's time, in milliseconds since 1970, and when it was that.
    server_time: (u64, Instant),
}

impl ConnectionState {
    /// The server's time now, in milliseconds since 1970, as far as the last connection told: off
    /// by half the way there and back at most, and by what the clocks have drifted since.
    #[must_use]
    pub fn server_time_ms(&self) -> u64 {
        let (time_ms, at) = self.server_time;
        time_ms.saturating_add(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// Watches how a client stands with its server; see [`Client::connection`].
#[derive(Debug, Clone)]
pub struct ConnectionWatch(watch::Receiver<ConnectionState>);

impl ConnectionWatch {
    /// How it stands now.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.0.borrow().clone()
    }

    /// Waits for the next change; `None` once the client is closed. Changes in quick succession may
    /// be seen as one.
    pub async fn changed(&mut self) -> Option<ConnectionState> {
        if self.0.borrow_and_update().is_closed || self.0.changed().await.is_err() {
            return None;
        }
        Some(self.0.borrow().clone())
    }
}

/// What a client remembers of its presence.
#[derive(Debug)]
pub(crate) struct Presence {
    lease: Mutex<Option<Held>>,
    state: watch::Sender<ConnectionState>,
}

/// The lease of this client.
#[derive(Debug)]
struct Held {
    id: String,
    /// Whether something may be stored with it.
    is_used: bool,
}

impl Presence {
    pub(crate) fn new(hello: &Hello) -> Self {
        let now = Instant::now();
        let state = ConnectionState {
            is_connected: true,
            is_closed: false,
            since: now,
            leases_lost: 0,
            server_time: (hello.time, now),
        };
        Self { lease: Mutex::default(), state: watch::Sender::new(state) }
    }

    pub(crate) fn connected(&self, hello: &Hello) {
        self.state.send_modify(|state| {
            let now = Instant::now();
            state.is_connected = true;
            state.since = now;
            state.server_time = (hello.time, now);
        });
    }

    pub(crate) fn disconnected(&self) {
        self.state.send_modify(|state| {
            state.is_connected = false;
            state.since = Instant::now();
        });
    }

    pub(crate) fn closed(&self) {
        self.state.send_modify(|state| {
            state.is_connected = false;
            state.is_closed = true;
            state.since = Instant::now();
        });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        // No code panics while it holds the lock.
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease that a new connection has to take over.
    pub(crate) fn lease(&self) -> Option<String> {
        self.lock().as_ref().map(|held| held.id.clone())
    }

    fn hold(&self, id: &str) {
        let mut held = self.lock();
        if held.as_ref().is_none_or(|held| held.id != id) {
            *held = Some(Held { id: id.to_owned(), is_used: false });
        }
    }

    fn is_used(&self, id: &str) {
        if let Some(held) = self.lock().as_mut().filter(|held| held.id == id) {
            held.is_used = true;
        }
    }

    /// A lease has ended.
    pub(crate) fn lose(&self, id: &str) {
        let lost = self.lock().take_if(|held| held.id == id);
        if lost.is_some_and(|held| held.is_used) {
            self.state.send_modify(|state| state.leases_lost += 1);
        }
    }
}

/// The request with which a new connection takes a lease over.
pub(crate) fn take_over_frame(lease: &str) -> String {
    format!(r#"{{"id":"lease","op":"lease","lease":"{lease}"}}"#)
}

#[derive(Deserialize)]
struct Lease {
    id: String,
}

#[derive(Serialize)]
struct AskForLease {
    op: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<f64>,
}

#[derive(Serialize)]
struct Store<'a> {
    op: &'static str,
    lease: &'a str,
    #[serde(rename = "do")]
    verb: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updates: Option<&'a RawValue>,
}

impl Client {
    /// Watches whether there is a connection, and what the server's time is.
    ///
    /// ```no_run
    /// # async fn example(client: trellis_client::Client) {
    /// let mut connection = client.connection();
    /// while let Some(state) = connection.changed().await {
    ///     println!("{}", if state.is_connected { "online" } else { "trying again" });
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn connection(&self) -> ConnectionWatch {
        ConnectionWatch(self.shared().presence.state.subscribe())
    }

    /// Writes for when this client is gone: they run once, when it is closed, or when nothing was
    /// heard of it for [`ClientOptions::lease_ttl`](crate::ClientOptions::lease_ttl).
    ///
    /// ```no_run
    /// # use trellis_client::{Client, ClientError};
    /// # async fn example(client: Client) -> Result<(), ClientError> {
    /// client.on_disconnect().delete("online/alice").await?;
    /// client.set("online/alice", &true).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_disconnect(&self) -> OnDisconnect<'_> {
        OnDisconnect(self)
    }
}

/// Stores writes for when a client is gone; see [`Client::on_disconnect`].
///
/// There is one write for a path: a later one replaces what was stored at or below its path. Each
/// is durable when the call returns.
#[derive(Debug, Clone, Copy)]
pub struct OnDisconnect<'a>(&'a Client);

impl OnDisconnect<'_> {
    /// Replaces what is at `path`. Transforms in `value` are resolved when it runs.
    ///
    /// # Errors
    /// `denied` for a system path, `too_large` beyond 100 paths or 64 KiB; nothing is stored then,
    /// except that after `Deadline` or `outcome_unknown` it may be.
    pub async fn set<T: Serialize + ?Sized>(
        &self,
        path: &str,
        value: &T,
    ) -> Result<(), ClientError> {
        let value = raw(value)?;
        self.store("set", Some(path), Some(&value), None).await
    }

    /// Sets many paths: a map of path to value, all or nothing.
    ///
    /// # Errors
    /// As [`OnDisconnect::set`]; `invalid` when one path lies within another.
    pub async fn update<T: Serialize + ?Sized>(&self, updates: &T) -> Result<(), ClientError> {
        let updates = raw(updates)?;
        self.store("update", None, None, Some(&updates)).await
    }

    /// Removes what is at `path`.
    ///
    /// # Errors
    /// As [`OnDisconnect::set`].
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.store("delete", Some(path), None, None).await
    }

    /// Drops what is stored at and below `path`; `""` drops everything.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn cancel(&self, path: &str) -> Result<(), ClientError> {
        self.store("cancel", Some(path), None, None).await
    }

    /// The id of this client's lease, which is asked for if there is none. A secret: whoever knows
    /// it can end the lease.
    ///
    /// # Errors
    /// `busy` when the server has no lease left; `invalid` for a time to live outside its bounds.
    pub async fn lease(&self) -> Result<String, ClientError> {
        let shared = self.0.shared();
        if let Some(id) = shared.presence.lease() {
            return Ok(id);
        }
        let ttl = shared.options.lease_ttl.map(|ttl: Duration| ttl.as_secs_f64());
        let Lease { id } = self.0.call(&AskForLease { op: "lease", ttl }).await?.read()?;
        shared.presence.hold(&id);
        Ok(id)
    }

    async fn store(
        &self,
        verb: &'static str,
        path: Option<&str>,
        value: Option<&RawValue>,
        updates: Option<&RawValue>,
    ) -> Result<(), ClientError> {
        let presence = &self.0.shared().presence;
        let mut refused = None;
        for _ in 0..LEASES_MAX {
            let lease = self.lease().await?;
            let request = Store { op: "on-disconnect", lease: &lease, verb, path, value, updates };
            match self.0.call(&request).await {
                Ok(_) => {
                    presence.is_used(&lease);
                    return Ok(());
                }
                // It ended, or went with a connection before anything was stored: the next one.
                Err(error) if error.code() == "not_found" => {
                    presence.lose(&lease);
                    refused = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(refused
            .unwrap_or_else(|| ClientError::new(ClientErrorKind::Protocol, "no lease was given")))
    }
}

impl Shared {
    /// Reads what the server says about a lease that a new connection wants to take over.
    pub(crate) fn taken_over(
        &self,
        lease: &str,
        outcome: Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        match outcome {
            Err(error) if error.code() == "not_found" => {
                self.presence.lose(lease);
                Ok(())
            }
            outcome => outcome,
        }
    }
}
