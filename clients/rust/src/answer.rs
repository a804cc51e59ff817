//! Answers of the server, from JSON text to types.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{ClientError, ClientErrorKind, FailedCondition};

/// A successful answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) data: Box<RawValue>,
    pub(crate) rev: u64,
    pub(crate) resolved: BTreeMap<String, Value>,
    /// Of a write that another node made: that node's log, and whether it is visible here.
    pub(crate) log: Option<String>,
    pub(crate) applied: bool,
    /// Of a subscription: the history that `rev` is of.
    pub(crate) epoch: Option<String>,
    /// Of a subscription: it goes on where it was left.
    pub(crate) resumed: bool,
    /// Of a subscription: it could not go on, the data takes the place of all before.
    pub(crate) reset: bool,
}

/// What a frame of a subscription tells.
#[derive(Debug)]
pub(crate) enum Told {
    /// What a commit changed; the frame's text has it.
    Changes { rev: u64 },
    /// Everything anew.
    Reset { rev: u64, epoch: Option<String>, data: String },
    /// The server gave the subscription up.
    Cancelled(ClientError),
}

/// A frame of the server.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// The request that it answers, if it names one, and the outcome.
    Answer(Option<String>, Result<Answer, ClientError>),
    /// The subscription, and what it is told.
    Told(String, Told),
}

/// What a write came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Number of the commit, at the node of `log` where there is one.
    pub rev: u64,
    /// The log of the node that made the commit, where the server forwarded it.
    pub log: Option<String>,
    /// Whether the server that was asked shows the commit already; `false` only for a forwarded one
    /// that has not come back yet.
    pub applied: bool,
    /// One result for each operation: the id of a push, else `null`.
    pub results: Vec<Value>,
    /// What transforms came to, by path.
    pub resolved: BTreeMap<String, Value>,
}

/// One page of children.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Children {
    /// The children, in the byte order of their keys.
    pub items: Vec<Child>,
    /// `after` of the next page; `None` on the last.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// One child.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Child {
    /// Its key.
    pub key: String,
    /// Its value, when values were asked for.
    #[serde(default)]
    pub value: Option<Value>,
}

/// How a server introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Hello {
    /// The server's time when the answer arrived, in milliseconds since 1970.
    #[serde(default)]
    pub time: u64,
    /// Version of the server.
    pub version: String,
    /// Name of the node.
    pub node: String,
    /// Epoch of its journal.
    pub epoch: String,
    /// Its limits.
    pub limits: HelloLimits,
}

/// The limits that a server names in `hello`, as far as a client needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HelloLimits {
    /// Largest WebSocket message, in bytes.
    pub frame_bytes: usize,
    /// Largest leaf, in bytes.
    pub leaf_bytes: usize,
    /// Largest commit, in bytes.
    pub commit_bytes: usize,
}

#[derive(Debug, Deserialize)]
struct Frame<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    ok: bool,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    rev: u64,
    #[serde(default)]
    resolved: BTreeMap<String, Value>,
    #[serde(default)]
    log: Option<String>,
    #[serde(default)]
    applied: Option<bool>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    failed: Vec<WireFailed>,
    #[serde(default)]
    sub: Option<String>,
    #[serde(default)]
    epoch: Option<String>,
    #[serde(default)]
    resumed: bool,
    #[serde(default)]
    reset: bool,
    #[serde(default)]
    cancel: Option<Cancel>,
}

#[derive(Debug, Deserialize)]
struct Cancel {
    error: String,
    #[serde(default)]
    message: String,
}

#[derive(Debug, Deserialize)]
struct WireFailed {
    path: String,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    hash: Option<String>,
}

/// Reads a frame.
pub(crate) fn parse(text: &str) -> Result<Parsed, ClientError> {
    let frame: Frame<'_> = serde_json::from_str(text).map_err(|error| {
        ClientError::new(ClientErrorKind::Protocol, format!("an answer is no JSON: {error}"))
    })?;
    // `Option` takes a JSON `null` for absent; for data they are the same.
    let data = frame.data.unwrap_or(RawValue::NULL);
    if let Some(sub) = frame.sub {
        let told = match frame.cancel {
            Some(Cancel { error, message }) => {
                Told::Cancelled(ClientError::refused(error, message, None, Vec::new()))
            }
            None if frame.reset => {
                let data = data.get().to_owned();
                Told::Reset { rev: frame.rev, epoch: frame.epoch, data }
            }
            None => Told::Changes { rev: frame.rev },
        };
        return Ok(Parsed::Told(sub, told));
    }
    if !frame.ok {
        let refusal = refusal_of(frame.error, frame.message, frame.path, frame.failed);
        return Ok(Parsed::Answer(frame.id, Err(refusal)));
    }
    let answer = Answer {
        data: data.to_owned(),
        rev: frame.rev,
        resolved: frame.resolved,
        log: frame.log,
        applied: frame.applied.unwrap_or(true),
        epoch: frame.epoch,
        resumed: frame.resumed,
        reset: frame.reset,
    };
    Ok(Parsed::Answer(frame.id, Ok(answer)))
}

/// Reads the body of a refused HTTP request.
pub(crate) fn parse_refusal(body: &[u8], status: u16) -> ClientError {
    #[derive(Deserialize)]
    struct Body {
        error: String,
        message: String,
        #[serde(default)]
        path: Option<String>,
        #[serde(default)]
        failed: Vec<WireFailed>,
    }
    match serde_json::from_slice::<Body>(body) {
        Ok(body) => refusal_of(Some(body.error), Some(body.message), body.path, body.failed),
        Err(_) => ClientError::new(
            ClientErrorKind::Protocol,
            format!("the server answered {status} without saying why; is it a Trellis server?"),
        ),
    }
}

fn refusal_of(
    code: Option<String>,
    message: Option<String>,
    path: Option<String>,
    failed: Vec<WireFailed>,
) -> ClientError {
    let failed = failed
        .into_iter()
        .map(|failed| FailedCondition { path: failed.path, value: failed.value, hash: failed.hash })
        .collect();
    let code = code.unwrap_or_else(|| "protocol".to_owned());
    ClientError::refused(code, message.unwrap_or_default(), path, failed)
}

impl Answer {
    /// The data as a type.
    pub(crate) fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ClientError> {
        serde_json::from_str(self.data.get()).map_err(|error| {
            let message = format!("an answer does not fit the protocol: {error}");
            ClientError::new(ClientErrorKind::Protocol, message)
        })
    }
}
