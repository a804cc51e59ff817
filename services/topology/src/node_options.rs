//! Times, bounds and names of a node.

use std::collections::BTreeMap;
use std::time::Duration;

use trellis_engine_traits::{Error, ErrorKind, LinkToken, Result};

use crate::session_options::SessionOptions;
use crate::slots::SlotOptions;
use crate::source::SKIPS_UNWRITTEN_MAX;

/// Times, bounds and names of a node.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// What the node is called; its id is its log's.
    pub name: String,
    /// What each link is dialed with, by [`Dial::id`](crate::Dial).
    pub tokens: BTreeMap<String, LinkToken>,
    /// Of each link.
    pub session: SessionOptions,
    /// Of the followers.
    pub slots: SlotOptions,
    /// Links at most, those that peers made; [`GREETING_LINKS`](crate::GREETING_LINKS) more may be
    /// saying who they are.
    pub links_max: usize,
    /// How long a forwarded write waits for its answer.
    pub forward_wait: Duration,
}

/// Each position that is written is a commit, of which every follower is told: with too few skips
/// between two of them nodes that have nothing to do keep each other busy for ever. With too many a
/// source that follows what it sent runs out of room for it.
pub(crate) fn check_skips(options: &NodeOptions) -> Result<()> {
    let least = u64::try_from(options.links_max).unwrap_or(u64::MAX).saturating_mul(2);
    let skips = options.session.skips_unwritten_max;
    if skips > SKIPS_UNWRITTEN_MAX {
        let message = "positions would be written so rarely that sources wait for them: lower \
                       skips_unwritten_max";
        return Err(Error::new(ErrorKind::InvalidInput, message)
            .operation("start")
            .context("skips_unwritten_max", skips)
            .context("most", SKIPS_UNWRITTEN_MAX));
    }
    if skips >= least {
        return Ok(());
    }
    let message = "positions would be written so often that idle nodes wake each other for ever: \
                   raise skips_unwritten_max, or lower links_max";
    Err(Error::new(ErrorKind::InvalidInput, message)
        .operation("start")
        .context("skips_unwritten_max", skips)
        .context("least", least))
}
