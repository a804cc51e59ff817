//! What became of each damaged place.

use std::fmt;

use trellis_engine_traits::ErrorKind;

/// Counts of damaged places by what came of them; a place counts once, at the worst.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Everything was read as it was written.
    pub(super) unharmed: usize,
    /// The open answered an error.
    pub(super) refused_open: usize,
    /// A read answered an error.
    pub(super) refused_read: usize,
    /// A read answered that nothing is there, though it was written.
    pub(super) absent: usize,
    /// An older state was read, whole: the engine fell back to it.
    pub(super) older: usize,
    /// Errors that were not `Corrupt`, by kind.
    pub(super) other_kinds: Vec<(ErrorKind, usize)>,
}

/// What came of one damaged place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    Unharmed,
    RefusedOpen(ErrorKind),
    RefusedRead(ErrorKind),
    Absent,
    Older,
}

impl Came {
    const fn severity(self) -> u8 {
        match self {
            Self::Unharmed => 0,
            Self::RefusedOpen(_) => 1,
            Self::RefusedRead(_) => 2,
            Self::Absent => 3,
            Self::Older => 4,
        }
    }

    /// The worse of the two.
    pub(super) const fn or(self, other: Self) -> Self {
        if other.severity() > self.severity() { other } else { self }
    }
}

impl Tally {
    pub(super) fn count(&mut self, came: Came) {
        let (slot, kind) = match came {
            Came::Unharmed => (&mut self.unharmed, None),
            Came::RefusedOpen(kind) => (&mut self.refused_open, Some(kind)),
            Came::RefusedRead(kind) => (&mut self.refused_read, Some(kind)),
            Came::Absent => (&mut self.absent, None),
            Came::Older => (&mut self.older, None),
        };
        *slot += 1;
        if let Some(kind) = kind.filter(|kind| *kind != ErrorKind::Corrupt) {
            match self.other_kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => self.other_kinds.push((kind, 1)),
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unharmed, refused_open, refused_read, absent, older, other_kinds } = self;
        write!(
            f,
            "{unharmed} unharmed, {refused_open} refused at open, {refused_read} refused at a \
             read, {absent} absent though written, {older} older, none wrong; kinds beside \
             corrupt: {other_kinds:?}"
        )
    }
}
