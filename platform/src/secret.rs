//! [`Secret`]: a token in a configuration, which nothing shows.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use trellis_engine_traits::LinkToken;

/// A text that stands in no error, log line, `Debug` or serialised configuration.
///
/// Serialised it is an empty text, which no configuration is opened with.
///
/// ```
/// use trellis::Secret;
///
/// let secret = Secret::new("0123456789abcdef");
/// assert_eq!(format!("{secret:?}"), "Secret(..)");
/// assert_eq!(serde_json::to_value(&secret)?, "");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(LinkToken);

impl Secret {
    /// Keeps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(LinkToken::new(text))
    }

    pub(crate) fn token(&self) -> &LinkToken {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, target: S) -> Result<S::Ok, S::Error> {
        target.serialize_str("")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        // What is there instead is a secret too: the error does not show it.
        match Value::deserialize(source)? {
            Value::String(text) => Ok(Self::new(text)),
            _ => Err(D::Error::custom("a token is a text, in quotes")),
        }
    }
}
