//! Taking histories, and having them judged.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use trellis_runtime::Runtime;
use trellis_tree::TreeOptions;

use super::clients::{CLIENTS, Client, OPERATIONS, Slot};
use super::history::{Book, Event, parse};
use super::judge::judge;
use super::subject::{OnTree, Planted};
use crate::child::{run_and_kill, say, told};
use crate::tree::tools::small_overlay;
use crate::tree::{Ground, TreeWorld};
use crate::{Rng, Seed};

const SEED: &str = "TRELLIS_LINEAR_SEED";
const PROCESS: &str = "TRELLIS_LINEAR_PROCESS";
/// Histories of each combination in memory and on disk: in all combinations together, 200.
const IN_MEMORY: usize = 29;
const ON_DISK: usize = 5;
/// Histories with kills of each combination, and kills of each.
const KILLED: usize = 2;
const KILLS: usize = 3;
/// Histories after which a planted defect must have been found.
const HISTORIES_TO_NOTICE: usize = 20;
/// A child is killed after at most so many lines, each [`OPERATIONS_A_LINE`] operations.
const LINES_MOST: usize = 12;
const OPERATIONS_A_LINE: usize = 25;

pub(super) fn in_memory(world: &TreeWorld) {
    histories(world, IN_MEMORY);
}

pub(super) fn on_disk(world: &TreeWorld) {
    histories(world, ON_DISK);
}

fn histories(world: &TreeWorld, count: usize) {
    let mut rng = world.rng("histories");
    for number in 0..count {
        let events = take(&world.engine(), number, &mut rng, None);
        if let Err(offence) = judge(&events) {
            panic!("history {number} is not linearizable:\n{offence}");
        }
    }
}

pub(super) fn notices(world: &TreeWorld, planted: Planted) -> Option<String> {
    let mut rng = world.rng("planted");
    (0..HISTORIES_TO_NOTICE)
        .find_map(|number| judge(&take(&world.engine(), number, &mut rng, Some(planted))).err())
}

/// One history; every third while the tree is closed and opened anew.
fn take(ground: &Ground, number: usize, rng: &mut Rng, planted: Option<Planted>) -> Vec<Event> {
    let options =
        || if number.is_multiple_of(2) { TreeOptions::default() } else { small_overlay() };
    let prefix = format!("history{number}");
    let open = || {
        let tree = ground.open_on(Runtime::system(), options()).expect("the tree opens");
        OnTree::new(tree, &prefix, planted)
    };
    let (book, slot) = (Book::in_memory(), Slot::new(open()));
    let (seed, running) = (Seed(rng.next_u64()), AtomicUsize::new(CLIENTS));
    std::thread::scope(|scope| {
        for index in 0..CLIENTS {
            let client = Client { book: &book, slot: &slot, index, process: 0 };
            let running = &running;
            scope.spawn(move || {
                // Counted down on every way out: a client that fails must not leave others waiting.
                let _ended = Ended(running);
                client.run(seed, OPERATIONS, |_| {});
            });
        }
        for _ in 0..if number % 3 == 2 { 2 } else { 0 } {
            let pause = rng.below(20_000);
            (0..pause).take_while(|_| running.load(Ordering::Acquire) > 0).for_each(|_| {
                std::thread::yield_now();
            });
            slot.get().tree.close().expect("the tree closes");
            book.add(Event::Restarted);
            slot.exchange(open());
        }
    });
    Client { book: &book, slot: &slot, index: CLIENTS, process: 0 }.look_at_all();
    slot.get().tree.close().expect("the tree closes");
    book.into_events()
}

struct Ended<'a>(&'a AtomicUsize);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The file of a history, beside the data.
fn book_in(dir: &Path) -> Book {
    let file = OpenOptions::new().create(true).append(true).open(dir.join("history"));
    Book::File(Mutex::new(file.expect("a history can be written")))
}

/// The child's side: eight clients ask until they are killed, and write down what they do.
///
/// # Panics
/// When the tree does not open; when the parent did not set the environment.
pub fn linear_child(ground: &Ground, dir: &Path) {
    let book = book_in(dir);
    let tree = ground.open_on(Runtime::system(), small_overlay()).expect("the tree opens");
    let slot = Slot::new(OnTree::new(tree, "history", None));
    let (seed, process) = (Seed(told(SEED)), told(PROCESS) as usize);
    book.add(Event::Restarted);
    std::thread::scope(|scope| {
        for index in 0..CLIENTS {
            let client = Client { book: &book, slot: &slot, index, process };
            scope.spawn(move || {
                client.run(seed, usize::MAX, |answered| {
                    if answered.is_multiple_of(OPERATIONS_A_LINE) {
                        say("on");
                    }
                });
            });
        }
    });
}

pub(super) fn killed(world: &TreeWorld) {
    let mut rng = world.rng("killed");
    for number in 0..KILLED {
        let dir = world.dir().join(format!("killed{number}"));
        std::fs::create_dir(&dir).expect("a directory");
        let seed = rng.next_u64();
        for process in 0..KILLS {
            let mut command = world.factory().child_command(&dir);
            command.env(SEED, seed.to_string()).env(PROCESS, process.to_string());
            run_and_kill(command, &mut rng, LINES_MOST);
        }
        let ground = world.factory().open(&dir).expect("a ground is only a directory");
        let tree = ground.open_on(Runtime::system(), small_overlay()).expect("it opens again");
        let slot = Slot::new(OnTree::new(tree, "history", None));
        Client { book: &book_in(&dir), slot: &slot, index: 0, process: KILLS }.look_at_all();
        slot.get().tree.close().expect("the tree closes");
        let text = std::fs::read_to_string(dir.join("history")).expect("the history is there");
        let events = parse(&text);
        let answered = events.iter().filter(|event| matches!(event, Event::Returned { .. }));
        assert!(answered.count() > 6, "no child was answered");
        if let Err(offence) = judge(&events) {
            panic!("history {number} with {KILLS} kills is not linearizable:\n{offence}");
        }
    }
}
