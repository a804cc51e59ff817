//! A run: subscribers and writers, disconnections and kills, and the comparison at its end.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use trellis::Trellis;
use trellis_tree::Change;

use super::judge::{Verdict, judge};
use super::peer::Peer;
use super::planted::Planted;
use super::record::{Item, Recorded};
use super::server::{Server, config};
use super::stage::{Stage, cut};
use super::subscriber::{Mark, Socket};
use super::topics::{EVERYTHING, draw, fence};
use super::writer::{Told, Writer};
use super::{SOAK, Scale};
use crate::tree::TreeWorld;
use crate::{Rng, Seed};

/// What came of a run before it is judged.
struct Played {
    recorded: Vec<Recorded>,
    told: Vec<Told>,
    /// The commit that everybody has to have been told of.
    fence: u64,
}

pub(super) fn misses_nothing(world: &TreeWorld) {
    let scale = Scale::from_env();
    let mut rng = world.rng("soak");
    let began = Instant::now();
    let stage = stage(&scale);
    let played = play(world, &stage, &scale, &mut rng);
    let topics = &stage.topics;

    let db = Trellis::open_config(config(world.dir(), world.factory().name())).expect("it opens");
    let history = db.tree().history(0, usize::MAX >> 1).expect("the whole journal is there");
    let changes: Vec<&Change> = history.changes().collect();
    let verdict = judge(changes.iter().copied(), topics, &played.recorded, played.fence);
    let seconds = began.elapsed().as_secs_f64();
    let (name, seed) = (world.factory().name(), Seed::of_run().0);
    eprintln!("{name}: {scale}; {verdict}; {seconds:.1} s, seed {seed}");
    for behind in behind(&played) {
        stage.complain(behind);
    }
    let complaints = stage.complaints();
    assert!(complaints.is_empty(), "complaints: {complaints:#?}");
    assert!(verdict.is_clean(), "{verdict}");
    let resets = verdict.not_resumed + verdict.slow;
    assert!(verdict.resumed > 0 && verdict.frames > 0, "nothing was shown: {verdict}");
    let told_anew_rarely = resets * 20 <= verdict.resumed;
    assert!(scale.unthrottled || told_anew_rarely, "told anew, not resumed: {verdict}");
    acknowledged(&changes, &played.told);
    bites(&changes, &stage, &played, &mut rng);
    drop(history);
    db.close().expect("it closes");
}

fn stage(scale: &Scale) -> Stage {
    let per_place = 60;
    let places = (scale.subscriptions / per_place).clamp(4, 40);
    let sockets = (scale.subscriptions / 250).max(8);
    let mut stage = Stage::new(Server::default(), places, (sockets, scale.writers), scale.commits);
    stage.unthrottled = scale.unthrottled;
    stage
}

fn play(world: &TreeWorld, stage: &Stage, scale: &Scale, rng: &mut Rng) -> Played {
    let start = || {
        let mut command = world.factory().child_command(world.dir());
        command.env(SOAK, "server");
        stage.server.start(command);
    };
    start();
    let sockets = stage.sockets.len();
    let mut topics: Vec<Vec<usize>> = vec![vec![EVERYTHING]; sockets];
    for index in sockets..scale.subscriptions {
        topics[index % sockets].push(draw(rng, &stage.topics));
    }
    let marks: Vec<Vec<Mark>> =
        topics.iter().map(|own| own.iter().map(|_| Mark::default()).collect()).collect();
    let seed = Seed(rng.next_u64());
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..scale.writers)
            .map(|number| scope.spawn(move || Writer::new(stage, number, seed).run()))
            .collect();
        let subscribers: Vec<_> = topics
            .into_iter()
            .enumerate()
            .map(|(number, topics)| {
                let marks = &marks[number];
                scope.spawn(move || Socket::new(stage, number, topics, marks).run())
            })
            .collect();
        let all = |rev: u64| marks.iter().flatten().all(|mark| mark.rev() >= rev);
        // Without this a wait that panics would leave the other threads waiting for ever.
        let over = Over(stage);
        stage.wait_until("every subscription to be acknowledged", || all(1));
        disturb(stage, scale, rng, start);
        stage.wait_until("the writers to end", || {
            stage.acknowledged.load(Ordering::Acquire) >= scale.commits
        });
        let fence = raise_fence(stage);
        stage.wait_until("everybody to be told of the last commit", || all(fence));
        drop(over);
        stage.server.kill();
        let recorded = subscribers.into_iter().flat_map(|one| one.join().expect("no panic"));
        let recorded = recorded.collect();
        let told = writers.into_iter().map(|one| one.join().expect("no panic")).collect();
        Played { recorded, told, fence }
    })
}

