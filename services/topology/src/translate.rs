//! Commits and answers from and into their form on the wire.

use std::collections::HashSet;

use serde_json::value::RawValue;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{
    Check, Commit, CommitError, Committed, Condition, Expiry, FailedCondition, Input, Operation,
    OperationResult, Path, UpstreamCommit,
};

use crate::forward_wire::{
    WireAnswer, WireCheck, WireCommit, WireCommitted, WireCondition, WireExpiry,
    WireFailedCondition, WireFailure, WireOperation, WireResult,
};

/// Facts of errors that travel: those on which a caller's next step depends.
const FACTS: [&str; 12] = [
    "reason",
    "limit",
    "upstream",
    "mode",
    "owner",
    "prefix",
    "commit_bytes_max",
    "leaf_bytes_max",
    "operations_max",
    "path_bytes_max",
    "segment_bytes_max",
    "retry_after_ms",
];

fn text(value: &Input) -> String {
    String::from_utf8(value.to_json()).unwrap_or_default()
}

fn wire_expiry(expiry: Expiry) -> WireExpiry {
    match expiry {
        Expiry::TtlSeconds(seconds) => WireExpiry::TtlSecondsBits(seconds.to_bits()),
        Expiry::AtMs(ms) => WireExpiry::AtMs(ms),
    }
}

fn expiry(wire: WireExpiry) -> Expiry {
    match wire {
        WireExpiry::TtlSecondsBits(bits) => Expiry::TtlSeconds(f64::from_bits(bits)),
        WireExpiry::AtMs(ms) => Expiry::AtMs(ms),
    }
}

/// A commit as it travels. Whether it may write system paths does not: that is for each node.
pub(crate) fn wire_commit(commit: &Commit) -> WireCommit {
    let conditions = commit.conditions.iter().map(|Condition { path, check }| WireCondition {
        path: path.to_string(),
        check: match check {
            Check::Exists => WireCheck::Exists,
            Check::Absent => WireCheck::Absent,
            Check::Hash(hash) => WireCheck::Hash(hash.clone()),
            Check::Value(value) => WireCheck::Value(text(value)),
            Check::Rev(rev) => WireCheck::Rev(*rev),
        },
    });
    let operations = commit.operations.iter().map(|operation| match operation {
        Operation::Set { path, value, expiry } => {
            WireOperation::Set(path.to_string(), text(value), expiry.map(wire_expiry))
        }
        Operation::Update { updates, expiry } => {
            let each = updates.iter().map(|(path, value)| (path.to_string(), text(value)));
            WireOperation::Update(each.collect(), expiry.map(wire_expiry))
        }
        Operation::Delete { path } => WireOperation::Delete(path.to_string()),
        Operation::Push { path, value, expiry } => {
            WireOperation::Push(path.to_string(), text(value), expiry.map(wire_expiry))
        }
    });
    WireCommit {
        conditions: conditions.collect(),
        operations: operations.collect(),
        key: commit.key.clone(),
    }
}

/// The commit, with the checks that any client's passes.
pub(crate) fn commit(wire: WireCommit) -> Result<Commit> {
    let value = |text: String| Input::parse(text.as_bytes());
    let conditions = wire.conditions.into_iter().map(|WireCondition { path, check }| {
        let check = match check {
            WireCheck::Exists => Check::Exists,
            WireCheck::Absent => Check::Absent,
            WireCheck::Hash(hash) => Check::Hash(hash),
            WireCheck::Value(text) => Check::Value(value(text)?),
            WireCheck::Rev(rev) => Check::Rev(rev),
        };
        Ok(Condition { path: Path::parse(&path)?, check })
    });
    let operations = wire.operations.into_iter().map(|operation| {
        Ok(match operation {
            WireOperation::Set(path, text, end) => {
                let (path, value) = (Path::parse(&path)?, value(text)?);
                Operation::Set { path, value, expiry: end.map(expiry) }
            }
            WireOperation::Update(updates, end) => {
                let each = updates.into_iter();
                let each = each.map(|(path, text)| Ok((Path::parse(&path)?, value(text)?)));
                Operation::Update { updates: each.collect::<Result<_>>()?, expiry: end.map(expiry) }
            }
            WireOperation::Delete(path) => Operation::Delete { path: Path::parse(&path)? },
            WireOperation::Push(path, text, end) => {
                let (path, value) = (Path::parse(&path)?, value(text)?);
                Operation::Push { path, value, expiry: end.map(expiry) }
            }
        })
    });
    Ok(Commit {
        conditions: conditions.collect::<Result<_>>()?,
        operations: operations.collect::<Result<_>>()?,
        key: wire.key,
        system: false,
    })
}

