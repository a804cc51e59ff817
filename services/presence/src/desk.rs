//! [`Desk`]: where requests about leases are handed in.

use std::sync::Arc;

use trellis_runtime::Clock;
use trellis_tree::Tree;

use crate::beat::Beat;
use crate::key::Key;
use crate::options::PresenceOptions;
use crate::request::{Pending, Request, Shared, Stored, pending};
use crate::write::LeaseWrite;

/// Where requests are handed in.
pub(crate) struct Desk {
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tree: Tree,
    pub(crate) options: PresenceOptions,
}

impl Desk {
    pub(crate) fn store(
        &self,
        key: Key,
        beat: Option<Arc<Beat>>,
        write: LeaseWrite,
    ) -> Pending<Stored> {
        let change = match write.check(&self.tree, &self.options) {
            Ok(change) => change,
            Err(error) => return Pending::refused(error),
        };
        let (answer, pending) = pending();
        self.shared.send(Request::Store { key, beat, change, answer });
        pending
    }
}
