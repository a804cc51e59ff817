//! *Resolve*: a request against the newest state becomes plain effects, or a refusal.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::answer::{CommitError, Committed, FailedCondition, OperationResult};
use crate::commit::{Check, Commit, Condition, Expiry, Operation};
use crate::core::Core;
use crate::draft::Draft;
use crate::input::{Input, Node};
use crate::json::JsonWriter;
use crate::leaf::{self, Leaf};
use crate::path;
use crate::record::{Cause, Chain, Effect, KEYS, Record, Remembered};
use crate::state::State;
use crate::transform::Ambient;
use crate::view::{Reader, raw};
use crate::{Path, expiry, fingerprint, pushid};

/// A current value larger than this is left out of a refusal.
const FAILED_VALUE_BYTES_MAX: usize = 64 << 10;

/// What the pipeline is asked to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// A caller's commit.
    Commit(Commit),
    /// Remove what is due.
    Expire,
    /// Forget idempotency keys that are old enough.
    ForgetKeys,
}

/// Where the history stands, as far as it is resolved.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) rev: u64,
    pub(crate) chain: Chain,
    pub(crate) last_ms: u64,
    pub(crate) push_ids: pushid::PushIds,
}

/// What a request came to.
pub(crate) struct Resolved {
    /// The encoded record; `None` when nothing changed.
    pub(crate) record: Option<Bytes>,
    /// Whether the record has to be synced before the answer.
    pub(crate) sync: bool,
    pub(crate) answer: Result<Committed, CommitError>,
}

impl Resolved {
    fn answer(answer: Result<Committed, CommitError>) -> Self {
        Self { record: None, sync: false, answer }
    }
}

impl Resolver {
    /// Resolves one request and enters its effects into the overlay, not yet visible.
    pub(crate) fn resolve(&mut self, core: &Core, work: &Work) -> Resolved {
        let now_ms = core.runtime.clock().now_ms().max(self.last_ms);
        self.last_ms = now_ms;
        let state = core.newest();
        let outcome = match work {
            Work::Commit(commit) => self.commit(core, &state, commit, now_ms),
            Work::Expire => expiry::due_effects(core, &state, now_ms)
                .map(|effects| Outcome::effects(effects, Cause::Ttl))
                .map_err(CommitError::from),
            Work::ForgetKeys => expiry::forget_effects(core, &state, now_ms)
                .map(|effects| Outcome::effects(effects, Cause::Upkeep))
                .map_err(CommitError::from),
        };
        match outcome {
            Err(refusal) => Resolved::answer(Err(refusal)),
            Ok(Outcome::Replayed(committed)) => Resolved::answer(Ok(committed)),
            Ok(Outcome::New { effects, cause, results, .. }) if effects.is_empty() => {
                // Nothing changes, so there is nothing to remember a key for either.
                let _nothing = cause;
                Resolved::answer(Ok(Committed { rev: self.rev, results, replayed: false }))
            }
            Ok(Outcome::New { effects, cause, results, key }) => self
                .record(core, effects, cause, results, key, now_ms)
                .unwrap_or_else(|error| Resolved::answer(Err(error.into()))),
        }
    }

    fn record(
        &mut self,
        core: &Core,
        effects: Vec<Effect>,
        cause: Cause,
        results: Vec<OperationResult>,
        key: Option<(String, Chain)>,
        now_ms: u64,
    ) -> Result<Resolved> {
        let rev = self.rev + 1;
        let key = key.map(|(key, fingerprint)| {
            let results = results.iter().map(remember).collect();
            (key, Remembered { fingerprint, rev, results })
        });
        let epoch = core.epoch;
        let record = Record { rev, epoch, at_ms: now_ms, prev: self.chain, cause, key, effects };
        let encoded = record.encode()?;
        let sync =
            record.effects.iter().any(|effect| core.options.durability.wants_sync(effect.key()));
        self.rev = rev;
        self.chain = crate::record::chain(&encoded);
        core.enter(&record);
        let committed = Committed { rev, results, replayed: false };
        Ok(Resolved { record: Some(encoded), sync, answer: Ok(committed) })
    }

