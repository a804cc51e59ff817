//! [`History`]: what was committed after a rev, from the journal, with the state at each rev.
//!
//! A table like the overlay's is rebuilt from the records over the store as it is now. The store
//! may be ahead of the rev asked for: for each leaf that the records up to the store's rev change,
//! the table gets the version before from the record's before-images. Where a record does not know
//! one (it was too large, or an older version wrote the record), the states before it are not exact
//! there, and [`History::is_exact`] says so.
//!
//! Only leaves are restored: endings and remembered answers read as they are in the store.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use trellis_engine_traits::{Error, ErrorKind, ReadBudget, Result};

use crate::change::{Change, States};
use crate::core::Core;
use crate::effect::Effect;
use crate::image::{self, Image};
use crate::memtable::MemTable;
use crate::path::{self, Path};
use crate::record::Record;
use crate::state::Layers;
use crate::tree::Tree;

/// Records read at a time: a log may hold its writers up meanwhile.
const PAGE: ReadBudget = ReadBudget { records_max: 1_000, bytes_max: 256 << 10 };

/// What was committed after a rev, up to the newest commit when it was read.
///
/// It keeps a snapshot of the store open, as a [`View`](crate::View) does: drop it within seconds.
pub struct History {
    since: u64,
    through: u64,
    changes: Vec<Change>,
    /// Places whose value before a rev is not known: the rev, and the path's key; in the order of
    /// their keys.
    unknown: Vec<(u64, Bytes)>,
}

impl Tree {
    /// What was committed after `since`, with the exact states around each commit where
    /// [`History::is_exact`] says so.
    ///
    /// # Errors
    /// `NotFound` when the journal no longer reaches back to `since`, `InvalidInput` for a rev that
    /// is not there yet, `TooLarge` when reading it would take more than `bytes_max` bytes of
    /// memory; `Corrupt`, `Closed`, those of the engines.
    ///
    /// # Cost
    /// Reads the journal after `since`, or after what the store holds if that is older, and keeps
    /// it in memory.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use trellis_kv_memory::MemoryKv;
    /// use trellis_log_memory::MemoryLog;
    /// use trellis_runtime::Runtime;
    /// use trellis_tree::{Commit, Input, Path, Tree, TreeOptions};
    ///
    /// # let options = TreeOptions::default();
    /// # let (kv, log) = (Arc::new(MemoryKv::new()), Arc::new(MemoryLog::new()));
    /// let tree = Tree::open(kv, log, Runtime::system(), options)?;
    /// let since = tree.position().rev;
    /// let path = Path::parse("a")?;
    /// for value in [b"1", b"2"] {
    ///     tree.commit(Commit::set(path.clone(), Input::parse(value)?)).unwrap();
    /// }
    /// let history = tree.history(since, 1 << 20)?;
    /// let values = history.changes().map(|change| change.after()?.get(&path));
    /// assert_eq!(values.collect::<Result<Vec<_>, _>>()?, [1, 2]);
    /// # Ok::<(), trellis_engine_traits::Error>(())
    /// ```
    pub fn history(&self, since: u64, bytes_max: usize) -> Result<History> {
        let core = self.core();
        let applied_rev = core.layers.read().applied_rev;
        // What the store lacks is always there; what it holds is kept from here on.
        let _hold = self.hold_journal_after(since.min(applied_rev))?;
        core.check_reach(since)?;
        let (current, _) = core.open_state();
        // Nothing of the overlay is read, so none of its versions has to stay.
        core.views.close(current.at);
        let mut rebuild = Rebuild {
            since,
            through: current.at,
            applied_rev: current.layers.applied_rev,
            store_rev: core.store_rev(current.layers.applied_rev),
            bytes_max,
            table: MemTable::default(),
            record_bytes: 0,
            records: Vec::new(),
            unknown: Vec::new(),
        };
        rebuild.read(core)?;
        let Rebuild { through, table, records, mut unknown, .. } = rebuild;
        unknown.sort_unstable_by(|(_, one), (_, other)| one.cmp(other));
        let layers = Layers {
            active: Arc::new(RwLock::new(table)),
            frozen: None,
            store: current.layers.store.clone(),
            applied_rev: current.layers.applied_rev,
            indexes: Arc::default(),
        };
        let states = States::own(&core.views, layers);
        let changes = records.into_iter().map(|record| Change::new(record, Arc::clone(&states)));
        Ok(History { since, through, changes: changes.collect(), unknown })
    }
}

impl History {
    /// The rev after which it begins.
    #[must_use]
    pub fn since(&self) -> u64 {
        self.since
    }

    /// The last commit in it; the one asked for when there is none after that.
    #[must_use]
    pub fn through(&self) -> u64 {
        self.through
    }

