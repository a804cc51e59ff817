//! [`ConfigBuilder`]: settings from a file, the environment and explicit overrides, in layers.
//!
//! Invariants:
//! 1. Precedence: defaults, then the profile, then the file, then the environment, then overrides.
//! 2. Each layer is checked alone, so that an error names the file or the variable at fault.
//!
//! Deliberately absent: searching for files. A file is read when it is named, and only then.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::config::Config;
use crate::known_keys::KnownKeys;

/// Variables that begin with `TRELLIS_` and are for programs around the database, not settings.
const NOT_SETTINGS: [&str; 6] = [
    "TRELLIS_CONFIG", // the file itself, for the command line
    "TRELLIS_URL",    // the server to talk to, for the command line
    "TRELLIS_TOKEN",
    "TRELLIS_BIN",
    "TRELLIS_SEED",
    "TRELLIS_TEST",
];

const PREFIX: &str = "TRELLIS_";

/// Collects settings; later sources override earlier ones whatever the order of the calls.
///
/// ```
/// use trellis::Config;
///
/// let config = Config::builder()
///     .variables([("TRELLIS_SERVER__PORT", "4500"), ("TRELLIS_PROFILE", "edge")])
///     .set("server.port", 4600)
///     .load()?;
/// assert_eq!(config.server.port, 4600);
/// assert_eq!(config.kv_url(), "sqlite:trellis.sqlite");
/// # Ok::<(), trellis::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ConfigBuilder {
    file: Option<PathBuf>,
    /// A text in place of a file, and whether it is JSON.
    text: Option<(String, bool)>,
    variables: Vec<(String, String)>,
    overrides: Vec<(String, Value)>,
}

/// Settings of one origin.
struct Layer {
    origin: String,
    value: Value,
}

impl Config {
    /// Collects settings from a file, the environment and explicit overrides.
    #[must_use]
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }
}

impl ConfigBuilder {
    /// Reads this file, TOML or JSON by its extension.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Takes a text as if a file held it.
    pub(crate) fn text(mut self, text: &str, is_json: bool) -> Self {
        self.text = Some((text.to_owned(), is_json));
        self
    }

    /// Takes the variables of the process's environment that begin with `TRELLIS_`.
    #[must_use]
    pub fn environment(self) -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()));
        self.variables(variables)
    }

    /// Takes these variables as if they were in the environment; others than `TRELLIS_...` are
    /// ignored.
    #[must_use]
    pub fn variables<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<String>,
        V: Into<String>,
    {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.variables.extend(variables.filter(|(name, _): &(String, String)| {
            name.starts_with(PREFIX) && !NOT_SETTINGS.iter().any(|other| name.starts_with(other))
        }));
        self
    }

    /// Overrides one key, levels separated by dots: `set("server.port", 4401)`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.overrides.push((key.to_owned(), value.into()));
        self
    }

    /// Overrides one key if there is a value: for options of a command line.
    #[must_use]
    pub fn set_optional(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }

    /// Merges the layers.
    ///
    /// # Errors
    /// `InvalidInput` for an unknown key (with the nearest known one), a value of the wrong type, a
    /// file that is neither TOML nor JSON; `NotFound` or `Denied` for a file that cannot be read.
    /// Each names the file, variable or option, and the key.
    pub fn load(self) -> Result<Config> {
        let known = KnownKeys::of_config()?;
        let mut merged = Value::Object(Map::new());
        for layer in self.layers(&known)? {
            known.check(&layer.value, &layer.origin)?;
            typed(layer.value.clone(), &layer.origin)?;
            merge(&mut merged, layer.value);
        }
        typed(merged, "the configuration")
    }

    fn layers(self, known: &KnownKeys) -> Result<Vec<Layer>> {
        let mut layers = Vec::new();
        if let Some(path) = &self.file {
            layers.push(Layer { origin: path.display().to_string(), value: read_file(path)? });
        }
        if let Some((text, is_json)) = &self.text {
            let value = keys_of(text, *is_json).map_err(|message| {
                Error::new(ErrorKind::InvalidInput, message).operation("read configuration")
            })?;
            layers.push(Layer { origin: "the text".to_owned(), value });
        }
        let mut variables = self.variables;
        variables.sort();
        for (name, text) in variables {
            let levels = known.levels(name.trim_start_matches(PREFIX));
            let levels: Vec<&str> = levels.iter().map(String::as_str).collect();
            let value = nest(&levels, known.typed(&levels, Value::String(text)));
            layers.push(Layer { origin: format!("environment variable {name}"), value });
        }
        for (key, value) in self.overrides {
            let levels: Vec<&str> = key.split('.').collect();
            let value = nest(&levels, known.typed(&levels, value));
            layers.push(Layer { origin: format!("option {key}"), value });
        }
        Ok(layers)
    }
}

fn read_file(path: &Path) -> Result<Value> {
    let invalid = |message: String| {
        Error::new(ErrorKind::InvalidInput, format!("{}: {message}", path.display()))
            .operation("read configuration")
    };
    let is_json = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => false,
        Some("json") => true,
        _ => return Err(invalid("name the file .toml or .json".to_owned())),
    };
    let text = std::fs::read_to_string(path).map_err(|source| {
        crate::data_directory::io_error("the configuration file cannot be read", path, source)
    })?;
    keys_of(&text, is_json).map_err(invalid)
}

/// The keys that a TOML or JSON text holds, or what is wrong with it.
fn keys_of(text: &str, is_json: bool) -> Result<Value, String> {
    let value = if is_json {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    } else {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            format!("line {line}: {}", error.message())
        })?
    };
    match value {
        Value::Object(_) => Ok(value),
        _ => Err("the file has to hold one object of keys".to_owned()),
    }
}

fn typed(value: Value, origin: &str) -> Result<Config> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let key = error.path().to_string();
        let mut what = error.inner().to_string();
        // What stands there may be, or hold, a token.
        if key.starts_with("replication")
            && let Some((_, expected)) = what.rsplit_once(", expected ")
            && what.starts_with("invalid ")
        {
            let expected = match expected {
                "a sequence" => "a list",
                "u32" | "u64" | "usize" => "a whole number",
                name if name.starts_with("struct ") => "a table",
                other => other,
            };
            what = format!("another type: expected {expected}");
        }
        Error::new(ErrorKind::InvalidInput, format!("{origin}: `{key}`: {what}"))
            .operation("read configuration")
    })
}

fn nest(levels: &[&str], value: Value) -> Value {
    levels
        .iter()
        .rev()
        .fold(value, |inner, level| Value::Object(Map::from_iter([((*level).to_owned(), inner)])))
}

fn merge(base: &mut Value, layer: Value) {
    match (base, layer) {
        (Value::Object(base), Value::Object(layer)) => {
            for (key, value) in layer {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, layer) => *base = layer,
    }
}
