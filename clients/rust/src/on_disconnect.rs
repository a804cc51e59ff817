//! Writes that the server runs when the connection is lost, and the connection as a host sees it.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Duration;

use crate::client::{Client, raw};
use crate::error::{ClientError, ClientErrorKind};
use crate::presence::ConnectionWatch;

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
        self.shared().presence.watch()
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

/// Leases that a write tries, should each end before it is stored.
const LEASES_MAX: usize = 5;
