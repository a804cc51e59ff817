//! When a child is killed: aimed at what it says is under way, at a random moment of it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::Rng;

/// Children killed one after the other before the parent looks.
pub(super) const KILLS_MOST: usize = 3;
/// A child that has not opened the tree after this time is killed while it opens.
const OPENING_MOST: Duration = Duration::from_secs(20);

/// What is to be under way when the child is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// The recovery.
    Opening,
    /// The `n`th time that the child says this.
    During(&'static str, usize),
    /// The same for something long: within so many microseconds of it.
    Within(&'static str, usize, usize),
    /// Whatever there is.
    Anything,
}

impl Aim {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let nth = 1 + rng.below(6);
        match rng.below(20) {
            0..=5 => Self::Opening,
            6..=8 => Self::During("apply", nth),
            9..=12 => Self::During("trim", nth),
            13 | 14 => Self::During("maintain", nth),
            _ => Self::Anything,
        }
    }

    fn reached(self, seen: &Seen) -> bool {
        match self {
            Self::Opening => true,
            Self::Anything => seen.opened,
            Self::During(what, nth) | Self::Within(what, nth, _) => {
                seen.opened && seen.begun.get(what) >= Some(&nth)
            }
        }
    }

    /// A child that does not come to what is aimed at is killed after this time.
    fn patience(self) -> Duration {
        Duration::from_millis(if matches!(self, Self::Within(..)) { 10_000 } else { 300 })
    }

    /// How long after that the child may go on.
    fn moment(self, rng: &mut Rng) -> Duration {
        // What is aimed at is short: half of the time the child goes no further at all.
        let at_once = rng.one_in(2);
        Duration::from_micros(rng.below(match self {
            Self::Opening => 12_000,
            Self::During(..) if at_once => 0,
            Self::During(..) => 300,
            Self::Within(_, _, most) => most,
            Self::Anything => 60_000,
        }) as u64)
    }
}

/// What a child has said.
#[derive(Debug, Default)]
struct Seen {
    opening: bool,
    opened: bool,
    /// How often something began since the tree was opened.
    begun: BTreeMap<String, usize>,
    /// What began and has not ended.
    under_way: BTreeMap<String, usize>,
}

impl Seen {
    fn take(&mut self, line: &str) {
        match line.split_at_checked(1) {
            Some(("+", what)) => {
                *self.under_way.entry(what.to_owned()).or_default() += 1;
                if self.opened {
                    *self.begun.entry(what.to_owned()).or_default() += 1;
                }
            }
            Some(("-", what)) => {
                if let Some(count) = self.under_way.get_mut(what) {
                    *count -= 1;
                }
            }
            _ if line == "opening" => self.opening = true,
            _ if line == "opened" => self.opened = true,
            _ => panic!("a child says {line:?}"),
        }
    }

    /// What the kill hit: each thing that was under way.
    fn hit(self) -> Vec<String> {
        let mut hit = vec![match (self.opening, self.opened) {
            (false, _) => "starting".to_owned(),
            (true, false) => "opening".to_owned(),
            (true, true) => "writing".to_owned(),
        }];
        let under_way = self.under_way.into_iter().filter(|(_, count)| *count > 0);
        hit.extend(under_way.map(|(what, _)| what));
        hit
    }
}

/// Starts a child, kills it when it has come to what is aimed at; answers what that hit.
///
/// # Errors
/// When the child ended by itself.
pub(super) fn run_and_kill(
    mut command: Command,
    aim: Aim,
    rng: &mut Rng,
) -> Result<Vec<String>, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().expect("the child starts");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let (sender, lines) = channel();
    let reader = std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mut seen = Seen::default();
    let alive = wait_until(&lines, &mut seen, OPENING_MOST, |seen| {
        seen.opened || (aim == Aim::Opening && seen.opening)
    }) && wait_until(&lines, &mut seen, aim.patience(), |seen| aim.reached(seen))
        && wait_until(&lines, &mut seen, aim.moment(rng), |_| false);
    child.kill().expect("the child can be killed");
    let status = child.wait().expect("the child has ended");
    for line in lines {
        seen.take(&line);
    }
    reader.join().expect("the reader ends with the child");
    if !alive {
        return Err(format!("the child ended by itself: {status}"));
    }
    Ok(seen.hit())
}

/// Takes what the child says until `enough`, or for some time; `false` when the child has ended.
fn wait_until(
    lines: &Receiver<String>,
    seen: &mut Seen,
    most: Duration,
    enough: impl Fn(&Seen) -> bool,
) -> bool {
    let deadline = Instant::now() + most;
    while !enough(seen) {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => seen.take(&line),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
    true
}
