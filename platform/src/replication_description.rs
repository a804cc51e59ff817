//! [`ReplicationDescription`]: what a node owns, follows and serves, in the words of the start-up
//! lines. No secret is in it.

use std::fmt;

use serde::Serialize;
use trellis_topology::{Mode, Topology, UPSTREAM, ZoneStatus};

use crate::replication_config::{PeerConfig, ReplicationConfig};

/// What a node owns, follows and serves. `Display` gives lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplicationDescription {
    /// What holds where no rule does: `primary` or `replica`.
    pub role: String,
    /// The upstream's address.
    pub upstream: Option<String>,
    /// What is followed of it: `config (sync)`.
    pub followed: Vec<String>,
    /// What is pushed to it.
    pub pushed: Vec<String>,
    /// Other nodes that are followed: `catalog from ws://other:4400/db into ext`.
    pub sources: Vec<String>,
    /// Who may come in, and for what.
    pub peers: Vec<String>,
}

impl ReplicationDescription {
    pub(crate) fn new(config: &ReplicationConfig, topology: &Topology) -> Self {
        let zones = topology.zone_status();
        let linked = |modes: &[Mode]| {
            let of_upstream = |zone: &&ZoneStatus| {
                zone.link.as_deref() == Some(UPSTREAM)
                    && modes.iter().any(|mode| mode.word() == zone.mode)
            };
            let text = |zone: &ZoneStatus| format!("{} ({})", path(&zone.path), zone.mode);
            zones.iter().filter(of_upstream).map(text).collect::<Vec<_>>()
        };
        let source = |source: &crate::replication_config::SourceConfig| {
            let into = if source.local_prefix.is_empty() {
                String::new()
            } else {
                format!(" into {}", source.local_prefix)
            };
            format!("{} from {}{into}", source.paths.join(", "), source.url)
        };
        Self {
            role: config.role.clone(),
            upstream: config.primary_url.clone(),
            followed: linked(&[Mode::Replica, Mode::Sync, Mode::Readonly]),
            pushed: linked(&[Mode::Primary, Mode::Sync, Mode::Writeonly]),
            sources: config.sources.iter().map(source).collect(),
            peers: match &config.peers {
                None => vec!["peers on this machine, which may follow everything".to_owned()],
                Some(peers) => peers.iter().map(peer).collect(),
            },
        }
    }

    /// What one should know before relying on it.
    pub(crate) fn cautions(&self, config: &ReplicationConfig) -> Vec<String> {
        let mut cautions = Vec::new();
        let peers = config.peers.iter().flatten();
        let passes = || config.peers.iter().flatten().filter(|peer| has_token(peer));
        for (at, peer) in peers.enumerate() {
            let same = |other: &PeerConfig| (&other.node, &other.role) == (&peer.node, &peer.role);
            let is_about_some = peer.node.is_some() || peer.role.is_some();
            if is_about_some && !passes().any(same) {
                cautions.push(format!(
                    "replication.peers[{at}] has no token, so over the network nobody is {}",
                    peer.who()
                ));
            }
        }
        if config.auto_compact_threshold.is_some() {
            cautions.push(
                "replication.autoCompactThreshold has no effect: the journal is trimmed in the \
                 background all the time"
                    .to_owned(),
            );
        }
        cautions
    }
}

fn has_token(peer: &PeerConfig) -> bool {
    peer.token.is_some() || peer.token_file.is_some()
}

fn path(path: &trellis_tree::Path) -> String {
    if path.is_root() { "/".to_owned() } else { path.to_string() }
}

fn peer(peer: &PeerConfig) -> String {
    let mut text = peer.who();
    for (what, paths) in [("pull", &peer.pull), ("push", &peer.push)] {
        if !paths.is_empty() {
            text.push_str(&format!(", {what} {}", paths.join(" ")));
        }
    }
    let shown = if has_token(peer) { " (token)" } else { "" };
    text + shown
}

impl fmt::Display for ReplicationDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replication: role {}", self.role)?;
        if let Some(upstream) = &self.upstream {
            write!(f, ", upstream {upstream}")?;
        }
        for (what, items) in [
            ("follows", &self.followed),
            ("pushes", &self.pushed),
            ("takes", &self.sources),
            ("lets in", &self.peers),
        ] {
            if !items.is_empty() {
                write!(f, "\nreplication: {what} {}", items.join("; "))?;
            }
        }
        if self.peers.is_empty() {
            f.write_str("\nreplication: lets nobody in")?;
        }
        Ok(())
    }
}
