//! Applies a batch within one write transaction of redb.
//!
//! Invariants: tables are dropped before the transaction ends, as redb asks; an error leaves a
//! transaction that is aborted when it is dropped.
//!
//! Batches are sorted, and what is new often stands side by side: a cursor builds its pages at
//! once, for a third of what a way down the tree for each key takes.

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::{CursorError, Durability as RedbDurability, Table, TableDefinition, WriteTransaction};
use trellis_engine_traits::{Durability, KeyRange, Op, Result, SpaceId};

use crate::error;
use crate::snapshot::bounds;
use crate::state::{STATE_KEY, STATE_TABLE, State, table_name};

/// Begins a write transaction with what `durability` asks of redb.
///
/// `Synced` records the allocator's state as well: opening after a crash then takes milliseconds
/// instead of a walk through the whole file.
pub(crate) fn begin(database: &redb::Database, durability: Durability) -> Result<WriteTransaction> {
    let mut transaction = database.begin_write().map_err(error::transaction)?;
    let native = match durability {
        Durability::Buffered => RedbDurability::None,
        Durability::Synced => RedbDurability::Immediate,
    };
    transaction
        .set_durability(native)
        .map_err(|error| error::unsupported("redb refuses this durability").source(error))?;
    transaction.set_quick_repair(durability == Durability::Synced);
    Ok(transaction)
}

/// A run of fewer keys was not worth its cursor.
const RUN_KEYS_MIN: usize = 8;
/// Keys for which no run is looked for, at most, after such runs.
const RUN_PAUSE_MAX: usize = 64;

/// Applies `ops` and answers the live bytes afterwards.
pub(crate) fn apply(transaction: &WriteTransaction, ops: &[Op], live_bytes: u64) -> Result<u64> {
    let mut writer = Writer { transaction, tables: BTreeMap::new(), live_bytes };
    let (mut rest, mut pause, mut paused) = (ops, 0_usize, 0_usize);
    while let Some((op, behind)) = rest.split_first() {
        rest = behind;
        match op {
            Op::Put(at, value) => {
                let is_new = writer.put(at.space, &at.key, value)?;
                if paused > 0 || !is_new {
                    paused = paused.saturating_sub(1);
                    continue;
                }
                let run = writer.put_run(at.space, &at.key, rest)?;
                rest = rest.get(run..).unwrap_or_default();
                pause = if run < RUN_KEYS_MIN { (2 * pause + 1).min(RUN_PAUSE_MAX) } else { 0 };
                paused = pause;
            }
            Op::Delete(at) => writer.delete(at.space, &at.key)?,
            Op::DeleteRange(space, range) => writer.delete_range(*space, range)?,
        }
    }
    Ok(writer.live_bytes)
}

/// Writes the row that describes the store.
pub(crate) fn put_state(transaction: &WriteTransaction, state: State) -> Result<()> {
    let mut table = transaction.open_table(STATE_TABLE).map_err(error::table)?;
    table.insert(STATE_KEY, &state.encode()[..]).map_err(error::storage)?;
    Ok(())
}

type Pairs<'txn> = Table<'txn, &'static [u8], &'static [u8]>;

struct Writer<'txn> {
    transaction: &'txn WriteTransaction,
    tables: BTreeMap<SpaceId, Pairs<'txn>>,
    live_bytes: u64,
}

impl<'txn> Writer<'txn> {
    fn table(&mut self, space: SpaceId) -> Result<(&mut Pairs<'txn>, &mut u64)> {
        use std::collections::btree_map::Entry;
        let table = match self.tables.entry(space) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let definition = table_name(space);
                let opened = self.transaction.open_table(TableDefinition::new(&definition));
                entry.insert(opened.map_err(error::table)?)
            }
        };
        Ok((table, &mut self.live_bytes))
    }

    /// Whether the key is new.
    fn put(&mut self, space: SpaceId, key: &[u8], value: &[u8]) -> Result<bool> {
        let (table, live_bytes) = self.table(space)?;
        *live_bytes += value.len() as u64;
        let is_new = match table.insert(key, value).map_err(error::storage)? {
            Some(old) => {
                sub(live_bytes, old.value().len());
                false
            }
            None => {
                *live_bytes += key.len() as u64;
                true
            }
        };
        Ok(is_new)
    }

    /// Puts those first ones of `ops` that are new, in order, and stand between a key and the next
    /// that is there; how many.
    fn put_run(&mut self, space: SpaceId, key: &[u8], ops: &[Op]) -> Result<usize> {
        let (table, live_bytes) = self.table(space)?;
        let mut cursor = table.lower_bound_mut(Bound::Excluded(key)).map_err(error::storage)?;
        let mut run = 0;
        for op in ops {
            let Op::Put(at, value) = op else { break };
            if at.space != space {
                break;
            }
            match cursor.insert_before(&at.key[..], &value[..]) {
                Ok(()) => {}
                Err(CursorError::UnorderedKey) => break,
                Err(failure) => return Err(error::cursor(failure)),
            }
            *live_bytes += (at.key.len() + value.len()) as u64;
            run += 1;
        }
        cursor.close().map_err(error::storage)?;
        Ok(run)
    }

    fn delete(&mut self, space: SpaceId, key: &[u8]) -> Result<()> {
        let (table, live_bytes) = self.table(space)?;
        if let Some(old) = table.remove(key).map_err(error::storage)? {
            sub(live_bytes, key.len() + old.value().len());
        }
        Ok(())
    }

    fn delete_range(&mut self, space: SpaceId, range: &KeyRange) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let (table, live_bytes) = self.table(space)?;
        let removed = table.retain_in::<&[u8], _>(bounds(range), |key, value| {
            sub(live_bytes, key.len() + value.len());
            false
        });
        removed.map_err(error::storage)
    }
}

/// The count is a statistic: damage to it must not stop a write.
fn sub(live_bytes: &mut u64, gone_bytes: usize) {
    *live_bytes = live_bytes.saturating_sub(gone_bytes as u64);
}
