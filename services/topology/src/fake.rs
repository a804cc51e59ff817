//! What stands in for a tree where sessions are tested: no merge but that of single leaves.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind};
use trellis_tree::{
    Author, Input, Path, RemoteApplied, RemoteCommit, RemoteRule, Scope, StampedChange, StampedOp,
    Version,
};

use crate::message::{LogPosition, OpenAt, OpenMode, WireDigest, WireRecord};
use crate::task::{PageRead, SlotOpened, TailRead};
use crate::*;

pub(crate) const WALL_MS: u64 = 1_700_000_000_000;

/// What stands in for a tree.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    pub(crate) node: u128,
    pub(crate) leaves: BTreeMap<Bytes, (StampedOp, u64)>,
    pub(crate) log: Vec<WireRecord>,
    /// Records up to here are gone.
    pub(crate) trimmed: u64,
    pub(crate) floor: u64,
    pub(crate) positions: BTreeMap<String, FeedPosition>,
    pub(crate) slots: BTreeMap<String, LogPosition>,
    pub(crate) set_aside: Vec<Bytes>,
    /// What the next `Apply` fails with.
    pub(crate) failing: Option<ErrorKind>,
    /// What openings are told before they have their turn.
    pub(crate) queue: VecDeque<u32>,
    pub(crate) done: Vec<Task>,
    /// Another history from this rev on.
    pub(crate) salt: u8,
}

fn hash(node: u128, rev: u64, salt: u8) -> [u8; 16] {
    let mut hash = (node ^ (u128::from(rev) << 64)).to_le_bytes();
    hash[15] = salt;
    hash
}

impl Fake {
    pub(crate) fn head(&self) -> u64 {
        self.log.len() as u64
    }

    pub(crate) fn hash(&self, rev: u64) -> [u8; 16] {
        hash(self.node, rev, self.salt)
    }

    pub(crate) fn at(&self, rev: u64) -> LogPosition {
        LogPosition {
            log_id: self.node,
            rev,
            hash: if rev == 0 { [0; 16] } else { self.hash(rev) },
        }
    }

    fn record(&mut self, author: Author, ops: Vec<StampedOp>) -> u64 {
        let rev = self.head() + 1;
        for op in &ops {
            match op.change {
                StampedChange::Put(_) => {
                    self.leaves.insert(op.key.clone(), (op.clone(), rev));
                }
                _ => {
                    self.leaves.remove(&op.key);
                }
            }
        }
        let hash = self.hash(rev);
        self.log.push(WireRecord { rev, hash, at_ms: WALL_MS, cause: 0, author, ops });
        rev
    }

    /// A commit of this node.
    pub(crate) fn write(&mut self, key: &'static str, value: &str) -> u64 {
        let hlc = (WALL_MS << 16) + self.head() + 1;
        self.write_at(key, value, hlc)
    }

    pub(crate) fn write_at(&mut self, key: &'static str, value: &str, hlc: u64) -> u64 {
        let version = Version { hlc, origin: self.node as u64 };
        let value = Bytes::copy_from_slice(value.as_bytes());
        let op =
            StampedOp { key: key.as_bytes().into(), version, change: StampedChange::Put(value) };
        self.record(Author { version, via: Vec::new() }, vec![op])
    }

    pub(crate) fn get(&self, key: &str) -> Option<String> {
        let (op, _) = self.leaves.get(key.as_bytes())?;
        let StampedChange::Put(value) = &op.change else { return None };
        Some(String::from_utf8(value.to_vec()).unwrap())
    }

    fn page(&self, scope: &Scope, start: &Bytes, items: usize) -> PageRead {
        let within = self.leaves.range(start.clone()..).filter(|(key, _)| scope.covers(key));
        let mut ops: Vec<StampedOp> =
            within.take(items + 1).map(|(_, (op, _))| op.clone()).collect();
        let next = (ops.len() > items).then(|| ops.pop().unwrap().key);
        PageRead { ops, next, rev: self.head() }
    }

