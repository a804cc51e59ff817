//! Two sessions and what stands in for their trees, wired by queues: no threads, no clock, no merge
//! but that of single leaves.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind};
use trellis_tree::{
    Author, Commit, Committed, Input, Path, RemoteApplied, RemoteCommit, RemoteRule, Scope,
    StampedChange, StampedOp, Version,
};

use crate::message::{LogPosition, Message, OpenAt, OpenMode, WireDigest, WireRecord};
use crate::parts;
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
            RemoteRule::Merge => {}
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
        let forced = matches!(commit.rule, RemoteRule::Replace { .. });
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
            Task::SavePosition { feed, position } => {
                self.positions.insert(feed, position.clone());
                TaskOutcome::Position(Some(position))
            }
            Task::OpenSlot(wanted) => TaskOutcome::Slot(self.open(&wanted)),
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
            Task::AckSlot { consumer, at } => {
                assert_eq!(at, self.at(at.rev), "an acknowledgement is of this history");
                self.slots.insert(consumer, at);
                TaskOutcome::Done
            }
            Task::CloseSlot { .. } => TaskOutcome::Done,
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

/// One end of a link.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) session: Session,
    pub(crate) fake: Fake,
    pub(crate) inbox: VecDeque<Bytes>,
    pub(crate) answers: Vec<(ForwardId, ForwardOutcome)>,
    pub(crate) routed: Vec<ForwardRequest>,
    pub(crate) closed: Option<Refusal>,
    /// Tasks are kept instead of done.
    pub(crate) lazy: bool,
    pub(crate) waiting: Vec<(TaskId, Task)>,
    seen_head: u64,
}

/// Grants everything.
#[derive(Debug)]
pub(crate) struct Grants(pub(crate) LinkPlan);

impl LinkPolicy for Grants {
    fn admit(&self, _: &PeerIdentity, _: &Hello) -> Result<LinkPlan, Refusal> {
        Ok(self.0.clone())
    }
}

pub(crate) fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn pull(prefixes: &[(&str, FillRule)]) -> PullPlan {
    let part = |(prefix, fill): &(&str, FillRule)| PullPart { prefix: key(prefix), fill: *fill };
    PullPlan {
        feed: "down".into(),
        parts: prefixes.iter().map(part).collect(),
        except: Vec::new(),
        local_prefix: Bytes::new(),
        fingerprint: 1,
    }
}

pub(crate) fn push(prefixes: &[&str]) -> PushPlan {
    let within = prefixes.iter().map(|prefix| key(prefix)).collect();
    PushPlan { scope: Scope { within, except: Vec::new() } }
}

impl End {
    fn new(role: Role, fake: Fake, options: SessionOptions) -> Self {
        let peer = PeerIdentity { name: "peer".into(), roles: Vec::new(), loopback: true };
        let config = SessionConfig {
            node: fake.node,
            name: "node".into(),
            epoch: 1,
            head: fake.head(),
            schema: 0,
            peer,
            options,
        };
        Self {
            session: Session::new(role, config),
            seen_head: fake.head(),
            fake,
            inbox: VecDeque::new(),
            answers: Vec::new(),
            routed: Vec::new(),
            closed: None,
            lazy: false,
            waiting: Vec::new(),
        }
    }
}

/// Two ends.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The one that dialed, and the one that accepted.
    pub(crate) ends: [End; 2],
    pub(crate) now: Now,
    /// Messages that went over the link, and from whom.
    pub(crate) said: Vec<(usize, Message)>,
    parts: [parts::Parts; 2],
    pub(crate) cut: bool,
}

pub(crate) fn options() -> SessionOptions {
    SessionOptions { page_items: 2, ..SessionOptions::default() }
}

impl Pair {
    pub(crate) fn new(plans: [LinkPlan; 2], fakes: [Fake; 2], options: SessionOptions) -> Self {
        let [dialer, acceptor] = plans;
        let [one, other] = fakes;
        let dial = DialPlan { link: dialer, pull: Vec::new(), push: Vec::new() };
        let policy = std::sync::Arc::new(Grants(acceptor));
        let mut pair = Self {
            ends: [
                End::new(Role::Dialer(dial), one, options.clone()),
                End::new(Role::Acceptor(policy), other, options),
            ],
            now: Now { mono: Duration::from_secs(100), wall_ms: WALL_MS },
            said: Vec::new(),
            parts: [parts::Parts::new(1 << 25), parts::Parts::new(1 << 25)],
            cut: false,
        };
        pair.event(1, Event::Connected);
        pair.event(0, Event::Connected);
        pair
    }

