//! Reading a space of the store in pages, and what in a page is no finding after all.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{ErrorKind, KeyRange, KvBackend, KvSnapshot, Result, Scan, SpaceId};

use crate::checking::Check;
use crate::finding::{Finding, FindingKind, Remedy, place_of, read_applied};

/// Pairs of a page.
const PAGE_PAIRS: usize = 2000;
/// Bytes of a page; two pairs are read however long they are.
const PAGE_BYTES: usize = 1 << 20;

/// A page of a space: the view that it was read from, and its pairs as they are stored.
pub(crate) struct Page {
    pub(crate) view: Arc<dyn KvSnapshot>,
    /// The rev that the view shows; it may show parts of later ones.
    pub(crate) rev: u64,
    pub(crate) pairs: Vec<(Bytes, Bytes)>,
    /// How many of the pairs the page before had too.
    pub(crate) seen: usize,
    /// Whether there may be more.
    more: bool,
}

impl Page {
    fn read(kv: &dyn KvBackend, base: u64, space: SpaceId, range: &KeyRange) -> Result<Self> {
        let view: Arc<dyn KvSnapshot> = Arc::from(kv.snapshot()?);
        // Damage to the note was reported; without it nothing is known to come later.
        let applied = read_applied(view.as_ref()).ok().flatten();
        let rev = applied.map_or(base, |applied| applied.rev);
        let (mut pairs, mut bytes, mut more) = (Vec::new(), 0, false);
        view.scan(&Scan::forward(space, range.clone()), &mut |key, value| {
            bytes += key.len() + value.len();
            pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            more = pairs.len() >= PAGE_PAIRS || (bytes >= PAGE_BYTES && pairs.len() > 1);
            if more { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(Self { view, rev, pairs, seen: 0, more })
    }

    /// The pairs that the page before did not have.
    pub(crate) fn fresh(&self) -> &[(Bytes, Bytes)] {
        self.pairs.get(self.seen..).unwrap_or_default()
    }
}

/// Looks at a page; what it pushes is confirmed against the journal.
pub(crate) type Look<'a> = dyn FnMut(&Page, &mut Vec<Finding>) -> Result<()> + 'a;

impl Check<'_> {
    /// Looks at a range of a space page by page; the last pair of a page is the first of the next,
    /// so that neighbours are seen together.
    pub(crate) fn each_page(
        &mut self,
        space: SpaceId,
        range: &KeyRange,
        look: &mut Look<'_>,
    ) -> Result<()> {
        let Some(kv) = self.kv else { return Ok(()) };
        let mut rest = range.clone();
        let mut last: Option<Bytes> = None;
        loop {
            let mut findings = Vec::new();
            let page = Page::read(kv, self.base(), space, &rest).and_then(|mut page| {
                page.seen = usize::from(page.pairs.first().map(|(key, _)| key) == last.as_ref());
                look(&page, &mut findings)?;
                Ok(page)
            });
            let page = match page {
                Ok(page) => page,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    let detail = format!("the store cannot be read from here on: {error}");
                    let place = format!("from {} on", place_of(space, &rest.start));
                    self.found(Finding::new(FindingKind::Engine, place, detail, Remedy::Restore));
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let (rev, more) = (page.rev, page.more);
            let end = page.pairs.last().map(|(key, _)| key.clone());
            // The view goes before the journal is read.
            drop(page);
            self.confirm(findings, rev)?;
            match end {
                Some(key) if more => {
                    rest.start = key.clone();
                    last = Some(key);
                }
                _ => return Ok(()),
            }
        }
    }

    /// Reports those findings that the journal does not change after `rev`.
    pub(crate) fn confirm(&mut self, findings: Vec<Finding>, rev: u64) -> Result<()> {
        if findings.is_empty() {
            return Ok(());
        }
        let later = self.after(rev)?;
        for finding in findings {
            if !finding.spots.iter().any(|spot| later.knows(spot)) {
                self.found(finding);
            }
        }
        Ok(())
    }
}
