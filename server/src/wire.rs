//! WebSocket requests: one borrowed, typed parse from the frame to a [`Command`].
//!
//! Invariants: no intermediate value tree; a field that an operation does not have is refused; a
//! request that cannot be understood keeps its id wherever the id can be read.

use serde::Deserialize;
use serde_json::value::RawValue;
use trellis_engine_traits::ErrorKind;
use trellis_tree::{Commit, Path};

use crate::error::WireError;
use crate::lease::{LeaseCommand, LeaseFields, ttl_of};
use crate::live_request::{
    Listed, QueryFields, Subscription, SubscriptionFields, WireSubscription, listed,
};
use crate::operation::{
    ID_BYTES_MAX, OPERATIONS, ResultShape, Updates, WireCondition, WireOperation, children_limit,
    missing, parse_path, path_of, present,
};
use crate::text::Text;

/// Families and operations that the protocol names and this server does not offer yet.
const NOT_OFFERED: [&str; 3] = ["search", "vector-search", "auth"];
const NOT_OFFERED_FAMILIES: [&str; 4] = ["stream-", "mq-", "vfs-", "auth-"];

/// What a frame asks for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: String,
    /// Position in [`OPERATIONS`].
    pub(crate) operation: usize,
    pub(crate) command: Command,
}

/// The ways a request is carried out.
#[derive(Debug)]
pub(crate) enum Command {
    /// Answered at once.
    Hello,
    /// Answered at once.
    Ping,
    /// Answered by a read job.
    Read(ReadCommand),
    /// Handed to the tree.
    Write(Box<Commit>, ResultShape),
    /// Carried out in the order of arrival among themselves.
    Live(LiveCommand),
    /// Handed to presence.
    Lease(LeaseCommand),
}

/// What is done to the subscriptions of a connection.
#[derive(Debug)]
pub(crate) enum LiveCommand {
    Subscribe(Box<Subscription>),
    SubscribeAll(Vec<Listed>),
    Unsubscribe(String),
}

/// What a read job does.
#[derive(Debug)]
pub(crate) enum ReadCommand {
    Stats,
    Get(Path),
    Exists(Path),
    Children {
        path: Path,
        after: Option<String>,
        limit: usize,
        values: bool,
    },
    /// A query as JSON text.
    Query {
        path: String,
        query: String,
    },
    /// How the query would be carried out.
    Explain {
        path: String,
        query: String,
    },
}

/// A frame that is no request, with the id if one could be read.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) id: Option<String>,
    pub(crate) error: Box<WireError>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Frame<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    op: Text<'a>,
    #[serde(borrow, default)]
    path: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    updates: Option<Updates<'a>>,
    #[serde(default)]
    ttl: Option<f64>,
    #[serde(default)]
    expires_at: Option<u64>,
    #[serde(borrow, default)]
    key: Option<Text<'a>>,
    #[serde(borrow, default)]
    operations: Option<Vec<WireOperation<'a>>>,
    #[serde(borrow, default)]
    ops: Option<Vec<WireOperation<'a>>>,
    #[serde(borrow, default, rename = "if")]
    conditions: Option<Vec<WireCondition<'a>>>,
    #[serde(borrow, default)]
    after: Option<Text<'a>>,
    #[serde(default)]
    limit: Option<u64>,
    #[serde(default)]
    values: Option<bool>,
    #[serde(borrow, default)]
    event: Option<Text<'a>>,
    #[serde(borrow, default)]
    mode: Option<Text<'a>>,
    #[serde(default)]
    since: Option<u64>,
    #[serde(borrow, default)]
    epoch: Option<Text<'a>>,
    #[serde(borrow, default)]
    sub: Option<Text<'a>>,
    #[serde(borrow, default)]
    subscriptions: Option<Vec<WireSubscription<'a>>>,
    #[serde(borrow, default, rename = "where")]
    filter: Option<&'a RawValue>,
    #[serde(borrow, default)]
    order_by: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cursor: Option<&'a RawValue>,
    #[serde(borrow, default)]
    select: Option<&'a RawValue>,
    #[serde(borrow, default)]
    count: Option<&'a RawValue>,
    #[serde(borrow, default)]
    aggregate: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "do")]
    verb: Option<Text<'a>>,
    #[serde(borrow, default)]
    lease: Option<Text<'a>>,
}

