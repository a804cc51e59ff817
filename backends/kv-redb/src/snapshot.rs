//! A frozen view: a read transaction of redb with its tables opened once.
//!
//! Invariant: reads of several threads meet in no lock of ours; redb's page cache is sharded.

use std::cell::Cell;
use std::fmt;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, TableDefinition, TableError,
};
use trellis_engine_traits::{
    CommitSeq, Direction, Guard, KeyRange, KvSnapshot, Result, Scan, ScanEnd, SpaceId, Visitor,
};

use crate::error;
use crate::state::{STATE_KEY, STATE_TABLE, State, table_name};

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;
type Item<'a> = (redb::AccessGuard<'a, &'static [u8]>, redb::AccessGuard<'a, &'static [u8]>);

pub(crate) struct RedbSnapshot {
    transaction: ReadTransaction,
    /// By space; `None` inside when the space has no table. Boxed, as most spaces have none.
    tables: [OnceLock<Option<Box<Table>>>; 256],
    state: State,
    closed: Arc<AtomicBool>,
}

impl RedbSnapshot {
    pub(crate) fn begin(database: &Database, closed: &Arc<AtomicBool>) -> Result<Self> {
        let transaction = database.begin_read().map_err(error::transaction)?;
        let table = transaction.open_table(STATE_TABLE).map_err(error::table)?;
        let row = table.get(STATE_KEY).map_err(error::storage)?;
        let row = row.ok_or_else(|| error::corrupt("the row that describes the store is gone"))?;
        let state = State::decode(row.value())?;
        drop((row, table));
        let tables = [const { OnceLock::new() }; 256];
        Ok(Self { transaction, tables, state, closed: Arc::clone(closed) })
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    fn table(&self, space: SpaceId) -> Result<Option<&Table>> {
        // A byte always finds its slot; the compiler does not know.
        let Some(slot) = self.tables.get(usize::from(space.0)) else { return Ok(None) };
        let table = match slot.get() {
            Some(table) => table,
            None => {
                let opened = self.open_table(space)?;
                slot.get_or_init(|| opened)
            }
        };
        Ok(table.as_deref())
    }

    fn open_table(&self, space: SpaceId) -> Result<Option<Box<Table>>> {
        match self.transaction.open_table(TableDefinition::new(&table_name(space))) {
            Ok(table) => Ok(Some(Box::new(table))),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error::table(error)),
        }
    }

    fn read(&self, space: SpaceId, key: &[u8]) -> Result<Option<Bytes>> {
        error::damage_caught(|| {
            let Some(table) = self.table(space)? else { return Ok(None) };
            let found = table.get(key).map_err(error::storage)?;
            Ok(found.map(|value| Bytes::copy_from_slice(value.value())))
        })
    }

    fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(error::closed().operation(operation));
        }
        Ok(())
    }

    /// Answers `Conflict` when one of the guards does not hold in this view.
    pub(crate) fn test(&self, guards: &[Guard]) -> Result<()> {
        for (index, guard) in guards.iter().enumerate() {
            let holds = match guard {
                Guard::Absent(at) => self.read(at.space, &at.key)?.is_none(),
                Guard::Present(at) => self.read(at.space, &at.key)?.is_some(),
                Guard::Equals(at, value) => {
                    self.read(at.space, &at.key)?.is_some_and(|stored| stored == *value)
                }
            };
            if !holds {
                return Err(error::guard_failed(index));
            }
        }
        Ok(())
    }
}

/// The caller has seen to it that the range is not empty.
pub(crate) fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let end = range.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(&range.start), end)
}

fn visit_all<'a>(
    items: impl Iterator<Item = Result<Item<'a>, redb::StorageError>>,
    visit: &mut Visitor<'_>,
) -> Result<ScanEnd> {
    // One catch for the whole scan; a panic of the visitor is not redb's and passes through.
    let visiting = Cell::new(false);
    let scanned = catch_unwind(AssertUnwindSafe(|| {
        for item in items {
            let item = item.map_err(error::storage)?;
            // Looked up in the page only here: a damaged page makes redb panic.
            let (key, value) = (item.0.value(), item.1.value());
            visiting.set(true);
            let flow = visit(key, value);
            visiting.set(false);
            if flow.is_break() {
                return Ok(ScanEnd::Stopped);
            }
        }
        Ok(ScanEnd::Exhausted)
    }));
    match scanned {
        Ok(end) => end,
        Err(panic) if visiting.get() => resume_unwind(panic),
        Err(_) => Err(error::damaged()),
    }
}

impl KvSnapshot for RedbSnapshot {
    fn seq(&self) -> CommitSeq {
        CommitSeq(self.state.seq)
    }

    fn get(&self, space: SpaceId, key: &[u8]) -> Result<Option<Bytes>> {
        self.check_open("get")?;
        self.read(space, key).map_err(|error| error.operation("get"))
    }

    fn scan(&self, scan: &Scan, visit: &mut Visitor<'_>) -> Result<ScanEnd> {
        self.check_open("scan")?;
        if scan.range.is_empty() {
            return Ok(ScanEnd::Exhausted);
        }
        let items = error::damage_caught(|| {
            let Some(table) = self.table(scan.space)? else { return Ok(None) };
            table.range::<&[u8]>(bounds(&scan.range)).map(Some).map_err(error::storage)
        });
        let end = items.and_then(|items| match (items, scan.direction) {
            (None, _) => Ok(ScanEnd::Exhausted),
            (Some(items), Direction::Forward) => visit_all(items, visit),
            (Some(items), Direction::Reverse) => visit_all(items.rev(), visit),
        });
        end.map_err(|error| error.operation("scan"))
    }
}

impl fmt::Debug for RedbSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbSnapshot").field("state", &self.state).finish_non_exhaustive()
    }
}
