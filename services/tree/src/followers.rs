//! Who is told of commits as they become visible: the queues of followers, and bells.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use trellis_runtime::Alarm;

use crate::change::Change;
use crate::journal::Position;

/// Changes of one group on their way to the followers.
#[derive(Clone)]
pub(crate) struct Batch {
    pub(crate) changes: Arc<Vec<Change>>,
    pub(crate) bytes: usize,
    pub(crate) last: Position,
}

#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) batches: VecDeque<Batch>,
    pub(crate) bytes: usize,
    /// The queue was full, and its follower was not yet told.
    pub(crate) lagged: bool,
    pub(crate) rung: bool,
}

/// What waits for one follower.
pub(crate) struct Queue {
    pub(crate) waiting: Mutex<Waiting>,
    pub(crate) bytes_max: usize,
    pub(crate) alarm: Arc<Alarm>,
}

impl Queue {
    /// Adds a group; what waits is dropped when it becomes too much.
    pub(crate) fn push(&self, batch: &Batch) {
        let mut waiting = self.waiting.lock();
        if waiting.lagged {
            return;
        }
        let first = waiting.batches.is_empty();
        if !first && waiting.bytes.saturating_add(batch.bytes) > self.bytes_max {
            let dropped = std::mem::take(&mut waiting.batches);
            waiting.bytes = 0;
            waiting.lagged = true;
            drop(waiting);
            drop(dropped);
        } else {
            waiting.bytes = waiting.bytes.saturating_add(batch.bytes);
            waiting.batches.push_back(batch.clone());
            drop(waiting);
        }
        // Whoever has not yet taken what came before was rung for that.
        if first {
            self.alarm.ring();
        }
    }
}

/// One bell, as the tree knows it.
pub(crate) struct Bell {
    rung: AtomicBool,
    alarm: Arc<Alarm>,
}

impl Bell {
    pub(crate) fn new(alarm: Arc<Alarm>) -> Self {
        Self { rung: AtomicBool::new(false), alarm }
    }

    /// Rings unless it rang since it was answered.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.alarm.ring();
        }
    }

    /// Whether it rang since the last call.
    pub(crate) fn take(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }
}