    /// A follower of `prefixes`, and its source.
    pub(crate) fn follower(prefixes: &[(&str, FillRule)], source: Fake) -> Self {
        let names: Vec<&str> = prefixes.iter().map(|(prefix, _)| *prefix).collect();
        let plans = [
            LinkPlan { pull: Some(pull(prefixes)), ..LinkPlan::default() },
            LinkPlan { push: Some(push(&names)), ..LinkPlan::default() },
        ];
        Self::new(plans, [Fake { node: 1, ..Fake::default() }, source], options())
    }

    pub(crate) fn event(&mut self, end: usize, event: Event) {
        let actions = self.ends[end].session.step(self.now, event);
        for action in actions {
            match action {
                Action::Send { bytes, .. } => {
                    assert!(bytes.len() <= parts::FRAME_BYTES_MAX);
                    if let Some((message, _)) = self.parts[end].take(&bytes).unwrap() {
                        self.said.push((end, message));
                    }
                    if !self.cut {
                        self.ends[1 - end].inbox.push_back(bytes);
                    }
                }
                Action::Do(id, task) if self.ends[end].lazy => {
                    self.ends[end].waiting.push((id, task));
                }
                Action::Do(id, task) => {
                    let outcome = self.ends[end].fake.execute(task);
                    self.event(end, Event::Done(id, outcome));
                }
                Action::Route(id, request) => {
                    self.ends[end].routed.push(request.clone());
                    let outcome = self.routed(end, &request.commit);
                    self.event(end, Event::Done(id, TaskOutcome::Routed(outcome)));
                }
                Action::Forwarded(id, outcome) => self.ends[end].answers.push((id, outcome)),
                Action::Close(refusal) => self.ends[end].closed = Some(refusal),
            }
        }
    }

    fn routed(&mut self, end: usize, commit: &Commit) -> RoutedOutcome {
        assert!(!commit.system);
        let rev = self.ends[end].fake.write("a\0forwarded", "1");
        Ok(Committed { rev, ..Committed::default() })
    }

    /// Until nothing is under way.
    pub(crate) fn run(&mut self) {
        for turn in 0.. {
            assert!(turn < 10_000, "it does not come to rest");
            let mut idle = true;
            for end in [0, 1] {
                let head = self.ends[end].fake.head();
                if head > self.ends[end].seen_head {
                    self.ends[end].seen_head = head;
                    self.event(end, Event::Committed(head));
                    idle = false;
                }
                if let Some(frame) = self.ends[end].inbox.pop_front() {
                    self.event(end, Event::Received(frame));
                    idle = false;
                }
            }
            if idle {
                return;
            }
        }
    }

    /// Says something that no session would.
    pub(crate) fn say(&mut self, from: usize, message: &Message) {
        for frame in parts::encode(message, 1 << 18, 1 << 25).unwrap() {
            self.ends[1 - from].inbox.push_back(frame);
        }
        self.run();
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall_ms += u64::try_from(time.as_millis()).unwrap();
        for end in [0, 1] {
            let due = self.ends[end].session.deadline().is_some_and(|at| at <= self.now.mono);
            if due {
                self.event(end, Event::Tick);
            }
        }
        self.run();
    }

    /// Cuts the link and makes a new one between the same trees, with the same plans.
    pub(crate) fn again(mut self) -> Self {
        for end in [0, 1] {
            self.event(end, Event::Closed);
        }
        let role = |end: &End| end.session.role.clone();
        let roles = [role(&self.ends[0]), role(&self.ends[1])];
        let options = self.ends[0].session.config.options.clone();
        let [one, other] = self.ends;
        let [dialer, acceptor] = roles;
        let mut pair = Self {
            ends: [
                End::new(dialer, one.fake, options.clone()),
                End::new(acceptor, other.fake, options),
            ],
            now: self.now,
            said: Vec::new(),
            parts: [parts::Parts::new(1 << 25), parts::Parts::new(1 << 25)],
            cut: false,
        };
        pair.event(1, Event::Connected);
        pair.event(0, Event::Connected);
        pair
    }

    pub(crate) fn pulled(&self) -> PullStatus {
        self.ends[0].session.status().pull.unwrap()
    }
}
