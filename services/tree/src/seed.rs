//! Seeding: an empty store and journal become a tree from entries and records of another.
//!
//! Entries come first, in the order of [`EntrySpace::ALL`] and of their keys, then records. How far
//! it has come stands in the store, in the same batch as the data, so that a run that was cut off
//! goes on from there; until the last batch no tree opens the store. The last batch makes it the
//! store of a new journal, whose first record follows the last one that was taken in.
//!
//! Memory is bounded by one batch.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use trellis_engine_traits::{
    At, Error, ErrorKind, KeyRange, KvBackend, Op, Persistence, Result, SpaceId, StreamId,
    StreamLog, WriteBatch,
};
use trellis_runtime::Runtime;

use crate::batch::commit_sealed;
use crate::effect::Effect;
use crate::entries::EntrySpace;
use crate::journal::{JournalRecord, Position};
use crate::memtable::MemTable;
use crate::record::{self, Applied, Chain, Opening, Record};
use crate::seal::SealedSnapshot;
use crate::space::{self, APPLIED_KEY, EXPIRY_TIME, META, SPACES};
use crate::state::{Layers, State};
use crate::{digest, openings, seed_journal};

/// Where the store says that it is being seeded.
pub(crate) const NOTE_KEY: &[u8] = b"seeding";
/// The epoch of an opening whose journal is being written.
pub(crate) const UNFINISHED: u64 = 0;
/// Bytes of keys and values in one batch.
const BATCH_BYTES: usize = 8 << 20;
/// What an operation takes besides key and value.
const OPERATION_BYTES: usize = 96;

/// What a tree is seeded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeedingSource {
    /// Tells sources apart: a seeding that was cut off goes on only with the same one. Any bytes
    /// that are the same for the same entries in the same order.
    pub token: [u8; 32],
    /// The source's epoch; the new tree's are higher.
    pub epoch: u64,
}

/// Revs and epochs count up from 1: half of what a u64 holds is never reached by counting, and a
/// tree that began there would have nowhere to go.
fn check_number(number: u64, what: &'static str) -> Result<()> {
    if number < u64::MAX / 2 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupt, "a number of the source is none that counting reaches")
        .operation("seed")
        .context(what, number))
}

/// How far a seeding has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeedPoint {
    /// Entries up to this kind and key are there.
    Entries(Option<(EntrySpace, Bytes)>),
    /// All entries are there, and the records up to this position.
    Records(Position),
}

/// What came of a seeding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeded {
    /// The new tree's history: 32 hexadecimal digits.
    pub log_id: String,
    /// The rev that it begins with.
    pub rev: u64,
}

/// A store and a journal that are being made into a tree.
///
/// ```
/// use std::sync::Arc;
/// use trellis_engine_traits::{KvBackend, StreamLog};
/// use trellis_kv_memory::MemoryKv;
/// use trellis_log_memory::MemoryLog;
/// use trellis_runtime::Runtime;
/// use trellis_tree::{EntrySpace, Position, Seeding, SeedingSource, Tree, TreeOptions};
///
/// let kv: Arc<dyn KvBackend> = Arc::new(MemoryKv::new());
/// let log: Arc<dyn StreamLog> = Arc::new(MemoryLog::new());
/// let runtime = Runtime::system();
/// let source = SeedingSource { token: [7; 32], epoch: 1 };
/// let mut seeding = Seeding::begin(Arc::clone(&kv), Arc::clone(&log), &runtime, source)?;
/// seeding.entry(EntrySpace::Leaves, b"greeting", b"\x05hello")?;
/// seeding.entries_end(Position { rev: 41, hash: [0; 16] })?;
/// seeding.finish()?;
///
/// let tree = Tree::open(kv, log, runtime, TreeOptions::default())?;
/// assert_eq!(tree.view()?.get(&"greeting".parse()?)?, "hello");
/// assert_eq!(tree.position().rev, 41);
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
#[derive(Debug)]
pub struct Seeding {
    kv: Arc<dyn KvBackend>,
    log: Arc<dyn StreamLog>,
    at_ms: u64,
    note: Note,
    resumed: bool,
    /// Entries on their way to the store.
    ops: Vec<Op>,
    /// Entries of the order of endings, which follow from them.
    ending_times: Vec<Bytes>,
    bytes: usize,
    /// Records on their way to the store.
    table: MemTable,
    /// A batch was not taken: what it held is gone, so nothing may follow it.
    failed: bool,
}

