//! What open subscriptions cost those who write elsewhere: durable commits with none, with one,
//! and with 100,000, in turn on one tree.

use std::time::{Duration, Instant};

use trellis_runtime::Runtime;
use trellis_subscribe::{Inbox, Live, LiveOptions, Pattern, SubscribeRequest};
use trellis_tree::{Commit, Input, Path, Tree, TreeOptions};

use crate::Result;
use crate::engine::open_tree;
use crate::keys::{self, Random};
use crate::kv::Kv;
use crate::measure::{Client, Load, median};
use crate::report::{Report, Row};
use crate::settings::Settings;

const GROUP: &str = "subscriptions";
const MANY: usize = 100_000;
const OF_ONE_INBOX: usize = 500;
const TARGET: f64 = 0.95;
/// Keys that the writers go through at random.
const KEYS: usize = 100_000;
const THREADS: [usize; 2] = [1, 64];
/// Turns of a round: the disk's speed wanders within seconds.
const SLICES: usize = 4;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let dir = settings.dir.join("subscriptions");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let tree = open_tree(settings, Kv::Redb, &dir, TreeOptions::default())?;
    let live = Live::start(tree.clone(), &Runtime::system(), LiveOptions::default())?;
    let many = if settings.quick { 1_000 } else { MANY };
    for threads in THREADS {
        // Wakes everything.
        writes(&tree, threads, settings)?;
        let mut rates = [const { Vec::new() }; 3];
        let mut opening = Vec::new();
        for _ in 0..settings.rounds * SLICES {
            for (rates, open) in rates.iter_mut().zip([0, 1, many]) {
                let begin = Instant::now();
                let inboxes = subscribed(&live, open)?;
                if open == many {
                    opening.push(begin.elapsed().as_secs_f64());
                }
                rates.push(writes(&tree, threads, settings)?);
                drop(inboxes);
            }
        }
        let [none, one, all] = &rates;
        let writers = if threads == 1 { "1 writer".into() } else { format!("{threads} writers") };
        for (open, rates) in [("1 subscription", one), ("100,000 subscriptions", all)] {
            let name = format!("{writers}, {open} elsewhere vs none");
            let row = Row::ratio(GROUP, name, "commits/s", (rates, none), Some(TARGET));
            report.push(row.note(format!("{many} opened in {:.1} s", median(&opening))));
        }
    }
    live.close();
    tree.close()?;
    Ok(())
}

fn writes(tree: &Tree, threads: usize, settings: &Settings) -> Result<f64> {
    let measured = Duration::from_millis(if settings.quick { 50 } else { 1_000 });
    let load = Load { threads, warm_up: measured / 10, measured };
    let achieved = load.run(3, &|_| {
        Ok(Box::new(|random: &mut Random| {
            let path = Path::parse(&keys::path_text(random.below(KEYS)))?;
            tree.commit(Commit::set(path, Input::parse(&keys::value_json(random))?))?;
            Ok(())
        }) as Client<'_>)
    })?;
    Ok(achieved.per_second)
}

/// So many subscriptions, each of another place, none of which is written.
fn subscribed(live: &Live, count: usize) -> Result<Vec<Inbox>> {
    let mut inboxes = Vec::new();
    let mut number = 0;
    while number < count {
        let inbox = live.inbox();
        let mut requests = Vec::new();
        while number < count && requests.len() < OF_ONE_INBOX {
            let pattern = Pattern::parse(&format!("watched/{number}/state"))?;
            requests.push((number.to_string(), SubscribeRequest::value(pattern)));
            number += 1;
        }
        let names: Vec<String> = requests.iter().map(|(name, _)| name.clone()).collect();
        for answer in inbox.subscribe_all(requests) {
            answer?;
        }
        for name in names {
            inbox.activate(&name);
        }
        inboxes.push(inbox);
    }
    Ok(inboxes)
}
