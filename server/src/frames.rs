//! Frames of subscriptions as JSON text, built once for all sockets that get the same.
//!
//! The changes of an event are JSON text already; only the name before them differs from socket to
//! socket. Clients number their subscriptions alike, so most of them ask for the same frame.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use trellis_subscribe::{Acknowledgement, Event};
use trellis_tree::ChangeCause;

use crate::answer::{push_error_fields, push_number, push_string};
use crate::error::WireError;

/// Frames that are kept to be shared.
const SHARED_MAX: usize = 16;

/// The frame of an event; `key` only to the connection that made the commit.
pub(crate) fn event(name: &str, event: &Event, key: Option<&str>) -> Utf8Bytes {
    let mut out = Vec::with_capacity(event.body.len() + name.len() + 64);
    out.extend_from_slice(b"{\"sub\":");
    push_string(&mut out, name);
    out.extend_from_slice(b",\"rev\":");
    push_number(&mut out, event.rev);
    if let Some(key) = key {
        out.extend_from_slice(b",\"key\":");
        push_string(&mut out, key);
    }
    if let Some(cause) = cause_name(event.cause) {
        out.extend_from_slice(b",\"cause\":");
        push_string(&mut out, cause);
    }
    out.extend_from_slice(b",\"events\":");
    out.extend_from_slice(&event.body);
    out.push(b'}');
    utf8(out)
}

/// Why a commit happened, where it was nobody's request.
pub(crate) fn cause_name(cause: ChangeCause) -> Option<&'static str> {
    match cause {
        ChangeCause::Request => None,
        ChangeCause::Ttl => Some("ttl"),
        ChangeCause::Upkeep => Some("upkeep"),
    }
}

/// The frame with a new snapshot for a subscription that lost events.
pub(crate) fn reset(name: &str, acknowledged: &Acknowledgement) -> Utf8Bytes {
    let mut out = Vec::with_capacity(acknowledged.data.len() + name.len() + 96);
    out.extend_from_slice(b"{\"sub\":");
    push_string(&mut out, name);
    out.extend_from_slice(b",\"reset\":true,\"rev\":");
    push_number(&mut out, acknowledged.rev);
    out.extend_from_slice(b",\"epoch\":");
    push_string(&mut out, &acknowledged.epoch);
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(&acknowledged.data);
    out.push(b'}');
    utf8(out)
}

/// The last frame of a subscription that the server gives up.
pub(crate) fn cancelled(name: &str, error: &WireError) -> Utf8Bytes {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(b"{\"sub\":");
    push_string(&mut out, name);
    out.extend_from_slice(b",\"cancel\":{");
    push_error_fields(&mut out, error);
    out.extend_from_slice(b"}}");
    utf8(out)
}

/// JSON text as a frame's payload.
pub(crate) fn utf8(json: Vec<u8>) -> Utf8Bytes {
    // Built from strings and JSON text only.
    Utf8Bytes::try_from(Bytes::from(json)).unwrap_or_default()
}

/// The newest frames, for the sockets that are to get them too.
pub(crate) struct Frames {
    slots: [Mutex<Option<Shared>>; SHARED_MAX],
}

struct Shared {
    /// Which event it is of: the address is not given to another one while this is held.
    event: Weak<Event>,
    name: Arc<str>,
    frame: Utf8Bytes,
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self { slots: Default::default() }
    }

    /// The frame of an event without its key, shared with whoever asks for the same.
    pub(crate) fn shared(&self, name: &Arc<str>, of: &Arc<Event>) -> Utf8Bytes {
        if Arc::strong_count(of) == 1 {
            // Nobody else gets it.
            return event(name, of, None);
        }
        // Sockets that are told a commit at the same time share a place for each.
        let place = usize::try_from(of.rev % SHARED_MAX as u64).unwrap_or_default();
        let Some(slot) = self.slots.get(place) else {
            return event(name, of, None);
        };
        // No code panics while it holds the lock.
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = &*slot
            && Weak::as_ptr(&shared.event) == Arc::as_ptr(of)
            && shared.name == *name
        {
            return shared.frame.clone();
        }
        let frame = event(name, of, None);
        let shared =
            Shared { event: Arc::downgrade(of), name: Arc::clone(name), frame: frame.clone() };
        *slot = Some(shared);
        frame
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rev: u64, cause: ChangeCause) -> Arc<Event> {
        let body = Bytes::from_static(br#"[{"type":"value","value":1}]"#);
        Arc::new(Event { rev, cause, commit_key: Some("k".into()), body })
    }

    #[test]
    fn a_frame_names_its_subscription_first_and_the_key_only_to_its_writer() {
        assert_eq!(
            event("4", &sample(42, ChangeCause::Request), None).as_str(),
            r#"{"sub":"4","rev":42,"events":[{"type":"value","value":1}]}"#
        );
        assert_eq!(
            event("\"", &sample(42, ChangeCause::Ttl), Some("k")).as_str(),
            r#"{"sub":"\"","rev":42,"key":"k","cause":"ttl","events":[{"type":"value","value":1}]}"#
        );
    }

    #[test]
    fn frames_are_shared_between_sockets_of_the_same_name_and_never_mistaken() {
        let frames = Frames::new();
        let names: [Arc<str>; 3] = ["1".into(), "2".into(), "3".into()];
        let again: Arc<str> = "1".into();
        for rev in 0..1_000 {
            let one = sample(rev, ChangeCause::Request);
            let _other_receiver = Arc::clone(&one);
            let first = frames.shared(&names[0], &one);
            let second = frames.shared(&again, &one);
            assert_eq!(first.as_str().as_ptr(), second.as_str().as_ptr(), "built twice");
            for name in &names {
                assert_eq!(frames.shared(name, &one), event(name, &one, None));
            }
        }
    }
}
