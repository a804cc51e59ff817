//! [`Description`]: what is open, in the words of the start-up lines.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use trellis_engine_traits::{Persistence, Semantic};
use trellis_topology::Topology;

use crate::config::Config;
use crate::profile::Profile;
use crate::registry::{Choice, Engines};
use crate::replication_description::ReplicationDescription;

/// One engine of an open database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EngineDescription {
    /// The URL as configured.
    pub url: String,
    /// The engine's name: `redb`.
    pub name: &'static str,
    /// Where its data is after the process has ended: `volatile`, `disk` or `remote`.
    pub persistence: &'static str,
    /// Promises that the adapter provides because the engine does not.
    pub emulated: Vec<&'static str>,
}

/// What is open and what it promises. `Display` gives the lines that a program prints at its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// The version of Trellis.
    pub version: &'static str,
    /// The profile that the defaults came from.
    pub profile: Profile,
    /// The data directory; `None` when everything is in memory.
    pub data: Option<PathBuf>,
    /// The store.
    pub kv: EngineDescription,
    /// The journal.
    pub log: EngineDescription,
    /// When commits are acknowledged: `always` durable, or `interval:1s`, with exceptions by
    /// prefix; `none` when the journal is in memory.
    pub durability: String,
    /// What the node owns, follows and serves; `None` without `replication`.
    pub replication: Option<ReplicationDescription>,
    /// What one should know before relying on it; empty for the default profile.
    pub warnings: Vec<String>,
}

impl Description {
    pub(crate) fn new(
        config: &Config,
        choice: &Choice,
        engines: &Engines,
        topology: Option<&Topology>,
    ) -> Self {
        let (kv, log) = (engines.kv.profile(), engines.log.profile());
        let kv = EngineDescription {
            url: choice.kv.to_string(),
            name: kv.name,
            persistence: persistence(kv.persistence),
            emulated: kv.emulated.iter().copied().map(emulated).collect(),
        };
        let log = EngineDescription {
            url: choice.log.to_string(),
            name: log.name,
            persistence: persistence(log.persistence),
            emulated: log.emulated.iter().copied().map(emulated).collect(),
        };
        let mut warnings: Vec<String> =
            choice.cautions.iter().map(|caution| (*caution).to_owned()).collect();
        match (kv.persistence, log.persistence) {
            ("volatile", "volatile") => warnings
                .push("store and journal are in memory: everything ends with the process".into()),
            (_, "volatile") => warnings.push(
                "the journal is in memory: a crash loses what the store does not hold yet".into(),
            ),
            ("volatile", _) => warnings.push(
                "the store is in memory: the whole journal is kept and replayed at every start"
                    .into(),
            ),
            _ => {}
        }
        if !config.durability.is_always() {
            warnings.push(format!(
                "durability is {}: a crash may lose what was acknowledged within the interval",
                config.durability
            ));
        }
        let replication = config.replication.as_ref().zip(topology);
        let replication = replication.map(|(config, topology)| {
            let described = ReplicationDescription::new(config, topology);
            warnings.extend(described.cautions(config));
            described
        });
        let durability = match log.persistence {
            "volatile" => "none (the journal is in memory)".to_owned(),
            _ => config.durability.to_string(),
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            profile: config.profile,
            data: (!choice.is_in_memory()).then(|| config.data.clone()),
            kv,
            log,
            durability,
            replication,
            warnings,
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trellis {}: ", self.version)?;
        match &self.data {
            Some(data) => write!(f, "data in {}", data.display())?,
            None => f.write_str("no data on disk")?,
        }
        write!(f, ", store {}, journal {}", self.kv.url, self.log.url)?;
        write!(f, ", durability {}", self.durability)?;
        for (what, engine) in [("store", &self.kv), ("journal", &self.log)] {
            if !engine.emulated.is_empty() {
                write!(f, "\n{what} {} emulates: {}", engine.name, engine.emulated.join(", "))?;
            }
        }
        if let Some(replication) = &self.replication {
            write!(f, "\n{replication}")?;
        }
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

fn persistence(persistence: Persistence) -> &'static str {
    match persistence {
        Persistence::Volatile => "volatile",
        Persistence::Disk => "disk",
        Persistence::Remote => "remote",
    }
}

fn emulated(semantic: Semantic) -> &'static str {
    match semantic {
        Semantic::SnapshotIsolation => "snapshot isolation",
        Semantic::PowerLossDurability => "durability over loss of power",
        Semantic::RangeDelete => "removal of ranges",
        _ => "another promise",
    }
}
