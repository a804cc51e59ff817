//! How far a feed has come: a leaf at `_repl/feeds/<feed>`, written with the data it stands for.
//!
//! It is one text, whatever it says: each commit that a follower applies carries it, so what it
//! takes to write it counts.

use bytes::Bytes;
use serde_json::{Value, json};
use trellis_engine_traits::Result;
use trellis_tree::{Input, Path};

use crate::message::LogPosition;

/// How far a follower has come, and under which plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedPosition {
    /// The node that wrote it: in a restored copy it is another one, and the position void.
    pub node: u128,
    /// The plan under which it follows.
    pub fingerprint: u64,
    /// The commit up to which it has everything; while pages come, that behind which the tail will
    /// begin.
    pub at: LogPosition,
    /// The pages that are missing.
    pub fill: Option<FillPosition>,
    /// The source's newest commit when the last pages were read: nothing is missing once the feed
    /// has come to it.
    pub complete_at: u64,
}

/// Where pages go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FillPosition {
    /// For a delta: what it goes on from.
    pub since: Option<LogPosition>,
    /// The prefix, by its place in the plan.
    pub part: u32,
    /// Where in it: a key or a cursor of the source's; `None`: at its beginning.
    pub next: Option<Bytes>,
    /// What the source knew of this node's log when the snapshot began.
    pub known_rev: u64,
}

impl FeedPosition {
    /// The path of a feed's position.
    ///
    /// # Errors
    /// `InvalidInput` when the name is no path segment.
    pub fn path(feed: &str) -> Result<Path> {
        Path::from_segments(["_repl", "feeds", feed])
    }

    /// The note that a commit carries.
    ///
    /// # Errors
    /// `InvalidInput` when the name is no path segment.
    pub fn note(&self, feed: &str) -> Result<(Path, Input)> {
        Ok((Self::path(feed)?, Input::from_json(self.to_json().to_string().into())?))
    }
}

impl FeedPosition {
    /// Whether it says only whose it is: the feed is filled anew.
    #[must_use]
    pub fn is_void(&self) -> bool {
        self.at == LogPosition::default()
    }

    /// Reads a note; `None` when it is none, so that the feed is filled anew.
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        let value: &Value = &serde_json::from_str(value.as_str()?).ok()?;
        let fill = match value.get("fill") {
            None => None,
            Some(fill) => Some(FillPosition {
                since: match fill.get("since") {
                    None => None,
                    Some(since) => Some(log_position(since)?),
                },
                part: u32::try_from(fill.get("part")?.as_u64()?).ok()?,
                next: match fill.get("next") {
                    None => None,
                    Some(next) => Some(unhex(next.as_str()?)?.into()),
                },
                known_rev: number(fill.get("knownRev")?)?,
            }),
        };
        Some(Self {
            node: u128::from_str_radix(value.get("node")?.as_str()?, 16).ok()?,
            fingerprint: number(value.get("plan")?)?,
            at: log_position(value.get("at")?)?,
            fill,
            complete_at: number(value.get("completeAt")?)?,
        })
    }

    fn to_json(&self) -> Value {
        let Self { node, fingerprint, at, fill, complete_at } = self;
        let mut value = json!({
            "node": format!("{node:032x}"),
            "plan": fingerprint.to_string(),
            "at": log_json(at),
            "completeAt": complete_at.to_string(),
        });
        let Some(FillPosition { since, part, next, known_rev }) = fill else { return value };
        let mut fill = json!({ "part": part, "knownRev": known_rev.to_string() });
        if let (Some(since), Some(fill)) = (since, fill.as_object_mut()) {
            fill.insert("since".into(), log_json(since));
        }
        if let (Some(next), Some(fill)) = (next, fill.as_object_mut()) {
            fill.insert("next".into(), hex(next).into());
        }
        if let Some(value) = value.as_object_mut() {
            value.insert("fill".into(), fill);
        }
        value
    }
}

/// A place in a history; numbers are texts, because JSON's end at 53 bits for some who read them.
pub(crate) fn log_json(at: &LogPosition) -> Value {
    json!({
        "log": format!("{:032x}", at.log_id),
        "rev": at.rev.to_string(),
        "hash": hex(&at.hash),
    })
}

pub(crate) fn log_position(value: &Value) -> Option<LogPosition> {
    Some(LogPosition {
        log_id: u128::from_str_radix(value.get("log")?.as_str()?, 16).ok()?,
        rev: number(value.get("rev")?)?,
        hash: unhex(value.get("hash")?.as_str()?)?.try_into().ok()?,
    })
}

pub(crate) fn number(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    (text.len().is_multiple_of(2)).then(|| digits.map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(position: &FeedPosition) -> Option<FeedPosition> {
        FeedPosition::from_json(&position.to_json().to_string().into())
    }

    /// Promise: what each commit of a feed carries is one leaf.
    #[test]
    fn a_position_is_one_text() {
        let node = crate::store_tests::node(&crate::store_tests::hub());
        let at = LogPosition::default();
        let position = FeedPosition { node: 3, fingerprint: 1, at, fill: None, complete_at: 1 };
        let task =
            crate::task::Task::SavePosition { feed: "up".into(), position: position.clone() };
        node.store.execute(crate::event::Now::default(), task);
        let stored = node.store.tree().view().unwrap().get(&FeedPosition::path("up").unwrap());
        let stored = stored.unwrap();
        assert!(stored.is_string() && FeedPosition::from_json(&stored) == Some(position));
    }

    #[test]
    fn a_position_reads_back_as_it_was_written() {
        let at = LogPosition { log_id: 7 << 100, rev: u64::MAX, hash: [9; 16] };
        let mut position =
            FeedPosition { node: 3, fingerprint: u64::MAX, at, fill: None, complete_at: 1 };
        assert_eq!(read(&position), Some(position.clone()));
        let next = Some(Bytes::from_static(b"a\0\xff"));
        let mut fill = FillPosition { since: None, part: 2, next, known_rev: 8 };
        position.fill = Some(fill.clone());
        assert_eq!(read(&position), Some(position.clone()));
        (fill.since, fill.next) = (Some(at), None);
        position.fill = Some(fill);
        assert_eq!(read(&position), Some(position));
    }

    #[test]
    fn what_is_no_position_counts_for_nothing() {
        for text in ["", "null", "{}", r#"{"node":"x"}"#, r#"{"at":{"hash":"0"}}"#] {
            assert_eq!(FeedPosition::from_json(&text.into()), None);
        }
        assert_eq!(FeedPosition::from_json(&json!({ "at": 1 })), None);
    }
}
