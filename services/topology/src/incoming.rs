//! What comes from a source, as commits of this node: checked, in keys of this node, with the
//! position that each stands for.

use bytes::Bytes;
use trellis_tree::{
    Author, ChangeCause, RemoteCommit, RemoteRule, Scope, StampedChange, StampedOp, VIA_MAX,
    Version,
};

use crate::message::{Batch, LogPosition, Page, Refusal, WireRecord, origin};
use crate::plan::{FillRule, PullPlan};
use crate::planted::{Planted, is_planted};
use crate::position::{FeedPosition, FillPosition};
use crate::source_check::covers;

/// What the key of an ending has besides that of its path.
pub(crate) const ENDING: [u8; 2] = [0, 2];

/// Who follows whom, and how.
#[derive(Debug, Clone)]
pub(crate) struct Following {
    pub(crate) plan: PullPlan,
    /// This node.
    pub(crate) node: u128,
    /// The source.
    pub(crate) peer: u128,
    /// What is followed, in keys of the source: the plan's, without what the source leaves out.
    pub(crate) scope: Scope,
}

impl Following {
    /// Ops in keys of this node. Of what would be no path here there is nothing to remove either.
    ///
    /// # Errors
    /// `unsupported` where something is to be kept that would be no path here: left out it would be
    /// missing, and nobody would know.
    pub(crate) fn local_ops(&self, ops: Vec<StampedOp>) -> Result<Vec<StampedOp>, Refusal> {
        let prefix = &self.plan.local_prefix;
        if prefix.is_empty() {
            return Ok(ops);
        }
        let mut local = Vec::with_capacity(ops.len());
        for op in ops {
            let ending = op.key.strip_suffix(&ENDING).map(<[u8]>::len);
            let path = ending.map_or_else(|| op.key.clone(), |end| op.key.slice(..end));
            match crate::remap::remapped(prefix, &path) {
                Ok(_) => {
                    let key = crate::remap::prefixed(prefix, &op.key);
                    local.push(StampedOp { key, ..op });
                }
                Err(error) if matches!(op.change, StampedChange::Put(_)) => {
                    let reason = crate::message::RefusalReason::Unsupported;
                    let path = String::from_utf8_lossy(&path).replace('\0', "/");
                    return Err(Refusal::new(reason, format!("{path}: {}", error.message())));
                }
                Err(_) => {}
            }
        }
        Ok(local)
    }

    /// What a position counts for, or why it does not.
    pub(crate) fn is_valid(&self, position: &FeedPosition) -> bool {
        position.node == self.node
            && position.fingerprint == self.plan.fingerprint
            && position.at.log_id == self.peer
    }

    pub(crate) fn position(&self, at: LogPosition, complete_at: u64) -> FeedPosition {
        let Self { plan, node, .. } = self;
        FeedPosition { node: *node, fingerprint: plan.fingerprint, at, fill: None, complete_at }
    }

    /// What a snapshot does with what is at a key of the source.
    pub(crate) fn fill_rule(&self, key: &[u8]) -> Option<FillRule> {
        let covering = self.plan.parts.iter().filter(|part| covers(&part.prefix, key));
        covering.max_by_key(|part| part.prefix.len()).map(|part| part.fill)
    }

    /// Whether the source alone writes all that a record touches.
    fn is_owned(&self, record: &WireRecord) -> bool {
        let owned = |op: &StampedOp| self.fill_rule(&op.key) == Some(FillRule::Replace);
        record.ops.iter().all(owned)
    }

    /// The commit of one record of a batch. What only the source writes counts as it is, in its
    /// order: also what is older than what pages have brought already, for what follows it brings
    /// that again, whatever link it comes by.
    pub(crate) fn commit(
        &self,
        record: WireRecord,
        position: &FeedPosition,
    ) -> Result<RemoteCommit, Refusal> {
        let rule = if self.is_owned(&record) { RemoteRule::Follow } else { RemoteRule::Merge };
        let mut author = record.author;
        let hop = origin(self.peer);
        if author.version.origin != hop {
            author.via.push(hop);
        }
        Ok(RemoteCommit {
            author,
            cause: cause(record.cause)?,
            ops: self.local_ops(record.ops)?,
            scope: self.plan.local_scope(&self.scope),
            rule,
            notes: vec![self.note(position)?],
        })
    }

    pub(crate) fn note(
        &self,
        position: &FeedPosition,
    ) -> Result<(trellis_tree::Path, trellis_tree::Input), Refusal> {
        position.note(&self.plan.feed).map_err(|error| crate::turn::failed(&error))
    }

