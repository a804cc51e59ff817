//! The exclusive lock: SQLite lets several processes in, the contract lets one.
//!
//! A file of its own beside the database: closing any descriptor of the database itself would drop
//! SQLite's locks on it. The kernel releases the lock when the process ends, however it ends; the
//! file stays.

use std::fs::{File, TryLockError};
use std::path::Path;

use trellis_engine_traits::Result;

use crate::error;

#[derive(Debug)]
pub(crate) struct ExclusiveLock {
    _file: File,
}

impl ExclusiveLock {
    pub(crate) fn take(database: &Path) -> Result<Self> {
        let mut name = database.as_os_str().to_owned();
        name.push(".lock");
        let file = File::options().create(true).truncate(false).write(true).open(name);
        let file = file.map_err(error::io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(error::locked()),
            Err(TryLockError::Error(failure)) => Err(error::io(failure)),
        }
    }
}
