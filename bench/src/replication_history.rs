//! 1,000,000 writes to 400 paths: what they leave behind, what a new replica costs, and how soon
//! both ends are there again.

use std::time::Instant;

use trellis_tree::{Commit, Input, Path, PendingCommit, Tree};

use crate::Result;
use crate::replication_setting::{GROUP, Member, Setting};
use crate::report::{Report, Row};

const PATHS: usize = 400;
/// Writes on their way at once.
const IN_FLIGHT: usize = 2_000;

pub(crate) fn run(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let writes = if setting.settings.quick { 20_000 } else { 1_000_000 };
    let hub = setting.new_member("hub", None)?;
    let begin = Instant::now();
    write(&hub.tree, writes)?;
    let rate = writes as f64 / begin.elapsed().as_secs_f64();
    let stats = hub.tree.replication_stats()?;
    let entries = stats.by_rev_entries as f64;
    let title = format!("{writes} writes to {PATHS} paths");
    let note = format!("written at {rate:.0}/s; journal of {} MiB", stats.journal_bytes >> 20);
    let row = Row::bound(GROUP, format!("{title}, entries by rev"), "", &[entries], Some(400.0));
    report.push(row.note(note));
    new_replicas(setting, &hub, &title, report)?;
    hub.close()?;
    again(setting, &title, report)
}

fn write(tree: &Tree, count: usize) -> Result<()> {
    let mut pending: Vec<PendingCommit> = Vec::with_capacity(IN_FLIGHT);
    for number in 0..count {
        let path = Path::parse(&format!("hot/p{}", number % PATHS))?;
        pending.push(tree.submit(Commit::set(path, Input::parse(number.to_string().as_bytes())?)));
        if pending.len() == IN_FLIGHT {
            pending.drain(..).try_for_each(|one| one.wait().map(drop))?;
        }
    }
    pending.into_iter().try_for_each(|one| one.wait().map(drop))?;
    Ok(())
}

fn new_replicas(
    setting: &Setting<'_>,
    hub: &Member,
    title: &str,
    report: &mut Report,
) -> Result<()> {
    let (mut seconds, mut kib) = (Vec::new(), Vec::new());
    for _ in 0..setting.settings.rounds {
        setting.clear("replica")?;
        let begin = Instant::now();
        let replica = setting.member("replica", Some("hub"))?;
        replica.await_level(&hub.tree)?;
        seconds.push(begin.elapsed().as_secs_f64());
        let sent = |link: &trellis_topology::LinkStatus| {
            link.session.push.as_ref().map_or(0, |push| push.bytes)
        };
        kib.push(hub.node.links().iter().map(sent).sum::<u64>() as f64 / 1024.0);
        replica.close()?;
    }
    let name = format!("{title}, until a new replica is complete");
    report.push(Row::bound(GROUP, name, "s", &seconds, Some(1.0)));
    let name = format!("{title}, sent to it");
    report.push(Row::bound(GROUP, name, "KiB", &kib, Some(2048.0)));
    Ok(())
}

/// Both ends are opened again: the hub with its history, the replica that has everything.
fn again(setting: &Setting<'_>, title: &str, report: &mut Report) -> Result<()> {
    let (mut opened, mut level) = (Vec::new(), Vec::new());
    for _ in 0..setting.settings.rounds {
        let begin = Instant::now();
        let hub = setting.member("hub", None)?;
        opened.push(begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        let replica = setting.member("replica", Some("hub"))?;
        replica.await_level(&hub.tree)?;
        level.push(begin.elapsed().as_secs_f64());
        replica.close()?;
        hub.close()?;
    }
    let name = format!("{title}, until the hub is open again");
    report.push(Row::bound(GROUP, name, "s", &opened, Some(1.0)));
    let name = format!("{title}, until its replica is open and level again");
    report.push(Row::bound(GROUP, name, "s", &level, Some(1.0)));
    Ok(())
}
