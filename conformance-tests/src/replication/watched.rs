//! Whoever watches a follower of a follower, while the node between is lost: real databases with
//! real links within the process.
//!
//! Every commit of the hub writes two leaves. What is watched at the far end tells it as one event,
//! once and in order, in revs of the far node's own. Without the feature `wire` the cases are
//! listed and not run.

use crate::tree::TreeWorld;
use crate::{Case, Need};

#[cfg(not(feature = "wire"))]
use self::none::{other_relay, relay_lost};
#[cfg(feature = "wire")]
use self::real::{other_relay, relay_lost};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("replication.watch.relay_lost", &["topology.feed.watched"], relay_lost)
        .needs(&[Need::Wire, Need::SegmentLog]),
    Case::new("replication.watch.other_relay", &["topology.feed.watched"], other_relay)
        .needs(&[Need::Wire, Need::SegmentLog]),
];

#[cfg(not(feature = "wire"))]
mod none {
    use crate::tree::TreeWorld;

    pub(super) fn relay_lost(world: &TreeWorld) {
        unreachable!("not compiled in: {world:?}");
    }

    pub(super) fn other_relay(world: &TreeWorld) {
        unreachable!("not compiled in: {world:?}");
    }
}

#[cfg(feature = "wire")]
mod real {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde_json::{Value, json};
    use trellis::{
        Commit, Config, LiveChange, LiveEvent, Operation, PathConfig, Pattern, QuerySpec,
        ReplicationConfig, Runtime, Secret, SubscribeRequest, Subscription, Trellis,
    };
    use trellis_engine_traits::LinkToken;
    use trellis_repl_loopback::{LoopbackHub, LoopbackPass};
    use trellis_subscribe::Mode;
    use trellis_topology::OpenMode;

    use super::super::tools::set_op;
    use crate::tree::{TreeWorld, config_in};

    const TOKEN: &str = "token-of-the-nodes-of-a-row";
    /// Commits between two troubles.
    const STRIDE: u64 = 8;
    /// Items of the window of the watched query.
    const WINDOW: usize = 3;

