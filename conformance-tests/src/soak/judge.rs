//! Compares what subscribers got with the journal: each change of what they watch once, in the
//! order of revs, with what it changed; each snapshot with the state at its rev.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use trellis_tree::{Change, ChangeCause};

use super::record::{Item, Recorded, Text, Why};
use super::reference::{Difference, Leaves, patched};
use super::topics::{About, Mode, Topic};

/// What was found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) commits: usize,
    /// Frames that were compared and are right.
    pub(super) frames: usize,
    /// Snapshots that were compared and are right.
    pub(super) snapshots: usize,
    pub(super) resumed: usize,
    /// Snapshots in place of what was missed during a disconnection.
    pub(super) not_resumed: usize,
    /// Snapshots in place of events, because the subscriber was slow.
    pub(super) slow: usize,
    /// Changes that such a snapshot stood for.
    pub(super) skipped: usize,
    pub(super) missing: usize,
    pub(super) duplicated: usize,
    pub(super) disordered: usize,
    /// Frames of commits that changed nothing there.
    pub(super) invented: usize,
    /// Frames and snapshots that say something else than the journal.
    pub(super) wrong: usize,
    /// The first of these.
    pub(super) first: Option<String>,
}

impl Verdict {
    pub(super) fn is_clean(&self) -> bool {
        self.first.is_none()
    }

    fn offence(&mut self, count: fn(&mut Self) -> &mut usize, tell: impl FnOnce() -> String) {
        *count(self) += 1;
        if self.first.is_none() {
            self.first = Some(tell());
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} commits, {} frames and {} snapshots right, {} resumed, {} not resumed and {} slow \
             (for {} changes); {} missing, {} duplicated, {} out of order, {} of nothing, {} wrong",
            self.commits,
            self.frames,
            self.snapshots,
            self.resumed,
            self.not_resumed,
            self.slow,
            self.skipped,
            self.missing,
            self.duplicated,
            self.disordered,
            self.invented,
            self.wrong
        )?;
        self.first.as_ref().map_or(Ok(()), |first| write!(f, "; first: {first}"))
    }
}

/// Texts that were compared already.
type Compared = HashSet<*const Text>;

/// One subscription on its way through the journal.
struct Reader<'a> {
    of: &'a Recorded,
    /// The next item.
    at: usize,
    /// Whether the first snapshot lies behind.
    begun: bool,
}

/// Judges what was recorded, up to and with the commit `until`.
pub(super) fn judge<'a>(
    changes: impl Iterator<Item = &'a Change>,
    topics: &[Topic],
    recorded: &[Recorded],
    until: u64,
) -> Verdict {
    let mut verdict = Verdict::default();
    for one in recorded {
        order(one, &mut verdict);
    }
    // Topics that nobody watches are not looked at.
    let watched: HashSet<usize> = recorded.iter().map(|one| one.topic).collect();
    let numbers: Vec<usize> = (0..topics.len()).filter(|number| watched.contains(number)).collect();
    let topics: Vec<Topic> = numbers.iter().map(|number| topics[*number].clone()).collect();
    let mut readers: Vec<Vec<Reader<'_>>> = topics.iter().map(|_| Vec::new()).collect();
    for one in recorded {
        let topic = numbers.binary_search(&one.topic).expect("it is watched");
        readers[topic].push(Reader { of: one, at: 0, begun: false });
    }
    let mut snapshots = snapshots(&readers);
    let mut leaves = Leaves::default();
    compare_snapshots(snapshots.remove(&0), &leaves, &topics, &mut verdict);
    for change in changes.take_while(|change| change.rev() <= until) {
        verdict.commits += 1;
        for (topic, differences) in leaves.step(change, &topics) {
            let mut compared = HashMap::new();
            for reader in &mut readers[topic] {
                reader.expect(change, &topics[topic], &differences, &mut compared, &mut verdict);
            }
        }
        let here = snapshots.remove(&change.rev());
        compare_snapshots(here, &leaves, &topics, &mut verdict);
    }
    for reader in readers.iter_mut().flatten() {
        reader.finish(until, &mut verdict);
    }
    verdict
}

