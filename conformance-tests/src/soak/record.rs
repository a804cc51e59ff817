//! What a subscriber got, in the order in which it came; texts that many got are kept once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What came for a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// Everything, as of a rev.
    Snapshot { rev: u64, data: Arc<Text>, why: Why },
    /// The server goes on after this rev.
    Resumed { rev: u64 },
    /// The events of one commit.
    Told { rev: u64, frame: Arc<Text> },
}

impl Item {
    pub(super) fn rev(&self) -> u64 {
        match self {
            Self::Snapshot { rev, .. } | Self::Resumed { rev } | Self::Told { rev, .. } => *rev,
        }
    }
}

/// Why a snapshot came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Why {
    /// It was asked for.
    Asked,
    /// What was missed during a disconnection could not be told.
    NotResumed,
    /// The subscriber was too slow, said the server.
    Slow,
}

/// JSON as it came, and the cause of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) cause: Option<Box<str>>,
    pub(super) json: Box<str>,
}

/// All that one subscription got.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    /// Who it was, for messages.
    pub(super) name: String,
    /// Its place among the topics.
    pub(super) topic: usize,
    pub(super) items: Vec<Item>,
}

/// Texts of one topic by their rev.
type Known = HashMap<u64, Vec<Arc<Text>>>;

/// Texts that were seen, by topic.
#[derive(Debug)]
pub(super) struct Texts(Vec<Mutex<Known>>);

impl Texts {
    pub(super) fn new(topics: usize) -> Self {
        Self((0..topics).map(|_| Mutex::default()).collect())
    }

    /// The text, kept once.
    pub(super) fn keep(
        &self,
        topic: usize,
        rev: u64,
        json: &str,
        cause: Option<&str>,
    ) -> Arc<Text> {
        let mut known = self.0[topic].lock().unwrap_or_else(PoisonError::into_inner);
        let same = known.entry(rev).or_default();
        let found = same.iter().find(|text| *text.json == *json && text.cause.as_deref() == cause);
        if let Some(found) = found {
            return Arc::clone(found);
        }
        let text = Arc::new(Text { cause: cause.map(Box::from), json: json.into() });
        same.push(Arc::clone(&text));
        text
    }
}
