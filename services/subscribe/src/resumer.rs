//! What waits to be told what it missed.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::evaluate::Topic;
use crate::mailbox::Mailbox;

/// A subscription that is to go on.
#[derive(Debug)]
pub(crate) struct Resuming {
    pub(crate) id: u64,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) topic: Topic,
    pub(crate) since: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) queue: Vec<(u64, Vec<Resuming>)>,
    /// The numbers of those that went on, by who waits for them.
    pub(crate) answers: HashMap<u64, Vec<u64>>,
    pub(crate) running: bool,
    pub(crate) tickets: u64,
}

/// Those that wait for a pass.
#[derive(Debug, Default)]
pub(crate) struct Resumer {
    pub(crate) state: Mutex<Waiting>,
    pub(crate) done: Condvar,
}
