//! Leases under a process that is killed: what was stored runs once and only once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use trellis_presence::{Presence, PresenceOptions};
use trellis_runtime::{Clock, Runtime, RuntimeOptions, SimulatedClock};
use trellis_tree::TreeOptions;

use super::tools::{counting, gone, settle};
use crate::child::{rounds, run_and_kill, say, told};
use crate::tree::tools::{get, until};
use crate::tree::{Ground, TreeWorld};
use crate::{Case, Need};

const PROMISES: &[&str] = &["presence.end.once", "presence.store.durable", "presence.end.restart"];

pub(super) const CASES: &[Case<TreeWorld>] =
    &[Case::new("presence.end.killed", PROMISES, killed).needs(&[Need::AllOnDisk, Need::Child])];

const PROCESS: &str = "TRELLIS_LIVE_PROCESS";
/// Leases that a child ends, and their makers.
const MAKERS: usize = 6;
/// Kills of a run, and lines after which a child is killed at most.
const KILLS: usize = 4;
const LINES_MOST: usize = 120;

/// The child's side: makes leases, stores a count with each, and ends two of three, until it is
/// killed. It says what was acknowledged.
///
/// # Panics
/// When the tree does not open; when the parent did not set the environment.
pub fn live_child(ground: &Arc<Ground>) {
    let process = told(PROCESS);
    // Time stands still, so that nothing ends by itself; ids are no process's twice.
    let clock = Arc::new(SimulatedClock::at(ground.clock().now_ms()));
    let runtime = Runtime::new(RuntimeOptions { clock, ..RuntimeOptions::default() });
    let options = TreeOptions::default();
    let tree = ground.open_on(Arc::clone(&runtime), options).expect("the tree opens");
    let presence = Presence::start(tree, runtime, PresenceOptions::default());
    let presence = presence.expect("presence starts");
    std::thread::scope(|scope| {
        for maker in 0..MAKERS {
            let presence = &presence;
            scope.spawn(move || {
                for number in 0.. {
                    let name = format!("p{process}-{maker}-{number}");
                    let hold = presence.hold().expect("a lease");
                    hold.store(counting(&format!("runs/{name}"))).wait().expect("it is stored");
                    say(&name);
                    if number % 3 < 2 {
                        hold.end().wait().expect("its writes run");
                        say(&name);
                    }
                }
            });
        }
    });
}

fn killed(world: &TreeWorld) {
    let mut rng = world.rng("kills");
    let mut ended: BTreeMap<String, usize> = BTreeMap::new();
    for process in 0..rounds(KILLS) {
        let mut command = world.factory().child_command(world.dir());
        command.env(PROCESS, process.to_string());
        for line in run_and_kill(command, &mut rng, LINES_MOST) {
            *ended.entry(line).or_default() += 1;
        }
    }
    let ground = world.engine();
    let tree = ground.tree();
    let before = get(&tree, "runs");
    for (name, said) in &ended {
        // Said twice, it had ended before the kill.
        assert!(*said < 2 || before[name] == json!(1), "{name} ended and ran {}", before[name]);
    }
    let presence = Presence::start(tree.clone(), ground.runtime(), PresenceOptions::default());
    let presence = presence.expect("presence starts");
    settle(&presence);
    assert!(presence.stats().leases > 0, "some were left for silence");
    ground.clock().advance_ms(45_000);
    until("all that was left ends", || gone(&presence));
    let after = get(&tree, "runs");
    for name in ended.keys() {
        assert_eq!(after[name], json!(1), "{name} was stored, so it runs once");
    }
    for (name, runs) in after.as_object().expect("some ran") {
        assert_eq!(*runs, json!(1), "{name} ran more than once");
    }
    presence.close();
}
