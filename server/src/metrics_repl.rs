//! The figures of replication in `/metrics`, made anew for every scrape from the node's status.
//! What is counted is counted since the node started, over all sessions, also those that have
//! ended.
//!
//! Invariant: labels are bounded. Links that this node makes are named as configured; those that
//! peers made are summed under `accepted`, because their addresses never repeat; slots are as many
//! as there may be (256).

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use trellis_topology::{
    FeedState, ForwardStatus, LinkState, LinkStatus, NodeStatus, PullStatus, PushStatus, SlotEnd,
};

use crate::replication::{lag_records, lag_seconds};

type Figure<T> = fn(&T) -> u64;
type Row<T> = (&'static str, &'static str, Figure<T>);

const NODE: [Row<NodeStatus>; 8] = [
    ("repl_head", "Number of the newest commit", |status| status.head),
    ("repl_journal_first_rev", "The oldest commit in the journal", |status| {
        status.stats.journal_first_rev
    }),
    ("repl_by_rev_entries", "Entries of the order of revs", |status| status.stats.by_rev_entries),
    ("repl_tombstones", "Stamps of leaves that are gone", |status| status.stats.tombstones),
    ("repl_clears", "Stamps of subtrees that were emptied", |status| status.stats.clears),
    ("repl_gc_floor", "Commit up to which tombstones may have been collected", |status| {
        status.stats.gc_floor
    }),
    ("repl_fills", "Followers that are sent a snapshot or a delta", |s| s.fills.0 as u64),
    ("repl_fills_queued", "Followers that wait for that", |s| s.fills.1 as u64),
];

const PULL: [Row<PullStatus>; 5] = [
    ("repl_feed_position", "Commit of the source up to which all is applied", |f| f.position),
    ("repl_feed_head", "The source's newest commit", |f| f.head),
    ("repl_feed_lag_records", "Commits that a feed is behind", lag_records),
    ("repl_feed_complete", "1 once a feed's last snapshot has arrived", |f| u64::from(f.complete)),
    ("repl_differing", "Leaves that differed in the last comparison", |f| f.differing),
];

const PULLED: [Row<PullStatus>; 15] = [
    ("repl_snapshot_pages", "Pages applied", |f| f.pages),
    ("repl_snapshot_bytes", "Bytes of pages applied", |f| f.page_bytes),
    ("repl_page_timeouts", "Pages asked for again", |f| f.page_timeouts),
    ("repl_commits", "Commits of other nodes applied", |f| f.commits),
    ("repl_ops_applied", "Changes of other nodes that changed something", |f| f.applied),
    ("repl_ops_known", "Changes of other nodes that were here already", |f| f.known),
    ("repl_ops_lost", "Changes of other nodes that lost against a newer one here", |f| f.lost),
    ("repl_ops_won", "Changes of other nodes that won against one here", |f| f.won),
    ("repl_ops_clipped", "Changes ignored because they are outside of what is followed", |f| {
        f.clipped
    }),
    ("repl_echoes", "Commits of this node that came back", |f| f.echoes),
    ("repl_hlc_rejected", "Commits whose clock is too far ahead", |f| f.hlc_rejected),
    ("repl_set_aside", "Leaves set aside before they were replaced", |f| f.set_aside),
    ("repl_verified", "Comparisons with the source that found no difference", |f| f.verified),
    ("repl_divergence", "Leaves that differed from the source", |f| f.diverged),
    ("repl_repaired", "Leaves repaired", |f| f.repaired),
];

const PUSHED: [Row<PushStatus>; 4] = [
    ("repl_sent_commits", "Commits sent", |f| f.commits),
    ("repl_sent_pages", "Pages sent", |f| f.pages),
    ("repl_sent_bytes", "Bytes sent", |f| f.bytes),
    ("repl_sent_echoes", "Commits not sent because their follower has them", |f| f.echoes),
];

