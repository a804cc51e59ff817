//! A log that lives, loses power at every point, and must not have lost what it answered for.
//!
//! A life opens the log on a medium, calls it at random and notes after each call how many
//! operations the medium has seen. The images of a life are drawn over all its operations, its
//! recovery included, and each is opened and judged by those notes. The next life begins on one
//! of the images, or where a killed process would have left the files.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{Durability, Expect, Offset, ReadBudget, StreamId, StreamLog};

use super::image::Image;
use super::medium::{Betrayal, Medium, Recording};
use super::points::{Budget, fork};
use super::stand::{Place, Stand};
use crate::Rng;

const STREAMS: [&str; 2] = ["a", "b"];

/// What is known of a stream, and from which operation on.
#[derive(Debug, Clone)]
struct Known {
    /// Every record ever appended, from offset 1 on; what a crash took is cut off.
    records: Vec<Bytes>,
    /// The offsets that an append ended with.
    ends: Vec<Offset>,
    /// Appends, by the operations before them: from then on their records may be there.
    begun: Vec<(usize, Offset)>,
    /// What the log answered to be durable, by the operations until then.
    durable: Vec<(usize, Offset)>,
    /// Trims, by the operations before them.
    trims: Vec<(usize, Offset)>,
}

impl Default for Known {
    fn default() -> Self {
        let (begun, durable, trims) = (vec![(0, 1)], vec![(0, 1)], vec![(0, 1)]);
        Self { records: Vec::new(), ends: vec![1], begun, durable, trims }
    }
}

/// The highest offset noted when no more than `at` operations were done.
fn noted(notes: &[(usize, Offset)], at: usize) -> Offset {
    let until = notes.iter().filter(|(operations, _)| *operations <= at);
    until.map(|(_, offset)| *offset).max().unwrap_or(1)
}

impl Known {
    fn next(&self) -> Offset {
        self.records.len() as Offset + 1
    }

    /// Of all that is known, what holds from operation 0 of the next life on, if this one ends at
    /// `at`. Nothing is known any more of how the end came about, so all that was begun may be.
    fn at(&self, at: usize) -> Self {
        let begun = noted(&self.begun, at);
        Self {
            records: self.records[..begun as usize - 1].to_vec(),
            ends: self.ends.iter().copied().filter(|end| *end <= begun).collect(),
            begun: vec![(0, begun)],
            durable: vec![(0, noted(&self.durable, at))],
            trims: vec![(0, noted(&self.trims, at))],
        }
    }

    /// An open found this, and answers for it: there is nothing else any more.
    fn found(&mut self, operations: usize, next: Offset) {
        self.records.truncate(next as usize - 1);
        self.ends.retain(|end| *end <= next);
        self.begun = vec![(0, next)];
        self.durable = vec![(0, noted(&self.durable, usize::MAX)), (operations, next)];
    }
}

type AllKnown = BTreeMap<&'static str, Known>;

fn id(name: &str) -> StreamId {
    StreamId::new(name).expect("a good name")
}

/// One life of a log.
struct Life {
    /// Taken only while it is opened anew.
    log: Option<Arc<dyn StreamLog>>,
    place: Place,
    rng: Rng,
    known: AllKnown,
}

/// What a life leaves behind.
struct Past {
    recording: Recording,
    /// Operations before it; those of a process that was killed.
    began: usize,
    /// Operations until the log was open.
    opened: usize,
    before: AllKnown,
    after: AllKnown,
}

impl Past {
    fn known_at(&self, at: usize) -> AllKnown {
        let known = if at < self.opened { &self.before } else { &self.after };
        known.iter().map(|(name, known)| (*name, known.at(at))).collect()
    }
}

/// What is wrong with an image; a text that says so.
type Judgement = Result<(), String>;

fn wrong(what: &str, error: impl std::fmt::Display) -> String {
    format!("{what}: {error}")
}

impl Life {
    fn operations(&self) -> usize {
        self.place.medium.now()
    }

    fn log(&self) -> Arc<dyn StreamLog> {
        Arc::clone(self.log.as_ref().expect("open but for a moment"))
    }

    fn close(&mut self) -> Judgement {
        self.log().close().map_err(|error| wrong("close", error))?;
        let operations = self.operations();
        for known in self.known.values_mut() {
            let next = known.next();
            known.durable.push((operations, next));
        }
        Ok(())
    }

