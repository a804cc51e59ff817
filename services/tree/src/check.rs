//! `check`: whether what is stored is what was written, offline or beside writers.
//!
//! Looked at: the engine's own check, every journal record (checksum, decoded fields, chained
//! hash), every value in the store (seal, shape), the keys, what is derived (the orders of endings
//! and of forgetting, stamps and the order of revs), and whether the store holds what the retained
//! journal says.
//!
//! Invariants:
//! 1. Nothing is changed; what an engine changes in its own check is a finding.
//! 2. The store is read in pages, each with a view of its own, so writers go on and no view is old.
//! 3. A key that the journal changes after a page's view is no finding: an engine that is given
//!    small batches may be in the middle of one, and the next open writes it anyway.
//! 4. Memory is bounded: by the findings that are listed, by the journal that is compared, by a
//!    page and, for idempotency keys, by eight bytes for each.

use bytes::Bytes;
use serde::Serialize;
use trellis_engine_traits::{ErrorKind, KvBackend, KvSnapshot, Result, SpaceId, StreamLog};

use crate::apply::APPLIED_KEY;
use crate::check_journal::Recent;
use crate::derivation::Derivation;
use crate::record::{self, Applied, META, Opening};
use crate::tree::Tree;
use crate::{check_index, openings, recover, seal, seed};

/// How a check is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckOptions {
    /// Findings that are listed; more are counted.
    pub findings_max: usize,
    /// Memory for the newest part of the journal that the store is compared with.
    pub compare_bytes_max: usize,
    /// How indexes are derived; without it they are not compared with the data. An open tree
    /// takes its own.
    pub derivation: Option<&'static dyn Derivation>,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { findings_max: 1000, compare_bytes_max: 64 << 20, derivation: None }
    }
}

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The engine itself found damage in its files, or cannot read them.
    Engine,
    /// A record of the journal cannot be read.
    Record,
    /// A record does not follow the one before it.
    History,
    /// Store and journal do not belong together, or one does not reach the other.
    Pair,
    /// A stored value fails its checksum.
    Checksum,
    /// A stored value or key is none that a tree writes.
    Shape,
    /// A leaf has something below it.
    LeafAbove,
    /// An entry is missing in an index, or in the order of endings or of forgetting.
    MissingIndex,
    /// An entry in an index or in an order stands for nothing.
    StrayIndex,
    /// The store does not hold what the journal says.
    Disagreement,
    /// Something is stored where nothing belongs.
    UnknownSpace,
}

/// What can be done about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// Repair writes it again from the journal; nothing is lost.
    Journal,
    /// Repair derives it again from the data; nothing is lost.
    Derive,
    /// Repair removes it and keeps a copy aside; what it held is lost to the tree.
    Remove,
    /// Repair cannot help: rebuild the store from its journal, or restore a backup.
    Restore,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of thing.
    pub kind: FindingKind,
    /// Where: a path, a rev of the journal, a space.
    pub place: String,
    /// What is wrong there, in a sentence without values.
    pub detail: String,
    /// What can be done about it.
    pub remedy: Remedy,
    #[serde(skip)]
    pub(crate) fix: Option<Fix>,
    /// What it is about: no finding if the journal changes one of them later.
    #[serde(skip)]
    pub(crate) spots: Vec<Spot>,
}

/// A key in a space.
pub(crate) type Spot = (SpaceId, Bytes);