/// What can still be read of a frame that [`Frame`] does not fit.
#[derive(Debug, Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow, default)]
    op: Option<Text<'a>>,
}

impl Request {
    /// Reads one frame.
    pub(crate) fn parse(text: &str) -> Result<Self, Refused> {
        let frame: Frame<'_> = serde_json::from_str(text).map_err(|error| explain(text, &error))?;
        if frame.id.len() > ID_BYTES_MAX {
            let message = format!("an id has at most {ID_BYTES_MAX} bytes");
            return Err(refused(None, WireError::invalid(message)));
        }
        let id = frame.id.0.clone().into_owned();
        let Some(operation) = OPERATIONS.iter().position(|name| *name == &*frame.op) else {
            return Err(refused(Some(id), not_offered(&frame.op)));
        };
        match frame.into_command(&id) {
            Ok(command) => Ok(Self { id, operation, command }),
            Err(error) => Err(refused(Some(id), error)),
        }
    }
}

impl<'a> Frame<'a> {
    fn into_command(mut self, id: &str) -> Result<Command, WireError> {
        let command = match &*self.op {
            "hello" => Command::Hello,
            "ping" => Command::Ping,
            "stats" | "get" | "exists" | "children" | "query" | "explain" => {
                Command::Read(self.read_command()?)
            }
            "sub" | "batch-sub" | "unsub" => Command::Live(self.live_command(id)?),
            "lease" | "on-disconnect" => Command::Lease(self.lease_command()?),
            "batch" => {
                let operations = self.operations.take().ok_or_else(|| missing("operations"))?;
                let commit = build_commit(Vec::new(), operations, self.key.take())?;
                Command::Write(Box::new(commit), ResultShape::Batch)
            }
            "commit" => {
                let operations = self.ops.take().ok_or_else(|| missing("ops"))?;
                let conditions = self.conditions.take().unwrap_or_default();
                let commit = build_commit(conditions, operations, self.key.take())?;
                Command::Write(Box::new(commit), ResultShape::Commit)
            }
            _ => {
                let operation = WireOperation {
                    op: Text(self.op.0.clone()),
                    path: self.path.take(),
                    value: self.value.take(),
                    updates: self.updates.take(),
                    ttl: self.ttl.take(),
                    expires_at: self.expires_at.take(),
                };
                let commit = build_commit(Vec::new(), vec![operation], self.key.take())?;
                Command::Write(Box::new(commit), ResultShape::Single)
            }
        };
        match self.left_over() {
            None => Ok(command),
            Some(field) => Err(WireError::invalid(format!(
                "the operation {:?} has no field {field:?}",
                &*self.op
            ))),
        }
    }

    fn read_command(&mut self) -> Result<ReadCommand, WireError> {
        Ok(match &*self.op {
            "get" => ReadCommand::Get(path_of(self.path.take())?),
            "exists" => ReadCommand::Exists(path_of(self.path.take())?),
            "children" => ReadCommand::Children {
                path: path_of(self.path.take())?,
                after: self.after.take().map(Text::into_owned),
                limit: children_limit(self.limit.take())?,
                values: self.values.take().unwrap_or(false),
            },
            "query" | "explain" => {
                let path = self.path.take().ok_or_else(|| missing("path"))?;
                // Refused here, so that the refusal is the same for every operation.
                let _is_path = parse_path(&path)?;
                let query = self.query_fields().text(&path);
                let path = path.into_owned();
                match &*self.op {
                    "query" => ReadCommand::Query { path, query },
                    _ => ReadCommand::Explain { path, query },
                }
            }
            _ => ReadCommand::Stats,
        })
    }

