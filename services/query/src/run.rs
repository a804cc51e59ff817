//! Evaluation: items from the plan's source, through the filter, into a sink.
//!
//! Invariants: a sink holds at most one page of positions, or its groups; whatever is read inside a
//! scan of the store is dealt with outside it, where that means reading more.

use std::collections::BinaryHeap;
use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result};
use trellis_tree::View;

use crate::bounds::{Intervals, earlier, key_point};
use crate::definition::IndexDefinition;
use crate::encoding::{encode_key, invert_from, prefix_end};
use crate::errors;
use crate::field::Field;
use crate::groups::Groups;
use crate::needed::{Needed, Values};
use crate::place::{Collections, after_subtree};
use crate::plan::{IndexRange, Plan, Source, plan, suggestion};
use crate::position::{Position, own_key, parent};
use crate::seam::{Indexes, entry_key};
use crate::spec::{QuerySpec, Totals};
use crate::walk::{Walk, WalkEnd};

/// Entries of an index that are taken out of one scan.
const BATCH_ENTRIES: usize = 512;

/// What becomes of the items that fit.
#[derive(Debug)]
pub(crate) enum Sink {
    /// The first of them in the query's order.
    Best {
        heap: BinaryHeap<Position>,
        /// How many are kept.
        count: usize,
        /// Only what comes after.
        after: Option<Position>,
    },
    /// How many there are.
    Count(u64),
    /// Figures by group.
    Groups(Groups),
}

