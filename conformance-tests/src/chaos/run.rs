//! A run: nodes, proxies, writers; troubles for a while; then calm, and the verdict.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Runtime;

use super::Field;
use super::judge::{Content, complaints, disagreements, missing};
use super::node::{HUB, NODES, Node};
use super::proxy::{Proxy, Weather};
use super::writer::{self, Told};
use crate::{Rng, Seed, World};

/// How long the nodes may take to agree once all is calm: a reconnect waits up to 30 s.
const CALM_TIME: Duration = Duration::from_secs(120);
/// How long there is trouble, in seconds.
const SECONDS: &str = "TRELLIS_CHAOS_SECONDS";
/// Without that.
const USUAL: Duration = Duration::from_secs(60);
/// How long nodes that do not know each other are in trouble.
const APART: Duration = Duration::from_secs(4);
/// Between two looks at whether something is over.
const LOOK: Duration = Duration::from_millis(100);

/// What stays for the whole run.
struct Stage<'a> {
    world: &'a World<Field>,
    nodes: Vec<Node>,
    /// Each before the upstream of the node of its place; the hub's leads nowhere.
    proxies: Vec<Proxy>,
    began: Instant,
}

impl<'a> Stage<'a> {
    fn new(world: &'a World<Field>, executor: &Runtime, replicates: bool) -> Self {
        let proxy = |_| executor.block_on(Proxy::start(None)).expect("a port");
        let proxies: Vec<Proxy> = (0..NODES.len()).map(proxy).collect();
        let node = |(plan, proxy): (_, &Proxy)| {
            let plan: super::node::Plan = plan;
            let upstream = plan.upstream.map(|_| proxy.address());
            Node::new(plan, world.dir(), replicates.then_some(upstream))
        };
        let nodes = NODES.into_iter().zip(&proxies).map(node).collect();
        Self { world, nodes, proxies, began: Instant::now() }
    }

    /// Starts a node, and leads those who dial it there.
    fn start(&self, index: usize) {
        let address = self.nodes[index].start(|dir| self.world.factory().child_command(dir));
        for (plan, proxy) in NODES.iter().zip(&self.proxies) {
            if plan.upstream == Some(index) {
                proxy.lead_to(address);
            }
        }
    }

    fn contents(&self) -> Option<Vec<Content>> {
        self.nodes.iter().map(content).collect()
    }
}

/// What a node holds; `None` when it does not answer.
fn content(node: &Node) -> Option<Content> {
    let mut content = Content::new();
    for place in ["shared", "central", "local", "reports"] {
        let (status, body) = writer::request(node.address()?, "GET", place, "").ok()?;
        let value = match status {
            200 => serde_json::from_str(&body).expect("JSON"),
            404 => Value::Null,
            _ => return None,
        };
        content.insert(place, value);
    }
    Some(content)
}

/// The case.
pub(super) fn converge_and_lose_nothing(world: &World<Field>) {
    let executor = executor();
    let stage = Stage::new(world, &executor, true);
    let (told, log) = under_trouble(&stage, duration());
    verdict(&stage, &told, &log);
}

/// The case of nodes that do not know each other: each has what it acknowledged, and the judge
/// sees that they differ.
pub(super) fn apart_lose_nothing(world: &World<Field>) {
    let executor = executor();
    let stage = Stage::new(world, &executor, false);
    let (told, log) = under_trouble(&stage, APART);
    let contents = stage.contents().expect("every node answers");
    let lost = missing(&contents, &told, |_, node| node);
    assert!(lost.is_empty(), "{lost:#?}\n{}", log.join("\n"));
    let differing = disagreements(&contents);
    let met = NODES.iter().skip(1).find(|node| {
        !differing.iter().any(|one| one.starts_with(&format!("{} and the hub differ", node.name)))
    });
    assert!(met.is_none(), "{met:?} has never met the hub, and is said to agree with it");
    assert!(!complaints(&contents, &told).is_empty(), "the hub has nothing of the others");
    let acknowledged = told.iter().map(|told| told.acknowledged).sum::<u64>();
    assert!(acknowledged > 50 && log.len() > 3, "{acknowledged} writes, {} troubles", log.len());
}

fn executor() -> Runtime {
    let mut executor = tokio::runtime::Builder::new_multi_thread();
    executor.worker_threads(1).enable_all().build().expect("an executor")
}

fn duration() -> Duration {
    std::env::var(SECONDS).map_or(USUAL, |text| {
        let seconds = text.trim().parse().ok().filter(|seconds| *seconds > 0);
        Duration::from_secs(seconds.unwrap_or_else(|| panic!("{SECONDS} is a number above 0")))
    })
}

/// Writers and troubles, for as long as the run takes; answers when all nodes are up again.
fn under_trouble(stage: &Stage<'_>, time: Duration) -> (Vec<Told>, Vec<String>) {
    let seed = Seed(stage.world.rng("chaos").next_u64());
    (0..NODES.len()).for_each(|index| stage.start(index));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (mut writers, mut pauses) = (Vec::new(), Vec::new());
        for node in &stage.nodes {
            let (end, pause) = channel();
            pauses.push(end);
            let stop = &stop;
            writers.push(scope.spawn(move || writer::run(node, seed, stop, &pause)));
        }
        let (_end, pause) = channel();
        let mut troubles = Troubles::new(stage, seed, pause);
        // Whatever becomes of the troubles, the writers end.
        let outcome = catch_unwind(AssertUnwindSafe(|| troubles.make(time)));
        stop.store(true, Ordering::Release);
        drop(pauses);
        let told = writers.into_iter().map(|writer| writer.join().expect("a writer")).collect();
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
        (told, troubles.log)
    })
}