    fn live_command(&mut self, id: &str) -> Result<LiveCommand, WireError> {
        match &*self.op {
            "sub" => {
                let fields = SubscriptionFields {
                    path: self.path.take(),
                    event: self.event.take(),
                    mode: self.mode.take(),
                    since: self.since.take(),
                    epoch: self.epoch.take(),
                    query: self.query_fields(),
                };
                Ok(LiveCommand::Subscribe(Box::new(fields.build(id.to_owned())?)))
            }
            "batch-sub" => {
                let list = self.subscriptions.take().ok_or_else(|| missing("subscriptions"))?;
                Ok(LiveCommand::SubscribeAll(listed(list)?))
            }
            _ => {
                let name = self.sub.take().ok_or_else(|| missing("sub"))?;
                Ok(LiveCommand::Unsubscribe(name.into_owned()))
            }
        }
    }

    fn lease_command(&mut self) -> Result<LeaseCommand, WireError> {
        let id = self.lease.take().map(Text::into_owned);
        if &*self.op == "lease" {
            return Ok(LeaseCommand::Lease { id, ttl: ttl_of(self.ttl.take())? });
        }
        let fields = LeaseFields {
            verb: self.verb.take(),
            path: self.path.take(),
            value: self.value.take(),
            updates: self.updates.take(),
        };
        Ok(LeaseCommand::OnDisconnect { id, write: fields.build()? })
    }

    fn query_fields(&mut self) -> QueryFields<'a> {
        QueryFields {
            filter: self.filter.take(),
            order_by: self.order_by.take(),
            limit: self.limit.take(),
            cursor: self.cursor.take(),
            select: self.select.take(),
            count: self.count.take(),
            aggregate: self.aggregate.take(),
        }
    }

    /// A field that was given and that the operation did not take.
    fn left_over(&self) -> Option<&'static str> {
        let given = [
            ("path", self.path.is_some()),
            ("value", self.value.is_some()),
            ("updates", self.updates.is_some()),
            ("ttl", self.ttl.is_some()),
            ("expiresAt", self.expires_at.is_some()),
            ("key", self.key.is_some()),
            ("operations", self.operations.is_some()),
            ("ops", self.ops.is_some()),
            ("if", self.conditions.is_some()),
            ("after", self.after.is_some()),
            ("limit", self.limit.is_some()),
            ("values", self.values.is_some()),
            ("event", self.event.is_some()),
            ("mode", self.mode.is_some()),
            ("since", self.since.is_some()),
            ("epoch", self.epoch.is_some()),
            ("sub", self.sub.is_some()),
            ("subscriptions", self.subscriptions.is_some()),
            ("where", self.filter.is_some()),
            ("orderBy", self.order_by.is_some()),
            ("cursor", self.cursor.is_some()),
            ("select", self.select.is_some()),
            ("count", self.count.is_some()),
            ("aggregate", self.aggregate.is_some()),
            ("do", self.verb.is_some()),
            ("lease", self.lease.is_some()),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(name, _)| name)
    }
}

/// The commit of conditions and operations as they came.
pub(crate) fn build_commit(
    conditions: Vec<WireCondition<'_>>,
    operations: Vec<WireOperation<'_>>,
    key: Option<Text<'_>>,
) -> Result<Commit, WireError> {
    if operations.is_empty() && conditions.is_empty() {
        return Err(WireError::invalid("there is nothing to commit: the list is empty"));
    }
    let mut commit = Commit { key: key.map(Text::into_owned), ..Commit::default() };
    for condition in conditions {
        commit.conditions.push(condition.build()?);
    }
    for operation in operations {
        commit.operations.push(operation.build()?);
    }
    Ok(commit)
}

fn refused(id: Option<String>, error: WireError) -> Refused {
    Refused { id, error: Box::new(error) }
}