/// Every path that a commit reads or writes.
pub(crate) fn paths(commit: &Commit) -> impl Iterator<Item = &Path> {
    let conditions = commit.conditions.iter().map(|condition| &condition.path);
    let operations = commit.operations.iter().flat_map(|operation| match operation {
        Operation::Set { path, .. } | Operation::Delete { path } | Operation::Push { path, .. } => {
            vec![path]
        }
        Operation::Update { updates, .. } => updates.iter().map(|(path, _)| path).collect(),
    });
    conditions.chain(operations)
}

/// Whether a commit reads or writes all that is below one of its paths.
pub(crate) fn is_whole(commit: &Commit, at: &Path) -> bool {
    let pushed =
        |operation: &Operation| matches!(operation, Operation::Push { path, .. } if path == at);
    let pushes = commit.operations.iter().filter(|operation| pushed(operation)).count();
    paths(commit).filter(|path| *path == at).count() > pushes
}

/// The same answer without what is large in it: values that transforms came to, and those at
/// conditions that did not hold.
pub(crate) fn brief(answer: WireAnswer) -> WireAnswer {
    match answer {
        WireAnswer::Committed(mut committed) => {
            committed.results.iter_mut().for_each(|result| result.resolved.clear());
            WireAnswer::Committed(committed)
        }
        WireAnswer::Failed(mut failure) => {
            failure.failed.clear();
            WireAnswer::Failed(failure)
        }
    }
}

/// An answer as it travels; `log_id` is that of this node.
pub(crate) fn wire_committed(committed: &Committed, log_id: u128) -> WireCommitted {
    let results = committed.results.iter().map(|result| WireResult {
        pushed: result.pushed.clone(),
        resolved: result
            .resolved
            .iter()
            .map(|(path, value)| (path.to_string(), value.get().to_owned()))
            .collect(),
    });
    let (log_id, rev, reached) = match &committed.upstream {
        None => (format!("{log_id:032x}"), committed.rev, committed.rev),
        Some(UpstreamCommit { log_id, rev, applied }) => {
            (log_id.clone(), *rev, if *applied { committed.rev } else { 0 })
        }
    };
    let replayed = committed.replayed;
    WireCommitted { log_id, rev, reached, replayed, results: results.collect() }
}

/// The answer; whether it is applied here is not known yet.
pub(crate) fn committed(wire: WireCommitted) -> Result<Committed> {
    // It is committed, so that no other kind would be true.
    let not_understood = || Error::new(ErrorKind::OutcomeUnknown, "the answer is not understood");
    let raw = |text: String| RawValue::from_string(text).map_err(|_| not_understood());
    let results = wire.results.into_iter().map(|WireResult { pushed, resolved }| {
        let resolved = resolved.into_iter();
        let known = |path: String| Path::parse(&path).map_err(|_| not_understood());
        let resolved = resolved.map(|(path, text)| Ok((known(path)?, raw(text)?)));
        Ok(OperationResult { pushed, resolved: resolved.collect::<Result<_>>()? })
    });
    Ok(Committed {
        rev: wire.rev,
        results: results.collect::<Result<_>>()?,
        replayed: wire.replayed,
        upstream: Some(UpstreamCommit { log_id: wire.log_id, rev: wire.rev, applied: false }),
    })
}

/// A failure as it travels.
pub(crate) fn wire_failure(failure: &CommitError) -> WireFailure {
    let error = &failure.error;
    let known: HashSet<&str> = FACTS.into_iter().collect();
    let facts = error.facts().iter().filter(|(name, _)| known.contains(name));
    WireFailure {
        kind: error.kind().code().to_owned(),
        message: error.message().to_owned(),
        facts: facts.map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        path: failure.path.clone(),
        failed: failure
            .failed
            .iter()
            .map(|failed| WireFailedCondition {
                path: failed.path.to_string(),
                value: failed.value.get().to_owned(),
                hash: failed.hash.clone(),
                too_large: failed.too_large,
            })
            .collect(),
    }
}

/// The failure in the words of the node that owns the paths.
pub(crate) fn failure(wire: WireFailure) -> CommitError {
    let kind = ErrorKind::from_code(&wire.kind).unwrap_or(ErrorKind::OutcomeUnknown);
    let mut error = Error::new(kind, wire.message);
    for (name, value) in wire.facts {
        if let Some(name) = FACTS.into_iter().find(|known| *known == name) {
            error = error.context(name, value);
        }
    }
    let failed = wire.failed.into_iter().filter_map(|failed| {
        Some(FailedCondition {
            path: Path::parse(&failed.path).ok()?,
            value: RawValue::from_string(failed.value).ok()?,
            hash: failed.hash,
            too_large: failed.too_large,
        })
    });
    CommitError { error, path: wire.path, failed: failed.collect() }
}
