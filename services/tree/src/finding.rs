//! What a check finds, and what it can do about it.

use bytes::Bytes;
use serde::Serialize;
use trellis_engine_traits::{KvSnapshot, Result, SpaceId};

use crate::derivation::Derivation;
use crate::record::Applied;
use crate::seal;
use crate::space::{
    APPLIED_KEY, BY_REV, DATA, EXPIRY, EXPIRY_TIME, INDEX, KEYS, KEYS_TIME, META, STAMP,
    split_time_key,
};

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

/// A place as people know it.
pub(crate) fn place_of(space: SpaceId, key: &[u8]) -> String {
    let text = |key: &[u8]| String::from_utf8_lossy(key).replace('\0', "/");
    let timed = |key: &[u8]| match split_time_key(key) {
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
        INDEX => place_of_entry(key),
        other => format!("space {}", other.0),
    }
}

/// How far the store that a view shows has come.
pub(crate) fn read_applied(view: &dyn KvSnapshot) -> Result<Option<Applied>> {
    let Some(stored) = view.get(META, APPLIED_KEY)? else { return Ok(None) };
    let note = seal::unseal(META, APPLIED_KEY, &stored)?;
    Applied::decode(note).map(Some)
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

/// Where an entry is, as people know it.
pub(crate) fn place_of_entry(key: &[u8]) -> String {
    let id = key.split(|byte| *byte == 0).next().unwrap_or_default();
    let collection = crate::derivation::path_part(key).get(id.len() + 1..).unwrap_or_default();
    place(&String::from_utf8_lossy(id), collection)
}

pub(crate) fn place(id: &str, item: &[u8]) -> String {
    format!("index {id}: {}", String::from_utf8_lossy(item).replace('\0', "/"))
}
