//! Presence: writes for when this client is gone, and whether it is connected.
//!
//! Invariants: writes are stored with one lease; a new connection takes it over before anything
//! else is sent, so that they do not run while the client is back; when it has ended meanwhile,
//! that is told, and the next write is stored with a new one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::answer::Hello;

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
    /// with [`Client::on_disconnect`](crate::Client::on_disconnect) has run. When this grows, store
    /// it anew, and write again that the client is there.
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

/// Watches how a client stands with its server; see
/// [`Client::connection`](crate::Client::connection).
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
    pub(crate) fn watch(&self) -> ConnectionWatch {
        ConnectionWatch(self.state.subscribe())
    }

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

    pub(crate) fn hold(&self, id: &str) {
        let mut held = self.lock();
        if held.as_ref().is_none_or(|held| held.id != id) {
            *held = Some(Held { id: id.to_owned(), is_used: false });
        }
    }

    pub(crate) fn is_used(&self, id: &str) {
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