    fn open(&mut self, wanted: &OpenSlot) -> SlotOpened {
        let head = self.head();
        let ours = |at: &LogPosition| *at == self.at(at.rev) && at.rev <= head;
        let (mode, pin, since) = match &wanted.at {
            Some(OpenAt::Tail(at)) if at.log_id == self.node && !ours(at) => {
                (OpenMode::Diverged, self.at(head), 0)
            }
            Some(OpenAt::Tail(at)) if ours(at) && at.rev >= self.trimmed => {
                (OpenMode::Tail, *at, 0)
            }
            Some(OpenAt::Tail(at)) if ours(at) && at.rev >= self.floor => {
                (OpenMode::Delta, self.at(head), at.rev)
            }
            Some(OpenAt::Snapshot(pin)) if ours(pin) && pin.rev >= self.trimmed => {
                (OpenMode::ResumeSnapshot, *pin, 0)
            }
            Some(OpenAt::Delta { from, pin }) if ours(pin) && pin.rev >= self.trimmed => {
                (OpenMode::ResumeDelta, *pin, from.rev)
            }
            _ => (OpenMode::Snapshot, self.at(head), 0),
        };
        self.slots.insert(wanted.consumer.clone(), pin);
        SlotOpened { mode, pin, since, head }
    }

    fn apply(&mut self, commit: RemoteCommit) -> RemoteApplied {
        let mut done = RemoteApplied::default();
        let interval = |from: &Bytes, until: &Option<Bytes>, key: &Bytes| {
            key >= from && until.as_ref().is_none_or(|until| key < until)
        };
        let named: Vec<Bytes> = commit.ops.iter().map(|op| op.key.clone()).collect();
        let scope = commit.scope;
        match &commit.rule {
            RemoteRule::Merge | RemoteRule::Follow | RemoteRule::Settle => {}
            RemoteRule::Replace { from, until } => self.leaves.retain(|key, _| {
                !scope.covers(key) || !interval(from, until, key) || named.contains(key)
            }),
            RemoteRule::Fill { from, until, known_rev } => self.leaves.retain(|key, (_, rev)| {
                !scope.covers(key)
                    || !interval(from, until, key)
                    || named.contains(key)
                    || *rev > *known_rev
            }),
        }
        let forced = matches!(commit.rule, RemoteRule::Replace { .. } | RemoteRule::Follow);
        let mut ops = Vec::new();
        for op in commit.ops {
            let here = self.leaves.get(&op.key).map(|(here, _)| here.version);
            if !scope.covers(&op.key) {
                done.clipped += 1;
            } else if !forced && here.is_some_and(|here| here == op.version) {
                done.known += 1;
            } else if !forced && here.is_some_and(|here| here > op.version) {
                done.lost += 1;
            } else {
                done.applied += 1;
                ops.push(op);
            }
        }
        done.rev = self.record(commit.author, ops);
        for (path, value) in commit.notes {
            self.note(&path, &value);
        }
        done
    }

    fn note(&mut self, path: &Path, value: &Input) {
        let json = serde_json::from_slice(&value.to_json()).unwrap();
        let feed = path.last().unwrap().to_owned();
        self.positions.insert(feed, FeedPosition::from_json(&json).unwrap());
    }

    fn tail(&self, scope: &Scope, after: u64, peer: u64) -> TailRead {
        let mut read = TailRead {
            commits: Vec::new(),
            through: self.head().min(after + 10),
            hash: [0; 16],
            head: self.head(),
            echoes: 0,
        };
        read.hash = self.hash(read.through);
        for record in self.log.iter().filter(|one| one.rev > after && one.rev <= read.through) {
            let mut record = record.clone();
            record.ops.retain(|op| scope.covers(&op.key));
            if is_echo(&record.author, peer) {
                read.echoes += 1;
            } else if !record.ops.is_empty() {
                read.commits.push(record);
            }
        }
        read
    }

