//! [`Profile`]: named sets of defaults.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A named set of defaults: which store, which journal, how much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Store and journal in memory: nothing survives the process. For tests.
    Memory,
    /// redb and segment files: durable, pure Rust, no installed library.
    #[default]
    Embedded,
    /// One SQLite file that holds the tree and the journal.
    SingleFile,
    /// SQLite and segment files: small in memory and on disk.
    Edge,
    /// redb and segment files with a larger cache.
    Server,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 5] =
        [Self::Memory, Self::Embedded, Self::SingleFile, Self::Edge, Self::Server];

    /// The name in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Embedded => "embedded",
            Self::SingleFile => "single-file",
            Self::Edge => "edge",
            Self::Server => "server",
        }
    }

    pub(crate) const fn kv_url(self) -> &'static str {
        match self {
            Self::Memory => "memory:",
            Self::Embedded | Self::Server => "redb:tree.redb",
            Self::SingleFile | Self::Edge => "sqlite:trellis.sqlite",
        }
    }

    pub(crate) const fn log_url(self) -> &'static str {
        match self {
            Self::Memory => "memory:",
            Self::Embedded | Self::Edge | Self::Server => "segment:log",
            Self::SingleFile => "kv:",
        }
    }

    pub(crate) const fn cache_bytes(self) -> Option<usize> {
        match self {
            Self::Memory | Self::Embedded | Self::SingleFile => None,
            Self::Edge => Some(16 << 20),
            Self::Server => Some(1 << 30),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
