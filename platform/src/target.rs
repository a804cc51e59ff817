//! An empty place that becomes a database from archives.

use std::sync::Arc;

use trellis_archive::{Restore, Until};
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_runtime::Runtime;
use trellis_tree::{Seeding, SeedingSource};

use crate::config::Config;
use crate::data_directory::DataDirectory;
use crate::registry::{Choice, Engines};

/// The engines of a database that is not one yet, and the directory they are in.
#[derive(Debug)]
pub(crate) struct Target {
    engines: Engines,
    runtime: Arc<Runtime>,
    /// Held as long as the engines are open.
    directory: DataDirectory,
    /// What store and journal are bound to it as.
    urls: (String, String),
}

impl Target {
    /// Takes hold of a place.
    ///
    /// # Errors
    /// `Locked` while somebody has it open, `InvalidInput` for a place in memory or one that was
    /// made with other engines; those of the engines.
    pub(crate) fn open(config: &Config) -> Result<Self> {
        let (kv_url, log_url) = (config.kv_url(), config.log_url());
        let choice = Choice::new(kv_url, log_url, &config.vfs)?;
        if choice.is_in_memory() {
            let message = "a database in memory would be gone with this process; name a directory";
            return Err(Error::new(ErrorKind::InvalidInput, message).operation("open"));
        }
        let directory = DataDirectory::hold(&config.data)?;
        directory.check(kv_url, log_url)?;
        let engines = choice.open(&config.data, config.cache_bytes())?;
        let urls = (kv_url.to_owned(), log_url.to_owned());
        Ok(Self { engines, runtime: Runtime::system(), directory, urls })
    }

    /// Begins to fill it, or goes on.
    ///
    /// # Errors
    /// `AlreadyExists` when it holds a database; those of the engines.
    pub(crate) fn restore(&self, source: SeedingSource, until: Until) -> Result<Restore> {
        let (kv, log) = (Arc::clone(&self.engines.kv), Arc::clone(&self.engines.log));
        let seeding = Seeding::begin(kv, log, &self.runtime, source)?;
        // Not before the store says that it is being filled: a marked directory without that is an
        // empty database, which opens.
        self.directory.mark(&self.urls.0, &self.urls.1)?;
        Ok(Restore::new(seeding, until))
    }

    /// Gives the files free.
    pub(crate) fn close(self) -> Result<()> {
        self.engines.close()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Closing twice is fine; a failure before this one is the one to tell.
        if let Err(error) = self.engines.close() {
            tracing::warn!(%error, "closing the engines of an unfinished copy");
        }
    }
}