/// One evaluation at one view.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) view: &'a View,
    pub(crate) spec: &'a QuerySpec,
    pub(crate) indexes: &'a dyn Indexes,
    pub(crate) looked_max: usize,
    needed: Needed,
    pub(crate) plan: Plan,
    pub(crate) looked: usize,
    pub(crate) end: WalkEnd,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        view: &'a View,
        spec: &'a QuerySpec,
        indexes: &'a dyn Indexes,
        looked_max: usize,
    ) -> Self {
        // An entry of what is due and hidden no longer says what the item holds.
        let ready = if view.hides() { Vec::new() } else { indexes.ready(view) };
        Self {
            view,
            spec,
            indexes,
            looked_max,
            needed: Needed::new(spec.needed()),
            plan: plan(spec, &ready),
            looked: 0,
            end: WalkEnd::Exhausted,
        }
    }

    /// Fills the sink.
    ///
    /// # Errors
    /// As for every read; `TooLarge` when groups pass their bound. That too much was looked at is
    /// no error here: `end` says so.
    pub(crate) fn fill(&mut self, sink: &mut Sink) -> Result<()> {
        self.fill_as_planned(sink)?;
        if self.end == WalkEnd::TooMany
            && let Some(otherwise) = self.plan.otherwise.take()
        {
            sink.clear();
            self.plan = *otherwise;
            self.looked = 0;
            self.end = WalkEnd::Exhausted;
            return self.fill_as_planned(sink);
        }
        Ok(())
    }

    fn fill_as_planned(&mut self, sink: &mut Sink) -> Result<()> {
        match self.plan.source.clone() {
            Source::Nothing => Ok(()),
            Source::Collection => self.fill_from_collection(sink),
            Source::Index(range) => self.fill_from_index(&range, sink),
        }
    }

    /// Refuses a result for which more would have to be looked at.
    ///
    /// # Errors
    /// `TooLarge` with the index that would serve the query.
    pub(crate) fn check_end(&self) -> Result<()> {
        if self.end != WalkEnd::TooMany {
            return Ok(());
        }
        Err(match self.missing_index() {
            Some(definition) => errors::index_required(self.looked_max, &definition.to_json()),
            None => errors::too_broad(self.looked_max),
        })
    }

    /// The index that would serve the query better, unless it is there.
    pub(crate) fn missing_index(&self) -> Option<IndexDefinition> {
        let wanted = suggestion(self.spec)?;
        let ready = self.indexes.ready(self.view);
        let there = ready
            .iter()
            .any(|index| index.fields == wanted.fields && index.path.covers(&wanted.path));
        (!there).then_some(wanted)
    }

    fn fill_from_collection(&mut self, sink: &mut Sink) -> Result<()> {
        let walk = Walk {
            view: self.view,
            collections: Collections::Fitting(&self.spec.path),
            keys: &self.plan.keys,
            needed: &self.needed,
            reverse: self.plan.in_order && self.plan.reverse,
            looked_max: self.looked_max,
        };
        let in_order = self.plan.in_order;
        let from = match sink {
            Sink::Best { after: Some(after), .. } if in_order => Some(after.path.clone()),
            _ => None,
        };
        let (spec, needed) = (self.spec, &self.needed);
        let (end, looked) = walk.run_from(from.as_deref(), &mut |path, _, values| {
            if fits(spec, needed, values) {
                sink.take(spec, needed, path, values)?;
            }
            let enough = in_order && sink.is_full();
            Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        self.end = end;
        self.looked = looked;
        Ok(())
    }

    fn fill_from_index(&mut self, range: &IndexRange, sink: &mut Sink) -> Result<()> {
        if let Some(path) = self.spec.path.as_path() {
            return self.fill_from_entries(range, path.key(), sink);
        }
        let base = self.spec.path.base();
        let mut from = base.key().clone();
        while let Some(collection) =
            self.indexes.first_collection(self.view, &range.index, &from)?
        {
            if !is_within(base.key(), &collection) {
                break;
            }
            if self.look() {
                return Ok(());
            }
            if self.spec.path.matches_key(&collection) {
                self.fill_from_entries(range, &collection, sink)?;
                if self.end == WalkEnd::TooMany {
                    return Ok(());
                }
            }
            from = after_subtree(&collection);
        }
        Ok(())
    }

    /// Counts one more that was looked at; says whether that is one too many.
    fn look(&mut self) -> bool {
        if self.looked >= self.looked_max {
            self.end = WalkEnd::TooMany;
            return true;
        }
        self.looked += 1;
        false
    }

    fn fill_from_entries(
        &mut self,
        range: &IndexRange,
        collection: &[u8],
        sink: &mut Sink,
    ) -> Result<()> {
        let reverse = self.plan.in_order && self.plan.reverse;
        let mut intervals: Vec<_> = range.intervals.iter().collect();
        if reverse {
            intervals.reverse();
        }
        let mut taken = 0;
        for interval in intervals {
            let start = [range.prefix.as_slice(), &interval.start].concat();
            let end = match &interval.end {
                Some(end) => Some([range.prefix.as_slice(), end].concat().into()),
                None => prefix_end(&range.prefix),
            };
            let mut keys = KeyRange::new(start, end);
            self.skip_to_cursor(range, sink, reverse, &mut keys);
            if self.fill_from_range(range, collection, keys, reverse, sink, &mut taken)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Leaves out what lies before the cursor, where entries come in the query's order.
    fn skip_to_cursor(&self, range: &IndexRange, sink: &Sink, reverse: bool, keys: &mut KeyRange) {
        let Sink::Best { after: Some(after), .. } = sink else { return };
        if !self.plan.in_order {
            return;
        }
        let mut seek = range.prefix.clone();
        let mut whole = true;
        for order in range.index.fields.iter().skip(range.prefix_fields) {
            let start = seek.len();
            match after.value(&self.spec.order, &order.field) {
                Some(value) => seek.extend_from_slice(&value),
                None if order.field == Field::Key => encode_key(after.key(), false, &mut seek),
                None => {
                    whole = false;
                    break;
                }
            }
            if order.descending {
                invert_from(&mut seek, start);
            }
        }
        if whole {
            // Entries of the same values follow by key; of the same key, the path decides later.
            seek.extend_from_slice(after.key());
        }
        if reverse && whole {
            seek.push(0);
            keys.end = earlier(&keys.end, &Some(seek.into()));
        } else if reverse {
            keys.end = earlier(&keys.end, &prefix_end(&seek));
        } else {
            keys.start = keys.start.clone().max(Bytes::from(seek));
        }
    }

    /// Says whether the collection has no more to give.
    fn fill_from_range(
        &mut self,
        range: &IndexRange,
        collection: &[u8],
        mut keys: KeyRange,
        reverse: bool,
        sink: &mut Sink,
        taken: &mut usize,
    ) -> Result<bool> {
        if range.settled && matches!(sink, Sink::Count(_)) {
            let Sink::Count(count) = sink else { return Ok(false) };
            self.indexes.scan(self.view, &range.index, collection, &keys, false, &mut |_| {
                *count += 1;
                ControlFlow::Continue(())
            })?;
            return Ok(false);
        }
        // In order a few may do, or turn out not to fit; else all are looked at.
        let mut wanted = if self.plan.in_order { sink.wanted() } else { BATCH_ENTRIES };
        wanted = wanted.min(BATCH_ENTRIES);
        while !keys.is_empty() {
            let mut batch: Vec<Vec<u8>> = Vec::new();
            self.indexes.scan(
                self.view,
                &range.index,
                collection,
                &keys,
                reverse,
                &mut |entry| {
                    batch.push(entry.to_vec());
                    let full = batch.len() >= wanted;
                    if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                },
            )?;
            let more = batch.len() >= wanted;
            for entry in &batch {
                if self.take_entry(range, collection, entry, sink)? {
                    *taken += 1;
                }
                if self.end == WalkEnd::TooMany || (self.plan.in_order && *taken >= sink.wanted()) {
                    return Ok(true);
                }
            }
            match batch.pop() {
                Some(last) if more && reverse => keys.end = Some(last.into()),
                Some(mut last) if more => {
                    last.push(0);
                    keys.start = last.into();
                }
                _ => break,
            }
            wanted = (2 * wanted).min(BATCH_ENTRIES);
        }
        Ok(false)
    }

    /// Says whether the entry's item went into the sink.
    fn take_entry(
        &mut self,
        range: &IndexRange,
        collection: &[u8],
        entry: &[u8],
        sink: &mut Sink,
    ) -> Result<bool> {
        let Some(key) = entry_key(&range.index, entry) else { return Ok(false) };
        let path = [&crate::place::below(collection), key].concat();
        if range.settled
            && self.plan.in_order
            && matches!(sink, Sink::Best { .. })
            && let Some(values) = self.order_values(range, entry, key)
        {
            return Ok(sink.offer(Position::at(self.spec, values, &path)));
        }
        if self.look() {
            return Ok(false);
        }
        match read_item(self.view, &path, &self.needed)? {
            Some(values) if fits(self.spec, &self.needed, &values) => {
                sink.take(self.spec, &self.needed, &path, &values)
            }
            _ => Ok(false),
        }
    }

    /// The encodings of the order's fields as the entry has them.
    fn order_values(&self, range: &IndexRange, entry: &[u8], key: &[u8]) -> Option<Vec<u8>> {
        let mut values = Vec::with_capacity(entry.len());
        for order in &self.spec.order {
            let start = values.len();
            match order.field {
                Field::Key => encode_key(key, false, &mut values),
                _ => values.extend_from_slice(&range.value(entry, &order.field)?),
            }
            if order.descending {
                invert_from(&mut values, start);
            }
        }
        Some(values)
    }
}

fn is_within(base: &[u8], key: &[u8]) -> bool {
    base.is_empty() || key.strip_prefix(base).is_some_and(|rest| rest.first() == Some(&0))
}

/// Whether an item fits the query.
pub(crate) fn fits(spec: &QuerySpec, needed: &Needed, values: &Values) -> bool {
    spec.filter.holds(&|field| needed.value(values, field))
}

/// Reads the needed fields of one item; `None` when it is not there.
pub(crate) fn read_item(view: &View, path: &[u8], needed: &Needed) -> Result<Option<Values>> {
    let keys: Intervals = key_point(own_key(path));
    let walk = Walk {
        view,
        collections: Collections::Only(parent(path)),
        keys: &keys,
        needed,
        reverse: false,
        looked_max: usize::MAX,
    };
    let mut found = None;
    walk.run(&mut |_, _, values| {
        found = Some(values.clone());
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

impl Sink {
    /// One that keeps the first `count` items after a place.
    pub(crate) fn best(count: usize, after: Option<Position>) -> Self {
        Self::Best { heap: BinaryHeap::new(), count, after }
    }

    /// The one that a query's totals ask for.
    pub(crate) fn totals(totals: &Totals) -> Self {
        match totals {
            Totals::Count => Self::Count(0),
            Totals::Groups(aggregate) => Self::Groups(Groups::new(aggregate)),
        }
    }

    /// Forgets the places; what is for totals is filled once.
    fn clear(&mut self) {
        if let Self::Best { heap, .. } = self {
            heap.clear();
        }
    }

    /// How many items in order are enough.
    fn wanted(&self) -> usize {
        match self {
            Self::Best { count, .. } => *count,
            Self::Count(_) | Self::Groups(_) => usize::MAX,
        }
    }

    fn is_full(&self) -> bool {
        matches!(self, Self::Best { heap, count, .. } if heap.len() >= *count)
    }

    fn take(
        &mut self,
        spec: &QuerySpec,
        needed: &Needed,
        path: &[u8],
        values: &Values,
    ) -> Result<bool> {
        match self {
            Self::Best { .. } => Ok(self.offer(Position::of(spec, needed, values, path))),
            Self::Count(count) => {
                *count += 1;
                Ok(true)
            }
            Self::Groups(groups) => {
                groups.take(|field| needed.value(values, field))?;
                Ok(true)
            }
        }
    }

    /// Keeps a place if it is among the first; says whether it counts: it does not before the
    /// cursor.
    fn offer(&mut self, position: Position) -> bool {
        let Self::Best { heap, count, after } = self else { return false };
        if after.as_ref().is_some_and(|after| position <= *after) {
            return false;
        }
        if heap.len() < *count {
            heap.push(position);
        } else if heap.peek().is_some_and(|last| position < *last) {
            heap.pop();
            heap.push(position);
        }
        true
    }

    /// The places that were kept, in order.
    pub(crate) fn into_positions(self) -> Vec<Position> {
        match self {
            Self::Best { heap, .. } => heap.into_sorted_vec(),
            Self::Count(_) | Self::Groups(_) => Vec::new(),
        }
    }
}
