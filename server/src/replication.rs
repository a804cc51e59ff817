//! What a node says about its replication: the JSON of `/admin/repl` and of `stats`.
//!
//! Invariants: names of fields are camelCase and stay; a lag in commits is there with every
//! position, one in seconds once the feed has been level.

use std::time::Duration;

use serde_json::{Map, Value, json};
use trellis::{Path, Result, Trellis};
use trellis_engine_traits::{Error, ErrorKind};
use trellis_topology::{
    ForwardStatus, LinkState, LinkStatus, Node, NodeStatus, NotReady, OpenMode, PullStatus,
    PushStatus, SetAside, SlotEnd, SlotStatus, ZoneStatus,
};

/// The node of a database that has replication.
pub(crate) fn node_of(db: &Trellis) -> Result<&Node> {
    db.replication().ok_or_else(|| {
        let message = "this node has no replication; its configuration has no `replication`";
        Error::new(ErrorKind::Unsupported, message)
    })
}

/// Where a node stands, as JSON.
pub(crate) fn status_json(node: &Node) -> Result<Value> {
    node.count()?;
    let status = node.status()?;
    Ok(document(&status, &node.not_ready(&Path::default())))
}

/// The part of `stats`: short, whatever the number of links.
pub(crate) fn summary(db: &Trellis) -> Result<Option<Value>> {
    let Some(node) = db.replication() else {
        return Ok(None);
    };
    let status = node.status()?;
    let up = status.links.iter().filter(|link| link.session.link == LinkState::Up).count();
    let feeds = status.links.iter().filter_map(|link| {
        let pull = link.session.pull.as_ref()?;
        Some(json!({
            "link": link.id,
            "state": pull.state.name(),
            "position": pull.position,
            "lagRecords": lag_records(pull),
            "lagSeconds": lag_seconds(link, pull, status.now),
        }))
    });
    Ok(Some(json!({
        "node": status.node,
        "name": status.name,
        "role": role(&status.zones),
        "ready": node.not_ready(&Path::default()).is_empty(),
        "links": status.links.len(),
        "linksUp": up,
        "slots": status.slots.len(),
        "feeds": feeds.collect::<Vec<_>>(),
    })))
}

/// Commits that a feed is behind.
pub(crate) fn lag_records(pull: &PullStatus) -> u64 {
    pull.head.saturating_sub(pull.position)
}

/// Seconds since a feed was level; 0 while it is, `None` before it ever was. While the link is down
/// nobody knows what the source has, so it counts as behind.
pub(crate) fn lag_seconds(link: &LinkStatus, pull: &PullStatus, now: Duration) -> Option<f64> {
    let since = pull.level_at.map(|at| now.saturating_sub(at).as_secs_f64())?;
    let level = link.session.link == LinkState::Up && lag_records(pull) == 0;
    Some(if level { 0.0 } else { since })
}

/// The mode that holds where no rule does.
pub(crate) fn role(zones: &[ZoneStatus]) -> &'static str {
    zones.iter().find(|zone| zone.path.is_root()).map_or("primary", |zone| zone.mode)
}

/// What holds where.
pub(crate) fn zones_json(zones: &[ZoneStatus]) -> Value {
    let zone = |zone: &ZoneStatus| {
        json!({
            "path": zone.path.to_string(),
            "mode": zone.mode,
            "link": zone.link.as_deref(),
            "tracked": zone.tracked,
        })
    };
    zones.iter().map(zone).collect()
}

/// Everything of a status.
pub(crate) fn document(status: &NodeStatus, not_ready: &[NotReady]) -> Value {
    let links = status.links.iter().map(|one| link(one, status));
    let stats = &status.stats;
    json!({
        "node": status.node,
        "name": status.name,
        "role": role(&status.zones),
        "head": status.head,
        "ready": not_ready.is_empty(),
        "notReady": not_ready_json(not_ready),
        "zones": zones_json(&status.zones),
        "links": links.collect::<Vec<_>>(),
        "setAsides": status.set_asides,
        "slots": status.slots.iter().map(slot).collect::<Vec<_>>(),
        "slotsEnded": slots_ended(status),
        "fills": { "now": status.fills.0, "queued": status.fills.1 },
        "endedLinks": {
            "links": status.ended.0,
            "pull": status.ended.1.pull.as_ref().map(pull_counts),
            "push": status.ended.1.push.as_ref().map(push_counts),
            "forwards": forward_counts(&status.ended.1.forwards),
        },
        "stats": {
            "byRevEntries": stats.by_rev_entries,
            "tombstones": stats.tombstones,
            "clears": stats.clears,
            "gcFloor": stats.gc_floor,
            "journalFirstRev": stats.journal_first_rev,
            "journalBytes": stats.journal_bytes,
        },
    })
}

/// What was set aside, as JSON.
pub(crate) fn set_asides_json(asides: &[SetAside]) -> Value {
    asides.iter().map(|aside| json!({ "name": aside.name, "leaves": aside.leaves })).collect()
}

/// The refusal for a follower that is not there.
pub(crate) fn no_slot(consumer: &str) -> Error {
    let message = "there is no slot of this name; see `trellis repl slots`";
    Error::new(ErrorKind::NotFound, message).context("slot", consumer)
}

/// The refusal for what was not set aside.
pub(crate) fn no_set_aside(name: &str) -> Error {
    let message = "nothing of this name was set aside; see `trellis repl set-asides`";
    Error::new(ErrorKind::NotFound, message).context("name", name)
}

/// Prefixes that are not ready, and why.
pub(crate) fn not_ready_json(not_ready: &[NotReady]) -> Value {
    let prefix = |one: &NotReady| json!({ "path": one.path.to_string(), "reason": one.reason });
    not_ready.iter().map(prefix).collect()
}

