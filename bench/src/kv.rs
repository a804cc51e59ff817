//! The stores that are measured.

use std::path::Path as FilePath;
use std::sync::Arc;

use clap::ValueEnum;
use trellis_engine_traits::KvBackend;
use trellis_kv_memory::MemoryKv;
use trellis_kv_redb::{RedbKv, RedbOptions};
use trellis_kv_sled::{SledKv, SledOptions};
use trellis_kv_sqlite::{SqliteKv, SqliteOptions};

use crate::Result;

/// A store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kv {
    Memory,
    Redb,
    Sqlite,
    Sled,
}

impl Kv {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redb => "redb",
            Self::Sqlite => "sqlite",
            Self::Sled => "sled",
        }
    }

    pub(crate) fn open(self, dir: &FilePath, cache_bytes: usize) -> Result<Arc<dyn KvBackend>> {
        Ok(match self {
            Self::Memory => Arc::new(MemoryKv::new()),
            Self::Redb => {
                let options = RedbOptions { cache_bytes, ..RedbOptions::default() };
                Arc::new(RedbKv::open(&dir.join("tree.redb"), options)?)
            }
            Self::Sqlite => {
                let options = SqliteOptions { cache_bytes, ..SqliteOptions::default() };
                Arc::new(SqliteKv::open(&dir.join("tree.sqlite"), options)?)
            }
            Self::Sled => {
                let options = SledOptions { cache_bytes: cache_bytes as u64 };
                Arc::new(SledKv::open(&dir.join("tree.sled"), options)?)
            }
        })
    }
}
