//! How long a database takes to open after its process was killed, with a long tail of journal that
//! the store does not have yet.
//!
//! The tail is as long as the product lets it become: writers wait when the overlay is full, so
//! this writes until the journal has grown by that much since the store was last written.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use trellis_tree::{Tree, TreeOptions};

use crate::Result;
use crate::engine::{loaded_tree, open_tree, update};
use crate::keys::{self, Random};
use crate::kv::Kv;
use crate::report::{Report, Row};
use crate::settings::{Arguments, Settings};

const GROUP: &str = "reopen";
const TARGET_SECONDS: f64 = 2.0;
/// Journal behind the store when the process is killed.
const TAIL_BYTES: u64 = 64 << 20;
const QUICK_TAIL_BYTES: u64 = 1 << 20;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    for kv in settings.engines() {
        // Loads it if need be, and closes it again for the child.
        loaded_tree(settings, kv, TreeOptions::default())?.close()?;
        let mut seconds = Vec::new();
        let mut behind = 0;
        for _ in 0..settings.rounds {
            behind = kill_writer(settings, kv)?;
            let begin = Instant::now();
            let tree = loaded_tree(settings, kv, TreeOptions::default())?;
            seconds.push(begin.elapsed().as_secs_f64());
            tree.close()?;
        }
        let mib = tail(settings) >> 20;
        let title = format!("{}, {} leaves, {mib} MiB tail", kv.name(), settings.keys);
        let row = Row::bound(GROUP, title, "s", &seconds, Some(TARGET_SECONDS));
        report.push(row.note(format!("{behind} commits were not in the store")));
    }
    Ok(())
}

fn tail(settings: &Settings) -> u64 {
    if settings.quick { QUICK_TAIL_BYTES } else { TAIL_BYTES }
}

/// Starts this program as a writer, and kills it once its tail is long enough; how many commits
/// the store did not have.
fn kill_writer(settings: &Settings, kv: Kv) -> Result<u64> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--write-tail", kv.name(), "--keys", &settings.keys.to_string(), "--dir"])
        .arg(&settings.dir)
        .args(if settings.quick { &["--quick"][..] } else { &[] })
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("the writer has no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    child.kill()?;
    child.wait()?;
    line.trim().parse().map_err(|_| "the writer ended by itself".into())
}

/// The child: writes a tail that stays out of the store, says so, and waits to be killed.
pub(crate) fn write_tail(arguments: &Arguments, kv: Kv) -> Result<()> {
    let (settings, _kept) = Settings::new(arguments)?;
    let options = TreeOptions {
        overlay_bytes_max: 1 << 30,
        apply_after: Duration::from_secs(3_600),
        ..TreeOptions::default()
    };
    let directory = settings.dir.join(format!("tree-{}-{}", kv.name(), settings.keys));
    let tree = open_tree(&settings, kv, &directory, options)?;
    write_until(&tree, &settings)?;
    let stats = tree.stats()?;
    println!("{}", stats.rev - stats.applied_rev);
    loop {
        std::thread::park();
    }
}

fn write_until(tree: &Tree, settings: &Settings) -> Result<()> {
    // Seeded by the rev, so that no two rounds write the same.
    let mut random = Random::new(tree.stats()?.rev);
    let before = tree.stats()?.journal_bytes;
    while tree.stats()?.journal_bytes.saturating_sub(before) < tail(settings) {
        let paths: Vec<String> =
            (0..100).map(|_| keys::path_text(random.below(settings.keys))).collect();
        let distinct: std::collections::BTreeSet<String> = paths.into_iter().collect();
        update(tree, distinct.into_iter(), &mut random)?;
    }
    Ok(())
}
