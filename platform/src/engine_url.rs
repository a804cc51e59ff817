//! Engine URLs: `scheme:` and what follows it.

use std::fmt;
use std::path::{Path, PathBuf};

use trellis_engine_traits::{Error, ErrorKind, Result};

/// Where an engine keeps its data: `redb:tree.redb`, `kv:`, `memory:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EngineUrl {
    scheme: String,
    rest: String,
}

impl EngineUrl {
    /// Takes a URL apart; `key` is the configuration key it stands in.
    pub(crate) fn parse(key: &str, text: &str) -> Result<Self> {
        let invalid = |remedy: &str| {
            Error::new(ErrorKind::InvalidInput, format!("{key} = \"{text}\": {remedy}"))
                .operation("open")
        };
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(invalid(
                "write SCHEME:PATH, for example \"redb:tree.redb\" or \"memory:\"",
            ));
        };
        if rest.starts_with("//") {
            return Err(invalid("no slashes after the colon: SCHEME:PATH, relative to `data`"));
        }
        if rest.contains('\0') {
            return Err(invalid("a path holds no NUL character"));
        }
        Ok(Self { scheme: scheme.to_owned(), rest: rest.to_owned() })
    }

    pub(crate) fn scheme(&self) -> &str {
        &self.scheme
    }

    pub(crate) fn rest(&self) -> &str {
        &self.rest
    }

    /// The path of the engine's files; relative ones begin in `data`.
    pub(crate) fn path_in(&self, data: &Path) -> PathBuf {
        data.join(&self.rest)
    }
}

impl fmt::Display for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, self.rest)
    }
}