    /// One random call; the log must do what it is asked.
    fn step(&mut self, stand: &Stand) -> Judgement {
        let name = STREAMS[self.rng.below(STREAMS.len())];
        let next = self.known.entry(name).or_default().next();
        match self.rng.below(24) {
            0 | 1 => {
                let before = match self.rng.below(3) {
                    0 => next,
                    _ => 1 + self.rng.below(next as usize) as Offset,
                };
                let operations = self.operations();
                self.known.entry(name).or_default().trims.push((operations, before));
                self.log().trim(&id(name), before).map_err(|error| wrong("trim", error))?;
            }
            2 | 3 => self.log().flush(&id(name), next).map_err(|error| wrong("flush", error))?,
            4 => self.reopen(stand)?,
            _ => self.append(name)?,
        }
        let bounds = self.log().bounds(&id(name)).map_err(|error| wrong("bounds", error))?;
        let operations = self.operations();
        let known = self.known.entry(name).or_default();
        known.durable.push((operations, bounds.durable_next));
        Ok(())
    }

    fn append(&mut self, name: &'static str) -> Judgement {
        let bytes_max = [40, 600, 3000, 9000][self.rng.below(4)];
        let count = 1 + self.rng.below(4);
        let rng = &mut self.rng;
        let new: Vec<Bytes> = (0..count)
            .map(|_| {
                let len = rng.below(bytes_max);
                Bytes::from(rng.bytes(len))
            })
            .collect();
        let synced = self.rng.one_in(3);
        let durability = if synced { Durability::Synced } else { Durability::Buffered };
        let operations = self.operations();
        let known = self.known.entry(name).or_default();
        let next = known.next();
        let after = next + count as Offset;
        known.records.extend(new.iter().cloned());
        known.ends.push(after);
        known.begun.push((operations, after));
        let done = self.log().append(&id(name), &new, Expect::Next(next), durability);
        done.map_err(|error| wrong("append", error))?;
        if synced {
            let operations = self.operations();
            self.known.entry(name).or_default().durable.push((operations, after));
        }
        Ok(())
    }

    /// Ends the log, cleanly or not, and opens it again: the medium still has everything.
    fn reopen(&mut self, stand: &Stand) -> Judgement {
        if self.rng.one_in(2) {
            self.close()?;
        }
        self.log = None;
        let opened = stand.open_log(&self.place);
        let log = opened.map_err(|error| wrong("an open after the end of a process", error))?;
        self.log = Some(Arc::clone(&log));
        let operations = self.operations();
        for (name, known) in &mut self.known {
            let bounds = log.bounds(&id(name)).map_err(|error| wrong("bounds", error))?;
            if bounds.next != known.next() {
                return Err(format!("{name}: {} records, {bounds:?}", known.records.len()));
            }
            known.durable.push((operations, bounds.next));
        }
        Ok(())
    }
}

/// Opens the log on `medium` and lets it live for a while.
fn live(stand: &Stand, place: Place, before: AllKnown, mut rng: Rng) -> Result<Past, String> {
    let began = place.medium.now();
    let log = stand.open_log(&place).map_err(|error| wrong("open", error))?;
    let opened = place.medium.now();
    let mut after = before.clone();
    for (name, (_, records)) in found(&*log, &before)? {
        let next = records.len() as Offset + 1;
        after.entry(name).and_modify(|known| known.found(opened, next));
    }
    let steps = rng.below(40);
    let mut life = Life { log: Some(log), place, rng, known: after };
    for _ in 0..steps {
        life.step(stand)?;
    }
    if life.rng.one_in(3) {
        life.close()?;
    }
    let recording = life.place.medium.recording();
    Ok(Past { recording, began, opened, before, after: life.known })
}

/// The first offset of each stream, and its records from offset 1 on.
type Held = BTreeMap<&'static str, (Offset, Vec<Bytes>)>;

/// What a log holds after it lost power, if that is as it must be.
fn found(log: &dyn StreamLog, known: &AllKnown) -> Result<Held, String> {
    let mut held = Held::new();
    for (name, known) in known {
        let bounds = log.bounds(&id(name)).map_err(|error| wrong("bounds", error))?;
        let durable = noted(&known.durable, usize::MAX);
        if bounds.next < durable {
            return Err(format!("{name}: {durable} was durable, {bounds:?} is there"));
        }
        if !known.ends.contains(&bounds.next) {
            return Err(format!("{name}: part of an append, or more than was: {bounds:?}"));
        }
        if bounds.first > noted(&known.trims, usize::MAX) {
            return Err(format!("{name}: nobody trimmed that much: {bounds:?}"));
        }
        if bounds.durable_next != bounds.next {
            return Err(format!("{name}: an open answers for all it finds: {bounds:?}"));
        }
        let records = known.records[..bounds.next as usize - 1].to_vec();
        same(log, name, bounds.first, &records)?;
        held.insert(*name, (bounds.first, records));
    }
    Ok(held)
}