struct Troubles<'a> {
    stage: &'a Stage<'a>,
    rng: Rng,
    /// Nothing comes; waiting for it is waiting.
    pause: Receiver<()>,
    /// Nodes that are down, and until when.
    down: Vec<(usize, Instant)>,
    /// Links in bad weather, and until when.
    stormy: Vec<(usize, Instant)>,
    log: Vec<String>,
    kills: u32,
}

impl<'a> Troubles<'a> {
    fn new(stage: &'a Stage<'a>, seed: Seed, pause: Receiver<()>) -> Self {
        Self {
            stage,
            rng: seed.of("troubles").rng(),
            pause,
            down: Vec::new(),
            stormy: Vec::new(),
            log: Vec::new(),
            kills: 0,
        }
    }

    /// Makes trouble for so long; then all nodes are up and the sky is clear.
    fn make(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.one();
            let next = Instant::now() + Duration::from_millis(100 + self.rng.below(900) as u64);
            while Instant::now() < next {
                let _nothing_comes = self.pause.recv_timeout(LOOK);
                self.mend(Instant::now());
            }
        }
        let far = end + Duration::from_secs(3_600);
        self.mend(far);
        self.note("calm".to_owned());
    }

    /// Ends what is over by `now`.
    fn mend(&mut self, now: Instant) {
        let over = |until: &Instant| *until <= now;
        for (index, _) in self.down.extract_if(.., |(_, until)| over(until)).collect::<Vec<_>>() {
            self.stage.start(index);
            self.note(format!("{} is back", NODES[index].name));
        }
        for (index, _) in self.stormy.extract_if(.., |(_, until)| over(until)).collect::<Vec<_>>() {
            self.stage.proxies[index].set_weather(Weather::default());
            self.note(format!("clear sky before {}", NODES[index].name));
        }
    }

    fn one(&mut self) {
        let index = self.rng.below(NODES.len());
        let lasts = Duration::from_millis(50 + self.rng.below(3_000) as u64);
        let until = Instant::now() + lasts;
        let kind = self.rng.below(8);
        if kind < 3 {
            if self.stage.nodes[index].kill() {
                self.kills += 1;
                self.down.push((index, until));
                self.note(format!("{} is killed for {lasts:?}", NODES[index].name));
            }
            return;
        }
        // The hub dials nobody: what would be its weather is that of a link to it.
        let index = if index == HUB { 1 + self.rng.below(NODES.len() - 1) } else { index };
        let proxy = &self.stage.proxies[index];
        if kind == 3 {
            proxy.cut();
            self.note(format!("the link of {} is cut", NODES[index].name));
            return;
        }
        let weather = match kind {
            4 => Weather {
                delay: Duration::from_millis(5 + self.rng.below(200) as u64),
                ..Weather::default()
            },
            5 => Weather {
                bytes_per_second: Some(2_000 + self.rng.below(100_000) as u32),
                ..Weather::default()
            },
            6 => Weather { half_open: true, ..Weather::default() },
            _ => Weather { refuses: true, ..Weather::default() },
        };
        proxy.set_weather(weather);
        if weather.refuses {
            proxy.cut();
        }
        self.stormy.retain(|(stormy, _)| *stormy != index);
        self.stormy.push((index, until));
        self.note(format!("{weather:?} before {} for {lasts:?}", NODES[index].name));
    }

    fn note(&mut self, what: String) {
        let at = self.stage.began.elapsed().as_millis();
        self.log.push(format!("{at:>8} ms  {what}"));
    }
}

/// Waits until all agree and nothing is missing; what is wrong at the end of patience is told.
#[allow(clippy::print_stderr, reason = "a run shows what it did")]
fn verdict(stage: &Stage<'_>, told: &[Told], log: &[String]) {
    let calm_since = Instant::now();
    let (_end, pause) = channel::<()>();
    let wrong = loop {
        let wrong = match stage.contents() {
            Some(contents) => complaints(&contents, told),
            None => vec!["a node does not answer".to_owned()],
        };
        if wrong.is_empty() || calm_since.elapsed() > CALM_TIME {
            break wrong;
        }
        let _nothing_comes = pause.recv_timeout(LOOK);
    };
    let sum = |count: fn(&Told) -> u64| told.iter().map(count).sum::<u64>();
    let (acknowledged, unknown) = (sum(|told| told.acknowledged), sum(|told| told.unknown));
    let refused = sum(|told| told.refused);
    eprintln!(
        "{acknowledged} writes acknowledged, {refused} refused, {unknown} of unknown outcome; {} \
         troubles; the nodes agreed {:?} after the calm",
        log.len(),
        calm_since.elapsed()
    );
    let keys = told.iter().map(|told| told.keys.len()).sum::<usize>();
    let odd: Vec<_> = told.iter().flat_map(|told| &told.odd).collect();
    let history = log[log.len().saturating_sub(60)..].join("\n");
    assert!(odd.is_empty(), "odd answers: {odd:#?}\n{history}");
    assert!(
        wrong.is_empty(),
        "{} complaints, the first of which:\n{}\n\nwhat happened:\n{history}",
        wrong.len(),
        wrong[..wrong.len().min(10)].join("\n")
    );
    assert!(acknowledged > 100 && keys > 50, "too little was written to show anything");
}
