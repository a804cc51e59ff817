//! [`DurabilityConfig`]: when a commit is acknowledged, for the database and per prefix.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// When a commit is acknowledged: `always` or `interval:DURATION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Acknowledge {
    /// Once it would survive loss of power.
    #[default]
    Always,
    /// Once it can be read; it is made durable within this time, and a crash may lose what was
    /// acknowledged in between.
    Interval(Duration),
}

impl FromStr for Acknowledge {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "always" {
            return Ok(Self::Always);
        }
        let Some(interval) = text.strip_prefix("interval:") else {
            return Err(format!("`{text}` is no durability; write \"always\" or \"interval:1s\""));
        };
        match crate::duration::parse(interval)? {
            Duration::ZERO => Err("an interval of zero is \"always\"".to_owned()),
            interval => Ok(Self::Interval(interval)),
        }
    }
}

impl fmt::Display for Acknowledge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Interval(interval) => {
                let text = humantime::format_duration(*interval).to_string();
                write!(f, "interval:{}", text.replace(' ', ""))
            }
        }
    }
}

impl Serialize for Acknowledge {
    fn serialize<S: Serializer>(&self, target: S) -> Result<S::Ok, S::Error> {
        target.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Acknowledge {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        String::deserialize(source)?.parse().map_err(D::Error::custom)
    }
}

/// The durability of a database: one word, or a table with exceptions by path prefix.
///
/// ```toml
/// [durability]
/// default = "always"
/// [durability.prefixes]
/// "sensors/raw" = "interval:1s"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DurabilityConfig {
    /// Where no prefix says otherwise.
    pub default: Acknowledge,
    /// By path: the longest prefix wins, and a commit is as durable as its strictest path wants.
    pub prefixes: BTreeMap<String, Acknowledge>,
}

impl DurabilityConfig {
    /// Whether every commit is durable when it is acknowledged.
    #[must_use]
    pub fn is_always(&self) -> bool {
        self.default == Acknowledge::Always
            && self.prefixes.values().all(|acknowledge| *acknowledge == Acknowledge::Always)
    }
}

impl From<Acknowledge> for DurabilityConfig {
    fn from(default: Acknowledge) -> Self {
        Self { default, prefixes: BTreeMap::new() }
    }
}

impl fmt::Display for DurabilityConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.default)?;
        for (prefix, acknowledge) in &self.prefixes {
            write!(f, ", {prefix}: {acknowledge}")?;
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    default: Acknowledge,
    #[serde(default)]
    prefixes: BTreeMap<String, Acknowledge>,
}

impl Serialize for DurabilityConfig {
    fn serialize<S: Serializer>(&self, target: S) -> Result<S::Ok, S::Error> {
        if self.prefixes.is_empty() {
            return self.default.serialize(target);
        }
        Table { default: self.default, prefixes: self.prefixes.clone() }.serialize(target)
    }
}

impl<'de> Deserialize<'de> for DurabilityConfig {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(source)? {
            serde_json::Value::String(text) => {
                text.parse::<Acknowledge>().map(Self::from).map_err(D::Error::custom)
            }
            table @ serde_json::Value::Object(_) => serde_json::from_value::<Table>(table)
                .map(|table| Self { default: table.default, prefixes: table.prefixes })
                .map_err(D::Error::custom),
            _ => Err(D::Error::custom("write \"always\", \"interval:1s\" or a table")),
        }
    }
}