fn slots_ended(status: &NodeStatus) -> Value {
    let count = |end: SlotEnd| status.slots_ended.get(&end).copied().unwrap_or(0);
    SlotEnd::ALL.map(|end| (end.code().to_owned(), Value::from(count(end)))).into_iter().collect()
}

/// A follower.
pub(crate) fn slot(slot: &SlotStatus) -> Value {
    json!({
        "consumer": slot.consumer,
        "owner": slot.owner,
        "rev": slot.rev,
        "lagRecords": slot.lag_revs,
        "lagBytes": slot.lag_bytes,
        "lagSeconds": slot.lag.map(|lag| lag.as_secs_f64()),
        "active": slot.active,
        "idleSeconds": slot.idle.as_secs_f64(),
        "invalid": slot.invalid.map(SlotEnd::code),
    })
}

fn link(link: &LinkStatus, status: &NodeStatus) -> Value {
    let now = status.now;
    let resync = link.dialed && status.resyncs.contains(&link.id);
    let session = &link.session;
    let mut forwards = forward_counts(&session.forwards);
    forwards.insert("waiting".to_owned(), json!(session.forwards.waiting));
    let peer = session
        .peer
        .as_ref()
        .map(|(node, name)| json!({ "node": format!("{node:032x}"), "name": name }));
    let ended = session
        .ended
        .as_ref()
        .map(|(reason, message)| json!({ "reason": reason.code(), "message": message }));
    json!({
        "id": link.id,
        "address": link.address,
        "dialed": link.dialed,
        "state": state_word(session.link),
        "attempts": link.attempts,
        "lastError": link.last_error,
        "nextAttemptInSeconds": link.next_attempt_in.map(|after| after.as_secs_f64()),
        "resync": resync,
        "peer": peer,
        "peerHead": session.peer_head,
        "peerAheadMs": session.peer_ahead_ms,
        "pull": session.pull.as_ref().map(|feed| pull(link, feed, now)),
        "push": session.push.as_ref().map(push),
        "forwards": forwards,
        "ended": ended,
    })
}

/// The word for where a link stands.
pub(crate) const fn state_word(state: LinkState) -> &'static str {
    match state {
        LinkState::Connecting => "connecting",
        LinkState::Up => "up",
        LinkState::Ended => "ended",
    }
}

const fn opened_word(mode: OpenMode) -> &'static str {
    match mode {
        OpenMode::Tail => "tail",
        OpenMode::Delta => "delta",
        OpenMode::Snapshot => "snapshot",
        OpenMode::Diverged => "diverged",
        OpenMode::ResumeSnapshot => "resume_snapshot",
        OpenMode::ResumeDelta => "resume_delta",
    }
}

/// What a feed that is followed counts.
fn pull_counts(pull: &PullStatus) -> Map<String, Value> {
    counted(&[
        ("pages", pull.pages),
        ("pageBytes", pull.page_bytes),
        ("commits", pull.commits),
        ("applied", pull.applied),
        ("known", pull.known),
        ("lost", pull.lost),
        ("won", pull.won),
        ("clipped", pull.clipped),
        ("echoes", pull.echoes),
        ("pageTimeouts", pull.page_timeouts),
        ("hlcRejected", pull.hlc_rejected),
        ("setAside", pull.set_aside),
        ("answered", pull.answered),
        ("verified", pull.verified),
        ("diverged", pull.diverged),
        ("repaired", pull.repaired),
    ])
}

fn pull(link: &LinkStatus, pull: &PullStatus, now: Duration) -> Value {
    let mut out = pull_counts(pull);
    out.append(&mut counted(&[
        ("position", pull.position),
        ("head", pull.head),
        ("lagRecords", lag_records(pull)),
        ("appliedAtMs", pull.applied_at_ms),
        ("differing", pull.differing),
    ]));
    out.extend([
        ("feed".to_owned(), json!(pull.feed)),
        ("state".to_owned(), json!(pull.state.name())),
        ("queuedBehind".to_owned(), json!(pull.queued_behind)),
        ("opened".to_owned(), json!(pull.opened.map(opened_word))),
        ("complete".to_owned(), json!(pull.complete)),
        ("lagSeconds".to_owned(), json!(lag_seconds(link, pull, now))),
        ("fillSeconds".to_owned(), json!(pull.fill_took.map(|took| took.as_secs_f64()))),
        ("paused".to_owned(), json!(pull.paused)),
    ]);
    Value::Object(out)
}

/// What a feed that a peer follows counts.
fn push_counts(push: &PushStatus) -> Map<String, Value> {
    counted(&[
        ("pages", push.pages),
        ("commits", push.commits),
        ("bytes", push.bytes),
        ("echoes", push.echoes),
    ])
}

fn forward_counts(forwards: &ForwardStatus) -> Map<String, Value> {
    counted(&[
        ("committed", forwards.committed),
        ("refused", forwards.refused),
        ("unavailable", forwards.unavailable),
        ("unknown", forwards.unknown),
        ("routed", forwards.routed),
        ("dropped", forwards.dropped),
    ])
}

fn push(push: &PushStatus) -> Value {
    let mut out = push_counts(push);
    out.append(&mut counted(&[
        ("sent", push.sent),
        ("acknowledged", push.acknowledged),
        ("inFlightBytes", push.in_flight as u64),
    ]));
    out.insert("slot".to_owned(), json!(push.slot));
    out.insert("state".to_owned(), json!(push.state.name()));
    Value::Object(out)
}

fn counted(figures: &[(&str, u64)]) -> Map<String, Value> {
    figures.iter().map(|(name, figure)| ((*name).to_owned(), json!(figure))).collect()
}