    fn commit(
        &mut self,
        core: &Core,
        state: &State,
        commit: &Commit,
        now_ms: u64,
    ) -> Result<Outcome, CommitError> {
        let limits = &core.options.limits;
        let mut key = None;
        if let Some(name) = &commit.key {
            if name.is_empty() || name.len() > limits.key_bytes_max {
                return Err(over(
                    "the idempotency key is empty or too long",
                    "key_bytes_max",
                    limits.key_bytes_max,
                )
                .into());
            }
            let fingerprint = fingerprint::of(commit);
            if let Some(stored) = state.get(KEYS, name.as_bytes())? {
                return replay(&stored, fingerprint).map_err(CommitError::from);
            }
            key = Some((name.clone(), fingerprint));
        }
        let parts = commit.operations.len() + commit.conditions.len();
        if parts > limits.commit_operations_max {
            return Err(over(
                "the commit has too many operations",
                "commit_operations_max",
                limits.commit_operations_max,
            )
            .into());
        }
        let mut draft = Draft::new(state, core.any_expiry());
        let hidden = expiry::due(core, state, now_ms)?;
        check_conditions(core, state, &hidden, &commit.conditions)?;
        for due in &hidden {
            if touched(commit).any(|path| path.covers_key(due) || path::covers(due, path.key())) {
                draft.remove(due)?;
                draft.expire(due, None);
            }
        }
        let results = commit
            .operations
            .iter()
            .map(|operation| {
                let mut step = Step { core, draft: &mut draft, resolver: self, now_ms };
                step.operation(operation, commit.system)
            })
            .collect::<Result<Vec<_>, CommitError>>()?;
        Ok(Outcome::New { effects: draft.into_effects(), cause: Cause::Request, results, key })
    }
}

enum Outcome {
    Replayed(Committed),
    New {
        effects: Vec<Effect>,
        cause: Cause,
        results: Vec<OperationResult>,
        key: Option<(String, Chain)>,
    },
}

impl Outcome {
    fn effects(effects: Vec<Effect>, cause: Cause) -> Self {
        Self::New { effects, cause, results: Vec::new(), key: None }
    }
}

impl Effect {
    fn key(&self) -> &[u8] {
        match self {
            Self::Clear(key)
            | Self::Put(key, _)
            | Self::Delete(key)
            | Self::Expire(key, _)
            | Self::Unexpire(key)
            | Self::Unindex(key, _) => key,
            // Keys to be forgotten belong to no path.
            Self::Forget(..) => &[],
        }
    }
}

impl Path {
    fn covers_key(&self, key: &[u8]) -> bool {
        path::covers(self.key(), key)
    }
}

fn over(message: &'static str, limit: &'static str, value: usize) -> Error {
    Error::new(ErrorKind::TooLarge, message).operation("commit").context(limit, value)
}

fn touched(commit: &Commit) -> impl Iterator<Item = &Path> {
    commit.operations.iter().flat_map(|operation| -> Box<dyn Iterator<Item = &Path>> {
        match operation {
            Operation::Set { path, .. }
            | Operation::Delete { path }
            | Operation::Push { path, .. } => Box::new(std::iter::once(path)),
            Operation::Update { updates, .. } => Box::new(updates.iter().map(|(path, _)| path)),
        }
    })
}

fn remember(result: &OperationResult) -> (Option<String>, Vec<(String, String)>) {
    let resolved =
        result.resolved.iter().map(|(path, json)| (path.to_string(), json.get().to_owned()));
    (result.pushed.clone(), resolved.collect())
}