/// What stands in the store while it is being seeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    token: [u8; 32],
    log_id: u128,
    epoch: u64,
    phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Entries(Option<(u8, Bytes)>),
    Records(u64, Chain),
}

impl Seeding {
    /// Begins to seed an empty store and journal, or goes on where a seeding from the same source
    /// was cut off. What another source left unfinished is removed.
    ///
    /// # Errors
    /// `AlreadyExists` when store or journal hold anything else: nothing was changed.
    /// `InvalidInput` when a seeding was cut off whose store was in memory. Those of the engines.
    pub fn begin(
        kv: Arc<dyn KvBackend>,
        log: Arc<dyn StreamLog>,
        runtime: &Runtime,
        source: SeedingSource,
    ) -> Result<Self> {
        check_number(source.epoch, "epoch")?;
        let found = read_note(kv.as_ref())?;
        let resumed = found.as_ref().is_some_and(|note| note.token == source.token);
        let note = match found {
            Some(note) if resumed => note,
            unfinished => {
                let mut id = [0; 16];
                runtime.random().fill(&mut id)?;
                let note = Note {
                    token: source.token,
                    log_id: u128::from_le_bytes(id),
                    epoch: source.epoch.max(1),
                    phase: Phase::Entries(None),
                };
                let mut batch = WriteBatch::new();
                match unfinished {
                    Some(_) => batch.ops.extend(spaces().map(remove_all)),
                    None => refuse_occupied(kv.as_ref(), log.as_ref())?,
                }
                commit_sealed(kv.as_ref(), batch.put(META, NOTE_KEY, record::encode(&note)?))?;
                note
            }
        };
        Ok(Self {
            kv,
            log,
            at_ms: runtime.clock().now_ms(),
            note,
            resumed,
            ops: Vec::new(),
            ending_times: Vec::new(),
            bytes: 0,
            table: MemTable::default(),
            failed: false,
        })
    }

    /// Whether this goes on with a seeding that was cut off.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// How far it has come. Whoever feeds it may begin there, or anywhere before.
    #[must_use]
    pub fn point(&self) -> SeedPoint {
        match &self.note.phase {
            Phase::Records(rev, hash) => SeedPoint::Records(Position { rev: *rev, hash: *hash }),
            Phase::Entries(after) => SeedPoint::Entries(
                after
                    .as_ref()
                    .and_then(|(space, key)| Some((EntrySpace::from_number(*space)?, key.clone()))),
            ),
        }
    }

    /// Takes an entry in; one at or before [`Seeding::point`] is passed over.
    ///
    /// # Errors
    /// `Corrupt` for an entry that no tree holds; those of the store. What was taken in stays, and
    /// a later seeding goes on from it.
    pub fn entry(&mut self, space: EntrySpace, key: &[u8], value: &[u8]) -> Result<()> {
        let Phase::Entries(after) = &self.note.phase else { return Ok(()) };
        let known = after
            .as_ref()
            .is_some_and(|(last, last_key)| (space.number(), key) <= (*last, last_key.as_ref()));
        if known {
            return Ok(());
        }
        space.check(key, value)?;
        let key = Bytes::copy_from_slice(key);
        if space == EntrySpace::Endings
            && let Ok(at) = value.try_into()
        {
            self.ending_times.push(space::time_key(u64::from_be_bytes(at), &key));
        }
        self.bytes += key.len() + value.len() + OPERATION_BYTES;
        let at = At { space: space.space(), key: key.clone() };
        self.ops.push(Op::Put(at, Bytes::copy_from_slice(value)));
        self.note.phase = Phase::Entries(Some((space.number(), key)));
        if self.bytes >= BATCH_BYTES { self.write_entries() } else { Ok(()) }
    }

