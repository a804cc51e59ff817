//! [`LiveQuery`]: a query's window, kept as if the query were run again after every commit.
//!
//! The window is the first `limit` items of the order. A commit names the items it touches; only
//! these are read again. What leaves makes room, which is filled by asking for what comes after the
//! place where the old window ended; everything before that place is known.
//!
//! Invariant: after [`LiveQuery::apply`] the window is that of the query at the commit's rev.

use std::collections::{BTreeSet, HashMap};

use trellis_engine_traits::{ErrorKind, Result};
use trellis_tree::{Change, ChangeEffect, Path, View};

use crate::answer::{Item, read_items, read_value};
use crate::errors::{invalid, too_large};
use crate::live_order::unmoved;
use crate::needed::Needed;
use crate::position::Position;
use crate::queries::Queries;
use crate::run::{fits, read_item};
use crate::spec::QuerySpec;

/// A query whose window follows the commits.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use trellis_query::{LiveQuery, Queries, QuerySpec};
/// # use trellis_tree::{Commit, Followed, Input, Path, Tree, TreeOptions};
/// # let (kv, log) = (trellis_kv_memory::MemoryKv::new(), trellis_log_memory::MemoryLog::new());
/// # let runtime = trellis_runtime::Runtime::system();
/// # let tree = Tree::open(Arc::new(kv), Arc::new(log), runtime, TreeOptions::default())?;
///
/// let spec = QuerySpec::parse(br#"{"path":"scores","orderBy":[["points","desc"]],"limit":3}"#)?;
/// let mut follower = tree.follow(1 << 20)?;
/// let (mut best, _) = LiveQuery::start(&Queries::new(&tree), &tree.view()?, spec, 1 << 20)?;
/// let score = Input::parse(br#"{"points":7}"#)?;
/// tree.commit(Commit::set(Path::parse("scores/ann")?, score))?;
/// let Followed::Changes(changes) = follower.next(Duration::from_secs(5))? else { panic!() };
/// let events = best.apply(&changes[0])?;
/// assert_eq!(events[0].path.to_string(), "scores/ann");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LiveQuery {
    queries: Queries,
    spec: QuerySpec,
    needed: Needed,
    window: Vec<Position>,
    /// Something may come after the window.
    more: bool,
    bytes_max: usize,
}

/// What a commit did to a window. Applied in order, events turn the old window into the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowEvent {
    /// What happened.
    pub kind: WindowEventKind,
    /// The item's path.
    pub path: Path,
    /// Added and moved: the item behind which it now stands; `None` at the front.
    pub after: Option<Path>,
    /// Added and changed: its value as JSON text, unless nothing is selected.
    pub value: Option<String>,
}

/// What happened to an item of a window, in the order of the events of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WindowEventKind {
    /// It left, or is gone.
    Removed,
    /// It came in.
    Added,
    /// It stands elsewhere.
    Moved,
    /// Its value, as it is selected, is another.
    Changed,
}

impl LiveQuery {
    /// Runs a query at a view that hides nothing (`Tree::settle` first), and keeps its window.
    ///
    /// # Errors
    /// `InvalidInput` for a query with a cursor or totals; `TooLarge` when the items are larger
    /// than `bytes_max`; as for [`Queries::run`].
    pub fn start(
        queries: &Queries,
        view: &View,
        spec: QuerySpec,
        bytes_max: usize,
    ) -> Result<(Self, Vec<Item>)> {
        if spec.cursor.is_some() || spec.totals.is_some() {
            return Err(invalid("a live query has no cursor, count or aggregate"));
        }
        let mut window = queries.positions(view, &spec, None, spec.limit + 1)?;
        let more = window.len() > spec.limit;
        window.truncate(spec.limit);
        let items = read_items(view, spec.select.as_deref(), &window, bytes_max)?;
        if items.len() < window.len() {
            let message = "the window is larger than a frame: lower its limit or select fields";
            return Err(too_large(message, "answer_bytes_max", bytes_max));
        }
        let needed = Needed::new(spec.needed());
        let queries = queries.clone();
        Ok((Self { queries, spec, needed, window, more, bytes_max }, items))
    }

    /// The query.
    #[must_use]
    pub const fn spec(&self) -> &QuerySpec {
        &self.spec
    }

    /// The paths of the window's items, in order.
    ///
    /// # Errors
    /// `Corrupt` when a stored key is no path.
    pub fn paths(&self) -> Result<Vec<Path>> {
        self.window.iter().map(|position| Path::from_key(&position.path)).collect()
    }

