//! One call of [`Session::step`](crate::Session::step), as the parts of a session see it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::{Action, Now};
use crate::message::{Message, Refusal, RefusalReason};
use crate::parts;
use crate::session_options::SessionOptions;
use crate::task::{Task, TaskId};

/// What a task is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The follower's: its stored position.
    LoadPosition,
    /// The follower's: whether the source knew this node's log.
    Known,
    /// The follower's: what this node wrote, before it is replaced.
    SetAside,
    /// The follower's: pages or commits.
    Apply,
    /// The follower's: its position after skips.
    SavePosition,
    /// The verifier's: the digest here, by the number of the read.
    OwnDigest(u64),
    /// The verifier's: what is in some buckets here, by the number of the read.
    OwnBuckets(u64),
    /// The verifier's: what differed.
    Repair,
    /// The source's: how the peer gets on.
    Slot,
    /// The source's: a page of this request.
    Page(u64),
    /// The source's: commits.
    Tail,
    /// The source's: how far the peer is.
    AckSlot,
    /// The source's: a digest for a heartbeat, or the buckets that were asked for.
    Digest {
        /// Asked for.
        buckets: bool,
    },
    /// The source's: what is in some buckets.
    Buckets(u64),
    /// A peer's write, by the peer's number.
    Route(u64),
    /// Nothing follows from it.
    Aside,
}

/// Tasks that are not done.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    next: u64,
    open: BTreeMap<TaskId, (Purpose, Duration)>,
}

impl Tasks {
    fn enter(&mut self, purpose: Purpose, now: Now) -> TaskId {
        self.next += 1;
        let id = TaskId(self.next);
        self.open.insert(id, (purpose, now.mono));
        id
    }

    /// What a task was for, and when it began.
    pub(crate) fn finish(&mut self, id: TaskId) -> Option<(Purpose, Duration)> {
        self.open.remove(&id)
    }
}

/// What a step works with.
pub(crate) struct Turn<'a> {
    pub(crate) now: Now,
    pub(crate) options: &'a SessionOptions,
    pub(crate) tasks: &'a mut Tasks,
    pub(crate) actions: Vec<Action>,
    /// Bytes sent in this step.
    pub(crate) bytes: u64,
}

impl Turn<'_> {
    /// Sends a message; its bytes.
    pub(crate) fn send(&mut self, message: &Message) -> Result<usize, Refusal> {
        let SessionOptions { part_bytes, message_bytes_max, .. } = *self.options;
        let frames = parts::encode(message, part_bytes, message_bytes_max)?;
        let compress =
            matches!(message, Message::Page(_) | Message::Batch(_) | Message::BucketPage { .. });
        let mut sent = 0;
        for bytes in frames {
            sent += bytes.len();
            self.actions.push(Action::Send { bytes, compress });
        }
        self.bytes += u64::try_from(sent).unwrap_or(0);
        Ok(sent)
    }

    /// Has a task done.
    pub(crate) fn run(&mut self, purpose: Purpose, task: Task) {
        let id = self.tasks.enter(purpose, self.now);
        self.actions.push(Action::Do(id, task));
    }

    /// The id of a commit to be routed.
    pub(crate) fn route(&mut self, number: u64) -> TaskId {
        self.tasks.enter(Purpose::Route(number), self.now)
    }
}

/// The refusal that ends a link because this node could not do something.
pub(crate) fn failed(error: &trellis_engine_traits::Error) -> Refusal {
    Refusal::new(RefusalReason::Failed, error.to_string())
}

/// The refusal for an outcome that no task of this purpose has: a defect of the driver.
pub(crate) fn unexpected() -> Refusal {
    Refusal::new(RefusalReason::Failed, "a task came to what it cannot come to")
}

pub(crate) fn beyond(what: &str) -> Refusal {
    Refusal::protocol(format!("an acknowledgement of {what} that were never sent"))
}

/// The refusal of a node that sends what it may not.
pub(crate) fn denied(message: &str) -> Refusal {
    Refusal::new(RefusalReason::Denied, message)
}
