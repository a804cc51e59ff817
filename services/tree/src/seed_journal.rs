//! The end of a seeding whose store is in memory: the content becomes commits of the journal, from
//! which every open replays it.
//!
//! An opening that is marked as unfinished comes first, so that nobody takes a part for the whole.

use bytes::Bytes;
use trellis_engine_traits::{Durability, Expect, Result, StreamId, StreamLog};

use crate::cause::ChangeCause;
use crate::effect::Effect;
use crate::entries::{self, EntrySpace, Pairs};
use crate::journal::Position;
use crate::openings;
use crate::record::{self, Opening, Record};
use crate::space::{KEYS, split_time_key};
use crate::state::State;

/// Bytes of entries in one record; the last entry may go beyond.
const PAGE_BYTES: usize = 1 << 20;

/// Writes the content of a store as commits after a position, and returns that of the last.
///
/// # Errors
/// Those of the journal, of which a part was then written.
pub(crate) fn write(
    log: &dyn StreamLog,
    state: &State,
    unfinished: &Opening,
    start: Position,
) -> Result<Position> {
    openings::append(log, unfinished)?;
    let mut journal = Journal {
        log,
        stream: StreamId::new("journal")?,
        epoch: 1,
        at_ms: unfinished.at_ms,
        position: start,
        waiting: Vec::new(),
    };
    for space in [EntrySpace::Leaves, EntrySpace::Endings, EntrySpace::KeyTimes] {
        let mut next = Some(Bytes::new());
        while let Some(from) = next {
            let (page, rest) = entries::page(state, space, from, PAGE_BYTES)?;
            match space {
                EntrySpace::KeyTimes => journal.keys(state, page)?,
                _ => journal.effects(space, page)?,
            }
            next = rest;
        }
    }
    Ok(journal.position)
}

struct Journal<'a> {
    log: &'a dyn StreamLog,
    stream: StreamId,
    epoch: u64,
    at_ms: u64,
    position: Position,
    waiting: Vec<Bytes>,
}

impl Journal<'_> {
    /// A page of leaves or of endings as one commit.
    fn effects(&mut self, space: EntrySpace, page: Pairs) -> Result<()> {
        let effect = |(key, value): (Bytes, Bytes)| match space {
            EntrySpace::Endings => {
                let at_ms = value.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                Effect::Expire(key, at_ms)
            }
            _ => Effect::Put(key, value),
        };
        let effects: Vec<Effect> = page.into_iter().map(effect).collect();
        if !effects.is_empty() {
            self.add(self.at_ms, None, effects)?;
        }
        self.append()
    }

    /// A page of idempotency keys, of which each is remembered with a commit of its own.
    fn keys(&mut self, state: &State, page: Pairs) -> Result<()> {
        for (time_key, _) in page {
            let Some((at_ms, key)) = split_time_key(&time_key) else { continue };
            // A key that is gone or was not text was of no use.
            let (Some(answer), Ok(name)) = (state.get(KEYS, key)?, std::str::from_utf8(key)) else {
                continue;
            };
            let answer = record::decode(&answer, "remembered answer")?;
            self.add(at_ms, Some((name.to_owned(), answer)), Vec::new())?;
        }
        self.append()
    }

    fn add(
        &mut self,
        at_ms: u64,
        key: Option<(String, record::Remembered)>,
        effects: Vec<Effect>,
    ) -> Result<()> {
        let Position { rev, hash: prev } = self.position;
        let (rev, epoch, cause) = (rev + 1, self.epoch, ChangeCause::Request);
        // Nobody asks what was there before: the history of the copy begins with it.
        let images = None;
        let authored = None;
        let record =
            Record { rev, epoch, at_ms, prev, cause, key, effects, images, authored }.encode()?;
        self.position = Position { rev, hash: record::chain(&record) };
        self.waiting.push(record);
        Ok(())
    }

    fn append(&mut self) -> Result<()> {
        let records = std::mem::take(&mut self.waiting);
        self.log.append(&self.stream, &records, Expect::Any, Durability::Synced).map(|_| ())
    }
}
