//! Watched queries: the window that a receiver rebuilds is that of the query at every rev.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trellis_query::{Answer, Queries, QuerySpec};
use trellis_subscribe::{
    Acknowledgement, AcknowledgementKind, Delivery, Event, Inbox, LiveOptions, Mode,
    SubscribeRequest,
};
use trellis_tree::{Commit, Tree};

use super::subscribe::{LONG, roomy, start, value};
use crate::tree::TreeWorld;
use crate::tree::tools::{delete_op, rev, set, set_op, setting, small_overlay};
use crate::{Case, Rng};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("live.query.windows", &["live.sub.query", "live.sub.once"], windows),
    Case::new("live.query.comes_back", &["live.sub.query", "live.sub.resume"], comes_back),
    Case::new("live.query.slow", &["live.sub.query", "live.sub.slow"], slow),
];

const MARK: &str = "mark";

const SPECS: [&str; 6] = [
    r#"{"path":"users","orderBy":[["age","desc"]],"limit":4}"#,
    r#"{"path":"users","where":[["age",">=",5]],"orderBy":"age","limit":3}"#,
    r#"{"path":"users","where":[["name","exists"]],"limit":5,"select":["name"]}"#,
    r#"{"path":"users","limit":3}"#,
    r#"{"path":"teams/*/users","orderBy":["age","name"],"limit":5}"#,
    r#"{"path":"users","orderBy":"name","limit":1000}"#,
];

type Items = Vec<(String, Value)>;

/// One query as its receiver knows it.
struct Watched {
    spec: QuerySpec,
    mode: Mode,
    items: Items,
    rev: u64,
    epoch: String,
    /// What it held after each rev that it heard of; whether that was a snapshot.
    log: BTreeMap<u64, (Items, bool)>,
    /// What the query gave at each rev.
    expected: BTreeMap<u64, Items>,
}

fn items_of(json: &Value) -> Items {
    let items = json["items"].as_array().expect("items");
    let item = |item: &Value| (item["path"].as_str().unwrap().to_owned(), item["value"].clone());
    items.iter().map(item).collect()
}

impl Watched {
    fn new(spec: &str, mode: Mode) -> Self {
        let spec = QuerySpec::parse(spec.as_bytes()).expect("a good query");
        let (log, expected) = (BTreeMap::new(), BTreeMap::new());
        Self { spec, mode, items: Items::new(), rev: 0, epoch: String::new(), log, expected }
    }

    fn request(&self) -> SubscribeRequest {
        let request = SubscribeRequest::query(self.spec.clone()).unwrap().mode(self.mode);
        if self.epoch.is_empty() { request } else { request.resume(self.rev, &self.epoch) }
    }

    fn acknowledged(&mut self, answer: &Acknowledgement) {
        self.epoch.clone_from(&answer.epoch);
        if answer.kind == AcknowledgementKind::Resumed {
            assert_eq!((answer.rev, &answer.data[..]), (self.rev, &b"null"[..]));
            return;
        }
        // Of what it passed over it holds nothing.
        let passed = |rev: u64| rev > self.rev && rev < answer.rev;
        self.expected.retain(|rev, _| !passed(*rev));
        self.items = items_of(&serde_json::from_slice(&answer.data).unwrap());
        self.rev = answer.rev;
        self.log.insert(self.rev, (self.items.clone(), true));
    }

    fn told(&mut self, event: &Event) {
        assert!(event.rev > self.rev);
        self.rev = event.rev;
        let events: Value = serde_json::from_slice(&event.body).unwrap();
        for one in events.as_array().unwrap() {
            self.apply(one);
        }
        self.log.insert(self.rev, (self.items.clone(), false));
    }

    fn apply(&mut self, event: &Value) {
        let collection = event["path"].as_str().map(str::to_owned);
        let wild = collection.is_some();
        let collection = collection.unwrap_or_else(|| self.spec.path.to_string());
        let path = format!("{collection}/{}", event["key"].as_str().unwrap());
        let at = self.items.iter().position(|(own, _)| *own == path);
        let kind = event["type"].as_str().unwrap();
        assert_eq!(at.is_some(), kind != "added", "{event} of {:?}", self.items);
        let place = |items: &Items| match &event["after"] {
            Value::Null => 0,
            after => {
                let after = after.as_str().unwrap();
                let after = if wild { after.to_owned() } else { format!("{collection}/{after}") };
                1 + items.iter().position(|(own, _)| *own == after).expect("a landmark")
            }
        };
        match (kind, at) {
            ("removed", Some(at)) => drop(self.items.remove(at)),
            ("moved", Some(at)) => {
                let item = self.items.remove(at);
                self.items.insert(place(&self.items), item);
            }
            ("changed", Some(at)) if event.get("patch").is_some() => {
                let mut item = std::mem::take(&mut self.items[at].1);
                for (rel, value) in event["patch"].as_object().unwrap() {
                    super::watch::patched(&mut item, rel, value);
                }
                super::watch::prune(&mut item);
                self.items[at].1 = item;
            }
            ("changed", Some(at)) => self.items[at].1 = event["value"].clone(),
            _ => self.items.insert(place(&self.items), (path, event["value"].clone())),
        }
    }