    /// Three databases in a row, of which the last is watched.
    struct Row<'a> {
        world: &'a TreeWorld,
        net: LoopbackHub,
        hub: Trellis,
        relay: Option<Trellis>,
        far: Trellis,
        written: u64,
        /// The rev of each commit at the hub.
        revs: Vec<u64>,
    }

    /// The same commits in three ways: the whole, its children, and the newest of them.
    struct Watched {
        whole: Subscription,
        children: Subscription,
        newest: Subscription,
        told: u64,
        rev: u64,
    }

    fn name(number: u64) -> String {
        format!("{number:06}")
    }

    impl<'a> Row<'a> {
        fn new(world: &'a TreeWorld) -> Self {
            let net = LoopbackHub::new();
            let hub = open(world, &net, "hub", "hub", None);
            let relay = Some(open(world, &net, "relay", "relay", Some("hub")));
            let far = open(world, &net, "far", "far", Some("relay"));
            // Its own: its revs are not the hub's.
            for number in 0..5 {
                far.set("own", number).expect("its own");
            }
            // What is there when a node comes is sent by pages; then it follows commit by commit.
            hub.set("data/count", 0).expect("the hub's own");
            until(&far, "data/count", &json!(0));
            Self { world, net, hub, relay, far, written: 0, revs: Vec::new() }
        }

        /// Commits of two leaves each, at the hub.
        fn write(&mut self) {
            for _ in 0..STRIDE {
                self.written += 1;
                let log = format!("data/log/{}", name(self.written));
                let operations: Vec<Operation> = vec![
                    set_op("data/count", json!(self.written)),
                    set_op(&log, json!({"n": self.written})),
                ];
                let committed = self.hub.commit(Commit::new(operations)).expect("the hub's own");
                self.revs.push(committed.rev);
            }
        }

        fn close_relay(&mut self) {
            self.relay.take().expect("it is open").close().expect("it closes");
        }

        fn open_relay(&mut self, directory: &str) {
            self.relay = Some(open(self.world, &self.net, "relay", directory, Some("hub")));
        }

        fn close(mut self) {
            self.far.close().expect("it closes");
            self.close_relay();
            self.hub.close().expect("it closes");
        }
    }

    fn open(
        world: &TreeWorld,
        net: &LoopbackHub,
        name: &str,
        directory: &str,
        upstream: Option<&str>,
    ) -> Trellis {
        let replication = ReplicationConfig {
            primary_url: upstream.map(|upstream| format!("loopback:{upstream}")),
            token: Some(Secret::new(TOKEN)),
            paths: upstream.map(|_| PathConfig::new("data", "replica")).into_iter().collect(),
            ..ReplicationConfig::default()
        };
        let config = Config { replication: Some(replication), ..config_in(world, directory) };
        let (role, token) = (Some("node".to_owned()), LinkToken::new(TOKEN));
        let pass = LoopbackPass { name: None, role, token };
        let links = net.endpoint(name, vec![pass]).expect("an endpoint");
        let db = Trellis::open_with_replicator(config, Runtime::system(), Arc::new(links));
        db.expect("the database opens")
    }

    /// Waits until a path has a value.
    fn until(db: &Trellis, at: &str, expected: &Value) {
        let watched = db.subscribe(SubscribeRequest::value(Pattern::parse(at).expect("a path")));
        for event in watched.expect("a subscription") {
            let found = match event.expect("an event") {
                LiveEvent::Snapshot { data, .. } | LiveEvent::Reset { data, .. } => data,
                LiveEvent::Changes { mut changes, .. } => {
                    changes.pop().and_then(|change| change.value).unwrap_or_default()
                }
            };
            if found == *expected {
                return;
            }
        }
        panic!("the database was closed before {at} was {expected}");
    }

    fn changes(subscription: &mut Subscription) -> (u64, Vec<LiveChange>) {
        let event = subscription.next().expect("it goes on").expect("an event");
        let LiveEvent::Changes { rev, changes, .. } = event else {
            panic!("there is a gap: {event:?}");
        };
        (rev, changes)
    }

    impl Watched {
        fn begin(db: &Trellis) -> Self {
            let pattern = |text: &str| Pattern::parse(text).expect("a path");
            let newest = json!({"path": "data/log", "orderBy": ["n", "desc"], "limit": WINDOW});
            let newest = QuerySpec::from_json(&newest).expect("a query");
            let requests = [
                SubscribeRequest::value(pattern("data")).mode(Mode::Patch),
                SubscribeRequest::child(pattern("data/log")),
                SubscribeRequest::query(newest).expect("a query to watch"),
            ];
            let [whole, children, newest] = requests.map(|request| {
                let mut begun = db.subscribe(request).expect("a subscription");
                let first = begun.next().expect("a snapshot").expect("a snapshot");
                assert!(matches!(first, LiveEvent::Snapshot { .. }), "{first:?}");
                begun
            });
            Self { whole, children, newest, told: 0, rev: 0 }
        }

        /// What is told next is one commit of the hub, whole, by the far node's rev.
        fn next(&mut self, row: &Row<'_>) {
            self.told += 1;
            let (number, key) = (self.told, name(self.told));
            let (rev, told) = changes(&mut self.whole);
            let patch = told[0].patch.as_ref().expect("a patch");
            let whole = json!({"count": number, "log": {&*key: {"n": number}}});
            assert_eq!((told.len(), json!(flat(patch))), (1, json!(flat(&members(&whole)))));

            let (of_children, told) = changes(&mut self.children);
            assert_eq!((of_children, told.len()), (rev, 1), "one commit, one rev: {told:?}");
            assert_eq!(told[0].key.as_deref(), Some(&*key));

            let (of_newest, told) = changes(&mut self.newest);
            let keys: Vec<_> = told.iter().filter_map(|change| change.key.as_deref()).collect();
            let gone = number.checked_sub(WINDOW as u64).filter(|gone| *gone > 0).map(name);
            let expected: Vec<&str> = gone.as_deref().into_iter().chain([&*key]).collect();
            assert_eq!((of_newest, keys), (rev, expected), "{told:?}");

            assert!(rev > self.rev, "{rev} after {}", self.rev);
            self.rev = rev;
            self.told_apart(row);
        }

        /// The rev is the far node's, and so is the epoch; the commit at it says that it is the
        /// hub's.
        fn told_apart(&self, row: &Row<'_>) {
            let (hub, far) = (row.hub.tree(), row.far.tree());
            let commit = loop {
                // A follower tells what is visible, and the journal what is durable.
                let found = far.read_commits(self.rev - 1, 1).expect("it is in the journal");
                match found.into_iter().next() {
                    Some(commit) => break commit,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(commit.position.rev, self.rev);
            assert_eq!(commit.author.version.origin, hub.origin(), "the hub made it");
            let of_hub = row.revs[usize::try_from(self.told).expect("few") - 1];
            assert_ne!(self.rev, of_hub, "at the hub it has another rev");
            let (rev, epoch) = self.whole.position();
            assert_eq!(rev, self.rev);
            assert_eq!(epoch, far.epoch_token());
            assert_ne!(epoch, hub.epoch_token());
        }

        fn all(&mut self, row: &Row<'_>) {
            while self.told < row.written {
                self.next(row);
            }
        }
    }

    fn members(value: &Value) -> BTreeMap<String, Value> {
        serde_json::from_value(value.clone()).expect("an object")
    }

    /// A patch by leaves, however it was put together.
    fn flat(patch: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
        let mut leaves = BTreeMap::new();
        for (at, value) in patch {
            add_leaves(at, value, &mut leaves);
        }
        leaves
    }

    fn add_leaves(at: &str, value: &Value, leaves: &mut BTreeMap<String, Value>) {
        let Some(members) = value.as_object() else {
            leaves.insert(at.to_owned(), value.clone());
            return;
        };
        for (name, value) in members {
            let below = if at.is_empty() { name.clone() } else { format!("{at}/{name}") };
            add_leaves(&below, value, leaves);
        }
    }

    /// The links around the relay break, and the relay itself closes and comes back, always in the
    /// middle of commits that are on their way.
    pub(super) fn relay_lost(world: &TreeWorld) {
        let mut row = Row::new(world);
        let mut watched = Watched::begin(&row.far);
        for trouble in 0..4 {
            row.write();
            match trouble {
                0 => assert!(row.net.cut("far", "relay") > 0, "they were linked"),
                1 => assert!(row.net.cut("relay", "hub") > 0, "they were linked"),
                _ => row.close_relay(),
            }
            row.write();
            if row.relay.is_none() {
                row.open_relay("relay");
            }
            row.write();
            if trouble % 2 == 1 {
                // Everything has arrived; else the next trouble comes in the middle.
                watched.all(&row);
            }
        }
        watched.all(&row);
        let known: BTreeMap<String, Value> = members(&row.far.get("data/log").expect("a read"));
        assert_eq!(known.len() as u64, row.written);
        row.close();
    }

    /// How the far node's feed from the relay of now was opened, once its status says so.
    fn opened_from_relay(row: &Row<'_>) -> OpenMode {
        let relay = row.relay.as_ref().expect("it is open").tree().node_id();
        loop {
            let status = row.far.replication().expect("a node").status().expect("a status");
            let session = &status.links[0].session;
            let is_there = session.peer.as_ref().is_some_and(|(node, _)| *node == relay);
            let opened = session.pull.as_ref().and_then(|pull| pull.opened);
            match opened.filter(|_| is_there) {
                Some(opened) => return opened,
                None => std::thread::yield_now(),
            }
        }
    }

    /// Another node takes the relay's place: the far node is filled anew from it, and who watches
    /// is told what it has not been told, leaf by leaf.
    pub(super) fn other_relay(world: &TreeWorld) {
        let mut row = Row::new(world);
        let mut watched = Watched::begin(&row.far);
        row.write();
        watched.all(&row);
        // It has everything before it takes the place.
        let spare = open(world, &row.net, "spare", "spare", Some("hub"));
        until(&spare, "data/count", &json!(row.written));
        spare.close().expect("it closes");
        row.close_relay();
        row.write();
        row.open_relay("spare");
        until(&row.far, "data/count", &json!(row.written));
        assert_eq!(opened_from_relay(&row), OpenMode::Snapshot, "it is of another history");
        while watched.told < row.written {
            let (rev, told) = changes(&mut watched.children);
            assert!(rev > watched.rev, "{rev} after {}", watched.rev);
            watched.rev = rev;
            for change in told {
                watched.told += 1;
                assert_eq!(change.key, Some(name(watched.told)), "once, and in order");
            }
        }
        assert_eq!(row.far.get("data").expect("a read"), row.hub.get("data").expect("a read"));
        row.close();
    }
}