/// Who was not told of the last commit: each socket with such subscriptions, and what came last.
fn behind(played: &Played) -> Vec<String> {
    let mut sockets: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for one in &played.recorded {
        let last = one.items.last();
        if last.map_or(0, Item::rev) < played.fence {
            let (socket, number) = one.name.split_once(", ").unwrap_or_default();
            let resumed = one.items.iter().filter(|item| matches!(item, Item::Resumed { .. }));
            let told = match last {
                Some(Item::Resumed { rev }) => format!("resumed at {rev}"),
                Some(item) => format!("rev {}", item.rev()),
                None => "nothing".to_owned(),
            };
            let resumed = resumed.count();
            let what = format!("{number}: {told}, resumed {resumed} times");
            sockets.entry(socket).or_default().push(what);
        }
    }
    let tell = |(socket, all): (&str, Vec<String>)| {
        format!("{socket}, {} behind: {} ... {}", all.len(), all[0], all[all.len() - 1])
    };
    sockets.into_iter().map(tell).collect()
}

struct Over<'a>(&'a Stage);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Cuts connections off and kills the server, at random commits.
fn disturb(stage: &Stage, scale: &Scale, rng: &mut Rng, start: impl Fn()) {
    let mut kills: Vec<bool> =
        (0..scale.disconnects + scale.restarts).map(|index| index < scale.restarts).collect();
    for at in (1..kills.len()).rev() {
        kills.swap(at, rng.below(at + 1));
    }
    let begun = stage.acknowledged.load(Ordering::Acquire);
    let left = scale.commits.saturating_sub(begun) as usize;
    let gap = left / (kills.len() + 1);
    for (number, is_kill) in kills.into_iter().enumerate() {
        let moment = begun as usize + number * gap + rng.below(gap.max(1));
        stage.wait_until("the commits to go on", || {
            stage.acknowledged.load(Ordering::Acquire) >= moment as u64
        });
        if is_kill {
            stage.server.kill();
            start();
        } else if rng.one_in(8) {
            cut(&stage.writers[rng.below(stage.writers.len())]);
        } else {
            cut(&stage.sockets[rng.below(stage.sockets.len())].scissors);
        }
    }
}

/// Changes what everybody watches; the rev of that.
fn raise_fence(stage: &Stage) -> u64 {
    let port = stage.server.port().expect("the run goes on");
    let (mut peer, _) = Peer::connect(port).expect("it listens");
    let request =
        format!(r#"{{"id":"fence","op":"update","updates":{{{}}}}}"#, fence(stage.places));
    peer.send(request).expect("it is sent");
    let text = peer.receive().expect("it is answered");
    let frame = super::peer::Frame::parse(&text);
    assert_eq!(frame.ok, Some(true), "{text}");
    frame.rev.expect("the rev of the commit")
}

/// What was acknowledged is in the journal under its rev, once; own commits were told as such.
fn acknowledged(changes: &[&Change], told: &[Told]) {
    let mut keys = std::collections::HashMap::new();
    for change in changes {
        if let Some(key) = change.key() {
            let before = keys.insert(key, change.rev());
            assert_eq!(before, None, "{key} was committed twice");
        }
    }
    let mut own = 0;
    for (number, told) in told.iter().enumerate() {
        for (key, rev) in &told.acknowledged {
            assert_eq!(keys.get(key.as_str()), Some(rev), "{key} is elsewhere in the journal");
        }
        for (key, rev) in &told.own {
            assert!(key.starts_with(&format!("w{number}-")), "writer {number} was told of {key}");
            assert_eq!(keys.get(key.as_str()), Some(rev), "{key} was told of as another commit");
        }
        own += told.own.len();
    }
    assert!(own > 0, "nobody was told of own commits");
}

/// The judge finds each defect that is planted into what one subscriber got.
fn bites(changes: &[&Change], stage: &Stage, played: &Played, rng: &mut Rng) {
    let watch = |recorded: &Recorded| -> Verdict {
        let one = std::slice::from_ref(recorded);
        judge(changes.iter().copied(), &stage.topics, one, played.fence)
    };
    for planted in Planted::ALL {
        let bent = (0..10_000).find_map(|_| {
            let one = &played.recorded[rng.below(played.recorded.len())];
            planted.plant(one, &stage.topics, played.fence, rng)
        });
        let Some(bent) = bent else { panic!("no place for {planted:?} in any recording") };
        let verdict = watch(&bent);
        assert!(planted.is_found(&verdict), "{planted:?} was not found: {verdict}");
    }
}
