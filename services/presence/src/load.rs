//! Taking up the leases that are stored, when presence starts.

use std::sync::Arc;

use trellis_engine_traits::Result;
use trellis_tree::View;

use crate::beat::Beat;
use crate::key::{self, Key};
use crate::lease::{Lease, heard_before};
use crate::record::Record;
use crate::table::Worker;

/// Leases read at a time.
const PAGE: usize = 1_000;

impl Worker {
    /// Reads what is stored; tried again after an error, from the beginning.
    pub(crate) fn load(&mut self) -> Result<()> {
        let view = self.tree.view()?;
        let root = key::root()?;
        let mut after: Option<String> = None;
        self.forget_all();
        loop {
            let page = view.children(&root, after.as_deref(), PAGE, None)?;
            for child in &page.items {
                match Key::parse(&child.key) {
                    Some(key) => self.load_one(&view, key)?,
                    None => tracing::warn!("something below _leases is no lease"),
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn load_one(&mut self, view: &View, key: Key) -> Result<()> {
        let record = match Record::read(view, key) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == trellis_engine_traits::ErrorKind::Corrupt => {
                // One damaged lease must not keep all others from running.
                tracing::error!(%error, lease = %key, "a stored lease cannot be read");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let now_ms = self.now_ms();
        let left_ms = record.until_ms.saturating_sub(self.clock.now_ms());
        let heard_ms = heard_before(left_ms, record.ttl_ms, now_ms, &self.options);
        let beat = Arc::new(Beat::new(heard_ms, record.ttl_ms));
        beat.open();
        let mut lease = Lease::new(beat, record.ttl_ms);
        lease.is_durable = true;
        lease.noted(heard_ms, now_ms);
        self.insert(key, lease);
        self.count_stored(key, record.paths(), record.bytes());
        Ok(())
    }
}
