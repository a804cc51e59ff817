//! What an op loses to, entered once more as it is, so that whoever follows this node hears of it.
//!
//! For two nodes that were found to differ ([`RemoteRule::Settle`](crate::RemoteRule::Settle)): the
//! other one shows what it would not if it knew what wins here. It may have forgotten it, as a
//! removal that was older than its day, while somebody brought back what was removed.

use bytes::Bytes;
use trellis_engine_traits::Result;

use crate::here::{Held, ending_path};
use crate::merge::{Below, Merge};
use crate::path;
use crate::stamp::{StampedChange, StampedOp, Version};
use crate::zoning::Zone;

impl Merge<'_> {
    /// What comes of an op that does not win over the record of its key.
    pub(crate) fn lose(&mut self, op: &StampedOp, local: Option<Held>) -> Result<()> {
        let Some(local) = local else { return Ok(()) };
        if local.version > op.version {
            self.tell_again(op.key.clone(), local);
        } else if self.hides_again && local.change == StampedChange::Clear {
            let edges = self.edges(&op.key);
            let below = self.below(&op.key, op.version, &edges)?;
            self.hide(&op.key, op.version, below, &edges)?;
            if self.is_wiped(&op.key) {
                self.own.insert(op.key.clone(), Some(local));
            }
        }
        Ok(())
    }

    /// Enters a record of a key again.
    pub(crate) fn tell_again(&mut self, key: Bytes, held: Held) {
        if self.tells_again && !self.own.contains_key(&key) {
            self.keep_before(&key, &held);
            self.own.insert(key, Some(held));
        }
    }

    /// Enters what hides a key again: the newest record above it in its zone.
    pub(crate) fn tell_again_above(&mut self, key: &Bytes, zone: Zone) -> Result<()> {
        if !self.tells_again {
            return Ok(());
        }
        let (mut newest, mut hides) = (Version::ZERO, None);
        for ancestor in path::ancestors(key).take_while(|at| at.len() >= zone.prefix_bytes) {
            let version = self.version_at(ancestor)?;
            if version > newest {
                (newest, hides) = (version, Some(key.slice(..ancestor.len())));
            }
        }
        let Some(hides) = hides else { return Ok(()) };
        if let Some(held) = self.record(&hides)? {
            self.tell_again(hides, held);
        }
        Ok(())
    }

    /// Enters something again that a leaf has to give way to: one record is enough for it to give
    /// way at the other node too, and what lives below it is found missing there by itself.
    pub(crate) fn tell_again_below(&mut self, version: Version, below: &Below) -> Result<()> {
        if !self.tells_again {
            return Ok(());
        }
        for key in below.kept.iter().filter(|key| ending_path(key).is_none()) {
            let held = self.record(key)?;
            if let Some(held) = held.filter(|held| held.version > version || held.is_leaf()) {
                self.tell_again(key.clone(), held);
                return Ok(());
            }
        }
        Ok(())
    }
}