fn replay(stored: &[u8], fingerprint: Chain) -> Result<Outcome> {
    let remembered: Remembered = crate::record::decode(stored, "remembered answer")?;
    if remembered.fingerprint != fingerprint {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "the idempotency key was used for another request; take a new key for each request",
        ));
    }
    let results = remembered.results.into_iter().map(|(pushed, resolved)| {
        let resolved = resolved
            .into_iter()
            .map(|(path, json)| Ok((Path::parse(&path)?, raw(json.into_bytes())?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(OperationResult { pushed, resolved })
    });
    let results = results.collect::<Result<Vec<_>>>()?;
    Ok(Outcome::Replayed(Committed { rev: remembered.rev, results, replayed: true }))
}

fn check_conditions(
    core: &Core,
    state: &State,
    hidden: &[Bytes],
    conditions: &[Condition],
) -> Result<(), CommitError> {
    if conditions.is_empty() {
        return Ok(());
    }
    let reader = Reader { state: state.clone(), hidden: hidden.to_vec() };
    let mut failed = Vec::new();
    for condition in conditions {
        let path = &condition.path;
        let holds =
            holds(core, &reader, condition).map_err(|error| CommitError::at(path, error))?;
        if !holds {
            let value = reader.get_value(path)?;
            let too_large = value.is_none();
            let null = || raw(b"null".to_vec());
            let value: Box<RawValue> = value.map_or_else(null, Ok)?;
            let hash = reader.hash(path)?;
            failed.push(FailedCondition { path: path.clone(), value, hash, too_large });
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let error = Error::new(
        ErrorKind::Conflict,
        format!("{} of {} conditions did not hold", failed.len(), conditions.len()),
    )
    .operation("commit");
    Err(CommitError { error, path: None, failed })
}

fn holds(core: &Core, reader: &Reader, condition: &Condition) -> Result<bool> {
    let path = &condition.path;
    Ok(match &condition.check {
        Check::Exists => reader.exists(path)?,
        Check::Absent => !reader.exists(path)?,
        Check::Hash(hash) => reader.hash(path)?.as_deref() == Some(hash.as_str()),
        Check::Value(value) => {
            let mut present = Vec::new();
            reader.append_json(path, core.options.limits.commit_bytes_max * 2, &mut present)?;
            present == canonical(value)?
        }
        Check::Rev(rev) => !core.changed_after(&reader.state, *rev, path)?,
    })
}

/// The JSON text that a value would read back as.
fn canonical(value: &Input) -> Result<Vec<u8>> {
    let mut leaves = BTreeMap::new();
    let refuse =
        || Error::new(ErrorKind::InvalidInput, "a condition's value cannot contain a transform");
    flatten(&value.0, Vec::new(), &mut |key, node| match node {
        Node::Leaf(leaf) => {
            leaves.insert(key, leaf.encode());
            Ok(())
        }
        _ => Err(refuse()),
    })?;
    let mut out = Vec::new();
    let mut writer = JsonWriter::default();
    for (key, stored) in leaves {
        writer.leaf(&key, &stored, &mut out)?;
    }
    writer.finish(&mut out);
    Ok(out)
}

/// Visits leaves and transforms with their keys; nulls vanish.
fn flatten(
    node: &Node,
    key: Vec<u8>,
    visit: &mut dyn FnMut(Vec<u8>, &Node) -> Result<()>,
) -> Result<()> {
    match node {
        Node::Null => Ok(()),
        Node::Leaf(_) | Node::Transform(_) => visit(key, node),
        Node::Object(members) => {
            let depth = path::depth(&key);
            if depth >= path::DEPTH_MAX {
                return Err(over("the value is nested too deeply", "depth_max", path::DEPTH_MAX));
            }
            members.iter().try_for_each(|(name, member)| {
                let mut child = key.clone();
                path::push_segment(&mut child, key.is_empty(), name)?;
                flatten(member, child, visit)
            })
        }
    }
}

impl Reader {
    /// The value's JSON, `None` when it is too large for a refusal.
    fn get_value(&self, path: &Path) -> Result<Option<Box<RawValue>>> {
        let mut json = Vec::new();
        match self.append_json(path, FAILED_VALUE_BYTES_MAX, &mut json) {
            Ok(()) => raw(json).map(Some),
            Err(error) if error.kind() == ErrorKind::TooLarge => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// One operation of a commit being resolved.
struct Step<'a, 'b> {
    core: &'a Core,
    draft: &'a mut Draft<'b>,
    resolver: &'a mut Resolver,
    now_ms: u64,
}

impl Step<'_, '_> {
    fn operation(
        &mut self,
        operation: &Operation,
        system: bool,
    ) -> Result<OperationResult, CommitError> {
        match operation {
            Operation::Set { path, value, expiry } => {
                let ends = self.ends(path, *expiry)?;
                self.write(path, value, system, ends, false)
            }
            Operation::Delete { path } => self.write(path, &Input::null(), system, None, false),
            Operation::Push { path, value, expiry } => {
                let id = self.push_id()?;
                let child = path.child(&id).map_err(|error| CommitError::at(path, error))?;
                let ends = self.ends(path, *expiry)?;
                let result = self.write(&child, value, system, ends, false)?;
                Ok(OperationResult { pushed: Some(id), ..result })
            }
            Operation::Update { updates, expiry } => {
                refuse_overlap(updates)?;
                let mut all = OperationResult::default();
                for (path, value) in updates {
                    let ends = self.ends(path, *expiry)?;
                    let one = self.write(path, value, system, ends, true)?;
                    all.resolved.extend(one.resolved);
                }
                Ok(all)
            }
        }
    }

    fn push_id(&mut self) -> Result<String> {
        self.resolver.push_ids.next(self.now_ms, self.core.runtime.random().as_ref())
    }

    fn ends(&self, path: &Path, expiry: Option<Expiry>) -> Result<Option<u64>, CommitError> {
        let invalid = |message: &'static str| {
            Err(CommitError::at(path, Error::new(ErrorKind::InvalidInput, message)))
        };
        match expiry {
            None => Ok(None),
            Some(Expiry::AtMs(at)) => Ok(Some(at)),
            Some(Expiry::TtlSeconds(seconds)) if seconds > 0.0 && seconds <= 3.2e9 => {
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the range was checked"
                )]
                let ms = (seconds * 1000.0).ceil() as u64;
                Ok(Some(self.now_ms.saturating_add(ms)))
            }
            Some(Expiry::TtlSeconds(_)) => {
                invalid("ttl is a number of seconds above 0, at most 3.2e9")
            }
        }
    }

    fn write(
        &mut self,
        path: &Path,
        value: &Input,
        system: bool,
        ends: Option<u64>,
        keep_expiry: bool,
    ) -> Result<OperationResult, CommitError> {
        self.try_write(path, value, system, ends, keep_expiry)
            .map_err(|error| CommitError::at(path, error))
    }

    fn try_write(
        &mut self,
        path: &Path,
        value: &Input,
        system: bool,
        ends: Option<u64>,
        keep_expiry: bool,
    ) -> Result<OperationResult> {
        if path.is_root() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the root cannot be replaced or removed; write its children",
            ));
        }
        if path.is_system() && !system {
            return Err(Error::new(ErrorKind::Denied, "paths that begin with _ are the system's"));
        }
        let mut result = OperationResult::default();
        let leaves = self.leaves(path, value, &mut result)?;
        let kept = if keep_expiry { self.draft.expiry(path.key())? } else { None };
        if leaves.is_empty() {
            self.draft.remove(path.key())?;
        } else {
            self.draft.replace(path.key(), leaves)?;
            if let Some(ends) = ends.or(kept) {
                self.draft.expire(path.key(), Some(ends));
            }
        }
        let limits = &self.core.options.limits;
        if self.draft.bytes() > limits.commit_bytes_max {
            return Err(over(
                "the commit is too large; split it",
                "commit_bytes_max",
                limits.commit_bytes_max,
            ));
        }
        if self.draft.len() > limits.commit_operations_max {
            return Err(over(
                "the commit has too many leaves; split it",
                "commit_operations_max",
                limits.commit_operations_max,
            ));
        }
        Ok(result)
    }

    /// The stored leaves of a value, its transforms resolved against what is there.
    fn leaves(
        &mut self,
        path: &Path,
        value: &Input,
        result: &mut OperationResult,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let leaf_bytes_max = self.core.options.limits.leaf_bytes_max;
        let mut leaves = Vec::new();
        flatten(&value.0, path.key().to_vec(), &mut |key, node| {
            let stored = match node {
                Node::Leaf(leaf) => leaf.encode(),
                Node::Transform(transform) => {
                    let present = self.draft.leaf(&key)?;
                    let present = present.map(|stored| Leaf::decode(&stored)).transpose()?;
                    let now_ms = self.now_ms;
                    let mut ambient = Ambient { now_ms, push_id: &mut || self.push_id() };
                    let stored = transform.resolve(present.as_ref(), &mut ambient)?.encode();
                    let mut json = Vec::new();
                    leaf::write_json(&stored, &mut json)?;
                    result.resolved.push((Path::from_key(&key)?, raw(json)?));
                    stored
                }
                Node::Null | Node::Object(_) => return Ok(()),
            };
            if stored.len() - 1 > leaf_bytes_max {
                return Err(over("a value is too large", "leaf_bytes_max", leaf_bytes_max));
            }
            leaves.push((key.into(), stored));
            Ok(())
        })?;
        Ok(leaves)
    }
}

fn refuse_overlap(updates: &[(Path, Input)]) -> Result<(), CommitError> {
    let mut paths: Vec<&Path> = updates.iter().map(|(path, _)| path).collect();
    paths.sort_unstable();
    for pair in paths.windows(2) {
        if let [above, below] = pair
            && above.covers(below)
        {
            let message = "a path of the update lies at or below another; the order would decide";
            return Err(CommitError::at(below, Error::new(ErrorKind::InvalidInput, message)));
        }
    }
    Ok(())
}