    fn digest(&self, scope: &Scope, local_prefix: &Bytes) -> TaskOutcome {
        let mut buckets = vec![0_u128; 256];
        let covered = self.leaves.values().filter(|(op, _)| scope.covers(&op.key));
        let mut leaves = 0;
        for (op, _) in covered {
            let key = &op.key[local_prefix.len()..];
            let StampedChange::Put(value) = &op.change else { continue };
            let text = format!("{key:?}{:?}{value:?}", op.version);
            buckets[bucket(key)] += u128::from(crc32fast::hash(text.as_bytes()));
            leaves += 1;
        }
        let digest = WireDigest { rev: self.head(), total: buckets.iter().sum(), leaves };
        TaskOutcome::Digest { digest, buckets }
    }

    pub(crate) fn execute(&mut self, task: Task) -> TaskOutcome {
        self.done.push(task.clone());
        match task {
            Task::LoadPosition { feed } => {
                TaskOutcome::Position(self.positions.get(&feed).cloned())
            }
            Task::BeginAnew { feed } => {
                self.positions.remove(&feed);
                TaskOutcome::Done
            }
            Task::SavePosition { feed, position } => {
                self.positions.insert(feed, position.clone());
                TaskOutcome::Position(Some(position))
            }
            Task::OpenSlot(wanted) => match self.queue.pop_front() {
                Some(ahead) => TaskOutcome::Queued { ahead },
                None => TaskOutcome::Slot(self.open(&wanted)),
            },
            Task::ReadPage { scope, start, items_max, .. } => {
                TaskOutcome::Page(self.page(&scope, &start, items_max))
            }
            Task::ReadDelta { scope, after, .. } => {
                let newer =
                    self.leaves.values().filter(|(op, rev)| *rev > after && scope.covers(&op.key));
                let ops = newer.map(|(op, _)| op.clone()).collect();
                TaskOutcome::Page(PageRead { ops, next: None, rev: self.head() })
            }
            Task::ReadTail { after, .. } if after < self.trimmed => TaskOutcome::TailGone,
            Task::ReadTail { scope, after, peer, .. } => {
                TaskOutcome::Tail(self.tail(&scope, after, peer))
            }
            Task::AckSlot { consumer, at, .. } => {
                assert_eq!(at, self.at(at.rev), "an acknowledgement is of this history");
                self.slots.insert(consumer, at);
                TaskOutcome::Done
            }
            Task::CloseSlot { .. } | Task::Filled { .. } => TaskOutcome::Done,
            Task::Apply { commits } => match self.failing.take() {
                Some(kind) => TaskOutcome::Failed(Error::new(kind, "planted")),
                None => {
                    TaskOutcome::Applied(commits.into_iter().map(|one| self.apply(one)).collect())
                }
            },
            Task::SetAside { scope, .. } => {
                let own = self.leaves.values().filter(|(op, _)| {
                    scope.covers(&op.key) && op.version.origin == self.node as u64
                });
                let keys: Vec<Bytes> = own.map(|(op, _)| op.key.clone()).collect();
                self.set_aside.extend(keys.clone());
                TaskOutcome::SetAside(keys.len() as u64)
            }
            Task::HashAt { rev } => {
                let hash = (rev <= self.head()).then(|| self.hash(rev));
                TaskOutcome::Hash { head: self.head(), hash }
            }
            Task::Digest { scope, local_prefix } => self.digest(&scope, &local_prefix),
            Task::ReadBuckets { scope, local_prefix, buckets, .. } => {
                let within = self.leaves.values().filter(|(op, _)| scope.covers(&op.key));
                let ops = within.map(|(op, _)| {
                    let skip = if local_prefix.is_empty() { 0 } else { local_prefix.len() + 1 };
                    StampedOp { key: op.key.slice(skip..), ..op.clone() }
                });
                let ops = ops.filter(|op| buckets.contains(&(bucket(&op.key) as u8))).collect();
                TaskOutcome::Page(PageRead { ops, next: None, rev: self.head() })
            }
        }
    }
}

fn bucket(key: &[u8]) -> usize {
    usize::from(key.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)))
}
