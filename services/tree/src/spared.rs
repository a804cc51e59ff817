//! What a removal leaves alone: zones carved out below its path, and, at an ending that every node
//! carries out, what is newer.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, KeyRange, Result};

use crate::path;
use crate::space::DATA;
use crate::stamp::Version;
use crate::state::State;

/// Leaves of one piece passed over before the walk jumps behind it.
const SKIP_MAX: usize = 32;

/// What replication is told of a commit besides its effects.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Clears and deletes that leave no stamp.
    pub(crate) unstamped: BTreeSet<Bytes>,
    /// Paths that were emptied within their zone, what that removed being in other effects; the
    /// version, if it is not the commit's.
    pub(crate) marks: BTreeMap<Bytes, Option<Version>>,
    /// Versions of what is removed because it ended, by path.
    pub(crate) endings: BTreeMap<Bytes, Version>,
}

impl Told {
    /// A clear of a path tells all there is to tell at and below it.
    pub(crate) fn forget(&mut self, key: &Bytes) {
        if !self.unstamped.is_empty() {
            self.unstamped.retain(|own| !path::covers(key, own));
        }
        if !self.marks.is_empty() {
            self.marks.retain(|own, _| !path::covers(key, own));
        }
        self.endings.remove(key);
    }
}

pub(crate) fn over_others() -> Error {
    Error::new(
        ErrorKind::Denied,
        "a value here would remove what belongs to another node, below it: write an object",
    )
    .operation("commit")
    .context("reason", "source_owned")
}

/// What goes of a subtree of which parts are spared.
pub(crate) struct Pieces<'a> {
    pub(crate) key: &'a Bytes,
    /// In order; none covers another.
    pub(crate) spared: &'a [Bytes],
    pub(crate) found: BTreeSet<Bytes>,
}

impl Pieces<'_> {
    /// Adds the highest path below the key that a leaf is in and nothing spared is; returns it.
    pub(crate) fn add(&mut self, leaf: &[u8]) -> Bytes {
        let spares = |above: &[u8]| {
            let next = self.spared.partition_point(|spared| **spared < *above);
            self.spared.get(next).is_some_and(|spared| path::covers(above, spared))
        };
        let above = path::ancestors(leaf)
            .take_while(|above| above.len() > self.key.len() && !spares(above));
        let piece = Bytes::copy_from_slice(above.last().unwrap_or(leaf));
        self.found.insert(piece.clone());
        piece
    }

    /// Adds what a state holds in a range, apart from what is gone already.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn add_held(
        &mut self,
        state: &State,
        range: KeyRange,
        gone: &dyn Fn(&[u8]) -> bool,
    ) -> Result<()> {
        let mut rest = range;
        loop {
            let (mut last, mut skipped) = (None::<Bytes>, 0);
            let mut jumps = false;
            state.scan(DATA, &rest, &mut |at, _| {
                if last.as_ref().is_some_and(|piece| path::covers(piece, at)) {
                    skipped += 1;
                    jumps = skipped > SKIP_MAX;
                } else if !gone(at) {
                    skipped = 0;
                    last = Some(self.add(at));
                }
                if jumps { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            match last {
                Some(piece) if jumps => rest.start = path::after_subtree(&piece),
                _ => return Ok(()),
            }
            if rest.is_empty() {
                return Ok(());
            }
        }
    }
}
