//! The lease of a WebSocket connection: made when it is first needed, renewed by every frame, ended
//! by a close frame, left to run out by a lost connection.
//!
//! Invariants: requests about it are handed to presence in the order of arrival, which carries them
//! out in that order; a connection that asks for none has none.

use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use serde_json::value::RawValue;
use trellis::{Hold, LeaseInfo, LeaseWrite, PendingLease, Stored};
use trellis_engine_traits::ErrorKind;
use trellis_tree::Path;

use crate::answer::{begin, end, push_number, push_refusal, push_string};
use crate::error::WireError;
use crate::frames::utf8;
use crate::operation::{Updates, missing, parse_path, path_of};
use crate::state::State;
use crate::text::Text;

/// What a request about the connection's lease asks for.
#[derive(Debug)]
pub(crate) enum LeaseCommand {
    /// Make it known, set its time, or take another over.
    Lease { id: Option<String>, ttl: Option<Duration> },
    /// Store a write for its end, or cancel some; only if it is the lease that is named.
    OnDisconnect { id: Option<String>, write: LeaseWrite },
}

/// The fields of a write for the end of a lease.
#[derive(Debug)]
pub(crate) struct LeaseFields<'a> {
    pub(crate) verb: Option<Text<'a>>,
    pub(crate) path: Option<Text<'a>>,
    pub(crate) value: Option<&'a RawValue>,
    pub(crate) updates: Option<Updates<'a>>,
}

impl LeaseFields<'_> {
    /// The write, or why there is none.
    pub(crate) fn build(self) -> Result<LeaseWrite, WireError> {
        let verb = self.verb.ok_or_else(|| missing("do"))?;
        let verb = &*verb;
        let unexpected = |field: &str| {
            Err(WireError::invalid(format!("on-disconnect {verb:?} has no field {field:?}")))
        };
        match (verb, self.value, self.updates) {
            ("set", Some(json), None) => {
                Ok(LeaseWrite::Set { path: path_of(self.path)?, json: json.to_owned() })
            }
            ("set", None, None) => Err(missing("value")),
            ("update", None, Some(updates)) => {
                let base = self.path.map_or_else(|| Ok(Path::root()), |path| parse_path(&path))?;
                Ok(LeaseWrite::Update { updates: below(&base, updates)? })
            }
            ("update", None, None) => Err(missing("updates")),
            ("delete", None, None) => Ok(LeaseWrite::Delete { path: path_of(self.path)? }),
            ("cancel", None, None) => Ok(LeaseWrite::Cancel { path: path_of(self.path)? }),
            ("set" | "delete" | "cancel", _, Some(_)) => unexpected("updates"),
            ("update" | "delete" | "cancel", Some(_), _) => unexpected("value"),
            _ => Err(WireError::invalid("do is one of set, update, delete and cancel")),
        }
    }
}

fn below(base: &Path, updates: Updates<'_>) -> Result<Vec<(Path, Box<RawValue>)>, WireError> {
    let one = |(text, json): (Text<'_>, &RawValue)| {
        let path = parse_path(&text)?;
        let path = base.join(&path).map_err(|error| WireError::from(error).at(&*text))?;
        Ok((path, json.to_owned()))
    };
    updates.0.into_iter().map(one).collect()
}

/// The time to live that a request names, in seconds.
pub(crate) fn ttl_of(seconds: Option<f64>) -> Result<Option<Duration>, WireError> {
    let duration = seconds.map(|seconds| Duration::try_from_secs_f64(seconds).map_err(|_| ()));
    duration.transpose().map_err(|()| WireError::invalid("ttl is a number of seconds, 10 to 600"))
}

/// Appends `{"id","ttl","expiresAt"}`.
pub(crate) fn push_lease(out: &mut Vec<u8>, lease: &LeaseInfo) {
    out.extend_from_slice(b"{\"id\":");
    push_string(out, &lease.id);
    out.extend_from_slice(b",\"ttl\":");
    // Display writes whole seconds without a fraction.
    out.extend_from_slice(lease.ttl.as_secs_f64().to_string().as_bytes());
    out.extend_from_slice(b",\"expiresAt\":");
    push_number(out, lease.expires_at_ms);
    out.push(b'}');
}

/// The lease of one connection.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    hold: Option<Hold>,
}

