//! [`ReplicationConfig`]: what an operator writes under `replication`, as plain data.
//!
//! Invariants: no secret is in `Debug` or in what is serialised; the words are those of
//! docs/replication.md.
//!
//! Deliberately absent: what it means, which the topology says when the database opens.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use trellis_topology::{Mode, PathSpec, PeerSpec, SessionOptions, SlotOptions, SourceSpec};

use crate::secret::Secret;

/// Links that peers may have here, unless configured.
const LINKS_MAX: usize = 256;

/// What a node owns, what it follows and who may follow it. Keys are written as in
/// `TRELLIS_REPLICATION__PRIMARY_URL`, `primaryUrl` in files.
///
/// ```
/// use trellis::{Config, PathConfig, ReplicationConfig};
///
/// let replication = ReplicationConfig {
///     primary_url: Some("ws://central:4400/db".to_owned()),
///     paths: vec!["settings".into(), PathConfig::new("accounts", "replica")],
///     ..ReplicationConfig::default()
/// };
/// let config = Config { replication: Some(replication), ..Config::memory() };
/// # let _config = config;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct ReplicationConfig {
    /// What holds where no rule does: `primary` (the default) or `replica`.
    pub role: String,
    /// The upstream: `ws://central:4400/db`.
    pub primary_url: Option<String>,
    /// What is shown to the upstream.
    pub token: Option<Secret>,
    /// A file that holds that token, in place of it. Relative to the process's directory.
    pub token_file: Option<PathBuf>,
    /// What the node is called in status and logs. Default `node-` and 8 digits of its id.
    pub name: Option<String>,
    /// Rules: a text is a path in `sync`, a table has `path` and `mode`. The longest path decides.
    pub paths: Vec<PathConfig>,
    /// Other nodes that are followed, whatever the role.
    pub sources: Vec<SourceConfig>,
    /// Who may do what here. Without this key whoever is let in may follow everything.
    pub peers: Option<Vec<PeerConfig>>,
    /// Paths that are never replicated.
    pub exclude_prefixes: Vec<String>,
    /// What becomes of a write to a `replica` path: `proxy` (the default) forwards it, `reject`
    /// refuses it.
    pub write_proxy: String,
    /// Leaves of a page of a snapshot: 1 to 5,000. Default 200.
    pub batch_size: u32,
    /// Bytes of journal that are kept for a follower. Default 256 MiB, at least 64 KiB.
    pub max_tail_bytes: u64,
    /// For how long journal is kept for a follower. Default 7 days.
    #[serde(with = "crate::duration")]
    pub max_tail_age: Duration,
    /// After what time without a sign of it a follower's slot ends. Default 24 h.
    #[serde(with = "crate::duration")]
    pub slot_idle_timeout: Duration,
    /// Without effect: what nobody needs of the journal goes in the background all the time. Taken
    /// so that a configuration that has it opens; a warning says so.
    pub auto_compact_threshold: Option<u64>,
    /// Time between comparisons with the source while nothing is written; `0s`: none. Default
    /// 60 s.
    #[serde(with = "crate::duration")]
    pub verify_every: Duration,
    /// Links of peers at once, 1 to 10,000. Default 256.
    pub links_max: usize,
    /// Followers that are filled at once, 1 to 10,000: others wait for their turn. Default 8.
    pub fills_max: usize,
}

impl Default for ReplicationConfig {
    fn default() -> Self {
        let (session, slots) = (SessionOptions::default(), SlotOptions::default());
        Self {
            role: "primary".to_owned(),
            primary_url: None,
            token: None,
            token_file: None,
            name: None,
            paths: Vec::new(),
            sources: Vec::new(),
            peers: None,
            exclude_prefixes: Vec::new(),
            write_proxy: "proxy".to_owned(),
            batch_size: session.page_items,
            max_tail_bytes: slots.tail_bytes_max,
            max_tail_age: slots.tail_age_max,
            slot_idle_timeout: slots.idle_max,
            auto_compact_threshold: None,
            verify_every: session.verify_every,
            links_max: LINKS_MAX,
            fills_max: slots.fills_at_once,
        }
    }
}

