//! The stamps' part of a check: each has its entry in the order of revs, and what it is of.
//!
//! Deliberately absent: whether a stamp is of the right version. Nodes that hold the same compare
//! that with each other.

use bytes::Bytes;
use trellis_engine_traits::Result;

use crate::check_pages::Page;
use crate::checking::Check;
use crate::finding::{Finding, FindingKind, Fix, Remedy, place_of};
use crate::here::{Stamp, StampKind, ending_path};
use crate::space::{BY_REV, DATA, EXPIRY, META, STALE_KEY, STAMP, split_time_key, time_key};
use crate::{seal, stamping};

fn decode(key: &[u8], stored: &[u8]) -> Option<Stamp> {
    Stamp::decode(seal::unseal(STAMP, key, stored).ok()?).ok()
}

/// A finding about a stamp: none, if the journal changes it later.
fn found(kind: FindingKind, detail: &str, key: &Bytes, fix: Fix) -> Finding {
    let place = place_of(STAMP, key);
    let (space, path) = match ending_path(key) {
        Some(path) => (EXPIRY, Bytes::copy_from_slice(path)),
        None => (DATA, key.clone()),
    };
    let finding = Finding::new(kind, place, detail, Remedy::Derive).fix(fix);
    finding.about(STAMP, key).about(space, &path)
}

impl Check<'_> {
    /// Reads the stamps and the order of revs once.
    pub(crate) fn stamps(&mut self) -> Result<()> {
        let opening = self.opening.as_ref();
        // Without a zoning commits leave stamps as they are, which are void then.
        let is_on = opening
            .and_then(|opening| opening.stamping.as_ref())
            .is_some_and(stamping::Stamping::is_on);
        let mut stamps = 0;
        self.each_value(STAMP, &mut |page, findings| {
            for (key, stored) in page.fresh() {
                stamps += 1;
                let Some(stamp) = decode(key, stored) else { continue };
                let entry = time_key(stamp.rev, key);
                if page.view.get(BY_REV, &entry)?.is_none() {
                    let detail = "missing in the order of revs: who was away is not told of it";
                    let fix = Fix::Put((BY_REV, entry), Bytes::new());
                    findings.push(found(FindingKind::MissingIndex, detail, key, fix));
                }
                if is_on && stamp.kind == StampKind::Live && !is_there(page, key)? {
                    let detail = "says that something is there which is not";
                    let fix = Fix::Forget((STAMP, key.clone()));
                    findings.push(found(FindingKind::StrayIndex, detail, key, fix));
                }
            }
            Ok(())
        })?;
        self.report.stamps = stamps;
        self.each_value(BY_REV, &mut |page, findings| {
            // What a large clear left behind is tidied up some time later.
            if page.view.get(META, STALE_KEY)?.is_some() {
                return Ok(());
            }
            for (entry, _) in page.fresh() {
                let Some((rev, key)) = split_time_key(entry) else { continue };
                let stored = page.view.get(STAMP, key)?;
                let stamp = stored.as_ref().map(|stored| decode(key, stored));
                // Of a stamp that cannot be read nobody knows.
                let stands = stamp.is_some_and(|stamp| stamp.is_none_or(|stamp| stamp.rev == rev));
                if !stands {
                    let key = Bytes::copy_from_slice(key);
                    let fix = Fix::Forget((BY_REV, entry.clone()));
                    let detail = "an entry in the order of revs stands for another stamp, or none";
                    let mut finding = found(FindingKind::StrayIndex, detail, &key, fix);
                    finding.place = place_of(BY_REV, entry);
                    findings.push(finding);
                }
            }
            Ok(())
        })
    }
}

/// Whether the store holds what a live stamp is of.
fn is_there(page: &Page, key: &[u8]) -> Result<bool> {
    let stored = match ending_path(key) {
        Some(path) => page.view.get(EXPIRY, path)?,
        None => page.view.get(DATA, key)?,
    };
    Ok(stored.is_some())
}
