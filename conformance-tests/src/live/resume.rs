//! Going on where a subscription was left: after a reconnect, a restart, and when that cannot be.

use serde_json::json;
use trellis_subscribe::{AcknowledgementKind, Live};
use trellis_tree::TreeOptions;

use super::subscribe::{MARK, Receiver, roomy, start, value};
use super::workload::{Writing, draw_request};
use crate::Case;
use crate::tree::TreeWorld;
use crate::tree::tools::{set, small_overlay};

pub(super) const CASES: &[Case<TreeWorld>] = &[
    Case::new("live.resume.reconnect", &["live.sub.resume", "live.sub.once"], reconnect),
    Case::new("live.resume.restart", &["live.sub.resume", "live.sub.once"], restart),
    Case::new("live.resume.refused", &["live.sub.resume"], refused),
    Case::new("live.resume.many_at_once", &["live.sub.resume"], many_at_once),
];

const WATCHES: usize = 40;

impl Receiver {
    /// The same receiver on a new inbox; how each subscription began.
    fn reconnected(mut self, live: &Live) -> (Self, Vec<AcknowledgementKind>) {
        self.inbox = live.inbox();
        let requests = self.watches.iter().map(|(name, watch)| (name.clone(), watch.resuming()));
        let requests: Vec<_> = requests.collect();
        let names: Vec<String> = requests.iter().map(|(name, _)| name.clone()).collect();
        let answers = self.inbox.subscribe_all(requests);
        let kinds = names.iter().zip(answers).map(|(name, answer)| {
            let answer = answer.expect("it goes on");
            self.watches.get_mut(name).unwrap().acknowledged(&answer);
            assert!(self.inbox.activate(name));
            answer.kind
        });
        let kinds = kinds.collect();
        (self, kinds)
    }

    fn check(&self, writing: &Writing<'_>) {
        for (name, watch) in self.watches.iter().filter(|(name, _)| *name != MARK) {
            watch.check(&writing.history, name);
        }
    }
}

fn all_resumed(kinds: &[AcknowledgementKind]) -> bool {
    kinds.iter().all(|kind| *kind == AcknowledgementKind::Resumed)
}

/// A receiver that comes and goes hears of every commit as if it had stayed.
fn reconnect(world: &TreeWorld) {
    let ground = world.engine();
    let mut rng = world.rng("reconnect");
    let mut writing = Writing::new(&ground, ground.tree_with(small_overlay()));
    let live = start(&ground, &writing.tree, roomy());
    let mut receiver = Receiver::new(&live);
    for number in 0..WATCHES {
        writing.step(&mut rng);
        receiver.begin(&number.to_string(), draw_request(&mut rng));
    }
    for _ in 0..8 {
        for _ in 0..rng.below(20) {
            writing.step(&mut rng);
        }
        if rng.one_in(2) {
            // Some have heard of everything, others of nothing since they began.
            let mark = writing.mark(MARK);
            receiver.until(mark);
        }
        let kinds;
        (receiver, kinds) = receiver.reconnected(&live);
        assert!(all_resumed(&kinds), "{kinds:?}");
    }
    let mark = writing.mark(MARK);
    receiver.until(mark);
    receiver.check(&writing);
    assert!(live.stats().resumed > 0);
    live.close();
}

/// The same while the database is closed and opened again, with commits in between.
fn restart(world: &TreeWorld) {
    let ground = world.engine();
    let mut rng = world.rng("restart");
    let mut writing = Writing::new(&ground, ground.tree_with(small_overlay()));
    let mut live = start(&ground, &writing.tree, roomy());
    let mut receiver = Receiver::new(&live);
    for number in 0..WATCHES {
        receiver.begin(&number.to_string(), draw_request(&mut rng));
    }
    for _ in 0..3 {
        for _ in 0..rng.below(30) {
            writing.step(&mut rng);
        }
        live.close();
        writing.tree = ground.reopen_with(small_overlay());
        for _ in 0..rng.below(30) {
            writing.step(&mut rng);
        }
        live = start(&ground, &writing.tree, roomy());
        let kinds;
        (receiver, kinds) = receiver.reconnected(&live);
        assert!(all_resumed(&kinds), "{kinds:?}");
        let mark = writing.mark(MARK);
        receiver.until(mark);
    }
    receiver.check(&writing);
    live.close();
}

/// Where it cannot go on it begins anew, and says so.
fn refused(world: &TreeWorld) {
    let ground = world.engine();
    let options = TreeOptions { journal_retain_bytes: 0, ..small_overlay() };
    let tree = ground.tree_with(options.clone());
    let live = start(&ground, &tree, roomy());
    let first = set(&tree, "a", json!(0));
    let epoch = tree.epoch_token();
    let (history, number) = epoch.split_once('.').unwrap();
    let now = set(&tree, "a", json!(1));
    let inbox = live.inbox();
    let begin = |since: u64, epoch: &str| {
        let begun = inbox.subscribe("1", value("a").resume(since, epoch)).unwrap();
        assert!(inbox.unsubscribe("1"));
        (begun.kind, begun.rev, begun.data)
    };
    assert_eq!(begin(first, &epoch).0, AcknowledgementKind::Resumed);
    let (newer, older) = (format!("{history}.{}9", number), "0123456789abcdef.1".to_owned());
    for epoch in [newer, older, String::new(), "x".repeat(5000), format!("{history}.x")] {
        let begun = begin(first, &epoch);
        assert_eq!(begun, (AcknowledgementKind::Reset, now, "1".into()), "{epoch:.40}");
    }
    for since in [now + 1, u64::MAX] {
        assert_eq!(begin(since, &epoch).0, AcknowledgementKind::Reset, "from the future");
    }
    // Before the trim: what the journal no longer tells.
    let text = "x".repeat(4000);
    for round in 0..200 {
        set(&tree, &format!("text/{}", round % 5), json!(format!("{round}{text}")));
    }
    tree.flush().unwrap();
    if tree.hold_journal_after(first).is_err() {
        assert_eq!(begin(first, &epoch).0, AcknowledgementKind::Reset, "before the trim");
    }
    assert_eq!(live.stats().subscriptions, 0);
    live.close();
}

/// Many receivers come back at the same time, while others write.
fn many_at_once(world: &TreeWorld) {
    let ground = world.engine();
    let mut rng = world.rng("many");
    let mut writing = Writing::new(&ground, ground.tree_with(small_overlay()));
    let live = start(&ground, &writing.tree, roomy());
    let begin = |receiver: &mut Receiver, rng: &mut crate::Rng| {
        (0..6).for_each(|number| receiver.begin(&number.to_string(), draw_request(rng)));
    };
    let mut receivers: Vec<Receiver> = (0..12).map(|_| Receiver::new(&live)).collect();
    for receiver in &mut receivers {
        writing.step(&mut rng);
        begin(receiver, &mut rng);
    }
    (0..30).for_each(|_| writing.step(&mut rng));
    let receivers = std::thread::scope(|scope| {
        let live = &live;
        let threads: Vec<_> = receivers
            .into_iter()
            .map(|receiver| scope.spawn(move || receiver.reconnected(live)))
            .collect();
        (0..30).for_each(|_| writing.step(&mut rng));
        let joined = threads.into_iter().map(|thread| thread.join().unwrap());
        joined.collect::<Vec<_>>()
    });
    let mark = writing.mark(MARK);
    for (mut receiver, kinds) in receivers {
        assert!(all_resumed(&kinds), "{kinds:?}");
        receiver.until(mark);
        receiver.check(&writing);
    }
    live.close();
}
