//! Two databases side by side.

use trellis_engine_traits::Result;
use trellis_tree::{Difference, differences};

use crate::backup::ContentDigest;
use crate::handle::Trellis;

/// What a comparison of two databases found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The left one's content.
    pub left: ContentDigest,
    /// The right one's content.
    pub right: ContentDigest,
    /// The first paths at which they differ; empty exactly when the digests are equal.
    pub differences: Vec<Difference>,
}

/// Compares the content of two databases, and names the first `limit` paths that differ.
///
/// # Errors
/// As for every read.
///
/// # Cost
/// Reads both, twice up to the last path that is named if they differ.
///
/// ```
/// use trellis::{Trellis, verify};
///
/// let (one, other) = (Trellis::memory()?, Trellis::memory()?);
/// one.set("a", 1)?;
/// other.set("a", 2)?;
/// let found = verify(&one, &other, 10)?;
/// assert_eq!(found.differences[0].path.to_string(), "a");
/// # Ok::<(), trellis::Error>(())
/// ```
pub fn verify(left: &Trellis, right: &Trellis, limit: usize) -> Result<Comparison> {
    let (left_view, right_view) = (left.tree().view()?, right.tree().view()?);
    let left = ContentDigest { digest: left_view.digest()?, rev: left_view.rev() };
    let right = ContentDigest { digest: right_view.digest()?, rev: right_view.rev() };
    let differences = if left.digest == right.digest {
        Vec::new()
    } else {
        differences(&left_view, &right_view, limit.max(1))?
    };
    Ok(Comparison { left, right, differences })
}
