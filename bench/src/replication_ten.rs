//! What ten followers cost the writers of their primary, seen two ways.
//!
//! Ten whole replicas on the same machine do the primary's work ten times more, on the same cores
//! and the same disk. Ten peers that take everything and keep nothing leave what the primary
//! itself spends on them, and what it takes to unpack what it sends.

use std::time::Duration;

use trellis_tree::{Commit, Input, Path, Tree};

use crate::keys::Random;
use crate::measure::{Client, Load, median};
use crate::process::{processor_seconds, thread_seconds};
use crate::replication_peers::{Peers, THREAD};
use crate::replication_setting::{GROUP, Member, Setting};
use crate::report::{Report, Row};
use crate::{Failure, Result};

const FOLLOWERS: usize = 10;

/// Rates of the rounds, and what a commit took of the processors: in all but the peers, and there.
#[derive(Default)]
struct Side {
    rates: Vec<f64>,
    micros: Vec<f64>,
    micros_of_peers: Vec<f64>,
}

impl Side {
    fn round(&mut self, setting: &Setting<'_>, tree: &Tree) -> Result<()> {
        let measured = Duration::from_secs_f64(setting.settings.seconds(5.0));
        let load = Load { threads: 8, warm_up: Duration::ZERO, measured };
        let seconds =
            || Ok::<_, Failure>((processor_seconds(std::process::id())?, thread_seconds(THREAD)?));
        let (before, before_peers) = seconds()?;
        let achieved = load.run(3, &|_| {
            Ok(Box::new(|random: &mut Random| {
                let path = Path::parse(&format!("written/{:05}", random.below(20_000)))?;
                let value = format!("\"{:016x}\"", random.next());
                tree.commit(Commit::set(path, Input::parse(value.as_bytes())?))?;
                Ok(())
            }) as Client<'_>)
        })?;
        let commits = achieved.per_second * measured.as_secs_f64();
        self.rates.push(achieved.per_second);
        let (all, peers) = seconds()?;
        let (all, peers) = (all - before, peers - before_peers);
        self.micros.push((all - peers) * 1e6 / commits);
        self.micros_of_peers.push(peers * 1e6 / commits);
        Ok(())
    }
}

pub(crate) fn run(setting: &Setting<'_>, report: &mut Report) -> Result<()> {
    let (mut alone, mut peers, mut whole) = (Side::default(), Side::default(), Side::default());
    let hub = setting.new_member("hub", None)?;
    // Not counted: until then files and tables grow.
    Side::default().round(setting, &hub.tree)?;
    for _ in 0..setting.settings.rounds {
        alone.round(setting, &hub.tree)?;
        let following = Peers::start(&setting.hub, FOLLOWERS)?;
        following.await_level(&hub.tree)?;
        peers.round(setting, &hub.tree)?;
        following.await_level(&hub.tree)?;
        drop(following);
        let replicas = setting.replicas(FOLLOWERS, &hub.tree)?;
        whole.round(setting, &hub.tree)?;
        replicas.iter().try_for_each(|replica| replica.await_level(&hub.tree))?;
        replicas.into_iter().try_for_each(Member::close)?;
    }
    hub.close()?;
    let without = median(&alone.micros);
    let note = |side: &Side| {
        let (with, peers) = (median(&side.micros), median(&side.micros_of_peers));
        let beside =
            if peers > 0.0 { format!(", and the peers' {peers:.0}") } else { String::new() };
        format!("{with:.0} us of the processors a commit, {without:.0} without{beside}")
    };
    let name = format!("8 writers, {FOLLOWERS} peers that keep nothing vs none");
    let row = Row::ratio(GROUP, name, "commits/s", (&peers.rates, &alone.rates), Some(0.7));
    report.push(row.note(note(&peers)));
    let name = format!("8 writers, {FOLLOWERS} whole replicas on the same machine vs none");
    let row = Row::ratio(GROUP, name, "commits/s", (&whole.rates, &alone.rates), Some(0.7));
    report.push(row.note(note(&whole)));
    Ok(())
}
