//! What a subscription is told of one commit: the JSON array of its events.
//!
//! Invariant: it depends on the commit and the states around it only, so that a live event and one
//! that is told again after a reconnect are the same bytes.

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{Path, View};

use crate::json::{member, open_event};
use crate::moment::{Moment, covers, is_stored, relative, too_large};
use crate::patch;
use crate::pattern::Pattern;
use crate::request::{EventKind, Mode, WatchedQuery};

/// What is evaluated: the same for all who asked for the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Topic {
    pub(crate) pattern: Pattern,
    pub(crate) event: EventKind,
    pub(crate) mode: Mode,
}

/// Events of one commit, by their order in a frame.
#[derive(Debug, Default)]
struct Frame {
    removed: Vec<u8>,
    added: Vec<u8>,
    changed: Vec<u8>,
    bytes_max: usize,
}

impl Topic {
    /// The query that is watched.
    pub(crate) fn query(&self) -> Option<&WatchedQuery> {
        if let EventKind::Query(query) = &self.event { Some(query) } else { None }
    }
}

impl Frame {
    fn check(&self) -> Result<()> {
        let bytes = self.removed.len() + self.added.len() + self.changed.len();
        if bytes > self.bytes_max { Err(too_large(self.bytes_max)) } else { Ok(()) }
    }

    fn finish(self) -> Option<Bytes> {
        let parts = [self.removed, self.added, self.changed];
        let mut body = vec![b'['];
        for part in parts.iter().filter(|part| !part.is_empty()) {
            if body.len() > 1 {
                body.push(b',');
            }
            body.extend_from_slice(part);
        }
        body.push(b']');
        (body.len() > 2).then(|| body.into())
    }
}

/// Begins one more event in a part of the frame.
fn begin(part: &mut Vec<u8>) {
    if !part.is_empty() {
        part.push(b',');
    }
}

/// The events of a commit at these paths; `None` when nothing changed there.
///
/// # Errors
/// `TooLarge` when they are longer than `bytes_max`; those of reads.
pub(crate) fn events(
    topic: &Topic,
    moment: &Moment<'_>,
    keys: &[Bytes],
    bytes_max: usize,
) -> Result<Option<Bytes>> {
    let mut frame = Frame { bytes_max, ..Frame::default() };
    for key in keys {
        let told = match topic.event {
            EventKind::Value => value(topic, moment, key, &mut frame),
            EventKind::Child => children(topic, moment, key, &mut frame),
            // The window tells; here it is only seen that somebody touched it.
            EventKind::Query(_) => Ok(()),
        };
        told.and_then(|()| frame.check()).map_err(|error| advise(error, bytes_max))?;
    }
    Ok(frame.finish())
}

/// Says of what does not fit what can be done about a subscription.
pub(crate) fn advise(error: Error, bytes_max: usize) -> Error {
    if error.kind() == ErrorKind::TooLarge { too_large(bytes_max) } else { error }
}

/// Appends what a path of the pattern shows in a state.
fn show(
    view: &View,
    pattern: &Pattern,
    path: &Path,
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    let wild = pattern.wild_part(path.key()).map(Path::from_key).transpose()?;
    if let Some(wild) = wild
        && !is_stored(view, &wild)?
    {
        // The path leads into an array, where no wildcard stands for anything.
        out.extend_from_slice(b"null");
        return Ok(());
    }
    view.append_json(path, bytes_max, out)
}

/// Whether a path shows something else than before, where one of the states has no leaf of its own
/// there: it shows a place in an array, which is small, or nothing. The other may be of any size,
/// so that it is read no further than that.
fn differs(pattern: &Pattern, moment: &Moment<'_>, path: &Path, was_stored: bool) -> Result<bool> {
    let (mut small, mut other) = (moment.before()?, moment.after()?);
    if was_stored {
        std::mem::swap(&mut small, &mut other);
    }
    let (mut one, mut two) = (Vec::new(), Vec::new());
    show(small, pattern, path, usize::MAX, &mut one)?;
    match show(other, pattern, path, one.len(), &mut two) {
        Err(error) if error.kind() == ErrorKind::TooLarge => Ok(true),
        shown => shown.map(|()| one != two),
    }
}

