//! How far a feed has come: a leaf at `_repl/feeds/<feed>`, written with the data it stands for.

use bytes::Bytes;
use trellis_engine_traits::Result;
use trellis_tree::{Input, Path};

use crate::message::LogPosition;

/// How far a follower has come, and under which plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedPosition {
    /// The node that wrote it: in a restored copy it is another one, and the position void.
    pub node: u128,
    /// The plan under which it follows.
    pub fingerprint: u64,
    /// The commit up to which it has everything; while pages come, that behind which the tail will
    /// begin.
    pub at: LogPosition,
    /// The pages that are missing.
    pub fill: Option<FillPosition>,
    /// The source's newest commit when the last pages were read: nothing is missing once the feed
    /// has come to it.
    pub complete_at: u64,
}

/// Where pages go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FillPosition {
    /// For a delta: what it goes on from.
    pub since: Option<LogPosition>,
    /// The prefix, by its place in the plan.
    pub part: u32,
    /// Where in it: a key or a cursor of the source's; `None`: at its beginning.
    pub next: Option<Bytes>,
    /// What the source knew of this node's log when the snapshot began.
    pub known_rev: u64,
}

impl FeedPosition {
    /// The path of a feed's position.
    ///
    /// # Errors
    /// `InvalidInput` when the name is no path segment.
    pub fn path(feed: &str) -> Result<Path> {
        Path::from_segments(["_repl", "feeds", feed])
    }

    /// The note that a commit carries.
    ///
    /// # Errors
    /// `InvalidInput` when the name is no path segment.
    pub fn note(&self, feed: &str) -> Result<(Path, Input)> {
        Ok((Self::path(feed)?, Input::from_json(self.to_json())?))
    }
}

impl FeedPosition {
    fn to_json(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}
