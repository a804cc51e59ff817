//! *Resolve*: a request against the newest state becomes plain effects, or a refusal.

use std::ops::Bound;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::answer::{CommitError, Committed, OperationResult};
use crate::cause::ChangeCause;
use crate::commit::{Commit, Operation};
use crate::condition::check_conditions;
use crate::core::Core;
use crate::derive::{INDEX_BYTES_MAX, derive};
use crate::derive_stamps::derive_stamps;
use crate::draft::Draft;
use crate::effect::Effect;
use crate::endings;
use crate::endings::Hidden;
use crate::image::Image;
use crate::journal::Position;
use crate::path::{self, Path};
use crate::reader::raw;
use crate::record::{Chain, Record, Remembered};
use crate::refusal::over;
use crate::resolver::{New, Resolver};
use crate::space::KEYS;
use crate::spared::Told;
use crate::state::State;
use crate::step::Step;
use crate::work::{RemoteWork, Work};
use crate::{expiry, fingerprint};

/// What a request came to.
pub(crate) struct Resolved {
    /// The record, encoded and as it was entered; `None` when nothing changed.
    pub(crate) record: Option<(Bytes, Record)>,
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
    /// The newest resolved commit.
    pub(crate) fn position(&self) -> Position {
        Position { rev: self.rev, hash: self.chain }
    }

    /// Resolves one request and enters its effects into the overlay, not yet visible.
    pub(crate) fn resolve(&mut self, core: &Core, work: &Work) -> Resolved {
        let resolved = self.outcome(core, work);
        if resolved.answer.is_err() {
            work.tear();
        }
        resolved
    }

    fn outcome(&mut self, core: &Core, work: &Work) -> Resolved {
        let now_ms = core.runtime.clock().now_ms().max(self.last_ms);
        self.last_ms = now_ms;
        let state = core.newest();
        let outcome = match work {
            Work::Commit(commit) => self.commit(core, &state, commit, now_ms),
            Work::Expire => expiry::due_effects(core, &state, now_ms)
                .map(|(effects, images, told)| {
                    Outcome::upkeep(effects, images, told, ChangeCause::Ttl)
                })
                .map_err(CommitError::from),
            Work::ForgetKeys => expiry::forget_effects(core, &state, now_ms)
                .map(|effects| {
                    Outcome::upkeep(effects, Vec::new(), Told::default(), ChangeCause::Upkeep)
                })
                .map_err(CommitError::from),
            Work::Collect(stamps) => {
                self.collect(core, &state, stamps, now_ms).map(Outcome::New).map_err(Into::into)
            }
            Work::Remote(work) => {
                let RemoteWork { commit, applied, chain, at } = &**work;
                let checked = chain.check(*at, self.rollbacks).map_err(CommitError::from);
                let remote = |()| self.remote(core, &state, commit, &mut applied.lock());
                checked.and_then(remote).map(Outcome::New)
            }
        };
        match outcome {
            Err(refusal) => Resolved::answer(Err(refusal)),
            Ok(Outcome::Replayed(committed)) => Resolved::answer(Ok(committed)),
            // Nothing changes, and there is no key to remember.
            Ok(Outcome::New(New { effects, key: None, results, .. })) if effects.is_empty() => {
                Resolved::answer(Ok(Committed { rev: self.rev, results, ..Committed::default() }))
            }
            Ok(Outcome::New(new)) => self
                .record(core, new, now_ms)
                .unwrap_or_else(|error| Resolved::answer(Err(error.into()))),
        }
    }

