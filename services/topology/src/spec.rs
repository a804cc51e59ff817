//! What an operator writes: roles, rules by path, sources, peers. Plain data, nothing checked.
//!
//! Words are texts here, so that [`Topology::compile`](crate::Topology::compile) can refuse each
//! mistake with the key at which it stands.

use std::fmt;

/// How a prefix is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// This node is right; what it writes is emitted.
    Primary,
    /// The upstream is right; writes are forwarded to it.
    Replica,
    /// Both write, and merge.
    Sync,
    /// The upstream is right; writes are refused.
    Readonly,
    /// What this node writes is emitted, and nothing comes back.
    Writeonly,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Primary, Self::Replica, Self::Sync, Self::Readonly, Self::Writeonly];

    /// Its word in configuration and status.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Sync => "sync",
            Self::Readonly => "readonly",
            Self::Writeonly => "writeonly",
        }
    }

    /// The mode of a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.word() == word)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A rule: what holds at and below a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathSpec {
    /// The path, `a/b`; empty for the root.
    pub path: String,
    /// The word of a [`Mode`].
    pub mode: String,
}

impl PathSpec {
    /// A rule.
    #[must_use]
    pub fn new(path: impl Into<String>, mode: Mode) -> Self {
        Self { path: path.into(), mode: mode.word().to_owned() }
    }
}

/// A bare path is kept in sync.
impl From<&str> for PathSpec {
    fn from(path: &str) -> Self {
        Self::new(path, Mode::Sync)
    }
}

/// Another node that is followed, whatever this node's role.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceSpec {
    /// Names it in status and in stored positions: 1 to 40 letters, digits, `-` and `_`.
    pub id: String,
    /// Where it is.
    pub url: String,
    /// What is taken from it, as it names it.
    pub paths: Vec<String>,
    /// The path under which that is kept here; empty: where it is there.
    pub local_prefix: String,
    /// What of it is not taken, as it names it.
    pub exclude_prefixes: Vec<String>,
}

/// What some peers may do here. A peer may do what all entries say that name it; where entries name
/// it by node, those by role do not count for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSpec {
    /// The name of the node that it is about.
    pub node: Option<String>,
    /// The role of the nodes that it is about. Without node and role it is about every peer.
    pub role: Option<String>,
    /// Paths that they may follow, with what is below.
    pub pull: Vec<String>,
    /// Paths under which they may write.
    pub push: Vec<String>,
    /// `lww`: what they push is merged; `owner`: the peer is right, and nobody writes here.
    pub merge: String,
    /// Whether writes of their callers to what they follow as `replica` are taken here.
    pub forward: bool,
}

impl Default for PeerSpec {
    fn default() -> Self {
        Self {
            node: None,
            role: None,
            pull: Vec::new(),
            push: Vec::new(),
            merge: "lww".to_owned(),
            forward: true,
        }
    }
}

/// What an operator writes under `replication`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologySpec {
    /// `primary` or `replica`: what holds where no rule does.
    pub role: String,
    /// The upstream.
    pub primary_url: Option<String>,
    /// Rules; the longest prefix decides.
    pub paths: Vec<PathSpec>,
    /// Other nodes that are followed.
    pub sources: Vec<SourceSpec>,
    /// What is never replicated.
    pub exclude_prefixes: Vec<String>,
    /// What becomes of a write to a `replica` path: `proxy` forwards it, `reject` refuses it.
    pub write_proxy: String,
    /// Who may do what here; `None`: whoever is let in may follow everything.
    pub peers: Option<Vec<PeerSpec>>,
}

impl Default for TopologySpec {
    fn default() -> Self {
        Self {
            role: "primary".to_owned(),
            primary_url: None,
            paths: Vec::new(),
            sources: Vec::new(),
            exclude_prefixes: Vec::new(),
            write_proxy: "proxy".to_owned(),
            peers: None,
        }
    }
}

/// A mistake in a [`TopologySpec`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyError {
    /// Where it stands: `replication.paths[3].path`.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub remedy: String,
}

impl TopologyError {
    pub(crate) fn new(
        key: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { key: key.into(), message: message.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.message, self.remedy)
    }
}

impl std::error::Error for TopologyError {}
