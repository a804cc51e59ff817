//! `repair`: writes again what the journal or the data still says, and removes what nothing says
//! anything of.
//!
//! Invariants:
//! 1. Nothing is done that is not listed, and nothing is removed that was not handed to the caller
//!    first, who keeps it.
//! 2. What the journal says goes before what can be derived, and that before what is removed.
//! 3. A repair that is cut off leaves a store that the next one goes on with.
//!
//! Deliberately absent: damage to records that the store does not hold yet, and a store that its
//! engine cannot read. Those need a rebuild or a backup.

use bytes::Bytes;
use serde::Serialize;
use trellis_engine_traits::{
    At, KeyRange, KvBackend, Op, Result, SpaceId, StreamId, StreamLog, WriteBatch,
};
use trellis_runtime::Runtime;

use crate::batch::commit_sealed;
use crate::check;
use crate::checking::Recent;
use crate::finding::{CheckOptions, CheckReport, FindingKind, Fix, Remedy, Spot};
use crate::memtable::Found;
use crate::space::{self, DATA, INDEX, INDEXES_KEY, KEYS_TIME, META};

/// Rounds of checking and repairing: removing one thing may show the next.
const ROUNDS_MAX: usize = 1000;

/// What was done about one finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// What was wrong.
    pub kind: FindingKind,
    /// Where.
    pub place: String,
    /// What was done about it.
    pub remedy: Remedy,
}

/// What a repair did and what it left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// Everything that was done, in its order.
    pub repairs: Vec<Repair>,
    /// The check after it.
    pub report: CheckReport,
}

/// Something that a repair is about to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed<'a> {
    /// Where it was, as people know it.
    pub place: &'a str,
    /// The number of its space.
    pub space: u8,
    /// Its key.
    pub key: &'a [u8],
    /// What was stored, checksum included.
    pub stored: &'a [u8],
}

/// Repairs what can be repaired in a store and a journal that no tree has open.
///
/// `keep` is given what is about to be removed and lost, and stops the repair with its error.
///
/// # Errors
/// As for [`check`](crate::check), those of `keep`, and those of the engines; what was listed as
/// done until then is done.
///
/// # Durability
/// Durable when it returns.
///
/// ```
/// use trellis_kv_memory::MemoryKv;
/// use trellis_log_memory::MemoryLog;
/// use trellis_runtime::Runtime;
/// use trellis_tree::{CheckOptions, repair};
///
/// let (kv, log) = (MemoryKv::new(), MemoryLog::new());
/// let repaired =
///     repair(&kv, Some(&log), &Runtime::system(), &CheckOptions::default(), &mut |_| Ok(()))?;
/// assert!(repaired.repairs.is_empty());
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
pub fn repair(
    kv: &dyn KvBackend,
    log: Option<&dyn StreamLog>,
    runtime: &Runtime,
    options: &CheckOptions,
    keep: &mut dyn FnMut(&Removed<'_>) -> Result<()>,
) -> Result<Repaired> {
    let mut repairs = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let (report, recent) = check::run(Some(kv), log, options)?;
        let now_ms = runtime.clock().now_ms();
        let done = round(kv, log, &report, &Context { recent: &recent, now_ms }, keep)?;
        if done.is_empty() {
            return Ok(Repaired { repairs, report });
        }
        repairs.extend(done);
    }
    let report = check::check(Some(kv), log, options)?;
    Ok(Repaired { repairs, report })
}

struct Context<'a> {
    recent: &'a Recent,
    now_ms: u64,
}

/// Repairs what the best remedy of all that was found applies to; the others may then be needless.
fn round(
    kv: &dyn KvBackend,
    log: Option<&dyn StreamLog>,
    report: &CheckReport,
    context: &Context<'_>,
    keep: &mut dyn FnMut(&Removed<'_>) -> Result<()>,
) -> Result<Vec<Repair>> {
    let mut done = Vec::new();
    for remedy in [Remedy::Journal, Remedy::Derive, Remedy::Remove] {
        let mut batch = WriteBatch::new();
        for finding in report.findings.iter().filter(|finding| finding.remedy == remedy) {
            let Some(fix) = &finding.fix else { continue };
            match fix {
                Fix::Trim(before) => {
                    let Some(log) = log else { continue };
                    let stream = StreamId::new("journal")?;
                    let first = log.bounds(&stream)?.first;
                    log.trim(&stream, *before)?;
                    // The log gives whole files free; a damaged record in the last one stays.
                    if log.bounds(&stream)?.first == first {
                        continue;
                    }
                }
                Fix::Remove(spot) => keep_copy(kv, spot, &finding.place, keep)?,
                Fix::Journal(_)
                | Fix::Put(..)
                | Fix::Remember(_)
                | Fix::Forget(_)
                | Fix::Reindex => {}
            }
            batch = write(batch, fix, context);
            let (kind, place) = (finding.kind, finding.place.clone());
            done.push(Repair { kind, place, remedy });
        }
        // What indexes were derived from is another now.
        if batch.ops.iter().any(is_data) && kv.snapshot()?.get(META, INDEXES_KEY)?.is_some() {
            batch = write(batch, &Fix::Reindex, context);
            let (kind, place) = (FindingKind::StrayIndex, "the indexes".to_owned());
            done.push(Repair { kind, place, remedy: Remedy::Derive });
        }
        if !batch.ops.is_empty() {
            commit_sealed(kv, batch)?;
        }
        if !done.is_empty() {
            break;
        }
    }
    Ok(done)
}

fn write(batch: WriteBatch, fix: &Fix, context: &Context<'_>) -> WriteBatch {
    let put = |batch: WriteBatch, (space, key): &Spot, value: Bytes| {
        batch.put(*space, key.clone(), value)
    };
    match fix {
        Fix::Journal(spot) => match context.recent.expected(spot) {
            Found::Value(value) => put(batch, spot, value),
            Found::Absent => batch.delete(spot.0, spot.1.clone()),
            Found::Unknown => batch,
        },
        Fix::Put(spot, value) => put(batch, spot, value.clone()),
        Fix::Remember(key) => {
            put(batch, &(KEYS_TIME, space::time_key(context.now_ms, key)), Bytes::new())
        }
        Fix::Forget((space, key)) | Fix::Remove((space, key)) => batch.delete(*space, key.clone()),
        Fix::Reindex if batch.ops.iter().any(is_reindex) => batch,
        Fix::Reindex => batch.delete_range(INDEX, KeyRange::all()).delete(META, INDEXES_KEY),
        Fix::Trim(_) => batch,
    }
}

fn is_data(op: &Op) -> bool {
    matches!(op, Op::Put(At { space: DATA, .. }, _) | Op::Delete(At { space: DATA, .. }))
}

fn is_reindex(op: &Op) -> bool {
    matches!(op, Op::DeleteRange(INDEX, _))
}

fn keep_copy(
    kv: &dyn KvBackend,
    (space, key): &(SpaceId, Bytes),
    place: &str,
    keep: &mut dyn FnMut(&Removed<'_>) -> Result<()>,
) -> Result<()> {
    match kv.snapshot()?.get(*space, key)? {
        Some(stored) => keep(&Removed { place, space: space.0, key, stored: &stored }),
        None => Ok(()),
    }
}