    /// Follows one commit; they are given in the order of their revs, none left out that touches
    /// the collection.
    ///
    /// # Errors
    /// Those of [`Queries::run`], where the window is filled up again; `TooLarge` when the events
    /// are larger than `bytes_max`. The window is of no more use then: start it anew.
    ///
    /// # Cost
    /// A read of each item that the commit touches; one query when items left.
    pub fn apply(&mut self, change: &Change) -> Result<Vec<WindowEvent>> {
        let touched = self.touched(change);
        if touched.is_empty() {
            return Ok(Vec::new());
        }
        let after = change.after()?;
        let end = self.window.last().filter(|_| self.more);
        let mut next: Vec<Position> =
            self.window.iter().filter(|own| !touched.contains(&own.path)).cloned().collect();
        for path in &touched {
            let Some(values) = read_item(&after, path, &self.needed)? else { continue };
            if !fits(&self.spec, &self.needed, &values) {
                continue;
            }
            let position = Position::of(&self.spec, &self.needed, &values, path);
            // What comes after the end of a full window is not its own, but part of the rest.
            if end.is_none_or(|end| position <= *end) {
                next.push(position);
            }
        }
        next.sort();
        let mut more = self.more;
        if next.len() > self.spec.limit {
            next.truncate(self.spec.limit);
            more = true;
        } else if next.len() < self.spec.limit && more {
            let room = self.spec.limit - next.len();
            let mut rest = self.queries.positions(&after, &self.spec, end.cloned(), room + 1)?;
            more = rest.len() > room;
            rest.truncate(room);
            next.append(&mut rest);
        }
        let before = std::mem::replace(&mut self.window, next);
        self.more = more;
        self.events(change, &before, &after, &touched)
    }

    /// The path keys of the items that a commit touches and that are, were or may be in the window.
    fn touched(&self, change: &Change) -> BTreeSet<Vec<u8>> {
        let mut touched = BTreeSet::new();
        for effect in change.effects() {
            if let Some(item) = self.spec.path.item_of(effect.key()) {
                touched.insert(item.to_vec());
            } else if let ChangeEffect::Cleared(above) = effect {
                let below = self.window.iter().filter(|own| covers(above, &own.path));
                touched.extend(below.map(|own| own.path.clone()));
            }
        }
        touched
    }

    fn events(
        &self,
        change: &Change,
        before: &[Position],
        view: &View,
        touched: &BTreeSet<Vec<u8>>,
    ) -> Result<Vec<WindowEvent>> {
        let old: HashMap<&[u8], usize> =
            before.iter().enumerate().map(|(at, own)| (own.path.as_slice(), at)).collect();
        let new: HashMap<&[u8], usize> =
            self.window.iter().enumerate().map(|(at, own)| (own.path.as_slice(), at)).collect();
        let mut room = self.bytes_max;
        let mut events = Vec::new();
        for own in before.iter().filter(|own| !new.contains_key(own.path.as_slice())) {
            let path = Path::from_key(&own.path)?;
            let kind = WindowEventKind::Removed;
            events.push(WindowEvent { kind, path, after: None, value: None });
        }
        let places: Vec<Option<usize>> =
            self.window.iter().map(|own| old.get(own.path.as_slice()).copied()).collect();
        let stays = unmoved(&places);
        let mut moved = Vec::new();
        // Behind what an item is added: moves come later, so what will move is no landmark yet.
        let mut landmark: Option<&Position> = None;
        for (at, own) in self.window.iter().enumerate() {
            let is_new = places.get(at).is_some_and(Option::is_none);
            let stays = stays.get(at).copied().unwrap_or(false);
            if is_new {
                let path = Path::from_key(&own.path)?;
                let value = self.value(view, &path, &mut room)?;
                let after = landmark.map(|own| Path::from_key(&own.path)).transpose()?;
                events.push(WindowEvent { kind: WindowEventKind::Added, path, after, value });
            } else if !stays {
                let path = Path::from_key(&own.path)?;
                let front = at.checked_sub(1).and_then(|before| self.window.get(before));
                let after = front.map(|own| Path::from_key(&own.path)).transpose()?;
                let kind = WindowEventKind::Moved;
                moved.push(WindowEvent { kind, path, after, value: None });
                continue;
            }
            landmark = Some(own);
        }
        events.append(&mut moved);
        let kept = self.window.iter().filter(|own| old.contains_key(own.path.as_slice()));
        for own in kept.filter(|own| touched.contains(&own.path)) {
            let path = Path::from_key(&own.path)?;
            let value = self.value(view, &path, &mut room)?;
            if value != self.value_before(change, &path)? {
                let kind = WindowEventKind::Changed;
                events.push(WindowEvent { kind, path, after: None, value });
            }
        }
        Ok(events)
    }

    fn value(&self, view: &View, path: &Path, room: &mut usize) -> Result<Option<String>> {
        let value = read_value(view, self.spec.select.as_deref(), path, *room)?;
        *room = room.saturating_sub(value.as_ref().map_or(0, String::len));
        Ok(value)
    }

    /// What an item of the window was, unless it was larger than what may be told.
    fn value_before(&self, change: &Change, path: &Path) -> Result<Option<String>> {
        let before = change.before()?;
        match read_value(&before, self.spec.select.as_deref(), path, self.bytes_max) {
            Err(error) if error.kind() == ErrorKind::TooLarge => Ok(None),
            value => value,
        }
    }
}

/// Whether `key` is `above` or lies below it.
fn covers(above: &[u8], key: &[u8]) -> bool {
    above.is_empty()
        || key.strip_prefix(above).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
}
