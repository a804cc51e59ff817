//! [`Window`]: the items of a watched query, shared by all who watch it.
//!
//! A window is what the query gives at a rev, so that a receiver who takes its snapshot later can
//! join it. The first one starts it: from before its view was taken until the window is there, the
//! commits that touch the query are kept, and those after the view are made up for.
//!
//! Invariants:
//! 1. Events are made and handed to the members under the lock of the window: in the order of revs.
//! 2. While there is no window, every member is stale, or starting one.
//! 3. Commits are kept only while somebody starts, and not without bound: they keep old versions.

use parking_lot::Mutex;
use trellis_engine_traits::{Error, Result};
use trellis_query::{Item, LiveQuery, Page, QuerySpec, WindowEvent, WindowEventKind};
use trellis_tree::{Change, Path};

use crate::evaluate::Topic;
use crate::json::{member, open_event, text};
use crate::moment::{Moment, too_large};
use crate::patch;
use crate::request::Mode;

/// Commits that are kept for somebody who starts.
const KEPT_MAX: usize = 1000;

/// What a query gives, as it changes.
#[derive(Debug, Default)]
pub(crate) struct Window(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    query: Option<LiveQuery>,
    /// The rev of the view that the window was started at.
    begun: u64,
    /// The last commit that is in it.
    rev: u64,
    starters: usize,
    kept: Vec<Change>,
    /// Commits were passed over while somebody starts.
    lost: bool,
}

/// What became of a start.
#[derive(Debug)]
pub(crate) enum Started {
    /// Everything after the snapshot is or will be told.
    Joined,
    /// Something after it was passed over: it is stale.
    Missed,
    /// The window was lost: all members need new snapshots.
    Lost(Error),
}

/// Hands the events of a commit to the members.
pub(crate) type Give<'a> = &'a dyn Fn(&Change, bytes::Bytes);

impl Window {
    /// Somebody is about to take a view to start from.
    pub(crate) fn begin(&self) {
        self.0.lock().starters += 1;
    }

    /// The start failed, or was not needed.
    pub(crate) fn give_up(&self) {
        self.0.lock().end_start();
    }

    /// Somebody started at a view of this rev: whether its snapshot has everything after it told.
    pub(crate) fn started(
        &self,
        topic: &Topic,
        query: LiveQuery,
        rev: u64,
        bytes_max: usize,
        give: Give<'_>,
    ) -> Started {
        let mut state = self.0.lock();
        let there = state.query.is_some();
        if there || state.lost {
            let missed = state.lost || rev < state.begun;
            state.end_start();
            return if missed { Started::Missed } else { Started::Joined };
        }
        (state.query, state.begun, state.rev) = (Some(query), rev, rev);
        let kept = std::mem::take(&mut state.kept);
        state.end_start();
        for change in &kept {
            if let Err(error) = state.apply(topic, change, bytes_max, give) {
                state.lose();
                return Started::Lost(error);
            }
        }
        Started::Joined
    }

    /// Follows a commit that touches the query.
    ///
    /// # Errors
    /// Why it cannot be told; the window is lost then, and all members need new snapshots.
    pub(crate) fn follow(
        &self,
        topic: &Topic,
        change: &Change,
        bytes_max: usize,
        give: Give<'_>,
    ) -> Result<()> {
        let mut state = self.0.lock();
        if state.query.is_some() {
            let applied = state.apply(topic, change, bytes_max, give);
            return applied.inspect_err(|_| state.lose());
        }
        if state.starters > 0 && !state.lost {
            state.kept.push(change.clone());
            if state.kept.len() > KEPT_MAX {
                state.lose();
            }
        }
        Ok(())
    }

    /// Commits were passed over.
    pub(crate) fn lose(&self) {
        self.0.lock().lose();
    }
}

impl State {
    fn end_start(&mut self) {
        self.starters = self.starters.saturating_sub(1);
        if self.starters == 0 {
            self.kept = Vec::new();
            self.lost = false;
        }
    }

    fn lose(&mut self) {
        self.query = None;
        self.kept = Vec::new();
        self.lost = self.starters > 0;
    }

    fn apply(
        &mut self,
        topic: &Topic,
        change: &Change,
        bytes_max: usize,
        give: Give<'_>,
    ) -> Result<()> {
        let Some(query) = self.query.as_mut().filter(|_| change.rev() > self.rev) else {
            return Ok(());
        };
        let events = query.apply(change)?;
        self.rev = change.rev();
        if events.is_empty() {
            return Ok(());
        }
        let body = body(topic, query.spec(), change, &events, bytes_max)?;
        give(change, body);
        Ok(())
    }
}

/// The snapshot of a window.
pub(crate) fn snapshot(topic: &Topic, items: Vec<Item>) -> Vec<u8> {
    let mut out = Vec::new();
    if topic.mode == Mode::Notify {
        out.extend_from_slice(b"null");
    } else {
        Page { items, next_cursor: None }.write_json(&mut out);
    }
    out
}

fn body(
    topic: &Topic,
    spec: &QuerySpec,
    change: &Change,
    events: &[WindowEvent],
    bytes_max: usize,
) -> Result<bytes::Bytes> {
    let moment = Moment::new(change);
    let mut out = vec![b'['];
    for event in events {
        if out.len() > 1 {
            out.push(b',');
        }
        write(topic, spec, &moment, event, bytes_max, &mut out)?;
        if out.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
    }
    out.push(b']');
    Ok(out.into())
}

fn write(
    topic: &Topic,
    spec: &QuerySpec,
    moment: &Moment<'_>,
    event: &WindowEvent,
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    let kind = match event.kind {
        WindowEventKind::Removed => "removed",
        WindowEventKind::Added => "added",
        WindowEventKind::Moved => "moved",
        WindowEventKind::Changed => "changed",
    };
    let collection = event.path.parent().unwrap_or_default();
    open_event(kind, &topic.pattern, &collection, out);
    member("key", out);
    text(event.path.last().unwrap_or_default(), out);
    if matches!(event.kind, WindowEventKind::Added | WindowEventKind::Moved) {
        member("after", out);
        match &event.after {
            // Items of several collections may have the same key.
            Some(after) if topic.pattern.is_wild() => text(&after.to_string(), out),
            Some(after) => text(after.last().unwrap_or_default(), out),
            None => out.extend_from_slice(b"null"),
        }
    }
    match (&event.value, topic.mode) {
        (None, _) | (_, Mode::Notify) => {}
        (Some(_), Mode::Patch) if event.kind == WindowEventKind::Changed && whole(spec) => {
            member("patch", out);
            if !patch::append(moment, Path::key(&event.path), bytes_max, out)? {
                out.extend_from_slice(b"{}");
            }
        }
        (Some(value), _) => {
            member("value", out);
            out.extend_from_slice(value.as_bytes());
        }
    }
    out.push(b'}');
    Ok(())
}

/// Whether items are shown as they are.
fn whole(spec: &QuerySpec) -> bool {
    spec.select.is_none()
}
