//! [`Inbox`]: the subscriptions of one receiver, and what arrives for them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::mailbox::Mailbox;
use crate::registry::Core;
use crate::request::{Acknowledgement, Delivery, SubscribeRequest};

/// The subscriptions of one receiver. Dropping it ends them.
///
/// A subscription has a name of the receiver's choice. Its acknowledgement holds the snapshot at
/// a rev; every commit after that rev which changes what is watched arrives exactly once, in the
/// order of revs, one [`Delivery::Event`] a commit, after [`Inbox::activate`] was called.
///
/// What waits is bounded: see [`Delivery::Stale`]. All calls but [`Inbox::next`] and
/// [`Inbox::wait`] may run at the same time from any thread; one at a time waits.
#[derive(Debug)]
pub struct Inbox {
    core: Arc<Core>,
    id: u64,
    mailbox: Arc<Mailbox>,
}

/// Waits for deliveries: a future. Empty when the subscriptions were closed.
#[derive(Debug)]
pub struct Next<'a> {
    mailbox: &'a Mailbox,
}

impl Future for Next<'_> {
    type Output = Vec<Delivery>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.mailbox.poll(context)
    }
}

impl Inbox {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let (id, mailbox) = core.open_mailbox();
        Self { core, id, mailbox }
    }

    /// Begins a subscription and answers with its snapshot, or goes on where it was left.
    ///
    /// It is held: nothing of it is handed out before [`Inbox::activate`].
    ///
    /// # Errors
    /// `InvalidInput` for a name in use; `TooLarge` when the snapshot does not fit a frame, its
    /// wildcards lead to too many paths, or the inbox has too many subscriptions; `Busy` when all
    /// inboxes together have; `Closed`; those of reads. Nothing is left of it then.
    ///
    /// # Cost
    /// Blocks: reads what is watched, or the journal since `since`; with something due, one commit.
    /// Async callers go through the runtime.
    pub fn subscribe(&self, name: &str, request: SubscribeRequest) -> Result<Acknowledgement> {
        let answers = self.subscribe_all(vec![(name.to_owned(), request)]);
        answers.into_iter().next().unwrap_or_else(|| Err(crate::mailbox::closed()))
    }

    /// Begins several subscriptions; the snapshots are all of one rev. The answers stand in the
    /// order of the requests, each by itself as for [`Inbox::subscribe`]. Once the snapshots are
    /// together as large as 16 frames, the others are refused with `TooLarge`.
    pub fn subscribe_all(
        &self,
        requests: Vec<(String, SubscribeRequest)>,
    ) -> Vec<Result<Acknowledgement>> {
        self.core.subscribe(&self.mailbox, requests)
    }

    /// Lets the events of a subscription out: its acknowledgement is on the way. `false` when there
    /// is none of this name.
    pub fn activate(&self, name: &str) -> bool {
        self.mailbox.activate(name)
    }

    /// Takes a new snapshot, after [`Delivery::Stale`] or at any time. The subscription is held
    /// anew until [`Inbox::activate`]; what waited for it is dropped, as the snapshot holds it.
    ///
    /// # Errors
    /// `NotFound` when there is none of this name; `TooLarge` when the snapshot does not fit a
    /// frame any more, those of reads: the subscription has ended then.
    pub fn refresh(&self, name: &str) -> Result<Acknowledgement> {
        let Some((id, group)) = self.mailbox.hold(name) else {
            return Err(Error::new(ErrorKind::NotFound, "there is no subscription of this id")
                .operation("sub"));
        };
        self.core.refresh(&self.mailbox, id, &group)
    }

    /// Ends a subscription: nothing of it is handed out any more. `false` when there is none.
    pub fn unsubscribe(&self, name: &str) -> bool {
        let Some((id, group)) = self.mailbox.find(name) else { return false };
        self.mailbox.leave(id);
        self.core.part(id, &group);
        true
    }

    /// What arrives next, at least one delivery; empty when closed. Dropping the future loses
    /// nothing.
    pub fn next(&self) -> Next<'_> {
        Next { mailbox: &self.mailbox }
    }

    /// As [`Inbox::next`], blocking the thread; empty also when nothing arrives in time.
    #[must_use]
    pub fn wait(&self, wait: Duration) -> Vec<Delivery> {
        self.mailbox.wait(wait)
    }

    /// Bytes that wait.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.mailbox.bytes()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.core.close_mailbox(self.id, &self.mailbox);
    }
}
