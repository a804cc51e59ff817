//! [`Resolver`]: where the history stands as far as it is resolved, and what a request came to.

use crate::answer::OperationResult;
use crate::cause::ChangeCause;
use crate::effect::Effect;
use crate::hybrid::HybridClock;
use crate::image::Image;
use crate::pushid;
use crate::record::{Authored, Chain};
use crate::spared::Told;

/// Where the history stands, as far as it is resolved.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) rev: u64,
    pub(crate) chain: Chain,
    pub(crate) last_ms: u64,
    pub(crate) push_ids: pushid::PushIds,
    pub(crate) hybrid: HybridClock,
    /// How often resolved commits were taken back.
    pub(crate) rollbacks: u64,
}

/// What becomes a record.
pub(crate) struct New {
    pub(crate) effects: Vec<Effect>,
    pub(crate) images: Vec<Image>,
    pub(crate) told: Told,
    pub(crate) cause: ChangeCause,
    pub(crate) results: Vec<OperationResult>,
    pub(crate) key: Option<(String, Chain)>,
    /// What of it is stamped, where that is known already, as of another node's commit.
    pub(crate) authored: Option<Option<Authored>>,
}
