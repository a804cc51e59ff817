//! An index: its definition, and how far the store has come with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trellis_engine_traits::Result;

use crate::derivation::{Derivation, Derived, INDEXES_PATH};
use crate::json::JsonWriter;

/// Definitions that are kept; more can only come from a copy of something else.
const DEFINITIONS_MAX: usize = 64;
/// Bytes of an id, so that keys stay below what every store takes.
const ID_BYTES_MAX: usize = 64;

/// An index that is kept.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    pub(crate) id: String,
    pub(crate) json: Arc<Value>,
    pub(crate) derived: Arc<dyn Derived>,
    /// The commit that defined it; 0 for what the store knew at open.
    pub(crate) since: u64,
}

/// The indexes that are kept from a commit on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Definitions {
    pub(crate) from_rev: u64,
    pub(crate) all: Vec<Definition>,
}

/// How far an index is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Built {
    /// Items before this key are in it; and how many they were.
    Until(Bytes, u64),
    /// It holds every item; how many there were when it was built.
    Whole(u64),
}

/// An index as the store holds it.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) definition: Definition,
    pub(crate) built: Built,
    /// Why it is not built any further until the next open.
    pub(crate) failed: Option<String>,
}

/// The indexes that a store holds at its rev, by id.
pub(crate) type Indexes = BTreeMap<String, Progress>;

impl Progress {
    pub(crate) fn new(definition: Definition) -> Self {
        Self { definition, built: Built::Until(Bytes::new(), 0), failed: None }
    }

    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.built, Built::Whole(_))
    }
}

impl Definitions {
    pub(crate) fn get(&self, id: &str) -> Option<&Definition> {
        self.all.iter().find(|definition| definition.id == id)
    }

    /// What a state defines; `since` is given to what `known` does not define alike.
    pub(crate) fn read(
        derivation: &dyn Derivation,
        leaves: &BTreeMap<Bytes, Bytes>,
        known: &Self,
        since: u64,
    ) -> Result<Self> {
        let mut json = Vec::new();
        let mut writer = JsonWriter::default();
        for (key, stored) in leaves {
            writer.leaf(
                key.get(INDEXES_PATH.len() + 1..).unwrap_or_default(),
                stored,
                &mut json,
            )?;
        }
        writer.finish(&mut json)?;
        let Ok(Value::Object(values)) = serde_json::from_slice(&json) else {
            return Ok(Self { from_rev: since, all: Vec::new() });
        };
        let define = |(id, value): (String, Value)| {
            if let Some(same) = known.get(&id).filter(|known| *known.json == value) {
                return Some(same.clone());
            }
            match derivation.define(&value) {
                Ok(derived) => Some(Definition { id, json: Arc::new(value), derived, since }),
                Err(error) => {
                    tracing::warn!(%error, id, "an index is not kept: its definition is none");
                    None
                }
            }
        };
        let fits = values.into_iter().filter(|(id, _)| id.len() <= ID_BYTES_MAX);
        let all = fits.filter_map(define).take(DEFINITIONS_MAX).collect();
        Ok(Self { from_rev: since, all })
    }
}
