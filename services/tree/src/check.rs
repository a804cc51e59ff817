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

use trellis_engine_traits::{ErrorKind, KvBackend, Result, StreamLog};

use crate::checking::{Check, Recent};
use crate::finding::read_applied;
use crate::finding::{CheckOptions, CheckReport, Finding, FindingKind, Remedy};
use crate::tree::Tree;
use crate::{openings, recover, seed};

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

impl Check<'_> {
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