    /// Says that all entries were given, and after which position records follow: the one at which
    /// the reading of the entries began.
    ///
    /// # Errors
    /// Those of the store.
    pub fn entries_end(&mut self, start: Position) -> Result<()> {
        if matches!(self.note.phase, Phase::Records(..)) {
            return Ok(());
        }
        check_number(start.rev, "rev")?;
        self.note.phase = Phase::Records(start.rev, start.hash);
        self.write_entries()
    }

    /// Takes a record in; one that is there already is passed over.
    ///
    /// # Errors
    /// `Corrupt` when it does not follow the one before, `InvalidInput` before the entries ended;
    /// those of the store. What was taken in stays.
    pub fn record(&mut self, given: &JournalRecord) -> Result<()> {
        let Phase::Records(rev, hash) = self.note.phase else {
            return Err(Error::new(ErrorKind::InvalidInput, "records come after the entries"));
        };
        if given.rev <= rev {
            return Ok(());
        }
        let next = Position { rev, hash }.advance(given)?;
        let record = Record::decode(&given.bytes)?;
        let (key, effects) = (record.key.as_ref(), &record.effects);
        for effect in effects {
            if let Effect::Put(key, value) = effect {
                EntrySpace::Leaves.check(key, value)?;
            }
        }
        self.table.enter(record.rev, record.at_ms, effects, key, record.rev);
        self.note.phase = Phase::Records(next.rev, next.hash);
        if self.table.bytes() >= BATCH_BYTES { self.write_records() } else { Ok(()) }
    }

    /// Brings what was taken in into the store, durably.
    ///
    /// # Errors
    /// Those of the store.
    pub fn flush(&mut self) -> Result<()> {
        match self.note.phase {
            Phase::Entries(_) => self.write_entries(),
            Phase::Records(..) => self.write_records(),
        }
    }

    /// The digest of the content so far, as [`View::digest`](crate::View::digest) tells it.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cost
    /// Reads everything.
    pub fn digest(&mut self) -> Result<String> {
        self.flush()?;
        digest::digest(&self.state()?)
    }

    /// What is in the store.
    fn state(&self) -> Result<State> {
        let layers = Layers {
            active: Arc::new(RwLock::new(MemTable::default())),
            frozen: None,
            store: SealedSnapshot::new(self.kv.snapshot()?),
            applied_rev: 0,
            indexes: Arc::default(),
        };
        Ok(State { layers: Arc::new(layers), at: u64::MAX })
    }

    /// Makes store and journal a tree that can be opened. The engines stay open.
    ///
    /// Under a store in memory with a journal that is not, the content is written to the journal as
    /// commits: the rev is higher by their number.
    ///
    /// # Errors
    /// `InvalidInput` before the entries ended; those of the engines, after which the seeding can
    /// be gone on with.
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn finish(mut self) -> Result<Seeded> {
        let Phase::Records(rev, chain) = self.note.phase else {
            return Err(Error::new(ErrorKind::InvalidInput, "the entries have not ended"));
        };
        self.flush()?;
        let Note { log_id, epoch, .. } = self.note;
        let volatile = |persistence| persistence == Persistence::Volatile;
        let (kv, log) = (self.kv.profile().persistence, self.log.profile().persistence);
        if volatile(kv) && !volatile(log) {
            let opening = self.opening(log_id, UNFINISHED, rev);
            let start = Position { rev, hash: chain };
            let end = seed_journal::write(self.log.as_ref(), &self.state()?, &opening, start)?;
            return self.finish_at(Opening { epoch, ..opening }, end);
        }
        let opening = self.opening(log_id, epoch, rev);
        self.finish_at(opening, Position { rev, hash: chain })
    }

    fn opening(&self, log_id: u128, epoch: u64, rev: u64) -> Opening {
        Opening { log_id, epoch, base: rev, at_ms: self.at_ms, rev: Some(rev), stamping: None }
    }