/// What repair does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fix {
    /// Writes what the journal says of the spot.
    Journal(Spot),
    /// Writes a small derived value.
    Put(Spot, Bytes),
    /// Enters an idempotency key into the order of forgetting, as of now.
    Remember(Bytes),
    /// Removes an entry that stands for nothing, or that is derived anew afterwards.
    Forget(Spot),
    /// Removes an entry; what it held is kept aside.
    Remove(Spot),
    /// Gives the journal up to this offset free: all of it is in the store.
    Trim(u64),
    /// Removes the indexes, which the next open makes anew.
    Reindex,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The rev up to which the store holds everything.
    pub applied_rev: u64,
    /// The rev after which the history of the journal begins: 0, or that of a restore.
    pub journal_base: u64,
    /// The first and the last rev in the journal; both 0 when it is empty.
    pub journal_revs: (u64, u64),
    /// Records read.
    pub records: u64,
    /// Leaves read.
    pub leaves: u64,
    /// Endings read.
    pub endings: u64,
    /// Idempotency keys read.
    pub keys: u64,
    /// Entries of indexes read.
    pub index_entries: u64,
    /// Stamps read, of leaves, endings and what is gone, where the tree is replicated.
    pub stamps: u64,
    /// Keys whose newest journal record was compared with the store.
    pub compared: u64,
    /// Bytes of live keys and values in the store.
    pub live_bytes: u64,
    /// Bytes of the store's files; what is beyond the live ones is free or the engine's own.
    pub disk_bytes: u64,
    /// What was not checked, and why.
    pub skipped: Vec<String>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Findings that are not listed.
    pub more_findings: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Checks a store and a journal that no tree has open; a part that could not be opened is left out.
///
/// # Errors
/// What kept it from checking: `Unavailable`, `Closed`, `InvalidInput` for a restore that has not
/// finished. Damage is no error but a finding.
///
/// # Cost
/// Reads everything once.
///
/// ```
/// use trellis_kv_memory::MemoryKv;
/// use trellis_log_memory::MemoryLog;
/// use trellis_tree::{CheckOptions, check};
///
/// let (kv, log) = (MemoryKv::new(), MemoryLog::new());
/// assert!(check(Some(&kv), Some(&log), &CheckOptions::default())?.is_clean());
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
pub fn check(
    kv: Option<&dyn KvBackend>,
    log: Option<&dyn StreamLog>,
    options: &CheckOptions,
) -> Result<CheckReport> {
    run(kv, log, options).map(|(report, _)| report)
}

/// Checks, and hands on the part of the journal that was compared.
pub(crate) fn run(
    kv: Option<&dyn KvBackend>,
    log: Option<&dyn StreamLog>,
    options: &CheckOptions,
) -> Result<(CheckReport, Recent)> {
    let mut check = Check {
        kv,
        log,
        options,
        report: CheckReport::default(),
        opening: None,
        applied: None,
        recent: Recent::new(options.compare_bytes_max),
    };
    check.engine()?;
    check.notes()?;
    check.journal()?;
    check.compare()?;
    check.spaces()?;
    if let Some(kv) = kv {
        let usage = kv.usage()?;
        (check.report.live_bytes, check.report.disk_bytes) = (usage.live_bytes, usage.disk_bytes);
    }
    Ok((check.report, check.recent))
}

impl Tree {
    /// Checks the tree beside readers and writers.
    ///
    /// # Errors
    /// As for [`check`].
    ///
    /// # Cost
    /// Reads everything once, in pages; the journal is not trimmed meanwhile.
    pub fn check(&self, options: &CheckOptions) -> Result<CheckReport> {
        let core = self.core();
        let _hold = self.hold_whole_journal()?;
        let options = CheckOptions { derivation: core.options.derivation, ..options.clone() };
        check(Some(core.kv.as_ref()), Some(core.log.as_ref()), &options)
    }
}

pub(crate) struct Check<'a> {
    pub(crate) kv: Option<&'a dyn KvBackend>,
    pub(crate) log: Option<&'a dyn StreamLog>,
    pub(crate) options: &'a CheckOptions,
    pub(crate) report: CheckReport,
    pub(crate) opening: Option<Opening>,
    pub(crate) applied: Option<Applied>,
    pub(crate) recent: Recent,
}

