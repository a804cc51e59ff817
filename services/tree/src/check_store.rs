//! The store's part of a check: seals, shapes, keys, leaves above leaves, and what is derived.

use std::collections::HashSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use serde::de::IgnoredAny;
use trellis_engine_traits::{ErrorKind, KeyRange, KvSnapshot, Result, Scan, SpaceId};

use crate::check_pages::Page;
use crate::checking::Check;
use crate::derivation::EntryParts;
use crate::finding::{Finding, FindingKind, Fix, Remedy, place_of};
use crate::leaf::Leaf;
use crate::memtable::{Found, key_hash};
use crate::path::{self, Path};
use crate::record::{self, Remembered};
use crate::space::{self, BY_REV, DATA, EXPIRY, EXPIRY_TIME, INDEX, KEYS, KEYS_TIME, META, STAMP};
use crate::{here, seal, seed};

/// Spaces from here on belong to engines that are built on a store.
const ENGINE_SPACES: u8 = 200;

impl Check<'_> {
    /// Reads every space once.
    pub(crate) fn spaces(&mut self) -> Result<()> {
        self.leaves()?;
        self.endings()?;
        self.ending_times()?;
        let timed = self.key_times()?;
        self.keys(&timed)?;
        self.indexes()?;
        self.stamps()?;
        self.unknown()
    }

    fn leaves(&mut self) -> Result<()> {
        let mut leaves = 0;
        self.each_value(DATA, &mut |page, findings| {
            leaves += page.fresh().len() as u64;
            for pair in page.pairs.windows(2) {
                let [(above, _), (below, _)] = pair else { continue };
                if !above.is_empty() && above != below && path::covers(above, below) {
                    let detail = "a leaf has something below it, which it hides";
                    let place = place_of(DATA, above);
                    findings.push(
                        Finding::new(FindingKind::LeafAbove, place, detail, Remedy::Remove)
                            .fix(Fix::Remove((DATA, above.clone())))
                            .about(DATA, above)
                            .about(DATA, below),
                    );
                }
            }
            Ok(())
        })?;
        self.report.leaves = leaves;
        Ok(())
    }

    fn endings(&mut self) -> Result<()> {
        let mut endings = 0;
        self.each_value(EXPIRY, &mut |page, findings| {
            for (key, stored) in page.fresh() {
                endings += 1;
                let Ok(value) = seal::unseal(EXPIRY, key, stored) else { continue };
                let Ok(at_ms) = <[u8; 8]>::try_from(value) else { continue };
                let time_key = space::time_key(u64::from_be_bytes(at_ms), key);
                if page.view.get(EXPIRY_TIME, &time_key)?.is_none() {
                    let detail = "missing in the order of endings: it would never end";
                    let place = place_of(EXPIRY, key);
                    findings.push(
                        Finding::new(FindingKind::MissingIndex, place, detail, Remedy::Derive)
                            .about(EXPIRY, key)
                            .about(EXPIRY_TIME, &time_key)
                            .fix(Fix::Put((EXPIRY_TIME, time_key), Bytes::new())),
                    );
                }
            }
            Ok(())
        })?;
        self.report.endings = endings;
        Ok(())
    }

    /// An entry whose path ends at another time by now is ordinary: it goes when it is due.
    fn ending_times(&mut self) -> Result<()> {
        self.each_value(EXPIRY_TIME, &mut |_, _| Ok(()))
    }

    /// The hashes of the keys that will be forgotten.
    fn key_times(&mut self) -> Result<HashSet<u64>> {
        let mut timed = HashSet::new();
        self.each_value(KEYS_TIME, &mut |page, findings| {
            for (time_key, _) in page.fresh() {
                let Some((_, key)) = space::split_time_key(time_key) else { continue };
                timed.insert(key_hash(KEYS, key));
                if page.view.get(KEYS, key)?.is_none() {
                    let detail = "stands for no idempotency key";
                    let place = place_of(KEYS_TIME, time_key);
                    findings.push(
                        Finding::new(FindingKind::StrayIndex, place, detail, Remedy::Derive)
                            .fix(Fix::Forget((KEYS_TIME, time_key.clone())))
                            .about(KEYS_TIME, time_key)
                            .about(KEYS, &Bytes::copy_from_slice(key)),
                    );
                }
            }
            Ok(())
        })?;
        Ok(timed)
    }

    fn keys(&mut self, timed: &HashSet<u64>) -> Result<()> {
        let mut keys = 0;
        // What was remembered after the order was read is not in it.
        let before = self.applied_rev();
        self.each_value(KEYS, &mut |page, findings| {
            for (key, stored) in page.fresh() {
                keys += 1;
                let Ok(value) = seal::unseal(KEYS, key, stored) else { continue };
                let Ok(answer) = record::decode::<Remembered>(value, "remembered answer") else {
                    continue;
                };
                if answer.rev <= before && !timed.contains(&key_hash(KEYS, key)) {
                    let detail = "missing in the order of forgetting: it would stay for ever";
                    let place = place_of(KEYS, key);
                    findings.push(
                        Finding::new(FindingKind::MissingIndex, place, detail, Remedy::Derive)
                            .fix(Fix::Remember(key.clone()))
                            .about(KEYS, key),
                    );
                }
            }
            Ok(())
        })?;
        self.report.keys = keys;
        Ok(())
    }

    /// Whatever lies where a tree of this version puts nothing.
    fn unknown(&mut self) -> Result<()> {
        self.each_page(META, &KeyRange::all(), &mut |page, findings| {
            for (key, _) in page.fresh() {
                let own = [space::APPLIED_KEY, seed::NOTE_KEY];
                let derived = [space::INDEXES_KEY, space::STAMPING_KEY, space::STALE_KEY];
                let mut known = own.into_iter().chain(derived);
                if !known.any(|known| *known == **key) {
                    let detail = "an unknown note";
                    let kind = FindingKind::UnknownSpace;
                    findings.push(Finding::new(kind, "the store's notes", detail, Remedy::Restore));
                }
            }
            Ok(())
        })?;
        let Some(kv) = self.kv else { return Ok(()) };
        let known = u8::try_from(space::SPACES).unwrap_or(u8::MAX);
        for space in (known..ENGINE_SPACES).map(SpaceId) {
            let mut any = false;
            let scan = Scan::forward(space, KeyRange::all());
            kv.snapshot()?.scan(&scan, &mut |_, _| {
                any = true;
                ControlFlow::Break(())
            })?;
            if any {
                let detail = "holds data that this version of Trellis knows nothing of";
                let place = place_of(space, &[]);
                let kind = FindingKind::UnknownSpace;
                self.found(Finding::new(kind, place, detail, Remedy::Restore));
            }
        }
        Ok(())
    }

    /// Checks seal and shape of every pair of a space, and then looks at its pages.
    pub(crate) fn each_value(
        &mut self,
        space: SpaceId,
        look: &mut crate::check_pages::Look<'_>,
    ) -> Result<()> {
        let recent = std::mem::replace(&mut self.recent, crate::checking::Recent::new(0));
        let looked = self.each_page(space, &KeyRange::all(), &mut |page: &Page, findings| {
            for (key, stored) in page.fresh() {
                let Err((kind, detail)) = check_pair(space, key, stored) else { continue };
                let spot = (space, key.clone());
                let known = !matches!(recent.expected(&spot), Found::Unknown);
                let mut finding = damaged(kind, detail, spot, known);
                if space == EXPIRY
                    && !known
                    && let Some(at_ms) = latest_ending(page.view.as_ref(), key)?
                {
                    finding.remedy = Remedy::Derive;
                    finding.fix = Some(Fix::Put((EXPIRY, key.clone()), at_ms));
                }
                findings.push(finding.about(space, key));
            }
            look(page, findings)
        });
        self.recent = recent;
        looked
    }
}

