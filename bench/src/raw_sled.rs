//! sled by itself: batches, `flush()`, and the `fdatasync` of its file that `flush()` leaves out.
//!
//! It has no read transactions: a get is a get, whoever asks.

use std::fs::File;
use std::hint::black_box;
use std::path::Path;

use sled::{Batch, Db};

use crate::Result;
use crate::raw_engine::{Pair, RawEngine};

pub(crate) struct RawSled {
    database: Db,
    file: File,
}

impl RawSled {
    pub(crate) fn open(path: &Path, cache_bytes: usize) -> Result<Self> {
        let config = sled::Config::new().path(path).cache_capacity(cache_bytes as u64);
        let database = config.flush_every_ms(None).open()?;
        let file = File::open(path.join("db"))?;
        Ok(Self { database, file })
    }
}

impl RawEngine for RawSled {
    fn commit(&mut self, pairs: &[Pair]) -> Result<()> {
        let mut batch = Batch::default();
        for (key, value) in pairs {
            batch.insert(key.as_slice(), value.as_slice());
        }
        self.database.apply_batch(batch)?;
        self.database.flush()?;
        self.file.sync_data()?;
        Ok(())
    }

    fn get_each(&self, keys: &[Vec<u8>], out: &mut Vec<u8>) -> Result<()> {
        for key in keys {
            let value = self.database.get(key)?.ok_or("a key is missing")?;
            out.clear();
            out.extend_from_slice(&value);
            black_box(&out);
        }
        Ok(())
    }

    fn get_all(&self, keys: &[Vec<u8>], out: &mut Vec<u8>) -> Result<()> {
        self.get_each(keys, out)
    }

    fn scan(&self, start: &[u8], end: &[u8]) -> Result<(usize, usize)> {
        let (mut pairs, mut bytes) = (0, 0);
        for pair in self.database.range(start..end) {
            let (key, value) = pair?;
            bytes += black_box(&key).len() + black_box(&value).len();
            pairs += 1;
        }
        Ok((pairs, bytes))
    }
}
