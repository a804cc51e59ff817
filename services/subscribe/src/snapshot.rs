//! The snapshot that acknowledges a subscription: what its events build on.
//!
//! Limits: the text fits a frame; wildcards are followed to at most [`LOOKS_MAX`] paths.

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{Path, View};

use crate::evaluate::{Topic, advise};
use crate::json;
use crate::moment::too_large;
use crate::request::{EventKind, Mode};

/// Paths that the wildcards of one snapshot are followed to.
pub(crate) const LOOKS_MAX: usize = 100_000;
/// Children listed at a time.
const PAGE: usize = 1000;

/// The snapshot as JSON.
///
/// # Errors
/// `TooLarge` when it is longer than `bytes_max`, or its wildcards lead to too many paths; those
/// of reads.
pub(crate) fn take(view: &View, topic: &Topic, bytes_max: usize) -> Result<Bytes> {
    let mut taken = Snapshot { view, topic, bytes_max, looks: 0, out: Vec::new() };
    let pattern = &topic.pattern;
    if topic.mode == Mode::Notify {
        taken.out.extend_from_slice(b"null");
    } else if pattern.is_wild() {
        taken.out.push(b'{');
        let segments: Vec<Option<&str>> = pattern.segments().collect();
        taken.walk(&Path::root(), &segments)?;
        taken.out.push(b'}');
    } else {
        taken.one(pattern.path(), true)?;
    }
    Ok(taken.out.into())
}

struct Snapshot<'a> {
    view: &'a View,
    topic: &'a Topic,
    bytes_max: usize,
    looks: usize,
    out: Vec<u8>,
}

impl Snapshot<'_> {
    /// What a path is shown with; whether it is shown at all.
    fn one(&mut self, path: &Path, always: bool) -> Result<bool> {
        let start = self.out.len();
        let left = self.bytes_max.saturating_sub(start);
        let is_shown = match self.topic.event {
            EventKind::Value => true,
            EventKind::Child | EventKind::Query(_) => {
                !self.view.children(path, None, 1, None)?.items.is_empty()
            }
        };
        if is_shown {
            self.view
                .append_json(path, left, &mut self.out)
                .map_err(|error| advise(error, self.bytes_max))?;
        } else if always {
            self.out.extend_from_slice(b"{}");
        }
        let empty = self.out.get(start..).is_none_or(|text| text.is_empty() || text == b"null");
        Ok(always || !empty)
    }

    /// Follows the wildcards, in the order of the children's keys.
    fn walk(&mut self, at: &Path, rest: &[Option<&str>]) -> Result<()> {
        self.looks += 1;
        if self.looks > LOOKS_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "the wildcards lead to too many paths; use mode notify, or a narrower pattern",
            )
            .operation("sub")
            .context("paths_max", LOOKS_MAX));
        }
        match rest.split_first() {
            None => self.shown(at),
            Some((Some(name), rest)) => self.walk(&at.child(name)?, rest),
            Some((None, rest)) => {
                let mut after: Option<String> = None;
                loop {
                    let page = self.view.children(at, after.as_deref(), PAGE, None)?;
                    for child in &page.items {
                        // A stored path may be as deep as it gets: what it cannot have is no match.
                        if let Ok(path) = at.child(&child.key) {
                            self.walk(&path, rest)?;
                        }
                    }
                    match page.next {
                        Some(next) => after = Some(next),
                        None => return Ok(()),
                    }
                }
            }
        }
    }

    fn shown(&mut self, path: &Path) -> Result<()> {
        let start = self.out.len();
        if start > 1 {
            self.out.push(b',');
        }
        json::text(&path.to_string(), &mut self.out);
        self.out.push(b':');
        if !self.one(path, false)? {
            self.out.truncate(start);
        }
        if self.out.len() > self.bytes_max {
            return Err(too_large(self.bytes_max));
        }
        Ok(())
    }
}