/// Revs never go back, and no commit is told twice.
fn order(one: &Recorded, verdict: &mut Verdict) {
    let mut last = 0;
    let mut told = false;
    for item in &one.items {
        let rev = item.rev();
        let is_told = matches!(item, Item::Told { .. });
        let tell = || format!("{}: rev {rev} after rev {last}", one.name);
        if rev < last {
            verdict.offence(|it| &mut it.disordered, tell);
        } else if rev == last && is_told {
            // A snapshot at a rev holds that commit.
            verdict.offence(|it| &mut it.duplicated, tell);
        }
        match item {
            Item::Resumed { .. } if rev != last || !told => {
                let tell = || format!("{}: resumed at rev {rev}, told {last}", one.name);
                verdict.offence(|it| &mut it.wrong, tell);
            }
            Item::Resumed { .. } => verdict.resumed += 1,
            Item::Snapshot { why: Why::NotResumed, .. } => verdict.not_resumed += 1,
            Item::Snapshot { why: Why::Slow, .. } => verdict.slow += 1,
            Item::Snapshot { why: Why::Asked, .. } | Item::Told { .. } => {}
        }
        told = true;
        last = last.max(rev);
    }
}

type Snapshots<'a> = BTreeMap<u64, Vec<(usize, &'a Arc<Text>, &'a str)>>;

fn snapshots<'a>(readers: &[Vec<Reader<'a>>]) -> Snapshots<'a> {
    let mut found = Snapshots::new();
    for (topic, readers) in readers.iter().enumerate() {
        for reader in readers {
            for item in &reader.of.items {
                if let Item::Snapshot { rev, data, .. } = item {
                    found.entry(*rev).or_default().push((topic, data, &reader.of.name));
                }
            }
        }
    }
    found
}

fn compare_snapshots(
    here: Option<Vec<(usize, &Arc<Text>, &str)>>,
    leaves: &Leaves,
    topics: &[Topic],
    verdict: &mut Verdict,
) {
    let mut compared = Compared::new();
    let mut wanted: HashMap<usize, Value> = HashMap::new();
    for (topic, data, name) in here.into_iter().flatten() {
        if compared.insert(Arc::as_ptr(data)) {
            let wanted = wanted.entry(topic).or_insert_with(|| leaves.snapshot(&topics[topic]));
            let got: Value = serde_json::from_str(&data.json).expect("it was JSON on the wire");
            if got != *wanted {
                let topic = &topics[topic];
                verdict.offence(
                    |it| &mut it.wrong,
                    || format!("{name}, {topic:?}: the snapshot is {got}, there was {wanted}"),
                );
                continue;
            }
        }
        verdict.snapshots += 1;
    }
}

impl Reader<'_> {
    /// This commit changed what is watched.
    fn expect(
        &mut self,
        change: &Change,
        topic: &Topic,
        differences: &[Difference],
        compared: &mut HashMap<*const Text, bool>,
        verdict: &mut Verdict,
    ) {
        let rev = change.rev();
        while let Some(item) = self.of.items.get(self.at) {
            match item {
                Item::Snapshot { rev: at, .. } if *at >= rev => {
                    verdict.skipped += usize::from(self.begun);
                    return;
                }
                Item::Snapshot { .. } | Item::Resumed { .. } => self.begun = true,
                Item::Told { rev: at, .. } if *at < rev => self.told_of_nothing(*at, verdict),
                Item::Told { rev: at, frame } if *at == rev => {
                    self.at += 1;
                    let right = compared.entry(Arc::as_ptr(frame)).or_insert_with(|| {
                        let found = compare(frame, change, topic, differences);
                        if let Err(found) = &found
                            && verdict.first.is_none()
                        {
                            verdict.first =
                                Some(format!("{}, rev {rev}, {topic:?}: {found}", self.of.name));
                        }
                        found.is_ok()
                    });
                    *(if *right { &mut verdict.frames } else { &mut verdict.wrong }) += 1;
                    return;
                }
                Item::Told { .. } => break,
            }
            self.at += 1;
        }
        let next = self.of.items.get(self.at).map(Item::rev);
        let name = &self.of.name;
        verdict.offence(
            |it| &mut it.missing,
            || {
                format!(
                    "{name}, {topic:?}: rev {rev} is missing, next is {next:?}: {differences:?}"
                )
            },
        );
    }

    fn told_of_nothing(&self, rev: u64, verdict: &mut Verdict) {
        let is_again = |item: &Item| item.rev() >= rev;
        if self.of.items[..self.at].iter().any(is_again) {
            // It was counted as one too many or out of order.
            return;
        }
        let name = &self.of.name;
        verdict.offence(
            |it| &mut it.invented,
            || format!("{name}: rev {rev} changed nothing there, and was told"),
        );
    }

    fn finish(&mut self, until: u64, verdict: &mut Verdict) {
        while let Some(item) = self.of.items.get(self.at) {
            if let Item::Told { rev, .. } = item
                && *rev <= until
            {
                self.told_of_nothing(*rev, verdict);
            }
            self.at += 1;
        }
    }
}

