//! What a merge came to, as effects of one commit: clears, deletes, puts, endings, marks, each in
//! the order of their keys, with the version under which each is stamped.

use bytes::Bytes;
use trellis_engine_traits::Result;

use crate::effect::Effect;
use crate::here::{Held, ending_path};
use crate::image::{Image, Images};
use crate::merge::Merge;
use crate::stamp::{RemoteApplied, StampedChange, Version};

/// The outcome of a merge.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    pub(crate) effects: Vec<Effect>,
    /// One for each effect: the version of the record that it leaves; `None`: it leaves none.
    pub(crate) versions: Vec<Option<Version>>,
    pub(crate) images: Vec<Image>,
    pub(crate) came: RemoteApplied,
}

/// Effects of one kind.
#[derive(Default)]
struct Kind(Vec<(Effect, Option<Version>)>);

impl Merge<'_> {
    /// The effects.
    ///
    /// # Errors
    /// Those of reading what is cleared.
    pub(crate) fn finish(mut self) -> Result<Merged> {
        let (mut images, mut clears) = (Images::new(), Kind::default());
        for key in self.wiped.iter().filter(|key| !self.is_wiped_above(key)) {
            images.clear(self.here, key)?;
            let held = self.own.get(key).and_then(Option::as_ref);
            let cleared = held.filter(|held| held.change == StampedChange::Clear);
            clears.0.push((Effect::Clear(key.clone()), cleared.map(|held| held.version)));
        }
        let [mut deletes, mut puts, mut endings, mut marks] =
            std::array::from_fn(|_| Kind::default());
        let count = self.own.len();
        puts.0.reserve(count);
        for (key, own) in std::mem::take(&mut self.own) {
            let version = own.as_ref().map(|held| held.version);
            let change = own.map(|held: Held| held.change);
            if change.is_none() && self.is_wiped(&key) {
                continue;
            }
            if let Some(path) = ending_path(&key) {
                let path = key.slice(..path.len());
                let effect = match change {
                    Some(StampedChange::Ending(Some(at))) => Effect::Expire(path, at),
                    _ => Effect::Unexpire(path),
                };
                endings.0.push((effect, version));
                continue;
            }
            match change {
                Some(StampedChange::Put(stored)) => {
                    puts.0.push((Effect::Put(key, stored), version));
                }
                Some(StampedChange::Clear) => {
                    if self.wiped.contains(&key) {
                        continue;
                    }
                    if self.before.at(&key) != Image::Absent {
                        deletes.0.push((Effect::Delete(key.clone()), None));
                    }
                    marks.0.push((Effect::Mark(key), version));
                }
                None | Some(StampedChange::Tomb | StampedChange::Ending(_)) => {
                    deletes.0.push((Effect::Delete(key), version));
                }
            }
        }
        for (effect, _) in deletes.0.iter().chain(&puts.0) {
            let key = effect.key();
            images.leaf(if self.is_wiped(key) { Image::Absent } else { self.before.at(key) });
        }
        let all = [clears, deletes, puts, endings, marks];
        let (mut effects, mut versions) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (effect, version) in all.into_iter().flat_map(|kind| kind.0) {
            effects.push(effect);
            versions.push(version);
        }
        Ok(Merged { effects, versions, images: images.into_all(), came: self.came })
    }

    fn is_wiped_above(&self, key: &Bytes) -> bool {
        crate::path::ancestors(key).any(|above| self.wiped.contains(above))
    }
}