/// A damaged pair, and what can be done about it.
fn damaged(
    kind: FindingKind,
    detail: &'static str,
    spot: (SpaceId, Bytes),
    in_journal: bool,
) -> Finding {
    let place = place_of(spot.0, &spot.1);
    let (remedy, fix) = match spot.0 {
        _ if in_journal => (Remedy::Journal, Fix::Journal(spot)),
        // All orders are derived anew once the damaged entry is gone.
        EXPIRY_TIME | KEYS_TIME | BY_REV => (Remedy::Derive, Fix::Forget(spot)),
        INDEX => (Remedy::Derive, Fix::Reindex),
        _ => (Remedy::Remove, Fix::Remove(spot)),
    };
    Finding::new(kind, place, detail, remedy).fix(fix)
}

/// The latest ending of a path in the order of endings.
fn latest_ending(view: &dyn KvSnapshot, key: &[u8]) -> Result<Option<Bytes>> {
    let mut latest = None;
    if !is_path(key) {
        return Ok(latest);
    }
    view.scan(&Scan::forward(EXPIRY_TIME, KeyRange::all()), &mut |time_key, _| {
        if let Some((at_ms, ending)) = space::split_time_key(time_key)
            && ending == key
        {
            latest = Some(Bytes::copy_from_slice(&at_ms.to_be_bytes()));
        }
        ControlFlow::Continue(())
    })?;
    Ok(latest)
}

/// Whether a pair is one that a tree writes.
fn check_pair(
    space: SpaceId,
    key: &[u8],
    stored: &[u8],
) -> Result<(), (FindingKind, &'static str)> {
    let value = seal::unseal(space, key, stored)
        .map_err(|_| (FindingKind::Checksum, "the checksum of the stored value is wrong"))?;
    let shape = |fits: bool, detail| if fits { Ok(()) } else { Err((FindingKind::Shape, detail)) };
    let time_key = || {
        let split = space::split_time_key(key).is_some_and(|(_, key)| !key.is_empty());
        shape(split && value.is_empty(), "the entry is no time and key")
    };
    match space {
        DATA => {
            shape(is_path(key), "the key is no path")?;
            shape(is_leaf(value), "the value is no leaf")
        }
        EXPIRY => {
            shape(is_path(key), "the key is no path")?;
            shape(value.len() == 8, "the ending is no time")
        }
        KEYS => {
            let answer = record::decode::<Remembered>(value, "remembered answer");
            shape(answer.is_ok(), "the remembered answer cannot be read")
        }
        STAMP => {
            let path = here::ending_path(key).unwrap_or(key);
            shape(path.is_empty() || is_path(path), "the key is no path")?;
            shape(here::Stamp::decode(value).is_ok(), "the stamp cannot be read")
        }
        // What is stamped may be the root.
        BY_REV => {
            let split = space::split_time_key(key).is_some();
            shape(split && value.is_empty(), "the entry is no rev and key")
        }
        INDEX => shape(EntryParts::split(key, value).is_some(), "the entry is no index's"),
        _ => time_key(),
    }
}

fn is_path(key: &[u8]) -> bool {
    let text = std::str::from_utf8(key).ok().filter(|text| !text.is_empty());
    text.is_some_and(|text| Path::from_segments(text.split('\0')).is_ok())
}

fn is_leaf(value: &[u8]) -> bool {
    match Leaf::decode(value) {
        Ok(Leaf::Array(json)) => {
            json.starts_with('[') && serde_json::from_str::<IgnoredAny>(&json).is_ok()
        }
        Ok(Leaf::Float(number)) => number.is_finite(),
        Ok(_) => true,
        Err(error) => error.kind() != ErrorKind::Corrupt,
    }
}
