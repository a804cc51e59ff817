//! The subscriptions of one connection: requests in their order, acknowledgements before events.
//!
//! Invariants: requests are carried out one job at a time and in the order of arrival, so that an
//! `unsub` behind its `sub` finds it; a subscription is let out only after its acknowledgement was
//! put among the frames to be written; whatever waits is bounded, events by the inbox, requests by
//! the bound on requests in flight, keys of own writes by their number.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::ws::Message;
use trellis_subscribe::{Delivery, Inbox};

use crate::error::WireError;
use crate::frames;
use crate::live_job::{LiveDone, LiveWork, run};
use crate::recent_keys::RecentKeys;
use crate::state::State;

/// The subscriptions of one connection.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// There from the first request on.
    inbox: Option<Arc<Inbox>>,
    waiting: VecDeque<LiveWork>,
    is_working: bool,
    keys: RecentKeys,
}

impl Live {
    /// Queues a request or a refresh.
    pub(crate) fn push(&mut self, work: LiveWork) {
        self.waiting.push_back(work);
    }

    /// Remembers the key of an own write.
    pub(crate) fn remember(&mut self, key: Option<&str>) {
        if let Some(key) = key {
            self.keys.remember(key);
        }
    }

    /// The next job, unless one is under way or nothing waits.
    pub(crate) fn start(
        &mut self,
        state: &Arc<State>,
    ) -> Option<impl Future<Output = LiveDone> + use<>> {
        if self.is_working || self.waiting.is_empty() {
            return None;
        }
        self.is_working = true;
        let waiting = std::mem::take(&mut self.waiting);
        let inbox = match &self.inbox {
            Some(inbox) => Ok(Arc::clone(inbox)),
            None => state.db.live().map(|live| Arc::new(live.inbox())),
        };
        self.inbox = inbox.as_ref().ok().map(Arc::clone);
        Some(run(Arc::clone(state), inbox, waiting))
    }

    /// Takes over what a job did: its frames first, then the events that they acknowledge.
    pub(crate) fn finish(&mut self, mut done: LiveDone, ready: &mut Vec<Message>) {
        self.is_working = false;
        ready.extend(done.frames.into_iter().map(Message::Text));
        if let Some(inbox) = &self.inbox {
            for name in &done.acknowledged {
                // Gone again when it was ended in the same job.
                let _is_there = inbox.activate(name);
            }
        }
        done.rest.append(&mut self.waiting);
        self.waiting = done.rest;
    }

    /// Whether there is anything that may have events.
    pub(crate) fn is_open(&self) -> bool {
        self.inbox.is_some()
    }

    /// The next events; never, when there is no subscription.
    pub(crate) async fn next(&self) -> Vec<Delivery> {
        match &self.inbox {
            Some(inbox) => inbox.next().await,
            None => std::future::pending().await,
        }
    }

    /// Turns events into frames.
    pub(crate) fn deliver(
        &mut self,
        state: &State,
        deliveries: Vec<Delivery>,
        ready: &mut Vec<Message>,
    ) {
        if deliveries.is_empty() {
            // The database was closed: nothing comes any more.
            self.inbox = None;
        }
        let mut event_frames = 0;
        for delivery in deliveries {
            match delivery {
                Delivery::Event { name, event } => {
                    let key = event.commit_key.as_deref();
                    let own = key.filter(|key| self.keys.has(key));
                    let frame = match own {
                        Some(key) => frames::event(&name, &event, Some(key)),
                        None => state.frames.shared(&name, &event),
                    };
                    if frame.len() > state.options.frame_bytes_max {
                        self.waiting.push_back(LiveWork::Refresh(name));
                        continue;
                    }
                    event_frames += 1;
                    ready.push(Message::Text(frame));
                }
                Delivery::Stale { name } => self.waiting.push_back(LiveWork::Refresh(name)),
                Delivery::Cancelled { name, error } => {
                    let error = WireError::from(error);
                    ready.push(Message::Text(frames::cancelled(&name, &error)));
                }
            }
        }
        // Once: every socket counts into the same place.
        state.metrics.event_frames.inc_by(event_frames);
    }
}
