//! Server-sent events as text: what `curl -N` shows and what an EventSource reads.
//!
//! Invariants: one event is one `data` line, because JSON text holds no line break; only events
//! that carry data have an `id`, so that an EventSource never resumes behind what it has seen.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

use crate::answer::{push_error_fields, push_number, push_string};
use crate::error::WireError;

/// A comment that keeps the connection in use; no event for the reader.
pub(crate) const HEARTBEAT: &[u8] = b": still here\n\n";
/// Said when a stream goes on where `Last-Event-ID` left it.
pub(crate) const RESUMED: &[u8] = b": resumed\n\n";

/// The `put` or `reset` event with the whole value, query answer or the like.
pub(crate) fn snapshot(is_reset: bool, epoch: &str, rev: u64, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 96);
    begin(&mut out, if is_reset { "reset" } else { "put" });
    out.extend_from_slice(b"{\"path\":\"/\",\"data\":");
    out.extend_from_slice(data);
    out.push(b'}');
    end(&mut out, epoch, rev);
    out
}

/// The event of one commit; `body` is the JSON array of its changes, as in a frame.
///
/// A change of a value becomes a `put` of the one path that changed, or a `patch` of several;
/// everything else is a `patch` with the changes as they are.
pub(crate) fn changes(epoch: &str, rev: u64, cause: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 96);
    match patch_of(body) {
        Some(Change::Put { path, value }) => {
            begin(&mut out, "put");
            out.extend_from_slice(b"{\"path\":");
            push_string(&mut out, &format!("/{path}"));
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(value.get().as_bytes());
        }
        Some(Change::Patch(data)) => {
            begin(&mut out, "patch");
            out.extend_from_slice(b"{\"path\":\"/\",\"data\":");
            out.extend_from_slice(data.get().as_bytes());
        }
        None => {
            begin(&mut out, "patch");
            out.extend_from_slice(b"{\"path\":\"/\",\"events\":");
            out.extend_from_slice(body);
        }
    }
    if let Some(cause) = cause {
        out.extend_from_slice(b",\"cause\":");
        push_string(&mut out, cause);
    }
    out.push(b'}');
    end(&mut out, epoch, rev);
    out
}

/// The last event: the server gives the stream up, and says why.
pub(crate) fn cancel(error: &WireError) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    begin(&mut out, "cancel");
    out.push(b'{');
    push_error_fields(&mut out, error);
    out.extend_from_slice(b"}\n\n");
    out
}

/// The rev and the epoch token of an id that [`end`] wrote.
pub(crate) fn parse_id(id: &str) -> Option<(u64, String)> {
    let (epoch, rev) = id.trim().rsplit_once('-')?;
    Some((rev.parse().ok()?, epoch.to_owned()))
}

fn begin(out: &mut Vec<u8>, event: &str) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\ndata: ");
}

fn end(out: &mut Vec<u8>, epoch: &str, rev: u64) {
    out.extend_from_slice(b"\nid: ");
    out.extend_from_slice(epoch.as_bytes());
    out.push(b'-');
    push_number(out, rev);
    out.extend_from_slice(b"\n\n");
}

/// A change of the value itself.
#[derive(Debug)]
enum Change<'a> {
    Put { path: String, value: &'a RawValue },
    Patch(&'a RawValue),
}

/// A change of one value: its new value, or what changed below it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValueChange<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default, deserialize_with = "crate::operation::present")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    patch: Option<&'a RawValue>,
}

/// The only member of an object, if there is exactly one.
struct Single<'a>(Option<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Single<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SingleVisitor;

        impl<'de> Visitor<'de> for SingleVisitor {
            type Value = Single<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of path: value")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut single = None;
                let mut members = 0;
                while let Some(entry) = map.next_entry()? {
                    members += 1;
                    single = Some(entry);
                }
                Ok(Single(single.filter(|_| members == 1)))
            }
        }

        deserializer.deserialize_map(SingleVisitor)
    }
}

/// The change of a value subscription; `None` for what has to be told as it is.
fn patch_of(body: &[u8]) -> Option<Change<'_>> {
    // A subscription of one value has one change a commit; child and query changes, and those of
    // wildcards, have members that a change of one value has not.
    let changes: Vec<ValueChange<'_>> = serde_json::from_slice(body).ok()?;
    let [ValueChange { kind, value, patch }] = changes.as_slice() else {
        return None;
    };
    if kind != "value" {
        return None;
    }
    match (value, patch) {
        (Some(value), None) => Some(Change::Put { path: String::new(), value }),
        (None, Some(patch)) => match serde_json::from_str::<Single<'_>>(patch.get()).ok()? {
            Single(Some((path, value))) => Some(Change::Put { path, value }),
            Single(None) => Some(Change::Patch(patch)),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_snapshot_is_a_put_of_the_root_with_the_id_to_resume_from() {
        assert_eq!(
            text(snapshot(false, "0123.1", 41, br#"{"a":1}"#)),
            "event: put\ndata: {\"path\":\"/\",\"data\":{\"a\":1}}\nid: 0123.1-41\n\n"
        );
        assert!(text(snapshot(true, "0123.1", 41, b"null")).starts_with("event: reset\n"));
        assert_eq!(parse_id("0123.1-41"), Some((41, "0123.1".to_owned())));
        assert_eq!(parse_id("a-b-7"), Some((7, "a-b".to_owned())));
        for id in ["", "7", "x-", "x-y", "x--1"] {
            assert!(parse_id(id).is_none_or(|(rev, _)| rev == 1), "{id}");
        }
    }

    #[test]
    fn what_changed_in_a_value_is_a_put_of_one_path_or_a_patch_of_several() {
        assert_eq!(
            text(changes("e", 7, None, br#"[{"type":"value","patch":{"x/y":null}}]"#)),
            "event: put\ndata: {\"path\":\"/x/y\",\"data\":null}\nid: e-7\n\n"
        );
        assert_eq!(
            text(changes("e", 7, Some("ttl"), br#"[{"type":"value","patch":{"":3}}]"#)),
            "event: put\ndata: {\"path\":\"/\",\"data\":3,\"cause\":\"ttl\"}\nid: e-7\n\n"
        );
        assert_eq!(
            text(changes("e", 7, None, br#"[{"type":"value","patch":{"x":1,"y":2}}]"#)),
            "event: patch\ndata: {\"path\":\"/\",\"data\":{\"x\":1,\"y\":2}}\nid: e-7\n\n"
        );
        assert_eq!(
            text(changes("e", 7, None, br#"[{"type":"value","value":null}]"#)),
            "event: put\ndata: {\"path\":\"/\",\"data\":null}\nid: e-7\n\n"
        );
    }

    #[test]
    fn everything_else_is_told_as_in_a_frame() {
        for body in [
            r#"[{"type":"value"}]"#,
            r#"[{"type":"added","key":"k","value":1},{"type":"changed","key":"l","value":2}]"#,
            r#"[{"type":"value","path":"r/1","captures":["1"],"value":5}]"#,
        ] {
            let expected =
                format!("event: patch\ndata: {{\"path\":\"/\",\"events\":{body}}}\nid: e-7\n\n");
            assert_eq!(text(changes("e", 7, None, body.as_bytes())), expected);
        }
    }

    #[test]
    fn the_last_event_says_why_and_has_no_id() {
        let error = WireError::too_large("the value is larger than a frame");
        assert_eq!(
            text(cancel(&error)),
            "event: cancel\ndata: {\"error\":\"too_large\",\"message\":\"the value is larger than \
             a frame\"}\n\n"
        );
    }
}
