//! How the suite opens an engine, and the switches that an engine may offer.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use trellis_engine_traits::{KvBackend, Result, StreamLog};

use crate::Need;

/// What the suite has to know of an engine to run it in a [`World`](crate::World).
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// Closes it.
    ///
    /// # Errors
    /// Those of the engine.
    fn close_engine(&self) -> Result<()>;
}

impl Engine for dyn KvBackend {
    fn close_engine(&self) -> Result<()> {
        self.close()
    }
}

impl Engine for dyn StreamLog {
    fn close_engine(&self) -> Result<()> {
        self.close()
    }
}

type Open<B> = Arc<dyn Fn(&Path) -> Result<Arc<B>> + Send + Sync>;
type Hook = Arc<dyn Fn(&Path) + Send + Sync>;
type DamageHook = Arc<dyn Fn(&Path, &str, u64) -> bool + Send + Sync>;
type ChildHook = Arc<dyn Fn(&Path) -> Command + Send + Sync>;

/// Opens an engine of kind `B` in a directory; says what the engine offers.
///
/// Opening the same directory again must find the same data. Everything but `open` is optional:
/// each switch given lets more cases run.
///
/// ```
/// # #[cfg(feature = "matrix")] {
/// use std::sync::Arc;
/// use trellis_conformance::kv;
/// use trellis_kv_memory::MemoryKv;
///
/// let factory = kv::Factory::new("kv-mine", |_dir| Ok(Arc::new(MemoryKv::new())));
/// assert_eq!(factory.name(), "kv-mine");
/// # }
/// ```
pub struct Factory<B: Engine + ?Sized> {
    name: String,
    open: Open<B>,
    offers: Vec<Need>,
    lose_power: Option<Hook>,
    fail_flush: Option<Hook>,
    fail_write: Option<Hook>,
    damage: Option<DamageHook>,
    child: Option<ChildHook>,
    forget: Option<Hook>,
    engine_threads: usize,
}

/// A switch without parameters that a factory may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flag {
    /// Loses power in this directory: what is not durable is gone.
    LosePower,
    /// Makes the next flush fail, once.
    FailFlush,
    /// Makes the next write fail, once, before anything reached the medium.
    FailWrite,
}

impl<B: Engine + ?Sized> Factory<B> {
    /// An engine named `name` (`kv-redb`), opened in a directory by `open`.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        open: impl Fn(&Path) -> Result<Arc<B>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            open: Arc::new(open),
            offers: Vec::new(),
            lose_power: None,
            fail_flush: None,
            fail_write: None,
            damage: None,
            child: None,
            forget: None,
            engine_threads: 0,
        }
    }

    /// The same under another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Says what the engine offers by nature: [`Need::Disk`] or [`Need::Volatile`], and abilities.
    #[must_use]
    pub fn offers(mut self, offers: &[Need]) -> Self {
        self.offers.extend_from_slice(offers);
        self
    }

    /// Adds a switch.
    #[must_use]
    pub fn switch(mut self, flag: Flag, hook: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        let (slot, need) = match flag {
            Flag::LosePower => (&mut self.lose_power, Need::PowerLoss),
            Flag::FailFlush => (&mut self.fail_flush, Need::FlushFault),
            Flag::FailWrite => (&mut self.fail_write, Need::WriteFault),
        };
        *slot = Some(Arc::new(hook));
        self.offers.push(need);
        self
    }

    /// Adds a switch that damages one stored record, given stream and offset; answers whether
    /// there was one. Engines on disk need none: the suite flips a bit in their files.
    #[must_use]
    pub fn damage(
        mut self,
        hook: impl Fn(&Path, &str, u64) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.damage = Some(Arc::new(hook));
        self.offers.push(Need::Damage);
        self
    }

    /// Adds a way to start a child process that opens the engine in a directory and calls
    /// [`kv::crash_child`](crate::kv::crash_child) or
    /// [`log::crash_child`](crate::log::crash_child).
    #[must_use]
    pub fn child(mut self, hook: impl Fn(&Path) -> Command + Send + Sync + 'static) -> Self {
        self.child = Some(Arc::new(hook));
        self.offers.push(Need::Child);
        self
    }

    /// Is told when a directory is gone, for engines that keep its data elsewhere.
    #[must_use]
    pub fn forget(mut self, hook: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        self.forget = Some(Arc::new(hook));
        self
    }

    /// Says how many threads the engine keeps for the life of the process, for all its stores
    /// together; the leak check then allows for as many. None unless said.
    #[must_use]
    pub fn engine_threads(mut self, threads: usize) -> Self {
        self.engine_threads = threads;
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the engine and the factory offer.
    #[must_use]
    pub fn offered(&self) -> &[Need] {
        &self.offers
    }

    /// Opens the engine.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn open(&self, dir: &Path) -> Result<Arc<B>> {
        (self.open)(dir)
    }

    pub(crate) fn throw(&self, flag: Flag, dir: &Path) {
        let hook = match flag {
            Flag::LosePower => &self.lose_power,
            Flag::FailFlush => &self.fail_flush,
            Flag::FailWrite => &self.fail_write,
        };
        hook.as_ref().expect("the planner runs this only where the switch is")(dir);
    }

    pub(crate) fn damage_hook(&self) -> Option<&DamageHook> {
        self.damage.as_ref()
    }

    pub(crate) fn child_command(&self, dir: &Path) -> Command {
        self.child.as_ref().expect("the planner runs this only where a child can be")(dir)
    }

    pub(crate) fn threads_allowed(&self) -> usize {
        self.engine_threads
    }

    pub(crate) fn dir_is_gone(&self, dir: &Path) {
        if let Some(hook) = &self.forget {
            hook(dir);
        }
    }
}

impl<B: Engine + ?Sized> Clone for Factory<B> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            open: self.open.clone(),
            offers: self.offers.clone(),
            lose_power: self.lose_power.clone(),
            fail_flush: self.fail_flush.clone(),
            fail_write: self.fail_write.clone(),
            damage: self.damage.clone(),
            child: self.child.clone(),
            forget: self.forget.clone(),
            engine_threads: self.engine_threads,
        }
    }
}

impl<B: Engine + ?Sized> fmt::Debug for Factory<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Factory")
            .field("name", &self.name)
            .field("offers", &self.offers)
            .finish_non_exhaustive()
    }
}
