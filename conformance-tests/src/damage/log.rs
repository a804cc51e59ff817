//! Damage in the files of a log: each record is read as it was appended, or there is an error.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use bytes::Bytes;
use trellis_engine_traits::{Durability, Expect, Offset, ReadBudget, StreamId};

use super::tally::{Came, Tally};
use super::{Image, Medium, Place, Stand, cut, flip, places};
use crate::report::caught;
use crate::{Rng, Seed, World};

/// Places that are damaged by default.
const PLACES: usize = 1500;

type StandWorld = World<Stand>;

/// First offset, and records from offset 1 on.
type Held = BTreeMap<&'static str, (Offset, Vec<Bytes>)>;

fn id(name: &str) -> StreamId {
    StreamId::new(name).expect("a good name")
}

/// A log of several segments with known records, trimmed a little, closed or not.
fn written(stand: &Stand, rng: &mut Rng) -> (Place, Held) {
    let place = Place::on(Medium::default(), stand.dir(), 8192);
    let log = stand.open_log(&place).expect("a new log opens");
    let mut held = Held::new();
    for name in ["a", "b"] {
        let mut records = Vec::new();
        for _ in 0..24 {
            let new: Vec<Bytes> = (0..1 + rng.below(3))
                .map(|_| {
                    let len = 1 + rng.below(900);
                    Bytes::from(rng.bytes(len))
                })
                .collect();
            let next = records.len() as Offset + 1;
            log.append(&id(name), &new, Expect::Next(next), Durability::Synced).expect("appended");
            records.extend(new);
        }
        log.trim(&id(name), records.len() as Offset / 3).expect("trimmed");
        let first = log.bounds(&id(name)).expect("bounds").first;
        held.insert(name, (first, records));
    }
    if rng.one_in(2) {
        log.close().expect("closed");
    }
    (place, held)
}

pub(super) fn flips(world: &StandWorld) {
    damaged(world, "flips", |bytes, rng| flip(bytes, rng));
}

pub(super) fn cuts(world: &StandWorld) {
    damaged(world, "cuts", cut);
}

fn damaged(world: &StandWorld, what: &str, damage: fn(&mut Vec<u8>, &mut Rng) -> String) {
    let stand = world.engine();
    let mut rng = world.rng("places");
    let mut tally = Tally::default();
    let places = places(PLACES);
    let (mut place, mut held) = written(&stand, &mut rng);
    for number in 0..places {
        if number % 200 == 199 {
            (place, held) = written(&stand, &mut rng);
        }
        let mut image = place.medium.contents();
        let path = one_of(&image, &mut rng);
        let mut where_ = String::new();
        image.edit(&path, |bytes| where_ = damage(bytes, &mut rng));
        let here = Place { medium: Medium::of(image), ..place.clone() };
        let mut came = Err(String::new());
        let quiet = caught(true, || came = judge(&stand, &here, &held));
        let came = quiet.and(came);
        let came = came.unwrap_or_else(|fault| panic!("{path:?}, {where_}: {fault}"));
        tally.count(came);
    }
    let engine = world.factory().name();
    eprintln!("{engine}: {places} {what}: {tally}, TRELLIS_SEED={}", Seed::of_run().0);
    let exact = engine == "log-segment";
    assert!(!exact || (tally.absent, tally.older) == (0, 0), "{tally}");
}

/// A file that holds something, each with the same chance.
fn one_of(image: &Image, rng: &mut Rng) -> PathBuf {
    let mut files = image.listed();
    files.retain(|(_, len)| *len > 0);
    files.swap_remove(rng.below(files.len())).0
}

/// Opens a damaged log and reads it to its end; an `Err` says what was wrong and not noticed.
fn judge(stand: &Stand, place: &Place, held: &Held) -> Result<Came, String> {
    let log = match stand.open_log(place) {
        Ok(log) => log,
        Err(error) => return Ok(Came::RefusedOpen(error.kind())),
    };
    let mut worst = Came::Unharmed;
    for (name, (first, records)) in held {
        let next = records.len() as Offset + 1;
        let bounds = match log.bounds(&id(name)) {
            Ok(bounds) => bounds,
            Err(error) => {
                worst = worst.or(Came::RefusedRead(error.kind()));
                continue;
            }
        };
        if bounds.next == 1 {
            worst = worst.or(Came::Absent);
            continue;
        }
        let mut fault = None;
        let mut expected = bounds.first;
        let end =
            log.read(&id(name), bounds.first, ReadBudget::UNLIMITED, &mut |offset, record| {
                let right = records.get(offset as usize - 1).is_some_and(|right| right == record);
                if offset != expected || !right {
                    fault = Some(format!("{name}: record {offset} is not what was appended"));
                    return ControlFlow::Break(());
                }
                expected += 1;
                ControlFlow::Continue(())
            });
        if let Some(fault) = fault {
            return Err(fault);
        }
        match end {
            Err(error) => worst = worst.or(Came::RefusedRead(error.kind())),
            Ok(_) if (bounds.first, expected) == (*first, next) => {}
            // Another beginning or end than the last, though no record is wrong.
            Ok(_) => worst = worst.or(Came::Older),
        }
    }
    drop(log.close());
    Ok(worst)
}
