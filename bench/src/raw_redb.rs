//! redb by itself: one table, `Durability::Immediate`, without quick repair (its faster setting).

use std::hint::black_box;
use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use crate::Result;
use crate::raw_engine::{Pair, RawEngine};

const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("entries");

pub(crate) struct RawRedb {
    database: Database,
}

impl RawRedb {
    pub(crate) fn open(path: &Path, cache_bytes: usize) -> Result<Self> {
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        Ok(Self { database: builder.create(path)? })
    }
}

impl RawEngine for RawRedb {
    fn commit(&mut self, pairs: &[Pair]) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (key, value) in pairs {
                table.insert(key.as_slice(), value.as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn get_each(&self, keys: &[Vec<u8>], out: &mut Vec<u8>) -> Result<()> {
        for key in keys {
            let table = self.database.begin_read()?.open_table(TABLE)?;
            let value = table.get(key.as_slice())?.ok_or("a key is missing")?;
            out.clear();
            out.extend_from_slice(value.value());
            black_box(&out);
        }
        Ok(())
    }

    fn get_all(&self, keys: &[Vec<u8>], out: &mut Vec<u8>) -> Result<()> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        for key in keys {
            let value = table.get(key.as_slice())?.ok_or("a key is missing")?;
            out.clear();
            out.extend_from_slice(value.value());
            black_box(&out);
        }
        Ok(())
    }

    fn scan(&self, start: &[u8], end: &[u8]) -> Result<(usize, usize)> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let (mut pairs, mut bytes) = (0, 0);
        for pair in table.range::<&[u8]>(start..end)? {
            let (key, value) = pair?;
            bytes += black_box(key.value()).len() + black_box(value.value()).len();
            pairs += 1;
        }
        Ok((pairs, bytes))
    }
}
