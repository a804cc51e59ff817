//! Requests for subscriptions and queries: from the fields of a frame to plain requests.
//!
//! Invariants: a field that the kind of subscription does not have is refused, never ignored;
//! `since` and `epoch` come together or not at all. What a query means `trellis_query` decides:
//! here its fields are only put together to the one JSON text that it reads.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer::{push_number, push_string};
use crate::error::WireError;
use crate::operation::{ID_BYTES_MAX, missing};
use crate::text::Text;

/// What a subscription tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Value,
    Child,
    /// The query as JSON text, its path included.
    Query(String),
}

/// How much an event carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Full,
    Patch,
    Notify,
}

/// Where a subscription goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resume {
    pub(crate) since: u64,
    pub(crate) epoch: String,
}

/// One subscription that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// Its id on the connection.
    pub(crate) name: String,
    /// The path, `*` for any segment.
    pub(crate) path: String,
    pub(crate) event: Event,
    pub(crate) mode: Mode,
    pub(crate) resume: Option<Resume>,
}

/// The fields of a query, as they came.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct QueryFields<'a> {
    pub(crate) filter: Option<&'a RawValue>,
    pub(crate) order_by: Option<&'a RawValue>,
    pub(crate) limit: Option<u64>,
    pub(crate) cursor: Option<&'a RawValue>,
    pub(crate) select: Option<&'a RawValue>,
    pub(crate) count: Option<&'a RawValue>,
    pub(crate) aggregate: Option<&'a RawValue>,
}

impl QueryFields<'_> {
    fn raw(&self) -> [(&'static str, Option<&RawValue>); 6] {
        [
            ("where", self.filter),
            ("orderBy", self.order_by),
            ("cursor", self.cursor),
            ("select", self.select),
            ("count", self.count),
            ("aggregate", self.aggregate),
        ]
    }

    /// A field that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let raw = self.raw().into_iter().find(|(_, value)| value.is_some());
        raw.map(|(name, _)| name).or_else(|| self.limit.map(|_| "limit"))
    }

    /// The query on `path` as JSON text.
    pub(crate) fn text(&self, path: &str) -> String {
        let mut out = b"{\"path\":".to_vec();
        push_string(&mut out, path);
        if let Some(limit) = self.limit {
            out.extend_from_slice(b",\"limit\":");
            push_number(&mut out, limit);
        }
        for (name, value) in self.raw() {
            if let Some(value) = value {
                out.push(b',');
                push_string(&mut out, name);
                out.push(b':');
                out.extend_from_slice(value.get().as_bytes());
            }
        }
        out.push(b'}');
        // Put together from JSON text only.
        String::from_utf8(out).unwrap_or_default()
    }
}

/// The fields of a subscription, as they came.
#[derive(Debug, Default)]
pub(crate) struct SubscriptionFields<'a> {
    pub(crate) path: Option<Text<'a>>,
    pub(crate) event: Option<Text<'a>>,
    pub(crate) mode: Option<Text<'a>>,
    pub(crate) since: Option<u64>,
    pub(crate) epoch: Option<Text<'a>>,
    pub(crate) query: QueryFields<'a>,
}

impl SubscriptionFields<'_> {
    /// The subscription of this name, or why there is none.
    pub(crate) fn build(self, name: String) -> Result<Subscription, WireError> {
        let path = self.path.ok_or_else(|| missing("path"))?.into_owned();
        let mode = match self.mode.as_deref() {
            None | Some("full") => Mode::Full,
            Some("patch") => Mode::Patch,
            Some("notify") => Mode::Notify,
            Some(other) => return Err(unknown("mode", other, "full, patch and notify")),
        };
        let event = match self.event.as_deref() {
            None | Some("value") => Event::Value,
            Some("child") => Event::Child,
            Some("query") => Event::Query(self.query.text(&path)),
            Some(other) => return Err(unknown("event", other, "value, child and query")),
        };
        match event {
            Event::Query(_) if self.query.cursor.is_some() => {
                return Err(not_of("query", "cursor"));
            }
            Event::Query(_) if self.query.count.is_some() || self.query.aggregate.is_some() => {
                return Err(WireError::invalid(
                    "a live query gives items: ask for count and aggregate with query, and again \
                     when a subscription in mode notify says that something changed",
                ));
            }
            Event::Query(_) => {}
            Event::Value | Event::Child => {
                if let Some(field) = self.query.given() {
                    let kind = if event == Event::Value { "value" } else { "child" };
                    return Err(not_of(kind, field));
                }
            }
        }
        let resume = match (self.since, self.epoch) {
            (None, None) => None,
            (Some(since), Some(epoch)) => Some(Resume { since, epoch: epoch.into_owned() }),
            (Some(_), None) => return Err(missing_beside("epoch", "since")),
            (None, Some(_)) => return Err(missing_beside("since", "epoch")),
        };
        Ok(Subscription { name, path, event, mode, resume })
    }
}

