//! A link as its thread sees it: what arrived, what is on its way out, and whether it ended.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, LinkMessage, PeerLink, Result};
use trellis_runtime::{Alarm, Clock};

use crate::node_poll::{self, Boxed};

/// Frames handed in before anything else is done.
const FRAMES_MAX: usize = 4096;
/// Their bytes, about: a few bytes on the way may unpack to a large frame.
const FRAMES_BYTES_MAX: usize = 4 << 20;

pub(crate) struct Wire<'a> {
    link: &'a dyn PeerLink,
    waker: Waker,
    next: Option<Boxed<'a, Result<Option<Bytes>>>>,
    sending: Option<(usize, Boxed<'a, Result<()>>)>,
    queue: VecDeque<LinkMessage>,
    queued: usize,
    /// Nothing goes out any more; what arrived is still handed in.
    mute: bool,
    /// Why nothing arrives any more.
    ended: Option<String>,
}

impl<'a> Wire<'a> {
    pub(crate) fn new(link: &'a dyn PeerLink, alarm: &Arc<Alarm>) -> Self {
        Self {
            link,
            waker: node_poll::waker(alarm),
            next: None,
            sending: None,
            queue: VecDeque::new(),
            queued: 0,
            mute: false,
            ended: None,
        }
    }

    /// Bytes that wait to go out.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    pub(crate) fn ended(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    pub(crate) fn push(&mut self, body: Bytes, compress: bool) {
        if !self.mute {
            self.queued += body.len();
            self.queue.push_back(LinkMessage { body, compress });
        }
    }

    /// What has arrived, up to a bound; whether there may be more.
    pub(crate) fn receive(&mut self, frames: &mut Vec<Bytes>) -> bool {
        let link = self.link;
        let mut bytes = 0;
        while self.ended.is_none() {
            if frames.len() >= FRAMES_MAX || bytes >= FRAMES_BYTES_MAX {
                return true;
            }
            let next = self.next.get_or_insert_with(|| link.next());
            let Poll::Ready(received) = next.as_mut().poll(&mut Context::from_waker(&self.waker))
            else {
                return false;
            };
            self.next = None;
            match received {
                Ok(Some(frame)) => {
                    bytes += frame.len();
                    frames.push(frame);
                }
                Ok(None) => self.end(None),
                Err(error) => self.end(Some(&error)),
            }
        }
        false
    }

    /// Sends what goes out without waiting; whether all did.
    pub(crate) fn flush(&mut self) -> bool {
        let link = self.link;
        while !self.mute {
            if self.sending.is_none() {
                let Some(message) = self.queue.pop_front() else { return true };
                self.sending = Some((message.body.len(), link.send(message)));
            }
            let Some((bytes, send)) = &mut self.sending else { return true };
            let Poll::Ready(sent) = send.as_mut().poll(&mut Context::from_waker(&self.waker))
            else {
                return false;
            };
            self.queued = self.queued.saturating_sub(*bytes);
            self.sending = None;
            if let Err(error) = sent {
                // What the peer said before is still to be heard, unless the link itself is well.
                if error.kind() == ErrorKind::TooLarge {
                    self.end(Some(&error));
                }
                self.mute = true;
                self.queue.clear();
                self.queued = 0;
            }
        }
        true
    }

    fn end(&mut self, error: Option<&Error>) {
        let said = self.link.end().map(|end| end.reason).filter(|reason| !reason.is_empty());
        let text = match (said, error) {
            (Some(reason), _) => format!("the link ended: {reason}"),
            (None, Some(error)) => error.to_string(),
            (None, None) => "the peer ended the link".to_owned(),
        };
        self.ended = Some(text);
    }

    /// Sends what is left, for a while, and closes the link.
    pub(crate) fn close(
        mut self,
        reason: &str,
        wait: Duration,
        alarm: &Arc<Alarm>,
        clock: &dyn Clock,
        stop: &dyn Fn() -> bool,
    ) {
        let deadline = node_poll::deadline_in(clock, wait);
        while !self.flush() && !stop() && clock.monotonic() < deadline {
            alarm.wait(clock, Some(deadline));
        }
        self.sending = None;
        self.next = None;
        let mut closing: Boxed<'_, Result<()>> = self.link.close(reason);
        let deadline = node_poll::deadline_in(clock, wait);
        let _told = node_poll::wait(&mut closing, alarm, clock, Some(deadline), &|| false);
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use trellis_engine_traits::{LinkEnd, Peer};
    use trellis_runtime::Runtime;

    use super::*;

    /// A link on which large frames never end, as those do that a few bytes unpack to.
    #[derive(Debug)]
    struct Endless(Peer);

    #[async_trait]
    impl PeerLink for Endless {
        fn peer(&self) -> &Peer {
            &self.0
        }

        async fn send(&self, _: LinkMessage) -> Result<()> {
            Ok(())
        }

        async fn next(&self) -> Result<Option<Bytes>> {
            Ok(Some(Bytes::from(vec![0; 512 << 10])))
        }

        async fn close(&self, _: &str) -> Result<()> {
            Ok(())
        }

        fn end(&self) -> Option<LinkEnd> {
            None
        }
    }

    #[test]
    fn what_is_taken_in_at_once_is_bounded_in_bytes() {
        let link = Endless(Peer { address: String::new(), name: None, role: None, is_local: true });
        let alarm = Alarm::new(Runtime::system().clock().as_ref());
        let mut wire = Wire::new(&link, &alarm);
        let mut frames = Vec::new();
        assert!(wire.receive(&mut frames), "there is more");
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        assert_eq!(bytes, FRAMES_BYTES_MAX, "and it waits where it is bounded");
    }
}