/// What presence will answer.
enum Asked {
    Lease(PendingLease<LeaseInfo>),
    Stored(PendingLease<Stored>),
}

impl Lease {
    /// A frame arrived.
    pub(crate) fn heard(&self) {
        if let Some(hold) = &self.hold {
            hold.renew();
        }
    }

    /// The peer closed: what is stored runs now.
    pub(crate) fn say_goodbye(&mut self) {
        if let Some(hold) = self.hold.take() {
            hold.say_goodbye();
        }
    }

    /// How long the peer may be silent: no longer than its lease lasts.
    pub(crate) fn silence_max(&self, usual: Duration) -> Duration {
        self.ttl().map_or(usual, |ttl| ttl.min(usual))
    }

    /// How often the peer is pinged, so that its answers keep the lease.
    pub(crate) fn ping_interval(&self, usual: Duration) -> Duration {
        self.ttl().map_or(usual, |ttl| (ttl / 3).min(usual))
    }

    fn ttl(&self) -> Option<Duration> {
        self.hold.as_ref().filter(|hold| !hold.is_ended()).map(Hold::ttl)
    }

    /// Hands a request to presence here and now; the future is its answer.
    pub(crate) fn carry_out(
        &mut self,
        state: &State,
        id: String,
        command: LeaseCommand,
    ) -> impl Future<Output = (Utf8Bytes, bool)> + Send + use<> {
        let path = path_in(&command);
        let asked = self.ask(state, command);
        async move {
            let mut out = Vec::with_capacity(128);
            begin(&mut out, &id);
            let outcome = match asked {
                Ok(Asked::Lease(pending)) => pending.await.map(|lease| {
                    push_lease(&mut out, &lease);
                    end(&mut out, None);
                }),
                Ok(Asked::Stored(pending)) => pending.await.map(|stored| {
                    out.extend_from_slice(b"null");
                    end(&mut out, Some(stored.rev));
                }),
                Err(error) => Err(error),
            };
            let is_ok = outcome.is_ok();
            if let Err(error) = outcome {
                out.clear();
                let error = WireError::from(error);
                let error = match path {
                    Some(path) => error.at(path),
                    None => error,
                };
                push_refusal(&mut out, Some(&id), &error);
            }
            (utf8(out), is_ok)
        }
    }

    fn ask(&mut self, state: &State, command: LeaseCommand) -> trellis::Result<Asked> {
        let presence = state.db.presence()?;
        match command {
            LeaseCommand::Lease { id: Some(id), ttl } if !self.holds(&id) => {
                // What it held before is let go, and runs out by itself.
                let (hold, pending) = presence.take_over(&id, ttl)?;
                self.hold = Some(hold);
                Ok(Asked::Lease(pending))
            }
            LeaseCommand::Lease { id, ttl } => {
                if id.is_none() && self.hold.as_ref().is_some_and(Hold::is_ended) {
                    self.hold = None;
                }
                Ok(Asked::Lease(self.own(&presence)?.announce(ttl)))
            }
            LeaseCommand::OnDisconnect { id: Some(id), .. } if !self.holds(&id) => {
                Err(trellis::Error::new(
                    ErrorKind::NotFound,
                    "this connection does not hold that lease; take it over with lease",
                ))
            }
            LeaseCommand::OnDisconnect { write, .. } => {
                Ok(Asked::Stored(self.own(&presence)?.store(write)))
            }
        }
    }

    fn holds(&self, id: &str) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.id() == id)
    }

    /// The connection's lease, which is made now if there is none.
    fn own(&mut self, presence: &trellis::Presence) -> trellis::Result<&Hold> {
        let hold = match self.hold.take() {
            Some(hold) => hold,
            None => presence.hold()?,
        };
        Ok(self.hold.insert(hold))
    }
}

/// The path that a refusal is about.
fn path_in(command: &LeaseCommand) -> Option<String> {
    match command {
        LeaseCommand::OnDisconnect { write, .. } => path_of_write(write),
        LeaseCommand::Lease { .. } => None,
    }
}

pub(crate) fn path_of_write(write: &LeaseWrite) -> Option<String> {
    match write {
        LeaseWrite::Set { path, .. } | LeaseWrite::Delete { path } => Some(path.to_string()),
        LeaseWrite::Update { .. } | LeaseWrite::Cancel { .. } => None,
    }
}
