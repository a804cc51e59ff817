//! From the configuration to the options of the tree.

use trellis_engine_traits::Result;
use trellis_subscribe::LiveOptions;
use trellis_topology::Topology;
use trellis_tree::{DurabilityMode, DurabilityPolicy, Limits, Path, TreeOptions};

use crate::config::Config;
use crate::durability::Acknowledge;

/// Room in a frame for what stands around the data: the id, the rev, the epoch.
const FRAMING_BYTES: usize = 2 << 10;

/// The tree's options of a configuration.
///
/// # Errors
/// `InvalidInput` for a prefix that is no path.
pub(crate) fn tree_options(config: &Config, topology: Option<&Topology>) -> Result<TreeOptions> {
    let prefixes = config.durability.prefixes.iter();
    let prefixes = prefixes
        .map(|(prefix, acknowledge)| Ok((prefix_path(prefix)?, mode(*acknowledge))))
        .collect::<Result<Vec<_>>>()?;
    Ok(TreeOptions {
        limits: Limits {
            leaf_bytes_max: config.limits.leaf_bytes_max,
            commit_bytes_max: config.limits.commit_bytes_max,
            commit_operations_max: config.limits.commit_operations_max,
            key_bytes_max: config.limits.key_bytes_max,
            queue_bytes_max: config.limits.queue_bytes_max,
        },
        durability: DurabilityPolicy { default: mode(config.durability.default), prefixes },
        overlay_bytes_max: config.tree.overlay_bytes_max,
        apply_after: config.tree.apply_after,
        journal_retain_bytes: config.tree.journal_retain_bytes,
        journal_retain_age: config.tree.journal_retain_age,
        keys_retain_age: config.tree.keys_retain_age,
        derivation: Some(&trellis_query::FIELD_INDEXES),
        zoning: topology.map(Topology::zoning),
    })
}

/// The bounds of the subscriptions of a configuration.
pub(crate) fn live_options(config: &Config) -> LiveOptions {
    let server = &config.server;
    LiveOptions {
        subscriptions_max: server.subscriptions_max,
        frame_bytes_max: server.frame_bytes_max.saturating_sub(FRAMING_BYTES),
        inbox_bytes_max: server.inbox_bytes_max,
        ..LiveOptions::default()
    }
}

fn prefix_path(prefix: &str) -> Result<Path> {
    Path::parse(prefix).map_err(|error| error.context("key", "durability.prefixes"))
}

fn mode(acknowledge: Acknowledge) -> DurabilityMode {
    match acknowledge {
        Acknowledge::Always => DurabilityMode::Always,
        Acknowledge::Interval(interval) => DurabilityMode::Interval(interval),
    }
}
