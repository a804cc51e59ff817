//! Subscriptions across killed processes: what a receiver heard before the kill and what it is told
//! when it comes back are together every commit, once.

use std::sync::Arc;
use std::time::Duration;

use trellis_subscribe::{AcknowledgementKind, Delivery, Inbox, Live, SubscribeRequest};
use trellis_tree::Tree;

use super::subscribe::{roomy, start, value};
use crate::child::{rounds, run_and_kill, say};
use crate::tree::tools::{commit, get, incrementing, small_overlay};
use crate::tree::{Ground, TreeWorld};
use crate::{Case, Need};

pub(super) const CASES: &[Case<TreeWorld>] = &[Case::new(
    "live.resume.killed",
    &["live.sub.resume", "live.sub.once", "live.sub.ack"],
    killed,
)
.needs(&[Need::AllOnDisk, Need::Child])];

const LONG: Duration = Duration::from_secs(60);
const POSITION: &str = "TRELLIS_LIVE_POSITION";
const WRITERS: usize = 3;
const KILLS: usize = 5;
const LINES_MOST: usize = 150;

/// What a receiver knows of one writer's count.
#[derive(Debug, Clone, Default)]
struct Known {
    rev: u64,
    epoch: String,
    count: u64,
}

impl Known {
    fn request(&self, writer: usize) -> SubscribeRequest {
        let request = value(&format!("n/{writer}"));
        if self.epoch.is_empty() { request } else { request.resume(self.rev, &self.epoch) }
    }

    /// The next event: it must be the next count.
    fn told(&mut self, rev: u64, count: u64) {
        assert!(rev > self.rev && count == self.count + 1, "{count} at {rev} after {self:?}");
        (self.rev, self.count) = (rev, count);
    }
}

fn count_of(body: &[u8]) -> u64 {
    let events: serde_json::Value = serde_json::from_slice(body).expect("JSON");
    events[0]["value"].as_u64().expect("a count")
}

fn open(ground: &Ground) -> (Tree, Live) {
    let tree = ground.tree_with(small_overlay());
    let live = start(ground, &tree, roomy());
    (tree, live)
}

/// Goes on with each writer's count; says or checks how.
fn go_on(inbox: &Inbox, known: &mut [Known], mut tell: impl FnMut(&str)) {
    let requests = known.iter().enumerate();
    let requests = requests.map(|(writer, known)| (writer.to_string(), known.request(writer)));
    for (writer, answer) in inbox.subscribe_all(requests.collect()).into_iter().enumerate() {
        let answer = answer.expect("it goes on");
        let known = &mut known[writer];
        if known.epoch.is_empty() {
            let count: Option<u64> = serde_json::from_slice(&answer.data).expect("a count");
            (known.rev, known.count) = (answer.rev, count.unwrap_or(0));
        } else {
            assert_eq!(answer.kind, AcknowledgementKind::Resumed, "{known:?}: {answer:?}");
        }
        known.epoch = answer.epoch;
        tell(&format!("begun {writer} {} {} {}", known.rev, known.count, known.epoch));
        assert!(inbox.activate(&writer.to_string()));
    }
}

/// The child's side: counts, hears of it and says so, until it is killed.
///
/// # Panics
/// When the tree does not open, or a subscription does not go on.
pub fn subscribe_child(ground: &Arc<Ground>) {
    let (tree, live) = open(ground);
    let mut known = vec![Known::default(); WRITERS];
    let text = std::env::var(POSITION).expect("the parent says where to go on");
    for (known, line) in known.iter_mut().zip(text.lines()) {
        let mut words = line.split(' ');
        let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
        (known.rev, known.count) = (number(), number());
        known.epoch = words.next().expect("an epoch").to_owned();
    }
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let tree = &tree;
            scope.spawn(move || {
                loop {
                    commit(tree, incrementing(&format!("n/{writer}"), 1));
                }
            });
        }
        let inbox = live.inbox();
        go_on(&inbox, &mut known, say);
        loop {
            for delivery in inbox.wait(LONG) {
                let Delivery::Event { name, event } = delivery else { panic!("{delivery:?}") };
                say(&format!("event {name} {} {}", event.rev, count_of(&event.body)));
            }
        }
    });
}

fn killed(world: &TreeWorld) {
    let mut rng = world.rng("kills");
    let mut known = vec![Known::default(); WRITERS];
    for _ in 0..rounds(KILLS) {
        let mut command = world.factory().child_command(world.dir());
        let heard = known.iter().filter(|known| !known.epoch.is_empty());
        let lines = heard.map(|known| format!("{} {} {}\n", known.rev, known.count, known.epoch));
        command.env(POSITION, lines.collect::<String>());
        for line in run_and_kill(command, &mut rng, LINES_MOST) {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |place: usize| words[place].parse::<u64>().expect("a number");
            let known = &mut known[number(1) as usize];
            match words[0] {
                "begun" if known.epoch.is_empty() => {
                    (known.rev, known.count) = (number(2), number(3));
                    known.epoch = words[4].to_owned();
                }
                "begun" => known.epoch = words[4].to_owned(),
                _ => known.told(number(2), number(3)),
            }
        }
        if known.iter().any(|known| known.epoch.is_empty()) {
            // Killed before it had said of each how it began: all begin together.
            known.fill_with(Known::default);
        }
    }
    let ground = world.engine();
    let (tree, live) = open(&ground);
    let inbox = live.inbox();
    go_on(&inbox, &mut known, |_| {});
    let counts = |tree: &Tree, writer| get(tree, &format!("n/{writer}")).as_u64().unwrap_or(0);
    for writer in 0..WRITERS {
        commit(&tree, incrementing(&format!("n/{writer}"), 1));
    }
    while (0..WRITERS).any(|writer| known[writer].count < counts(&tree, writer)) {
        let deliveries = inbox.wait(LONG);
        assert!(!deliveries.is_empty(), "{known:?}");
        for delivery in deliveries {
            let Delivery::Event { name, event } = delivery else { panic!("{delivery:?}") };
            let known = &mut known[name.parse::<usize>().unwrap()];
            known.told(event.rev, count_of(&event.body));
        }
    }
    live.close();
}