impl Check<'_> {
    pub(crate) fn found(&mut self, finding: Finding) {
        if self.report.findings.len() < self.options.findings_max {
            self.report.findings.push(finding);
        } else {
            self.report.more_findings += 1;
        }
    }

    /// The rev before the journal's first record.
    pub(crate) fn base(&self) -> u64 {
        self.opening.as_ref().map_or(0, |opening| opening.base)
    }

    pub(crate) fn applied_rev(&self) -> u64 {
        self.applied.as_ref().map_or(self.base(), |applied| applied.rev)
    }

    fn engine(&mut self) -> Result<()> {
        let Some(kv) = self.kv else { return Ok(()) };
        let checked = kv.check()?;
        let name = kv.profile().name;
        for damage in checked.damage {
            self.found(Finding::new(FindingKind::Engine, name, damage, Remedy::Restore));
        }
        self.report.skipped.extend(checked.skipped);
        Ok(())
    }

    /// Who the journal is, how far the store has come, and whether they fit.
    fn notes(&mut self) -> Result<()> {
        if let Some(log) = self.log {
            match openings::last(log) {
                Ok(opening) => self.opening = opening,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    self.found(Finding::new(
                        FindingKind::Record,
                        "the journal's openings",
                        error.message(),
                        Remedy::Restore,
                    ));
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(kv) = self.kv {
            let read = seed::refuse_unfinished(kv)
                .and_then(|()| kv.snapshot())
                .and_then(|view| read_applied(view.as_ref()));
            match read {
                Ok(applied) => self.applied = applied,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    let detail = "the store's note of its rev is damaged";
                    let place = "the store's notes";
                    self.found(Finding::new(FindingKind::Pair, place, detail, Remedy::Restore));
                }
                Err(error) => return Err(error),
            }
        }
        self.report.applied_rev = self.applied_rev();
        self.report.journal_base = self.base();
        if let (Some(_), Some(log), Some(opening)) = (self.kv, self.log, &self.opening)
            && let Err(error) = recover::check_pair(log, opening, self.applied.as_ref())
        {
            if error.kind() != ErrorKind::Corrupt {
                return Err(error);
            }
            let place = "store and journal";
            self.found(Finding::new(FindingKind::Pair, place, error.message(), Remedy::Restore));
        }
        Ok(())
    }
}

impl Finding {
    /// A store or a journal that its engine cannot open: `place` says which.
    #[must_use]
    pub fn unreadable(place: &str, error: &trellis_engine_traits::Error) -> Self {
        Self::new(FindingKind::Engine, place, error.to_string(), Remedy::Restore)
    }

    pub(crate) fn new(
        kind: FindingKind,
        place: impl Into<String>,
        detail: impl Into<String>,
        remedy: Remedy,
    ) -> Self {
        let (place, detail) = (place.into(), detail.into());
        Self { kind, place, detail, remedy, fix: None, spots: Vec::new() }
    }

    pub(crate) fn fix(mut self, fix: Fix) -> Self {
        self.fix = Some(fix);
        self
    }

    /// Names what it is about, a second time if two keys contradict each other. In the space of
    /// indexes it is a path, with all at and below it.
    pub(crate) fn about(mut self, space: SpaceId, key: &Bytes) -> Self {
        self.spots.push((space, key.clone()));
        self
    }
}

/// How far the store that a view shows has come.
pub(crate) fn read_applied(view: &dyn KvSnapshot) -> Result<Option<Applied>> {
    let Some(stored) = view.get(META, APPLIED_KEY)? else { return Ok(None) };
    let note = seal::unseal(META, APPLIED_KEY, &stored)?;
    Applied::decode(note).map(Some)
}

/// A place as people know it.
pub(crate) fn place_of(space: SpaceId, key: &[u8]) -> String {
    use record::{BY_REV, DATA, EXPIRY, EXPIRY_TIME, INDEX, KEYS, KEYS_TIME, STAMP};
    let text = |key: &[u8]| String::from_utf8_lossy(key).replace('\0', "/");
    let timed = |key: &[u8]| match record::split_time_key(key) {
        Some((at_ms, key)) => format!("{} at {at_ms}", text(key)),
        None => text(key),
    };
    match space {
        DATA => text(key),
        EXPIRY => format!("the ending of {}", text(key)),
        EXPIRY_TIME => format!("the order of endings: {}", timed(key)),
        KEYS => format!("the idempotency key {}", text(key)),
        KEYS_TIME => format!("the order of forgetting: {}", timed(key)),
        STAMP => format!("the stamp of {}", text(key)),
        BY_REV => format!("the order of revs: {}", timed(key)),
        INDEX => check_index::place_of_entry(key),
        other => format!("space {}", other.0),
    }
}
