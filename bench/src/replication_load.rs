//! Writes at a steady rate, and how late they arrive at the replicas; and a replica that was away.

use std::time::{Duration, Instant};

use trellis_tree::{ChangeEffect, Commit, Followed, Input, Leaf, Path, Tree};

use crate::Result;
use crate::keys::Random;
use crate::measure::quantile;
use crate::replication_setting::{FIELDS, GROUP, PATIENCE, Setting, document};
use crate::report::{Report, Row};

const EACH_SECOND: u32 = 3_000;

/// 3,000 writes a second with three replicas, and with ten: from the write to its arrival.
pub(crate) fn arrival(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let seconds = setting.settings.seconds(20.0);
    for count in [3, 10] {
        let hub = setting.new_member("hub", None)?;
        let replicas = setting.replicas(count, &hub.tree)?;
        let trees: Vec<&Tree> = replicas.iter().map(|replica| &replica.tree).collect();
        let steady = steady_writes(&hub.tree, &trees, seconds)?;
        let name = format!("{EACH_SECOND} writes a second, {count} replicas, until there, p99");
        // Ten full replicas on two cores are no promise: what it looks like all the same.
        let most = (count == 3).then_some(250.0);
        let row = Row::bound(GROUP, name, "ms", &[quantile(&steady.late_ms, 0.99)], most);
        let p50 = quantile(&steady.late_ms, 0.5);
        let written = steady.per_second;
        report.push(row.note(format!("p50 {p50:.1} ms; {written:.0}/s written for {seconds} s")));
        replicas.into_iter().try_for_each(crate::replication_setting::Member::close)?;
        hub.close()?;
    }
    Ok(())
}

/// What a steady rate came to.
pub(crate) struct Steady {
    /// How late each write arrived at each replica.
    late_ms: Vec<f64>,
    /// Writes a second that were handed over.
    per_second: f64,
}

/// Hands over writes when they are due, whether or not earlier ones are done.
fn steady_writes(hub: &Tree, replicas: &[&Tree], seconds: f64) -> Result<Steady> {
    let count = (f64::from(EACH_SECOND) * seconds) as u32;
    let origin = Instant::now();
    std::thread::scope(|scope| {
        let watchers: Vec<_> = replicas
            .iter()
            .map(|tree| scope.spawn(|| watch(tree, origin, count as usize)))
            .collect();
        for number in 0..count {
            let due = Duration::from_secs(1) * number / EACH_SECOND;
            std::thread::sleep(due.saturating_sub(origin.elapsed()));
            let path = Path::parse(&format!("stamped/{}", number % 1_000))?;
            let value = origin.elapsed().as_micros().to_string();
            // Not waited for: the rate is what is asked for.
            drop(hub.submit(Commit::set(path, Input::parse(value.as_bytes())?)));
        }
        let per_second = f64::from(count) / origin.elapsed().as_secs_f64();
        let mut late_ms = Vec::new();
        for watcher in watchers {
            late_ms.extend(watcher.join().map_err(|_| "a watcher broke down")??);
        }
        Ok(Steady { late_ms, per_second })
    })
}

/// How late each write arrives, in milliseconds.
fn watch(tree: &Tree, origin: Instant, count: usize) -> Result<Vec<f64>> {
    let mut follower = tree.follow(64 << 20)?;
    let mut late = Vec::new();
    let begin = Instant::now();
    while late.len() < count {
        if begin.elapsed() > PATIENCE {
            return Err(format!("{} of {count} writes arrived", late.len()).into());
        }
        let Followed::Changes(changes) = follower.next(Duration::from_secs(1))? else { continue };
        let now = origin.elapsed().as_secs_f64() * 1000.0;
        for change in changes {
            for effect in change.effects() {
                let ChangeEffect::Put(key, stored) = effect else { continue };
                if !key.starts_with(b"stamped\0") {
                    continue;
                }
                let Leaf::Int(micros) = Leaf::decode(stored)? else { continue };
                late.push(now - micros as f64 / 1000.0);
            }
        }
    }
    Ok(late)
}

/// A replica that was away while much was written.
pub(crate) fn catch_up(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let documents = if setting.settings.quick { 200 } else { 20_000 };
    let mut rates = Vec::new();
    let hub = setting.new_member("hub", None)?;
    setting
        .replicas(1, &hub.tree)?
        .into_iter()
        .try_for_each(crate::replication_setting::Member::close)?;
    for _ in 0..setting.settings.rounds {
        let mut random = Random::new(7);
        for number in 0..documents {
            let path = Path::parse(&format!("missed/{number:08}"))?;
            let value = Input::parse(document(&mut random).as_bytes())?;
            drop(hub.tree.submit(Commit::set(path, value)));
        }
        hub.tree.flush()?;
        let begin = Instant::now();
        let replica = setting.member("replica-0", Some("hub"))?;
        replica.await_level(&hub.tree)?;
        rates.push((documents * FIELDS) as f64 / begin.elapsed().as_secs_f64());
        replica.close()?;
    }
    let name = format!("catching up with {documents} commits of {FIELDS} leaves");
    report.push(Row::at_least(GROUP, name, "leaves/s", &rates, 20_000.0));
    hub.close()
}