    /// Notes what the query gives now.
    fn expect(&mut self, queries: &Queries, tree: &Tree) {
        let view = tree.settled_view().unwrap();
        let answer = queries.run(&view, &self.spec, 1 << 20).unwrap();
        let Answer::Page(page) = answer else { panic!("a page") };
        let mut json = Vec::new();
        page.write_json(&mut json);
        let items = items_of(&serde_json::from_slice(&json).unwrap());
        self.expected.insert(view.rev(), items);
    }

    fn check(&self) {
        let mut held: Option<&Items> = None;
        let mut before: Option<&Items> = None;
        for (rev, expected) in &self.expected {
            let told = self.log.get(rev);
            let is_event = told.is_some_and(|(_, is_snapshot)| !is_snapshot);
            held = told.map(|(items, _)| items).or(held);
            let Some(held) = held else { continue };
            assert_eq!(held, expected, "rev {rev} of {:?}", self.spec.to_json());
            let changed = before.is_some_and(|before| before != expected);
            let fresh = told.is_some_and(|(_, is_snapshot)| *is_snapshot);
            assert!(fresh || is_event == changed, "rev {rev}: told {is_event}, not {changed}");
            before = Some(expected);
        }
        let unknown = self.log.keys().find(|rev| !self.expected.contains_key(rev));
        assert_eq!(unknown, None, "told of a rev that was not");
    }
}

/// A commit about some users, now and then about all of them.
fn draw(rng: &mut Rng) -> Commit {
    let user = |rng: &mut Rng| {
        let team = if rng.one_in(2) { String::new() } else { format!("teams/t{}/", rng.below(2)) };
        format!("{team}users/u{}", rng.below(12))
    };
    let name = |rng: &mut Rng| json!("n".repeat(1 + rng.below(4)));
    match rng.below(10) {
        0 => Commit::new(vec![delete_op(&user(rng))]),
        1 if rng.one_in(3) => Commit::new(vec![delete_op(["users", "teams"][rng.below(2)])]),
        1 => setting("elsewhere", json!(rng.below(99))),
        2 => setting(&format!("{}/name", user(rng)), name(rng)),
        3 => setting(&format!("{}/age", user(rng)), json!(rng.below(9))),
        _ => {
            let many = (0..1 + rng.below(3)).map(|_| {
                let value = json!({"age": rng.below(9), "name": name(rng)});
                set_op(&user(rng), value)
            });
            Commit::new(many.collect())
        }
    }
}

fn watched(rng: &mut Rng) -> Vec<Watched> {
    let mode = |rng: &mut Rng| [Mode::Full, Mode::Patch][rng.below(2)];
    SPECS.iter().map(|spec| Watched::new(spec, mode(rng))).collect()
}

fn begin(
    inbox: &Inbox,
    tree: &Tree,
    queries: &Queries,
    all: &mut [Watched],
) -> Vec<AcknowledgementKind> {
    all.iter_mut().for_each(|one| one.expect(queries, tree));
    inbox.subscribe(MARK, value(MARK)).expect("it begins");
    assert!(inbox.activate(MARK));
    let requests = all.iter().enumerate().map(|(at, one)| (at.to_string(), one.request()));
    let answers = inbox.subscribe_all(requests.collect());
    let kinds = answers.into_iter().zip(all).enumerate().map(|(at, (answer, one))| {
        let answer = answer.expect("it begins");
        one.acknowledged(&answer);
        assert!(inbox.activate(&at.to_string()));
        answer.kind
    });
    kinds.collect()
}

/// Receives until it has heard of everything up to now.
fn receive(inbox: &Inbox, tree: &Tree, queries: &Queries, all: &mut [Watched]) {
    let mark = set(tree, MARK, json!(rev(tree)));
    all.iter_mut().for_each(|one| one.expect(queries, tree));
    let mut heard = 0;
    while heard < mark {
        let deliveries = inbox.wait(LONG);
        assert!(!deliveries.is_empty(), "nothing came, and the mark {mark} was to come");
        for delivery in deliveries {
            let at = delivery.name().parse::<usize>().ok();
            match delivery {
                Delivery::Event { event, .. } => match at {
                    Some(at) => all[at].told(&event),
                    None => heard = event.rev,
                },
                Delivery::Stale { name } => {
                    let fresh = inbox.refresh(&name).expect("a new snapshot");
                    match at {
                        Some(at) => all[at].acknowledged(&fresh),
                        None => heard = fresh.rev,
                    }
                    assert!(inbox.activate(&name));
                }
                Delivery::Cancelled { error, .. } => panic!("it was ended: {error}"),
            }
        }
    }
}