    fn finish_at(self, opening: Opening, end: Position) -> Result<Seeded> {
        let log_id = opening.log_id;
        // The journal first: until the note is gone nobody opens the store, and a seeding that is
        // gone on with finds what is there.
        let last = openings::last(self.log.as_ref())?;
        let mark = |opening: &Opening| (opening.log_id, opening.base, opening.epoch);
        if last.is_none_or(|last| mark(&last) != mark(&opening)) {
            openings::append(self.log.as_ref(), &opening)?;
        }
        let Position { rev, hash: chain } = end;
        let applied = Applied { log_id, rev, chain, hlc: None }.encode()?;
        let batch = WriteBatch::new().put(META, APPLIED_KEY, applied).delete(META, NOTE_KEY);
        commit_sealed(self.kv.as_ref(), batch)?;
        Ok(Seeded { log_id: format!("{log_id:032x}"), rev })
    }

    fn write_entries(&mut self) -> Result<()> {
        let mut batch = WriteBatch { guards: Vec::new(), ops: std::mem::take(&mut self.ops) };
        self.bytes = 0;
        self.ending_times.sort_unstable();
        let times = self.ending_times.drain(..);
        batch.ops.extend(times.map(|key| Op::Put(At::new(EXPIRY_TIME, key), Bytes::new())));
        self.write(batch)
    }

    fn write_records(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.table).batch();
        self.write(batch)
    }

    fn write(&mut self, batch: WriteBatch) -> Result<()> {
        if self.failed {
            let message = "a batch was not taken earlier; begin the seeding again to go on";
            return Err(Error::new(ErrorKind::InvalidInput, message).operation("seed"));
        }
        let note = record::encode(&self.note)?;
        let written = commit_sealed(self.kv.as_ref(), batch.put(META, NOTE_KEY, note));
        self.failed = written.is_err();
        written
    }
}

/// The spaces that a tree keeps its data in.
fn spaces() -> impl Iterator<Item = SpaceId> {
    (1..SPACES).filter_map(|space| u8::try_from(space).ok().map(SpaceId))
}

fn remove_all(space: SpaceId) -> Op {
    Op::DeleteRange(space, KeyRange::all())
}

fn read_note(kv: &dyn KvBackend) -> Result<Option<Note>> {
    let stored = SealedSnapshot::new(kv.snapshot()?).get(META, NOTE_KEY)?;
    stored.map(|stored| record::decode(&stored, "note of a seeding")).transpose()
}

fn refuse_occupied(kv: &dyn KvBackend, log: &dyn StreamLog) -> Result<()> {
    let store = SealedSnapshot::new(kv.snapshot()?);
    let mut occupied = false;
    for space in std::iter::once(META).chain(spaces()) {
        store.scan(space, KeyRange::all(), &mut |_, _| {
            occupied = true;
            ControlFlow::Break(())
        })?;
    }
    let begun = log.bounds(&StreamId::new("journal")?)?.next > 1;
    match openings::last(log)? {
        // Its store was in memory and is gone, so that there is nothing to go on with.
        Some(last) if last.epoch == UNFINISHED && begun => return Err(cut_off()),
        Some(last) if last.epoch == UNFINISHED => {}
        last => occupied |= begun || last.is_some(),
    }
    if !occupied {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::AlreadyExists,
        "the target holds a database; name an empty place, nothing was changed",
    )
    .operation("seed"))
}

pub(crate) fn cut_off() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "a restore or a migration into this place was cut off, and its store was in memory: remove \
         the place and begin anew",
    )
    .operation("seed")
}

/// Refuses a store that is being seeded.
///
/// # Errors
/// `InvalidInput` while a seeding has not finished.
pub(crate) fn refuse_unfinished(kv: &dyn KvBackend) -> Result<()> {
    if read_note(kv)?.is_none() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidInput,
        "a restore or a migration into this place has not finished: run the same command again to \
         finish it, or remove the place and begin anew",
    )
    .operation("open"))
}
