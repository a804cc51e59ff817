//! Limits and durability of a tree.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::derivation::Derivation;
use crate::path::Path;
use crate::zoning::Zoning;

/// The smallest overlay.
const OVERLAY_BYTES_LEAST: usize = 4 << 10;

/// Bytes of one leaf at most, whatever the options say.
pub(crate) const LEAF_BYTES_UPMOST: usize = 16 << 20;

/// The largest inputs; one more is answered with `too_large`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one leaf; at most 16 MiB.
    pub leaf_bytes_max: usize,
    /// Bytes of all keys and values of one commit; at most 16 MiB.
    pub commit_bytes_max: usize,
    /// Leaves, operations and conditions of one commit.
    pub commit_operations_max: usize,
    /// Bytes of an idempotency key.
    pub key_bytes_max: usize,
    /// Bytes of commits that wait for the pipeline; beyond it the answer is `busy`.
    pub queue_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            leaf_bytes_max: 10 << 20,
            commit_bytes_max: 16 << 20,
            commit_operations_max: 200_000,
            key_bytes_max: 128,
            queue_bytes_max: 64 << 20,
        }
    }
}

/// When a commit is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DurabilityMode {
    /// When it would survive loss of power.
    Always,
    /// When it is visible; it becomes durable within this time. Loss of power loses that much.
    Interval(Duration),
}

impl fmt::Display for DurabilityMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Interval(time) => write!(f, "interval:{time:?}"),
        }
    }
}

/// Durability of the database and of single prefixes; the longest prefix wins, and a commit that
/// touches several is as durable as the strictest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurabilityPolicy {
    /// What holds where no prefix does.
    pub default: DurabilityMode,
    /// Exceptions.
    pub prefixes: Vec<(Path, DurabilityMode)>,
}

impl Default for DurabilityPolicy {
    fn default() -> Self {
        Self { default: DurabilityMode::Always, prefixes: Vec::new() }
    }
}

impl DurabilityPolicy {
    /// Whether a change of `key` has to be synced before it is acknowledged.
    pub(crate) fn wants_sync(&self, key: &[u8]) -> bool {
        let rule = self
            .prefixes
            .iter()
            .filter(|(prefix, _)| crate::path::covers(prefix.key(), key))
            .max_by_key(|(prefix, _)| prefix.key().len());
        rule.map_or(self.default, |(_, mode)| *mode) == DurabilityMode::Always
    }

    /// The shortest interval in use.
    pub(crate) fn interval(&self) -> Option<Duration> {
        let modes = std::iter::once(&self.default).chain(self.prefixes.iter().map(|(_, m)| m));
        modes
            .filter_map(|mode| match mode {
                DurabilityMode::Interval(time) => Some(*time),
                DurabilityMode::Always => None,
            })
            .min()
    }
}

impl fmt::Display for DurabilityPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.default)?;
        for (prefix, mode) in &self.prefixes {
            write!(f, ", {prefix}: {mode}")?;
        }
        Ok(())
    }
}

/// How a tree is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeOptions {
    /// The largest inputs.
    pub limits: Limits,
    /// When commits are acknowledged.
    pub durability: DurabilityPolicy,
    /// Bytes of commits that are visible and not yet in the store; writers wait beyond it. At
    /// least 4 KiB: with no room at all nobody could ever write.
    pub overlay_bytes_max: usize,
    /// How long a commit may wait to be applied to the store.
    pub apply_after: Duration,
    /// Bytes of journal kept behind the store, for those who follow or resume.
    pub journal_retain_bytes: u64,
    /// Time for which journal is kept behind the store.
    pub journal_retain_age: Duration,
    /// How long idempotency keys are remembered.
    pub keys_retain_age: Duration,
    /// How indexes are derived; without it none are kept, whatever is defined.
    pub derivation: Option<&'static dyn Derivation>,
    /// How the tree is divided for replication; without it nothing is stamped.
    pub zoning: Option<Arc<dyn Zoning>>,
}

impl Default for TreeOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            durability: DurabilityPolicy::default(),
            overlay_bytes_max: 64 << 20,
            apply_after: Duration::from_secs(2),
            journal_retain_bytes: 64 << 20,
            journal_retain_age: Duration::from_secs(24 * 3600),
            keys_retain_age: Duration::from_secs(24 * 3600),
            derivation: None,
            zoning: None,
        }
    }
}

impl TreeOptions {
    /// Refuses what no tree can work with.
    pub(crate) fn check(&self) -> Result<()> {
        if self.overlay_bytes_max >= OVERLAY_BYTES_LEAST {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidInput, "the overlay is too small to write anything")
            .operation("open")
            .context("overlay_bytes_max", self.overlay_bytes_max)
            .context("least", OVERLAY_BYTES_LEAST))
    }
}
