//! Which keys a configuration may hold, taken from a configuration itself.

use serde_json::{Map, Value};
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::config::Config;
use crate::replication_config::ReplicationConfig;

/// The default configuration as a tree of keys.
pub(crate) struct KnownKeys(Value);

impl KnownKeys {
    pub(crate) fn of_config() -> Result<Self> {
        let defaults = serde_json::to_value(every_key()).map_err(|source| {
            Error::new(ErrorKind::InvalidInput, "the default configuration cannot be written")
                .source(source)
        })?;
        Ok(Self(defaults))
    }

    /// Refuses a key that no configuration has.
    pub(crate) fn check(&self, layer: &Value, origin: &str) -> Result<()> {
        self.check_level(layer, &self.0, "", origin)
    }

    fn check_level(&self, layer: &Value, known: &Value, above: &str, origin: &str) -> Result<()> {
        if let (Value::Array(items), Value::Array(known)) = (layer, known)
            && let Some(known) = known.first()
        {
            let list = above.trim_end_matches('.');
            return items.iter().enumerate().try_for_each(|(at, item)| {
                self.check_level(item, known, &format!("{list}[{at}]."), origin)
            });
        }
        let (Value::Object(layer), Value::Object(known)) = (layer, known) else {
            return Ok(());
        };
        for (key, value) in layer {
            let full = format!("{above}{key}");
            let Some(known_value) = known.get(key) else {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("{origin}: unknown key `{full}`; {}", self.remedy(&full, key, known)),
                )
                .operation("read configuration"));
            };
            self.check_level(value, known_value, &format!("{full}."), origin)?;
        }
        Ok(())
    }

    /// The nearest known key, by its last word or by its whole name; else what is known here.
    fn remedy(&self, full: &str, key: &str, siblings: &Map<String, Value>) -> String {
        let mut names = Vec::new();
        list(&self.0, "", &mut names);
        let distance = |name: &str| {
            let last = name.rsplit('.').next().unwrap_or(name);
            strsim::osa_distance(name, full).min(strsim::osa_distance(last, key))
        };
        // Of equals, the key on the same level is the likelier one.
        let level = full.matches('.').count();
        let nearest = names
            .iter()
            .min_by_key(|name| (distance(name), name.matches('.').count().abs_diff(level)));
        match nearest {
            Some(name) if distance(name) <= (key.len() / 3).max(1) => {
                format!("did you mean `{name}`?")
            }
            _ => {
                let known: Vec<&str> = siblings.keys().map(String::as_str).collect();
                format!("known here: {}", known.join(", "))
            }
        }
    }

    /// The levels of a variable's name as keys: the environment knows neither small letters nor
    /// those that are written `primaryUrl`.
    pub(crate) fn levels(&self, name: &str) -> Vec<String> {
        let plain = |key: &str| key.replace('_', "").to_ascii_lowercase();
        let mut known = Some(&self.0);
        let mut levels = Vec::new();
        for level in name.to_ascii_lowercase().split("__") {
            let table = known.and_then(Value::as_object);
            let key = table.and_then(|table| {
                let same = |key: &&String| key.as_str() == level;
                table
                    .keys()
                    .find(same)
                    .or_else(|| table.keys().find(|key| plain(key) == plain(level)))
            });
            let key = key.map_or_else(|| level.to_owned(), Clone::clone);
            known = known.and_then(|known| known.get(&key));
            levels.push(key);
        }
        levels
    }

    /// A text as the type that the key has: the environment knows only texts.
    pub(crate) fn typed(&self, levels: &[&str], value: Value) -> Value {
        let Value::String(text) = &value else { return value };
        let known = levels.iter().try_fold(&self.0, |known, level| known.get(level));
        match known {
            // A text stays one where the default is a text, and where there is no such key.
            Some(Value::Null | Value::Number(_) | Value::Bool(_)) => {
                match serde_json::from_str(text) {
                    Ok(typed @ (Value::Number(_) | Value::Bool(_))) => typed,
                    _ => value,
                }
            }
            Some(Value::Array(_)) if text.trim_start().starts_with('[') => {
                serde_json::from_str(text).unwrap_or(value)
            }
            // A list: items separated by commas.
            Some(Value::Array(_)) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
            }
            _ => value,
        }
    }
}

/// A configuration in which each key stands that may; lists of tables have one entry.
fn every_key() -> Config {
    Config { replication: Some(ReplicationConfig::every_key()), ..Config::default() }
}

fn list(known: &Value, above: &str, names: &mut Vec<String>) {
    if let Value::Array(items) = known {
        let above = format!("{}[].", above.trim_end_matches('.'));
        items.first().into_iter().for_each(|item| list(item, &above, names));
    }
    let Value::Object(known) = known else { return };
    for (key, value) in known {
        names.push(format!("{above}{key}"));
        list(value, &format!("{above}{key}."), names);
    }
}