/// One subscription of `batch-sub`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct WireSubscription<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow, default)]
    path: Option<Text<'a>>,
    #[serde(borrow, default)]
    event: Option<Text<'a>>,
    #[serde(borrow, default)]
    mode: Option<Text<'a>>,
    #[serde(default)]
    since: Option<u64>,
    #[serde(borrow, default)]
    epoch: Option<Text<'a>>,
    #[serde(borrow, default, rename = "where")]
    filter: Option<&'a RawValue>,
    #[serde(borrow, default)]
    order_by: Option<&'a RawValue>,
    #[serde(default)]
    limit: Option<u64>,
    #[serde(borrow, default)]
    select: Option<&'a RawValue>,
}

/// A subscription of `batch-sub`, or why it is none, under the id it came with.
pub(crate) type Listed = (String, Result<Subscription, Box<WireError>>);

/// The subscriptions of `batch-sub`; one that makes no sense does not spoil the others.
pub(crate) fn listed(subscriptions: Vec<WireSubscription<'_>>) -> Result<Vec<Listed>, WireError> {
    if subscriptions.is_empty() {
        return Err(WireError::invalid("there is nothing to subscribe to: the list is empty"));
    }
    let mut listed = Vec::with_capacity(subscriptions.len());
    for wire in subscriptions {
        if wire.id.len() > ID_BYTES_MAX {
            return Err(WireError::invalid(format!("an id has at most {ID_BYTES_MAX} bytes")));
        }
        let name = wire.id.into_owned();
        let fields = SubscriptionFields {
            path: wire.path,
            event: wire.event,
            mode: wire.mode,
            since: wire.since,
            epoch: wire.epoch,
            query: QueryFields {
                filter: wire.filter,
                order_by: wire.order_by,
                limit: wire.limit,
                select: wire.select,
                ..QueryFields::default()
            },
        };
        let built = fields.build(name.clone()).map_err(Box::new);
        listed.push((name, built));
    }
    Ok(listed)
}

fn unknown(field: &str, value: &str, known: &str) -> WireError {
    let shown: String = value.chars().take(40).collect();
    WireError::invalid(format!("{shown:?} is no {field}; there are {known}"))
}

fn not_of(kind: &str, field: &str) -> WireError {
    WireError::invalid(format!("a subscription with event {kind:?} has no field {field:?}"))
}