/// Whether a frame says what a commit changed.
fn compare(
    frame: &Text,
    change: &Change,
    topic: &Topic,
    differences: &[Difference],
) -> Result<(), String> {
    let cause = match change.cause() {
        ChangeCause::Request => None,
        ChangeCause::Ttl => Some("ttl"),
        ChangeCause::Upkeep => Some("upkeep"),
    };
    if frame.cause.as_deref() != cause {
        return Err(format!("the cause is {:?}, it was {cause:?}", frame.cause));
    }
    let events: Vec<Map<String, Value>> =
        serde_json::from_str(&frame.json).map_err(|error| format!("{error}: {}", frame.json))?;
    if events.len() != differences.len() {
        return Err(format!("events are {}, changed is {differences:?}", frame.json));
    }
    let rank = |event: &Map<String, Value>| {
        let order = ["removed", "added", "moved", "changed", "value"];
        order.iter().position(|kind| Some(*kind) == event.get("type").and_then(Value::as_str))
    };
    if !events.is_sorted_by_key(rank) {
        return Err(format!("events are not in their order: {}", frame.json));
    }
    for difference in differences {
        let is_there = |event: &Map<String, Value>| {
            let own = |name: &str| event.get(name).and_then(Value::as_str);
            own("key") == difference.child.as_deref()
                && (!topic.is_wild() || own("path") == Some(&difference.path))
        };
        let event = events.iter().find(|event| is_there(event));
        let Some(event) = event else {
            return Err(format!("nothing about {difference:?} in {}", frame.json));
        };
        compare_event(event, topic, difference)?;
    }
    Ok(())
}

fn compare_event(
    event: &Map<String, Value>,
    topic: &Topic,
    difference: &Difference,
) -> Result<(), String> {
    let Difference { path, child, before, after } = difference;
    let kind = match (topic.about, before.is_null(), after.is_null()) {
        (About::Value, ..) => "value",
        (About::Child, true, _) => "added",
        (About::Child, _, true) => "removed",
        (About::Child, false, false) => "changed",
    };
    let mut wanted = Map::from_iter([("type".to_owned(), json!(kind))]);
    if topic.is_wild() {
        let pairs = topic.segments().zip(path.split('/'));
        let captures: Vec<&str> =
            pairs.filter(|(own, _)| *own == "*").map(|(_, name)| name).collect();
        wanted.insert("path".to_owned(), json!(path));
        wanted.insert("captures".to_owned(), json!(captures));
    }
    if let Some(child) = child {
        wanted.insert("key".to_owned(), json!(child));
    }
    match (topic.mode, kind) {
        (Mode::Notify, _) | (_, "removed") => {}
        (Mode::Patch, "value" | "changed") => {
            let patch = event.get("patch").and_then(Value::as_object);
            let patch = patch.ok_or_else(|| format!("no patch in {event:?}"))?;
            let got = patched(before, patch);
            if got != *after {
                return Err(format!("{patch:?} on {before} gives {got}, there was {after}"));
            }
            wanted.insert("patch".to_owned(), Value::Object(patch.clone()));
        }
        _ => {
            wanted.insert("value".to_owned(), after.clone());
        }
    }
    if *event == wanted {
        Ok(())
    } else {
        Err(format!("the event is {event:?}, it should be {wanted:?}"))
    }
}
