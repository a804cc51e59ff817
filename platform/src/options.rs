//! From the configuration to the options of the tree.

use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{DurabilityPolicy, Limits, Path, TreeOptions};

use crate::config::Config;
use crate::durability::Acknowledge;

/// The tree's options of a configuration.
///
/// # Errors
/// `InvalidInput` for a prefix that is no path.
pub(crate) fn tree_options(config: &Config) -> Result<TreeOptions> {
    let defaults = TreeOptions::default();
    Ok(TreeOptions {
        limits: Limits {
            leaf_bytes_max: config.limits.leaf_bytes_max,
            commit_bytes_max: config.limits.commit_bytes_max,
            commit_operations_max: config.limits.commit_operations_max,
            key_bytes_max: config.limits.key_bytes_max,
            queue_bytes_max: config.limits.queue_bytes_max,
            ..defaults.limits
        },
        overlay_bytes_max: config.tree.overlay_bytes_max,
        apply_after: config.tree.apply_after,
        journal_retain_bytes: config.tree.journal_retain_bytes,
        journal_retain_age: config.tree.journal_retain_age,
        ..defaults
    })
}