fn missing_beside(field: &str, beside: &str) -> WireError {
    WireError::invalid(format!(
        "a subscription resumes with since and epoch: beside {beside:?} the field {field:?} is \
         missing; both come with the acknowledgement"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Command, LiveCommand, ReadCommand, Request};

    fn command(text: &str) -> Command {
        Request::parse(text).expect("a request").command
    }

    fn subscription(text: &str) -> Subscription {
        match command(text) {
            Command::Live(LiveCommand::Subscribe(subscription)) => *subscription,
            other => panic!("no subscription: {other:?}"),
        }
    }

    fn refusal(text: &str) -> (&'static str, String) {
        let refused = Request::parse(text).expect_err("to be refused");
        (refused.error.code, refused.error.message)
    }

    #[test]
    fn a_subscription_is_named_by_its_request_and_tells_of_whole_values_unless_told_else() {
        let plain = subscription(r#"{"id":"7","op":"sub","path":"rooms/*/name"}"#);
        let expected = Subscription {
            name: "7".to_owned(),
            path: "rooms/*/name".to_owned(),
            event: Event::Value,
            mode: Mode::Full,
            resume: None,
        };
        assert_eq!(plain, expected);
        let resumed = subscription(
            r#"{"id":"8","op":"sub","path":"a","event":"child","mode":"patch",
                "since":7,"epoch":"e.1"}"#,
        );
        assert_eq!((resumed.event, resumed.mode), (Event::Child, Mode::Patch));
        assert_eq!(resumed.resume, Some(Resume { since: 7, epoch: "e.1".to_owned() }));
    }

    #[test]
    fn a_live_query_carries_its_fields_as_they_came() {
        let live = subscription(
            r#"{"id":"1","op":"sub","path":"u","event":"query","limit":5,
                "where":[["age",">=",18]]}"#,
        );
        let text = r#"{"path":"u","limit":5,"where":[["age",">=",18]]}"#;
        assert_eq!(live.event, Event::Query(text.to_owned()));
        match command(r#"{"id":"1","op":"query","path":"u","orderBy":"a","count":true}"#) {
            Command::Read(ReadCommand::Query { path, query }) => {
                assert_eq!(path, "u");
                assert_eq!(query, r#"{"path":"u","orderBy":"a","count":true}"#);
            }
            other => panic!("no query: {other:?}"),
        }
    }

    #[test]
    fn what_a_subscription_does_not_have_is_refused() {
        for text in [
            r#"{"id":"1","op":"sub"}"#,
            r#"{"id":"1","op":"sub","path":"a","event":"children"}"#,
            r#"{"id":"1","op":"sub","path":"a","mode":"diff"}"#,
            r#"{"id":"1","op":"sub","path":"a","since":3}"#,
            r#"{"id":"1","op":"sub","path":"a","epoch":"x"}"#,
            r#"{"id":"1","op":"sub","path":"a","since":-1,"epoch":"x"}"#,
            r#"{"id":"1","op":"sub","path":"a","where":[]}"#,
            r#"{"id":"1","op":"sub","path":"a","event":"child","limit":5}"#,
            r#"{"id":"1","op":"sub","path":"a","event":"query","cursor":"x"}"#,
            r#"{"id":"1","op":"sub","path":"a","event":"query","count":true}"#,
            r#"{"id":"1","op":"sub","path":"a","value":1}"#,
            r#"{"id":"1","op":"unsub"}"#,
            r#"{"id":"1","op":"unsub","path":"a"}"#,
            r#"{"id":"1","op":"batch-sub","subscriptions":[]}"#,
            r#"{"id":"1","op":"batch-sub","subscriptions":[{"path":"a"}]}"#,
            r#"{"id":"1","op":"batch-sub","subscriptions":[{"id":"a","path":"a","value":1}]}"#,
            r#"{"id":"1","op":"get","path":"a","event":"value"}"#,
            r#"{"id":"1","op":"query","where":[]}"#,
        ] {
            assert_eq!(refusal(text).0, "invalid", "{text}");
        }
        let (_, message) = refusal(r#"{"id":"1","op":"sub","path":"a","since":3}"#);
        assert!(message.contains("epoch"), "{message}");
    }

    #[test]
    fn one_subscription_that_makes_no_sense_does_not_spoil_the_others() {
        let text = r#"{"id":"1","op":"batch-sub","subscriptions":[
            {"id":"a","path":"x"},{"id":"b","path":"x","event":"nothing"}]}"#;
        match command(text) {
            Command::Live(LiveCommand::SubscribeAll(listed)) => {
                assert_eq!(listed.len(), 2);
                assert!(listed[0].1.is_ok());
                assert_eq!(listed[1].0, "b");
                assert_eq!(listed[1].1.as_ref().expect_err("refused").code, "invalid");
            }
            other => panic!("no list: {other:?}"),
        }
    }
}
