//! Applies a batch within one write transaction of redb.
//!
//! Invariants: tables are dropped before the transaction ends, as redb asks; an error leaves a
//! transaction that is aborted when it is dropped.

use std::collections::BTreeMap;

use redb::{Durability as RedbDurability, Table, TableDefinition, WriteTransaction};
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

/// Applies `ops` and answers the live bytes afterwards.
pub(crate) fn apply(transaction: &WriteTransaction, ops: &[Op], live_bytes: u64) -> Result<u64> {
    let mut writer = Writer { transaction, tables: BTreeMap::new(), live_bytes };
    for op in ops {
        match op {
            Op::Put(at, value) => writer.put(at.space, &at.key, value)?,
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

    fn put(&mut self, space: SpaceId, key: &[u8], value: &[u8]) -> Result<()> {
        let (table, live_bytes) = self.table(space)?;
        match table.insert(key, value).map_err(error::storage)? {
            Some(old) => sub(live_bytes, old.value().len()),
            None => *live_bytes += key.len() as u64,
        }
        *live_bytes += value.len() as u64;
        Ok(())
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