const FORWARDED: [(&str, Figure<ForwardStatus>); 6] = [
    ("committed", |f| f.committed),
    ("refused", |f| f.refused),
    ("unavailable", |f| f.unavailable),
    ("unknown", |f| f.unknown),
    ("routed", |f| f.routed),
    ("dropped", |f| f.dropped),
];

const STATES: [FeedState; 8] = [
    FeedState::Connecting,
    FeedState::Queued,
    FeedState::Snapshot,
    FeedState::Delta,
    FeedState::Tail,
    FeedState::Stalled,
    FeedState::Paused,
    FeedState::ClockQuarantine,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLink {
    link: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLinkState {
    link: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLinkResult {
    link: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSlot {
    slot: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    reason: &'static str,
}

/// Appends the figures of a node, without the end mark.
pub(crate) fn append(status: &NodeStatus, out: &mut String) -> fmt::Result {
    let mut registry = Registry::with_prefix("trellis");
    for (name, help, figure) in NODE {
        let gauge: Gauge = Gauge::default();
        gauge.set(signed(figure(status)));
        registry.register(name, help, gauge);
    }
    let journal_bytes: Counter = Counter::default();
    journal_bytes.inc_by(status.stats.journal_bytes);
    registry.register("repl_journal_bytes", "Bytes appended to the journal", journal_bytes);
    // Sums by the label: one entry for each link made here, one for all that peers made.
    let mut links: BTreeMap<&str, Vec<&LinkStatus>> = BTreeMap::new();
    for link in &status.links {
        links.entry(label(link)).or_default().push(link);
    }
    add_links(&mut registry, &links);
    add_feeds(&mut registry, &links, status);
    add_counts(&mut registry, status);
    add_slots(&mut registry, status);
    text::encode_registry(out, &registry)
}

const ACCEPTED: &str = "accepted";

fn label(link: &LinkStatus) -> &str {
    if link.dialed { link.id.as_str() } else { ACCEPTED }
}

fn add_links(registry: &mut Registry, links: &BTreeMap<&str, Vec<&LinkStatus>>) {
    let up = Family::<OfLink, Gauge>::default();
    let waiting = Family::<OfLink, Gauge>::default();
    for (label, links) in links {
        let of = || OfLink { link: (*label).to_owned() };
        let sum = |figure: fn(&LinkStatus) -> u64| signed(links.iter().map(|l| figure(l)).sum());
        let is_up = |link: &LinkStatus| u64::from(link.session.link == LinkState::Up);
        up.get_or_create(&of()).set(sum(is_up));
        waiting.get_or_create(&of()).set(sum(|link| link.session.forwards.waiting as u64));
    }
    registry.register("repl_links_up", "Links that are up", up);
    registry.register("repl_forwards_waiting", "Forwarded writes without an answer", waiting);
}

fn add_feeds(
    registry: &mut Registry,
    links: &BTreeMap<&str, Vec<&LinkStatus>>,
    status: &NodeStatus,
) {
    let states = Family::<OfLinkState, Gauge>::default();
    let seconds = Family::<OfLink, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
    let families =
        PULL.map(|(name, help, figure)| (name, help, figure, Family::<OfLink, Gauge>::default()));
    for (label, links) in links {
        let of = OfLink { link: (*label).to_owned() };
        let of_link = |link: &&'_ LinkStatus| link.session.pull.clone();
        let pulls: Vec<_> = links.iter().filter_map(of_link).collect();
        for state in STATES.into_iter().filter(|_| !pulls.is_empty()) {
            let of = OfLinkState { link: (*label).to_owned(), state: state.name() };
            let count = pulls.iter().filter(|pull| pull.state == state).count();
            states.get_or_create(&of).set(signed(count as u64));
        }
        let lag = |link: &&LinkStatus| {
            let pull = link.session.pull.as_ref()?;
            lag_seconds(link, pull, status.now)
        };
        if let Some(worst) = links.iter().filter_map(lag).max_by(f64::total_cmp) {
            seconds.get_or_create(&of).set(worst);
        }
        for (_, _, figure, family) in families.iter().filter(|_| !pulls.is_empty()) {
            family.get_or_create(&of).set(signed(pulls.iter().map(figure).sum()));
        }
    }
    registry.register("repl_feeds", "Feeds followed, by state", states);
    registry.register("repl_feed_lag_seconds", "Seconds since a feed was level", seconds);
    for (name, help, _, family) in families {
        registry.register(name, help, family);
    }
}

/// What never goes back while the node runs.
fn add_counts(registry: &mut Registry, status: &NodeStatus) {
    let attempts = Family::<OfLink, Counter>::default();
    let forwarded = Family::<OfLinkResult, Counter>::default();
    let pulled =
        PULLED.map(|(name, help, figure)| (name, help, figure, Family::<OfLink, _>::default()));
    let pushed =
        PUSHED.map(|(name, help, figure)| (name, help, figure, Family::<OfLink, _>::default()));
    let live = status.links.iter().map(|link| (label(link), link.attempts, &link.session));
    let (ended, session) = &status.ended;
    let ended = (*ended > 0).then_some((ACCEPTED, *ended, session));
    for (label, made, session) in live.chain(ended) {
        let of = OfLink { link: label.to_owned() };
        attempts.get_or_create(&of).inc_by(made);
        for (result, figure) in FORWARDED {
            let of = OfLinkResult { link: label.to_owned(), result };
            forwarded.get_or_create(&of).inc_by(figure(&session.forwards));
        }
        if let Some(pull) = &session.pull {
            for (_, _, figure, family) in &pulled {
                let family: &Family<OfLink, Counter> = family;
                family.get_or_create(&of).inc_by(figure(pull));
            }
        }
        if let Some(push) = &session.push {
            for (_, _, figure, family) in &pushed {
                let family: &Family<OfLink, Counter> = family;
                family.get_or_create(&of).inc_by(figure(push));
            }
        }
    }
    registry.register("repl_link_attempts", "Attempts to link up", attempts);
    registry.register("repl_forwarded", "Forwarded writes by result", forwarded);
    for (name, help, _, family) in pulled {
        registry.register(name, help, family);
    }
    for (name, help, _, family) in pushed {
        registry.register(name, help, family);
    }
}

fn add_slots(registry: &mut Registry, status: &NodeStatus) {
    let families: [Family<OfSlot, Gauge>; 5] = Default::default();
    for slot in &status.slots {
        let figures = [
            slot.lag_revs,
            slot.lag_bytes,
            slot.idle.as_secs(),
            u64::from(slot.active),
            u64::from(slot.invalid.is_none()),
        ];
        for (family, figure) in families.iter().zip(figures) {
            let of = OfSlot { slot: slot.consumer.clone() };
            family.get_or_create(&of).set(signed(figure));
        }
    }
    let names = [
        ("repl_slot_lag_records", "Commits that a follower lacks"),
        ("repl_slot_lag_bytes", "Journal kept for a follower"),
        ("repl_slot_idle_seconds", "Seconds since a follower was connected"),
        ("repl_slot_active", "1 while a follower is connected"),
        ("repl_slot_valid", "1 while journal is kept for a follower"),
    ];
    for ((name, help), family) in names.into_iter().zip(families) {
        registry.register(name, help, family);
    }
    let lag = Family::<OfSlot, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
    for slot in &status.slots {
        let of = OfSlot { slot: slot.consumer.clone() };
        if let Some(seconds) = slot.lag {
            lag.get_or_create(&of).set(seconds.as_secs_f64());
        }
    }
    let help = "Age of the oldest commit that a follower lacks";
    registry.register("repl_slot_lag_seconds", help, lag);
    let ended = Family::<OfReason, Counter>::default();
    for end in SlotEnd::ALL {
        let count = status.slots_ended.get(&end).copied().unwrap_or(0);
        ended.get_or_create(&OfReason { reason: end.code() }).inc_by(count);
    }
    registry.register("repl_slots_invalidated", "Slots given up, by reason", ended);
}

fn signed(figure: u64) -> i64 {
    i64::try_from(figure).unwrap_or(i64::MAX)
}