    /// The commits, in order and without a gap.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter()
    }

    /// Whether the states from `since` on are exact in some places: `touches` is given the keys of
    /// paths of which something is not known, and says whether what is at, above or below one
    /// matters. `since` is at or after the rev that the history was asked for.
    ///
    /// # Cost
    /// One call for each place that is not known; there are none in records that changed no more
    /// than some hundred leaves or 64 KiB.
    #[must_use]
    pub fn is_exact(&self, since: u64, touches: &dyn Fn(&[u8]) -> bool) -> bool {
        since >= self.since && !self.unknown.iter().any(|(rev, key)| *rev > since && touches(key))
    }

    /// As [`History::is_exact`] for what is at, above or below one path.
    ///
    /// # Cost
    /// A search, and a look at each place at or below the path that is not known.
    #[must_use]
    pub fn is_exact_at(&self, since: u64, path: &Path) -> bool {
        let key = path.key().as_ref();
        let from = |key: &[u8]| {
            let start = self.unknown.partition_point(|(_, own)| **own < *key);
            self.unknown.get(start..).unwrap_or_default().iter()
        };
        let is_later = |(rev, _): &(u64, Bytes)| *rev > since;
        let below = from(key).take_while(|(_, own)| path::covers(key, own)).any(is_later);
        let above = path::ancestors(key)
            .any(|above| from(above).take_while(|(_, own)| *own == above).any(is_later));
        since >= self.since && !below && !above
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History")
            .field("since", &self.since)
            .field("through", &self.through)
            .finish_non_exhaustive()
    }
}

impl Core {
    /// The rev up to which a store that says `applied_rev` may hold something: one that took a
    /// batch in parts can be ahead of what it says, after a crash by what was replayed then.
    fn store_rev(&self, applied_rev: u64) -> u64 {
        applied_rev.max(self.opened_rev)
    }
}

/// The table while it is being rebuilt.
struct Rebuild {
    since: u64,
    through: u64,
    applied_rev: u64,
    /// The store may hold what was committed up to here.
    store_rev: u64,
    bytes_max: usize,
    table: MemTable,
    record_bytes: usize,
    records: Vec<Record>,
    unknown: Vec<(u64, Bytes)>,
}

impl Rebuild {
    fn read(&mut self, core: &Core) -> Result<()> {
        let mut next = self.since.min(self.applied_rev) + 1;
        while next <= self.through {
            let mut failure = None;
            let (from, begun) = (next - core.base, next);
            core.log.read(&core.journal, from, PAGE, &mut |_, bytes| {
                match self.enter(bytes, next) {
                    Ok(()) => next += 1,
                    Err(error) => failure = Some(error),
                }
                if failure.is_some() || next > self.through {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
            if let Some(error) = failure {
                return Err(error);
            }
            if next == begun {
                return Err(Error::new(ErrorKind::Corrupt, "the journal ends too early")
                    .context("rev_expected", next));
            }
        }
        Ok(())
    }

    fn enter(&mut self, bytes: &[u8], rev: u64) -> Result<()> {
        let record = Record::decode(bytes)?;
        if record.rev != rev {
            return Err(Error::new(ErrorKind::Corrupt, "the journal has a gap")
                .context("rev_expected", rev)
                .context("rev", record.rev));
        }
        if rev > self.since && rev <= self.store_rev {
            self.restore(&record);
        }
        let key = record.key.as_ref();
        self.table.enter(rev, record.at_ms, &record.effects, key, self.since);
        self.record_bytes += bytes.len();
        if rev > self.since {
            self.records.push(record);
        }
        if self.record_bytes.saturating_add(self.table.bytes()) > self.bytes_max {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "too much was committed since this rev; read the present state instead",
            )
            .operation("history")
            .context("bytes_max", self.bytes_max));
        }
        Ok(())
    }

    /// What was there before a record that the store already holds.
    fn restore(&mut self, record: &Record) {
        let images = record.images.as_deref().unwrap_or_default();
        let images = images.iter().chain(std::iter::repeat(&Image::Unknown));
        for (effect, image) in image::imaged(&record.effects).zip(images) {
            let key = Bytes::copy_from_slice(effect.key());
            match image {
                Image::Absent => self.base(record.rev, key, Some(None)),
                Image::Leaf(leaf) => self.base(record.rev, key, Some(Some(leaf.clone()))),
                Image::Unknown if matches!(effect, Effect::Clear(_)) => {
                    self.unknown.push((record.rev, key));
                }
                Image::Unknown => self.base(record.rev, key, None),
                Image::Leaves(leaves) => {
                    for (rest, leaf) in leaves {
                        let own = Bytes::from([key.as_ref(), rest.as_ref()].concat());
                        self.base(record.rev, own, leaf.clone().map(Some));
                    }
                }
            }
        }
    }

    /// What a leaf was before a record; the first one that changes it tells.
    fn base(&mut self, rev: u64, key: Bytes, before: Option<Option<Bytes>>) {
        if self.table.has_leaf(&key) {
            return;
        }
        match before {
            Some(before) => self.table.enter_base(key, self.since, before),
            None => self.unknown.push((rev, key)),
        }
    }
}
