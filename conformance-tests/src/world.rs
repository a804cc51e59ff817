//! The world of one run of one case: a fresh directory, an engine in it, chance, switches.
//!
//! Invariants: the directory goes with the world, whatever happens; a world that ended well has
//! left no open file and no thread behind.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;
use trellis_engine_traits::Result;

use crate::factory::{Engine, Factory, Flag};
use crate::leak;
use crate::seed::{Rng, Seed};

/// Where a case runs: `B` is the kind of engine.
pub struct World<B: Engine + ?Sized> {
    factory: Factory<B>,
    seed: Seed,
    threads_before: Option<usize>,
    engine: Mutex<Option<Arc<B>>>,
    dir: Option<TempDir>,
}

impl<B: Engine + ?Sized> World<B> {
    /// A world with an empty directory; the engine is opened at its first use.
    ///
    /// # Panics
    /// When there can be no temporary directory.
    #[must_use]
    pub fn new(factory: &Factory<B>, seed: Seed) -> Self {
        let dir = tempfile::Builder::new().prefix("trellis-world-").tempdir();
        Self {
            factory: factory.clone(),
            seed,
            threads_before: leak::threads_of_a_lone_trial(),
            engine: Mutex::new(None),
            dir: Some(dir.expect("a temporary directory")),
        }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().expect("there until the world ends").path()
    }

    /// The factory.
    #[must_use]
    pub const fn factory(&self) -> &Factory<B> {
        &self.factory
    }

    /// Chance for the purpose named `label`; the same in every replay.
    #[must_use]
    pub fn rng(&self, label: &str) -> Rng {
        self.seed.of(label).rng()
    }

    /// The open engine. Give every clone back before the next `reopen` or `kill_and_reopen`.
    ///
    /// # Panics
    /// When it does not open.
    #[must_use]
    pub fn engine(&self) -> Arc<B> {
        let mut slot = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert_with(|| self.open_again().expect("the engine opens")).clone()
    }

    /// Opens the engine once more in the same directory, whether or not it is open.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn open_again(&self) -> Result<Arc<B>> {
        self.factory.open(self.dir())
    }

    /// Closes the engine and forgets it.
    ///
    /// # Panics
    /// When closing fails.
    pub fn close(&self) {
        if let Some(engine) = self.take() {
            engine.close_engine().expect("the engine closes");
        }
    }

    /// Closes the engine and opens it again.
    ///
    /// # Panics
    /// When either fails.
    #[must_use]
    pub fn reopen(&self) -> Arc<B> {
        self.close();
        self.engine()
    }

    /// Drops the engine without closing it, and opens it again.
    ///
    /// # Panics
    /// When the body still holds the engine, or it does not open.
    #[must_use]
    pub fn kill_and_reopen(&self) -> Arc<B> {
        self.kill();
        self.engine()
    }

    /// Loses power, and opens the engine again.
    ///
    /// # Panics
    /// As for `kill_and_reopen`.
    #[must_use]
    pub fn lose_power_and_reopen(&self) -> Arc<B> {
        self.factory.throw(Flag::LosePower, self.dir());
        self.kill();
        self.engine()
    }

    /// Throws a switch of the factory.
    pub fn throw(&self, flag: Flag) {
        self.factory.throw(flag, self.dir());
    }

    fn kill(&self) {
        if let Some(engine) = self.take() {
            let holders = Arc::strong_count(&engine);
            assert_eq!(holders, 1, "the case holds the engine while it is to be dropped");
        }
    }

    fn take(&self) -> Option<Arc<B>> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ends the world: closes the engine and looks for what was left open.
    ///
    /// # Panics
    /// When something was.
    pub fn finish(self) {
        self.close();
        let dir = self.dir().to_owned();
        leak::must_vanish("open files", || leak::open_files_under(&dir));
        if let Some(before) = self.threads_before {
            let allowed = before + self.factory.threads_allowed();
            leak::must_vanish("threads", || {
                let names = leak::thread_names();
                if names.len() > allowed { names } else { Vec::new() }
            });
        }
        drop(self);
        assert!(!dir.exists(), "the directory of the world is still there");
    }
}

impl<B: Engine + ?Sized> Drop for World<B> {
    fn drop(&mut self) {
        if let Some(engine) = self.take() {
            // The case has failed already; how the engine closes says no more.
            drop(engine.close_engine());
        }
        if let Some(dir) = self.dir.take() {
            self.factory.dir_is_gone(dir.path());
        }
    }
}

impl<B: Engine + ?Sized> fmt::Debug for World<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("factory", &self.factory)
            .field("seed", &self.seed)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}