fn check_last(all: &[Watched]) {
    for one in all {
        let last = one.expected.last_key_value().unwrap().1;
        assert_eq!(one.items, *last, "{:?}", one.spec.to_json());
    }
}

fn steps(tree: &Tree, queries: &Queries, all: &mut [Watched], rng: &mut Rng, steps: usize) {
    for _ in 0..steps {
        tree.commit(draw(rng)).expect("it is committed");
        all.iter_mut().for_each(|one| one.expect(queries, tree));
    }
}

fn windows(world: &TreeWorld) {
    let ground = world.engine();
    let mut rng = world.rng("windows");
    let tree = ground.tree_with(small_overlay());
    let live = start(&ground, &tree, roomy());
    let queries = Queries::new(&tree);
    let (mut early, mut late) = (watched(&mut rng), watched(&mut rng));
    let inboxes = (live.inbox(), live.inbox());
    begin(&inboxes.0, &tree, &queries, &mut early);
    steps(&tree, &queries, &mut early, &mut rng, 40);
    // They join windows that are there.
    begin(&inboxes.1, &tree, &queries, &mut late);
    for _ in 0..40 {
        tree.commit(draw(&mut rng)).expect("it is committed");
        let all = early.iter_mut().chain(&mut late);
        all.for_each(|one| one.expect(&queries, &tree));
    }
    for (inbox, all) in [(&inboxes.0, &mut early), (&inboxes.1, &mut late)] {
        receive(inbox, &tree, &queries, all);
        all.iter().for_each(Watched::check);
    }
    drop(inboxes);
    assert_eq!(live.stats().groups, 0);
    live.close();
}

/// A query goes on where nothing touched it, and begins anew where something did.
fn comes_back(world: &TreeWorld) {
    let ground = world.engine();
    let mut rng = world.rng("comes back");
    let tree = ground.tree_with(small_overlay());
    let mut live = start(&ground, &tree, roomy());
    let mut tree = tree;
    let queries = Queries::new(&tree);
    let mut all = watched(&mut rng);
    let mut inbox = live.inbox();
    begin(&inbox, &tree, &queries, &mut all);
    let mut kinds = Vec::new();
    for round in 0..8 {
        if round == 0 || rng.one_in(2) {
            receive(&inbox, &tree, &queries, &mut all);
            check_last(&all);
        }
        // Of the first break nothing is to be told, of the second something.
        if round == 1 {
            set(&tree, "users/u1", json!({"age": 77}));
            all.iter_mut().for_each(|one| one.expect(&queries, &tree));
        }
        let rounds = if round == 0 || rng.one_in(2) { 0 } else { rng.below(6) };
        if round == 4 {
            live.close();
            tree = ground.reopen_with(small_overlay());
            live = start(&ground, &tree, roomy());
        }
        set(&tree, "elsewhere", json!(round));
        steps(&tree, &queries, &mut all, &mut rng, rounds);
        inbox = live.inbox();
        kinds.extend(begin(&inbox, &tree, &queries, &mut all));
        steps(&tree, &queries, &mut all, &mut rng, 4);
    }
    receive(&inbox, &tree, &queries, &mut all);
    all.iter().for_each(Watched::check);
    drop(inbox);
    assert!(kinds.contains(&AcknowledgementKind::Resumed), "{kinds:?}");
    assert!(kinds.contains(&AcknowledgementKind::Reset), "{kinds:?}");
    live.close();
}

/// Receivers that are passed by hold what is there in the end.
fn slow(world: &TreeWorld) {
    let ground = world.engine();
    let mut rng = world.rng("slow");
    let tree = ground.tree_with(small_overlay());
    let options = LiveOptions { inbox_bytes_max: 3000, ..roomy() };
    let live = start(&ground, &tree, options);
    let queries = Queries::new(&tree);
    let mut all = watched(&mut rng);
    let inbox = live.inbox();
    begin(&inbox, &tree, &queries, &mut all);
    for _ in 0..2 {
        steps(&tree, &queries, &mut all, &mut rng, 40);
        assert!(inbox.waiting_bytes() <= 3000);
        // What was stale when it heard of the first mark has heard of the second.
        receive(&inbox, &tree, &queries, &mut all);
        receive(&inbox, &tree, &queries, &mut all);
        check_last(&all);
    }
    drop(inbox);
    assert!(live.stats().stale > 0);
    live.close();
}
