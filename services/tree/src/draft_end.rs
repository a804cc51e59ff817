//! Ending: the removal of a path that is due, in the version that its zone asks for.

use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::Result;

use crate::draft::Draft;
use crate::here::{Stamp, ending_key};
use crate::merge::outermost;
use crate::path;
use crate::record::STAMP;
use crate::stamp::Version;
use crate::stamped_scan::path_of;
use crate::zoning::{Endings, Tracking};

impl Draft<'_> {
    /// Removes a path that is due, unless another node does.
    pub(crate) fn end(&mut self, key: &Bytes) -> Result<()> {
        let zone = self.zoning.map(|zoning| zoning.zone(key));
        let endings = match zone.filter(|zone| zone.tracking != Tracking::None) {
            Some(zone) => zone.endings,
            None => Endings::Here,
        };
        match endings {
            Endings::Elsewhere => return Ok(()),
            Endings::Here => drop(self.remove(key)?),
            Endings::Everywhere => self.end_everywhere(key)?,
        }
        self.expire(key, None);
        Ok(())
    }

    /// Every node removes the path in the same version: later than all that was there when it was
    /// set to end, and no later than its end unless it ended in the past. What is newer stays.
    fn end_everywhere(&mut self, key: &Bytes) -> Result<()> {
        let Some(at_ms) = self.expiry(key)? else { return Ok(()) };
        let ending = self.state.stamp(&ending_key(key))?;
        let set = ending.map_or(0, |stamp| stamp.version.hlc.saturating_add(1));
        let ended = at_ms.min(u64::MAX >> 16) << 16;
        let version = Version { hlc: ended.max(set), origin: 0 };
        let (mut newer, mut failure) = (Vec::new(), None);
        self.state.scan(STAMP, &path::below(key), &mut |at, stored| {
            match Stamp::decode(stored) {
                Ok(stamp) if stamp.version > version => {
                    newer.push(Bytes::copy_from_slice(path_of(at)));
                }
                Ok(_) => {}
                Err(error) => failure = Some(error),
            }
            if failure.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        newer.retain(|at| at != key);
        if newer.is_empty() {
            self.remove(key)?;
        } else {
            newer.extend(self.zoning.map(|zoning| zoning.carved(key)).unwrap_or_default());
            self.empty_around(key, &outermost(newer))?;
            self.told.marks.entry(key.clone()).or_insert(None);
        }
        if let Some(own) = self.told.marks.get_mut(key) {
            *own = Some(version);
        }
        self.told.endings.insert(key.clone(), version);
        Ok(())
    }
}