    fn record(&mut self, core: &Core, new: New, now_ms: u64) -> Result<Resolved> {
        let New { effects, images, told, cause, results, key, authored } = new;
        if cause == ChangeCause::Request || authored.is_some() {
            core.check_room(&effects)?;
        }
        let rev = self.rev + 1;
        let key = key.map(|(key, fingerprint)| {
            let results = results.iter().map(remember).collect();
            (key, Remembered { fingerprint, rev, results })
        });
        let epoch = core.epoch;
        // What makes room must not take more of it than it has to.
        let images = if core.log_is_full() { None } else { Some(images) };
        let (at_ms, prev) = (now_ms, self.chain);
        let is_request = cause == ChangeCause::Request && authored.is_none();
        let authored = match authored {
            Some(authored) => authored,
            None => self.author(core, &effects, &told, now_ms),
        };
        let mut record = Record { rev, epoch, at_ms, prev, cause, key, effects, images, authored };
        let mut encoded = record.encode()?;
        let record_bytes_max = core.log.profile().limits.record_bytes_max;
        if encoded.len() > record_bytes_max {
            // No commit is refused for what it replaces.
            record.images = None;
            encoded = record.encode()?;
        }
        let policy = &core.options.durability;
        let sync = record.effects.iter().any(|effect| policy.wants_sync(effect.key()))
            || (record.effects.is_empty() && policy.wants_sync(&[]));
        if encoded.len() > record_bytes_max {
            return Err(over(
                "the commit is too large for one journal record; split it",
                "record_bytes_max",
                record_bytes_max,
            ));
        }
        let (derivation, definitions) = (core.options.derivation, core.definitions());
        let bytes_max = if is_request { INDEX_BYTES_MAX } else { usize::MAX };
        let newest = core.newest();
        let index = derive(derivation, &definitions, &newest, &record.effects, rev, bytes_max)?;
        let stamps = derive_stamps(&record, &newest)?;
        self.rev = rev;
        self.chain = crate::record::chain(&encoded);
        core.hlc.fetch_max(self.hybrid.last(), Ordering::AcqRel);
        core.enter(&record, index, stamps);
        let committed = Committed { rev, results, ..Committed::default() };
        Ok(Resolved { record: Some((encoded, record)), sync, answer: Ok(committed) })
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
            if name.is_empty() {
                let message = "the idempotency key is empty; leave it out or name one";
                return Err(Error::new(ErrorKind::InvalidInput, message).into());
            }
            if name.len() > limits.key_bytes_max {
                let (limit, max) = ("key_bytes_max", limits.key_bytes_max);
                return Err(over("the idempotency key is too long", limit, max).into());
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
        let zoning = core.options.zoning.as_deref();
        let mut draft = Draft::new(state, core.any_expiry()).in_zones(zoning);
        let next_due_ms = core.next_due_ms.load(Ordering::Acquire);
        let hidden = endings::due(state, next_due_ms, now_ms)?;
        check_conditions(core, state, &hidden, &commit.conditions)?;
        for due in touched(commit).flat_map(|path| due_around(&hidden, path)) {
            if !draft.end(&due)? {
                let message = "what ended there is still being removed; try again";
                return Err(Error::new(ErrorKind::Busy, message).operation("commit").into());
            }
        }
        draft.begin_request();
        let results = commit
            .operations
            .iter()
            .map(|operation| {
                let mut step = Step { core, draft: &mut draft, resolver: self, now_ms };
                step.operation(operation, commit.system)
            })
            .collect::<Result<Vec<_>, CommitError>>()?;
        let (effects, images, told) = draft.finish()?;
        let (cause, authored) = (ChangeCause::Request, None);
        Ok(Outcome::New(New { effects, images, told, cause, results, key, authored }))
    }
}

enum Outcome {
    Replayed(Committed),
    New(New),
}

impl Outcome {
    fn upkeep(effects: Vec<Effect>, images: Vec<Image>, told: Told, cause: ChangeCause) -> Self {
        let results = Vec::new();
        Self::New(New { effects, images, told, cause, results, key: None, authored: None })
    }
}

/// What is due at, above or below a path.
fn due_around(hidden: &Hidden, path: &Path) -> Vec<Bytes> {
    if hidden.is_empty() {
        return Vec::new();
    }
    let range = path::subtree(path.key());
    let end = range.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
    let below = hidden.range::<Bytes, _>((Bound::Included(&range.start), end));
    let above = path::ancestors(path.key()).filter_map(|ancestor| hidden.get(ancestor));
    below.chain(above).cloned().collect()
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
    let rev = remembered.rev;
    Ok(Outcome::Replayed(Committed { rev, results, replayed: true, upstream: None }))
}