/// Why a frame did not fit, with whatever can be read of it.
fn explain(text: &str, mismatch: &serde_json::Error) -> Refused {
    let invalid = |id| {
        let message = format!("the request does not fit the protocol: {mismatch}");
        refused(id, WireError::invalid(message))
    };
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(text) else {
        return invalid(None);
    };
    if envelope.id.len() > ID_BYTES_MAX {
        return invalid(None);
    }
    let id = Some(envelope.id.into_owned());
    match envelope.op {
        Some(op) if !OPERATIONS.contains(&&*op) => refused(id, not_offered(&op)),
        _ => invalid(id),
    }
}

fn not_offered(op: &str) -> WireError {
    if op.starts_with("repl-") {
        let message = "nodes talk over links of their own; /admin/repl tells where they stand";
        return WireError::new(ErrorKind::Unsupported, message);
    }
    let is_planned = NOT_OFFERED.contains(&op)
        || NOT_OFFERED_FAMILIES.iter().any(|family| op.starts_with(family));
    if is_planned {
        return WireError::new(
            ErrorKind::Unsupported,
            format!("{op:?} belongs to the protocol, but this server does not offer it yet"),
        );
    }
    let shown: String = op.chars().take(40).collect();
    WireError::invalid(format!("{shown:?} is no operation; there are {}", OPERATIONS.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::CHILDREN_DEFAULT;

    fn refusal(text: &str) -> Refused {
        Request::parse(text).expect_err("the frame is to be refused")
    }

    #[test]
    fn a_refused_request_keeps_its_id_wherever_it_can_be_read() {
        assert_eq!(refusal(r#"{"id":"7","op":"set","path":5}"#).id.as_deref(), Some("7"));
        assert_eq!(refusal(r#"{"id":"7"}"#).id.as_deref(), Some("7"));
        assert_eq!(refusal(r#"{"op":"get","path":"a"}"#).id, None);
        assert_eq!(refusal(r#"{"id":7,"op":"ping"}"#).id, None);
        assert_eq!(refusal("[").id, None);
    }

    #[test]
    fn a_field_that_the_operation_does_not_have_is_refused() {
        for text in [
            r#"{"id":"1","op":"set","path":"a","value":1,"if":[]}"#,
            r#"{"id":"1","op":"get","path":"a","ttl":1}"#,
            r#"{"id":"1","op":"delete","path":"a","ttl":1}"#,
            r#"{"id":"1","op":"set","path":"a","value":1,"iff":[]}"#,
            r#"{"id":"1","op":"commit","operations":[]}"#,
            r#"{"id":"1","op":"batch","operations":[]}"#,
            r#"{"id":"1","op":"commit","ops":[{"op":"get","path":"a"}]}"#,
            r#"{"id":"1","op":"commit","if":[{"path":"a"}],"ops":[]}"#,
            r#"{"id":"1","op":"commit","if":[{"path":"a","exists":true,"rev":1}],"ops":[]}"#,
        ] {
            assert_eq!(refusal(text).error.code, "invalid", "{text}");
        }
    }

    #[test]
    fn a_null_value_is_a_value() {
        let request = Request::parse(r#"{"id":"1","op":"set","path":"a","value":null}"#);
        assert!(matches!(request.expect("parses").command, Command::Write(..)));
        assert_eq!(refusal(r#"{"id":"1","op":"set","path":"a"}"#).error.code, "invalid");
    }

    #[test]
    fn operations_of_other_families_are_unsupported_and_unknown_ones_invalid() {
        for op in ["search", "auth", "mq-push", "vfs-stat", "auth-nonce", "repl-x"] {
            let text = format!(r#"{{"id":"1","op":"{op}","where":[],"path":"a"}}"#);
            assert_eq!(refusal(&text).error.code, "unsupported", "{op}");
        }
        assert_eq!(refusal(r#"{"id":"1","op":"frobnicate"}"#).error.code, "invalid");
    }

    #[test]
    fn a_page_of_children_has_one_to_a_thousand_items() {
        assert_eq!(children_limit(None).expect("default"), CHILDREN_DEFAULT);
        assert_eq!(children_limit(Some(1_000)).expect("the limit"), 1_000);
        assert!(children_limit(Some(1_001)).is_err());
        assert!(children_limit(Some(0)).is_err());
    }
}