/// Opens an image, and says what is wrong with it.
fn judge(stand: &Stand, place: &Place, known: &AllKnown) -> Judgement {
    let log = stand.open_log(place).map_err(|error| wrong("an open after power loss", error))?;
    let mut held = found(&*log, known)?;
    for (name, (first, records)) in &mut held {
        let next = records.len() as Offset + 1;
        let new = Bytes::from(format!("after the loss {next}"));
        let one = std::slice::from_ref(&new);
        let done = log.append(&id(name), one, Expect::Next(next), Durability::Synced);
        done.map_err(|error| wrong("an append after power loss", error))?;
        records.push(new);
        same(&*log, name, *first, records)?;
    }
    log.close().map_err(|error| wrong("close", error))?;
    drop(log);
    let log = stand.open_log(place).map_err(|error| wrong("a clean open", error))?;
    for (name, (first, records)) in &held {
        same(&*log, name, *first, records)?;
    }
    log.close().map_err(|error| wrong("close", error))
}

/// Whether a read from `first` on visits exactly `records`, of which the first is at offset 1.
fn same(log: &dyn StreamLog, name: &str, first: Offset, records: &[Bytes]) -> Judgement {
    let mut next = first;
    let mut fault = None;
    let end = log.read(&id(name), first, ReadBudget::UNLIMITED, &mut |offset, record| {
        let right = records.get(offset as usize - 1).is_some_and(|right| right == record);
        if offset != next || !right {
            fault = Some(format!("{name}: record {offset} where {next} was to be, or another"));
            return ControlFlow::Break(());
        }
        next += 1;
        ControlFlow::Continue(())
    });
    if let Some(fault) = fault {
        return Err(fault);
    }
    end.map_err(|error| wrong("a read", error))?;
    let right = records.len() as Offset + 1;
    if next == right { Ok(()) } else { Err(format!("{name}: a read ends at {next}, not {right}")) }
}

/// Lives and images until the budget is used up; the first image that is wrong ends it.
///
/// # Errors
/// What is wrong with an image.
pub(super) fn run(
    stand: &Stand,
    budget: &mut Budget,
    betrayal: Betrayal,
    mut rng: Rng,
) -> Judgement {
    while budget.left() {
        let mut place = Place {
            medium: Medium::holding(Image::default(), betrayal),
            dir: stand.dir().into(),
            segment_bytes: [8192, 16384, 65536][rng.below(3)],
        };
        let mut known = AllKnown::new();
        for _ in 0..1 + rng.below(6) {
            let past = live(stand, place.clone(), known, fork(&mut rng))?;
            let heir = judge_all(stand, &place, &past, budget, &mut rng)?;
            let killed_at = past.began + rng.below(past.recording.len() - past.began + 1);
            match heir {
                Some((image, heritage)) if !rng.one_in(4) => {
                    place.medium = Medium::holding(image, betrayal);
                    known = heritage;
                }
                _ => {
                    place.medium = Medium::left_by_kill(&past.recording, killed_at, betrayal);
                    known = past.known_at(killed_at);
                }
            }
        }
    }
    Ok(())
}

/// Draws images of a life and judges each; answers one of them, and what is known of it.
fn judge_all(
    stand: &Stand,
    place: &Place,
    past: &Past,
    budget: &mut Budget,
    rng: &mut Rng,
) -> Result<Option<(Image, AllKnown)>, String> {
    let all = past.recording.len();
    let points = budget.points(past.began, past.opened, all, rng);
    let mut outcome = Ok(());
    let mut heir = None;
    let mut draws = fork(rng);
    past.recording.images(&points, &mut draws, |point, image| {
        if outcome.is_err() {
            return;
        }
        let known = past.known_at(point);
        let medium = Medium::holding(image.clone(), Betrayal::None);
        let at = Place { medium, ..place.clone() };
        let began = past.opened;
        outcome = judge(stand, &at, &known)
            .map_err(|what| format!("{what} (operation {point} of {all}, open from {began} on)"));
        if heir.is_none() || rng.one_in(points.len()) {
            heir = Some((image, known));
        }
    });
    outcome.map(|()| heir)
}
