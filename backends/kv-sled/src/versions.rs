//! The version layer: frozen views over a store that has none.
//!
//! Before sled is told of a commit, the values that the commit replaces are put into an overlay
//! under the commit's number. A view of the state `seq` finds a key in the oldest overlay after
//! `seq` that has it, else in sled. So it never sees a later commit, nor part of one, and no reader
//! waits for sled to apply a batch: the lock around this is held for one get, for one stretch of a
//! scan, or to put a finished overlay in its place.
//!
//! Invariants: an overlay above `seq` belongs to a commit in progress or to one that failed, and
//! stays; another stays while a view before it is held. An overlay stands for all commits from its
//! number up to the next overlay's, and no view is held between those.
//!
//! Cost: memory for the replaced keys and values, for each batch since the oldest view that is
//! held.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;

use sled::{Db, IVec};
use trellis_engine_traits::{Direction, Result};

use crate::error;

/// Keys and what they were before a commit.
pub(crate) type Overlay = BTreeMap<IVec, Option<IVec>>;

/// Entries that one stretch of a scan looks at, at most.
const STEPS_MAX: usize = 1024;

/// What remains to be scanned, in stored keys.
#[derive(Debug)]
pub(crate) struct Stretch {
    pub(crate) bounds: (Bound<IVec>, Bound<IVec>),
    pub(crate) direction: Direction,
}

#[derive(Debug, Default)]
pub(crate) struct Versions {
    /// The last finished commit.
    pub(crate) seq: u64,
    /// `None` once closed.
    pub(crate) db: Option<Db>,
    overlays: BTreeMap<u64, Overlay>,
    held: BTreeMap<u64, usize>,
}

impl Versions {
    pub(crate) fn new(db: Db) -> Self {
        Self { db: Some(db), ..Self::default() }
    }

    /// Holds a view of the newest state.
    pub(crate) fn hold(&mut self) -> u64 {
        *self.held.entry(self.seq).or_default() += 1;
        self.seq
    }

    /// Ends a view; what nobody needs any more is answered, to be dropped outside the lock.
    pub(crate) fn release(&mut self, seq: u64) -> Vec<Overlay> {
        if let Some(count) = self.held.get_mut(&seq) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&seq);
            }
        }
        self.take_unneeded()
    }

    /// Notes down what the next commit replaces; from here on sled may be told of it.
    pub(crate) fn begin(&mut self, overlay: Overlay) {
        self.overlays.insert(self.seq + 1, overlay);
    }

    /// The commit that began is whole in sled. Answers what nobody needs any more.
    pub(crate) fn finish(&mut self) -> Vec<Overlay> {
        let seq = self.seq + 1;
        self.seq = seq;
        let unneeded = self.take_unneeded();
        // Without a view in between, the overlay before this one can stand for both commits; so
        // there are never more overlays than views of different states.
        if let Some(previous) = self.overlays.range(..seq).next_back().map(|(number, _)| *number)
            && self.held.range(previous..seq).next().is_none()
            && let Some(overlay) = self.overlays.remove(&seq)
            && let Some(previous) = self.overlays.get_mut(&previous)
        {
            for (key, old) in overlay {
                previous.entry(key).or_insert(old);
            }
        }
        unneeded
    }

    fn take_unneeded(&mut self) -> Vec<Overlay> {
        let oldest = self.held.keys().next().copied().unwrap_or(self.seq);
        let mut unneeded = Vec::new();
        while let Some(entry) = self.overlays.first_entry()
            && *entry.key() <= oldest
        {
            unneeded.push(entry.remove());
        }
        unneeded
    }

    fn db(&self) -> Result<&Db> {
        self.db.as_ref().ok_or_else(error::closed)
    }

    /// The value of a stored key in the state `seq`.
    pub(crate) fn get(&self, seq: u64, key: &[u8]) -> Result<Option<IVec>> {
        let db = self.db()?;
        let replaced = self.overlays.range(seq + 1..).find_map(|(_, overlay)| overlay.get(key));
        match replaced {
            Some(old) => Ok(old.clone()),
            None => db.get(key).map_err(error::sled),
        }
    }

    /// Collects up to `limit` pairs of the state `seq`; answers where to go on, or `None` at the
    /// end.
    pub(crate) fn stretch(
        &self,
        seq: u64,
        stretch: &Stretch,
        limit: usize,
        pairs: &mut Vec<(IVec, IVec)>,
    ) -> Result<Option<IVec>> {
        let mut sources = self.sources(seq, stretch)?;
        let mut last = None;
        for _ in 0..STEPS_MAX {
            let Some((key, value)) = next_of(&mut sources, stretch.direction)? else {
                return Ok(None);
            };
            if let Some(value) = value {
                pairs.push((key.clone(), value));
            }
            last = Some(key);
            if pairs.len() >= limit {
                break;
            }
        }
        Ok(last)
    }

    /// The overlays after `seq`, oldest first, and sled last: the first to have a key is right.
    fn sources(&self, seq: u64, stretch: &Stretch) -> Result<Vec<Source<'_>>> {
        let bounds = (as_slice(&stretch.bounds.0), as_slice(&stretch.bounds.1));
        let tree = self.db()?.range::<&[u8], _>(bounds);
        let tree = tree.map(|pair| match pair {
            Ok((key, value)) => Ok((key, Some(value))),
            Err(failure) => Err(error::sled(failure)),
        });
        let overlays = self.overlays.range(seq + 1..).map(|(_, overlay)| {
            let entries = overlay.range::<[u8], _>(bounds);
            let entries = entries.map(|(key, old)| Ok((key.clone(), old.clone())));
            directed(entries, stretch.direction)
        });
        let mut sources: Vec<Source<'_>> = overlays.collect();
        sources.push(directed(tree, stretch.direction));
        Ok(sources)
    }
}

type Entry = Result<(IVec, Option<IVec>)>;
type Source<'a> = Peekable<Box<dyn Iterator<Item = Entry> + 'a>>;

fn directed<'a>(
    entries: impl DoubleEndedIterator<Item = Entry> + 'a,
    direction: Direction,
) -> Source<'a> {
    let entries: Box<dyn Iterator<Item = Entry> + 'a> = match direction {
        Direction::Forward => Box::new(entries),
        Direction::Reverse => Box::new(entries.rev()),
    };
    entries.peekable()
}

/// The next key of all sources, with its value from the first source that has it.
fn next_of(
    sources: &mut [Source<'_>],
    direction: Direction,
) -> Result<Option<(IVec, Option<IVec>)>> {
    let mut nearest: Option<IVec> = None;
    for source in &mut *sources {
        let key = match source.peek() {
            None => continue,
            Some(Err(failure)) => return Err(failure.duplicate()),
            Some(Ok((key, _))) => key,
        };
        let nearer = nearest.as_ref().is_none_or(|nearest| match direction {
            Direction::Forward => key < nearest,
            Direction::Reverse => key > nearest,
        });
        if nearer {
            nearest = Some(key.clone());
        }
    }
    let Some(nearest) = nearest else { return Ok(None) };
    let mut right = None;
    for source in sources {
        let has_it = |entry: &Entry| entry.as_ref().is_ok_and(|(key, _)| *key == nearest);
        if let Some(entry) = source.next_if(has_it)
            && right.is_none()
        {
            right = Some(entry?.1);
        }
    }
    Ok(Some((nearest, right.flatten())))
}

fn as_slice(bound: &Bound<IVec>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}