    /// The commit of a page; `position` is that after it.
    pub(crate) fn page_commit(
        &self,
        page: Page,
        known_rev: u64,
        delta: bool,
        position: &FeedPosition,
    ) -> Result<RemoteCommit, Refusal> {
        let part = crate::source_check::part_scope(&self.scope, page.part).unwrap_or_default();
        let index = usize::try_from(page.part).unwrap_or(usize::MAX);
        let fill = self.plan.parts.get(index).map_or(FillRule::Merge, |part| part.fill);
        let from = page.start.map_or_else(Bytes::new, |key| self.plan.local_key(&key));
        let until = page.next.map(|key| self.plan.local_key(&key));
        let (scope, rule) = match fill {
            _ if delta => (self.scope.clone(), RemoteRule::Merge),
            FillRule::Merge if is_planted(Planted::SyncReplaced) => {
                (part, RemoteRule::Replace { from, until })
            }
            FillRule::Replace => (part, RemoteRule::Replace { from, until }),
            FillRule::Merge => (part, RemoteRule::Fill { from, until, known_rev }),
        };
        let hlc = page.ops.iter().map(|op| op.version.hlc).max().unwrap_or(0);
        Ok(RemoteCommit {
            author: Author { version: Version { hlc, origin: origin(self.peer) }, via: Vec::new() },
            cause: ChangeCause::Request,
            ops: self.local_ops(page.ops)?,
            scope: self.plan.local_scope(&scope),
            rule,
            notes: vec![self.note(position)?],
        })
    }

    /// Whether a commit is one of this node's own, come back.
    pub(crate) fn is_echo(&self, record: &WireRecord) -> bool {
        let own = origin(self.node);
        record.author.version.origin == own || record.author.via.contains(&own)
    }

    /// Refuses a batch that does not follow what came before, or says what cannot be.
    pub(crate) fn check_batch(&self, batch: &Batch, expected: u64) -> Result<(), Refusal> {
        if batch.after != expected || batch.through <= batch.after || batch.head < batch.through {
            return Err(Refusal::protocol("the commits of a batch do not follow the last ones"));
        }
        let mut last = batch.after;
        for record in &batch.commits {
            if record.rev <= last || record.rev > batch.through {
                return Err(Refusal::protocol("the commits of a batch are out of order"));
            }
            last = record.rev;
            let Author { via, .. } = &record.author;
            if via.len() >= VIA_MAX {
                return Err(Refusal::protocol("a commit passed more nodes than any may"));
            }
            if via.contains(&origin(self.peer)) {
                return Err(Refusal::protocol("a commit names its sender among its relays"));
            }
        }
        Ok(())
    }

    /// Refuses a page that is not the one expected.
    pub(crate) fn check_page(&self, page: &Page, at: &FillPosition) -> Result<(), Refusal> {
        if page.part != at.part || page.start != at.next {
            return Err(Refusal::protocol("a page is not the one that follows"));
        }
        if at.since.is_some() {
            return Ok(());
        }
        let start = page.start.clone().unwrap_or_default();
        let behind = page.next.as_ref().is_some_and(|next| *next <= start);
        let apart = |op: &StampedOp| {
            op.key < start || page.next.as_ref().is_some_and(|next| op.key >= *next)
        };
        let sorted = page.ops.is_sorted_by(|one, other| one.key < other.key);
        if behind || !sorted || page.ops.iter().any(apart) {
            return Err(Refusal::protocol("a page holds what does not belong there"));
        }
        Ok(())
    }
}

/// The first version that is further ahead than a clock may be.
pub(crate) fn from_the_future<'a>(
    mut versions: impl Iterator<Item = &'a Version>,
    wall_ms: u64,
    drift_ms_max: u64,
) -> Option<u64> {
    let latest = wall_ms.saturating_add(drift_ms_max);
    versions.find(|version| version.ms() > latest).map(|version| version.ms() - wall_ms)
}

pub(crate) fn cause(code: u8) -> Result<ChangeCause, Refusal> {
    match code {
        0 => Ok(ChangeCause::Request),
        1 => Ok(ChangeCause::Ttl),
        2 => Ok(ChangeCause::Upkeep),
        _ => Err(Refusal::new(
            crate::message::RefusalReason::Unsupported,
            "a commit has a cause that this build does not know",
        )),
    }
}

pub(crate) fn cause_code(cause: ChangeCause) -> u8 {
    match cause {
        ChangeCause::Request => 0,
        ChangeCause::Ttl => 1,
        ChangeCause::Upkeep => 2,
    }
}