impl ReplicationConfig {
    /// Every key with a value of its type, one entry in each list: what may be written.
    pub(crate) fn every_key() -> Self {
        let (text, file) = (Some(String::new()), Some(PathBuf::new()));
        let token = Some(Secret::new(""));
        Self {
            primary_url: text.clone(),
            token: token.clone(),
            token_file: file.clone(),
            name: text.clone(),
            paths: vec![PathConfig::default()],
            sources: vec![SourceConfig {
                token: token.clone(),
                token_file: file.clone(),
                paths: vec![String::new()],
                ..SourceConfig::default()
            }],
            peers: Some(vec![PeerConfig {
                node: text.clone(),
                role: text,
                token,
                token_file: file,
                ..PeerConfig::default()
            }]),
            ..Self::default()
        }
    }
}

/// What holds at and below a path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PathConfig {
    /// The path, `a/b`; `/` is the root.
    pub path: String,
    /// `primary`, `replica`, `sync`, `readonly` or `writeonly`.
    pub mode: String,
}

impl PathConfig {
    /// A rule.
    #[must_use]
    pub fn new(path: impl Into<String>, mode: impl Into<String>) -> Self {
        Self { path: path.into(), mode: mode.into() }
    }

    pub(crate) fn spec(&self) -> PathSpec {
        PathSpec { path: self.path.clone(), mode: self.mode.clone() }
    }
}

/// A bare path is kept in sync.
impl From<&str> for PathConfig {
    fn from(path: &str) -> Self {
        Self::new(path, Mode::Sync.word())
    }
}

impl<'de> Deserialize<'de> for PathConfig {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            path: String,
            mode: String,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = PathConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, or a table of path and mode")
            }

            fn visit_str<E>(self, path: &str) -> Result<PathConfig, E> {
                Ok(path.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PathConfig, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(PathConfig::new(table.path, table.mode))
            }
        }

        source.deserialize_any(Either)
    }
}

/// Another node that is followed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct SourceConfig {
    /// Names it in status: 1 to 40 letters, digits, `-` and `_`.
    pub id: String,
    /// Where it is: `ws://other:4400/db`.
    pub url: String,
    /// What is shown to it.
    pub token: Option<Secret>,
    /// A file that holds that token, in place of it.
    pub token_file: Option<PathBuf>,
    /// What is taken from it, as it names it.
    pub paths: Vec<String>,
    /// The path under which that is kept here; empty: where it is there.
    pub local_prefix: String,
    /// What of it is not taken, as it names it.
    pub exclude_prefixes: Vec<String>,
}

impl SourceConfig {
    pub(crate) fn spec(&self) -> SourceSpec {
        SourceSpec {
            id: self.id.clone(),
            url: self.url.clone(),
            paths: self.paths.clone(),
            local_prefix: self.local_prefix.clone(),
            exclude_prefixes: self.exclude_prefixes.clone(),
        }
    }
}

/// What some peers may do here, and the token that says who they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct PeerConfig {
    /// The name of the node that it is about.
    pub node: Option<String>,
    /// The role of the nodes that it is about.
    pub role: Option<String>,
    /// Who shows this is that node, or has that role; at least 16 bytes. Where no entry has a
    /// token, peers on this machine alone are let in, as nobody in particular.
    pub token: Option<Secret>,
    /// A file that holds that token, in place of it.
    pub token_file: Option<PathBuf>,
    /// Paths that they may follow.
    pub pull: Vec<String>,
    /// Paths under which they may write.
    pub push: Vec<String>,
    /// `lww` (the default): what they push is merged; `owner`: the peer is right.
    pub merge: String,
    /// Whether writes of their callers to what they follow as `replica` are taken. Default yes.
    pub forward: bool,
}

impl Default for PeerConfig {
    fn default() -> Self {
        let spec = PeerSpec::default();
        Self {
            node: spec.node,
            role: spec.role,
            token: None,
            token_file: None,
            pull: spec.pull,
            push: spec.push,
            merge: spec.merge,
            forward: spec.forward,
        }
    }
}

impl PeerConfig {
    pub(crate) fn spec(&self) -> PeerSpec {
        PeerSpec {
            node: self.node.clone(),
            role: self.role.clone(),
            pull: self.pull.clone(),
            push: self.push.clone(),
            merge: self.merge.clone(),
            forward: self.forward,
        }
    }

    /// Whom it is about, for people.
    pub(crate) fn who(&self) -> String {
        match (&self.node, &self.role) {
            (Some(node), _) => format!("node {node}"),
            (None, Some(role)) => format!("role {role}"),
            (None, None) => "everybody".to_owned(),
        }
    }
}
