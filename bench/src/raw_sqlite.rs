//! SQLite by itself: write-ahead log with `synchronous = FULL`, a table without row ids.

use std::hint::black_box;
use std::path::Path;

use rusqlite::{CachedStatement, Connection};

use crate::Result;
use crate::raw_engine::{Pair, RawEngine};

const PUT: &str = "REPLACE INTO entries (key, value) VALUES (?1, ?2)";
const GET: &str = "SELECT value FROM entries WHERE key = ?1";
const SCAN: &str = "SELECT key, value FROM entries WHERE key >= ?1 AND key < ?2 ORDER BY key";

pub(crate) struct RawSqlite {
    connection: Connection,
}

impl RawSqlite {
    pub(crate) fn open(path: &Path, cache_bytes: usize) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let cache_kib = i64::try_from(cache_bytes / 1024)?;
        connection.pragma_update(None, "cache_size", -cache_kib)?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS entries
             (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        )?;
        Ok(Self { connection })
    }
}

fn get_one(get: &mut CachedStatement<'_>, key: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut rows = get.query((key,))?;
    let row = rows.next()?.ok_or("a key is missing")?;
    out.clear();
    out.extend_from_slice(row.get_ref(0)?.as_blob()?);
    black_box(&out);
    Ok(())
}

impl RawEngine for RawSqlite {
    fn commit(&mut self, pairs: &[Pair]) -> Result<()> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        {
            let mut put = self.connection.prepare_cached(PUT)?;
            for (key, value) in pairs {
                put.execute((key, value))?;
            }
        }
        self.connection.prepare_cached("COMMIT")?.execute(())?;
        Ok(())
    }

    fn get_each(&self, keys: &[Vec<u8>], out: &mut Vec<u8>) -> Result<()> {
        let mut get = self.connection.prepare_cached(GET)?;
        for key in keys {
            get_one(&mut get, key, out)?;
        }
        Ok(())
    }

    fn get_all(&self, keys: &[Vec<u8>], out: &mut Vec<u8>) -> Result<()> {
        self.connection.prepare_cached("BEGIN")?.execute(())?;
        let read = self.get_each(keys, out);
        self.connection.prepare_cached("COMMIT")?.execute(())?;
        read
    }

    fn scan(&self, start: &[u8], end: &[u8]) -> Result<(usize, usize)> {
        let mut scan = self.connection.prepare_cached(SCAN)?;
        let mut rows = scan.query((start, end))?;
        let (mut pairs, mut bytes) = (0, 0);
        while let Some(row) = rows.next()? {
            let key = black_box(row.get_ref(0)?.as_blob()?);
            let value = black_box(row.get_ref(1)?.as_blob()?);
            bytes += key.len() + value.len();
            pairs += 1;
        }
        Ok((pairs, bytes))
    }
}