fn value(topic: &Topic, moment: &Moment<'_>, key: &[u8], frame: &mut Frame) -> Result<()> {
    let (path, pattern) = (Path::from_key(key)?, &topic.pattern);
    // A change above may have made it a place in an array, or such a place a value of its own.
    let above = moment.is_above(key);
    let was_stored = above && is_stored(moment.before()?, &path)?;
    let in_array = above && !(was_stored && is_stored(moment.after()?, &path)?);
    let has_changed = match in_array {
        true => differs(pattern, moment, &path, was_stored)?,
        false => moment.first_change(key, key)?.is_some(),
    };
    if !has_changed {
        return Ok(());
    }
    let bytes_max = frame.bytes_max;
    let out = &mut frame.changed;
    begin(out);
    open_event("value", pattern, &path, out);
    match topic.mode {
        Mode::Notify => {}
        Mode::Full => {
            member("value", out);
            show(moment.after()?, pattern, &path, bytes_max, out)?;
        }
        Mode::Patch => {
            member("patch", out);
            // What a place in an array holds is no object that could be patched.
            if in_array || !patch::append(moment, key, bytes_max, out)? {
                out.extend_from_slice(b"{\"\":");
                show(moment.after()?, pattern, &path, bytes_max, out)?;
                out.push(b'}');
            }
        }
    }
    out.push(b'}');
    Ok(())
}

fn children(topic: &Topic, moment: &Moment<'_>, key: &[u8], frame: &mut Frame) -> Result<()> {
    let path = Path::from_key(key)?;
    let mut from = key.to_vec();
    if !key.is_empty() {
        from.push(0);
    }
    while let Some(leaf) = moment.first_change(key, &from)? {
        let name = relative(key, &leaf.key).split(|byte| *byte == 0).next().unwrap_or_default();
        let end = leaf.key.len() - relative(key, &leaf.key).len() + name.len();
        let child_key = leaf.key.slice(..end);
        let child = Path::from_key(&child_key)?;
        let was = leaf.old.is_some() || is_stored(moment.before()?, &child)?;
        let is = leaf.new.is_some() || is_stored(moment.after()?, &child)?;
        one_child(topic, moment, &path, &child, (was, is), frame)?;
        frame.check()?;
        from = child_key.to_vec();
        from.push(1);
        debug_assert!(covers(key, &child_key), "a child lies below its parent");
    }
    Ok(())
}

fn one_child(
    topic: &Topic,
    moment: &Moment<'_>,
    parent: &Path,
    child: &Path,
    (was, is): (bool, bool),
    frame: &mut Frame,
) -> Result<()> {
    let bytes_max = frame.bytes_max;
    let (kind, out) = match (was, is) {
        (true, false) => ("removed", &mut frame.removed),
        (false, true) => ("added", &mut frame.added),
        (true, true) => ("changed", &mut frame.changed),
        (false, false) => return Ok(()),
    };
    begin(out);
    open_event(kind, &topic.pattern, parent, out);
    member("key", out);
    crate::json::text(child.last().unwrap_or_default(), out);
    match topic.mode {
        Mode::Patch if was && is => {
            member("patch", out);
            if !patch::append(moment, child.key(), bytes_max, out)? {
                out.extend_from_slice(b"{}");
            }
        }
        Mode::Full | Mode::Patch if is => {
            member("value", out);
            moment.after()?.append_json(child, bytes_max, out)?;
        }
        Mode::Full | Mode::Patch | Mode::Notify => {}
    }
    out.push(b'}');
    Ok(())
}

/// The events of a value whose newest state says everything.
pub(crate) fn newest_value(topic: &Topic, value: &[u8]) -> Bytes {
    let mut body = b"[{\"type\":\"value\"".to_vec();
    if topic.mode == Mode::Full {
        member("value", &mut body);
        body.extend_from_slice(value);
    }
    body.extend_from_slice(b"}]");
    body.into()
}
