//! Ending: the removal of a path that is due, in the version that its zone asks for.

use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::{KeyRange, Result};

use crate::draft::Draft;
use crate::here::{Stamp, ending_key, ending_path};
use crate::path::{self, outermost};
use crate::space::{DATA, STAMP};
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

    /// Every node removes the path in the same versions. Each is just later than what it removes:
    /// who ends a path before it has heard that it was written anew must not win over that. What
    /// was written after the end stays.
    fn end_everywhere(&mut self, key: &Bytes) -> Result<()> {
        let Some(at_ms) = self.expiry(key)? else { return Ok(()) };
        let ending = self.state.stamp(&ending_key(key))?;
        let set = ending.map_or(0, |stamp| stamp.version.hlc.saturating_add(1));
        let set = Version { hlc: set, origin: 0 };
        let ended = at_ms.min(u64::MAX >> 16) << 16;
        let ended = Version { hlc: ended.max(set.hlc), origin: 0 };
        let mut later = Vec::new();
        self.for_each_stamp(&path::below(key), &mut |at, stamp| {
            if stamp.version > set && path_of(at) != key {
                later.push(Bytes::copy_from_slice(path_of(at)));
            }
        })?;
        if later.is_empty() {
            self.remove(key)?;
        } else {
            let later = outermost(later);
            let mut spared = self.zoning.map(|zoning| zoning.carved(key)).unwrap_or_default();
            let carved = outermost(spared.clone());
            spared.extend(later.iter().cloned());
            self.empty_around(key, &outermost(spared))?;
            self.told.marks.entry(key.clone()).or_insert(None);
            for part in later {
                self.end_part(&part, &carved, set, ended)?;
            }
        }
        if let Some(own) = self.told.marks.get_mut(key) {
            *own = Some(set);
        }
        self.told.endings.insert(key.clone(), set);
        Ok(())
    }

    /// Removes, one by one, what is in a part of a path that is due and in which something was
    /// written after its end was set.
    fn end_part(
        &mut self,
        part: &Bytes,
        carved: &[Bytes],
        set: Version,
        ended: Version,
    ) -> Result<()> {
        let (mut leaves, mut endings) = (Vec::new(), Vec::new());
        let is_carved = |at: &[u8]| carved.iter().any(|zone| path::covers(zone, at));
        self.state.scan(DATA, &path::subtree(part), &mut |at, _| {
            leaves.extend((!is_carved(at)).then(|| Bytes::copy_from_slice(at)));
            ControlFlow::Continue(())
        })?;
        self.for_each_stamp(&path::subtree(part), &mut |at, stamp| {
            if let Some(path) = ending_path(at).filter(|path| !is_carved(path))
                && stamp.version <= ended
            {
                endings.push((Bytes::copy_from_slice(path), stamp.version.next()));
            }
        })?;
        for (path, version) in endings {
            self.expire(&path, None);
            self.told.endings.insert(path, version.max(set));
        }
        for leaf in leaves {
            let version = self.state.stamp(&leaf)?.map_or(Version::ZERO, |stamp| stamp.version);
            if version > ended || self.take_leaf(&leaf)?.is_none() {
                continue;
            }
            self.delete(leaf.clone());
            if version > set {
                self.told.endings.insert(leaf, version.next());
            } else {
                self.told.unstamped.insert(leaf);
            }
        }
        Ok(())
    }

    fn for_each_stamp(&self, range: &KeyRange, visit: &mut dyn FnMut(&[u8], Stamp)) -> Result<()> {
        let mut failure = None;
        self.state.scan(STAMP, range, &mut |at, stored| match Stamp::decode(stored) {
            Ok(stamp) => {
                visit(at, stamp);
                ControlFlow::Continue(())
            }
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failure.map_or(Ok(()), Err)
    }
}
