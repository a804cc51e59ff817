//! Before-images: what was at the place of each effect of a commit, kept with it in the journal.
//!
//! They make the states before a commit exact although the store is ahead of it, so that somebody
//! who comes back is told each commit as if he had never been away. They are bounded, because a
//! commit must not cost more than what it writes: what is too large is not known.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trellis_engine_traits::{KeyRange, Result, Visitor};

use crate::effect::Effect;
use crate::path;

/// A leaf that is larger is not known afterwards.
const LEAF_BYTES_MAX: usize = 4 << 10;
/// Leaves below the cleared paths of a commit.
const CLEARED_LEAVES_MAX: usize = 256;
/// Bytes of all images of a commit.
const IMAGES_BYTES_MAX: usize = 64 << 10;

/// A state whose leaves can be read in order.
pub(crate) trait LeafScan {
    fn scan_leaves(&self, range: &KeyRange, visit: &mut Visitor<'_>) -> Result<()>;
}

/// What was at the place of an effect before its commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Image {
    /// Nothing, or what the image of a clear of the same commit tells.
    Absent,
    /// This leaf.
    Leaf(Bytes),
    /// It was too large to be kept.
    Unknown,
    /// Of a clear: every leaf at and below its path, as the rest of its key and its bytes; `None`
    /// where these were too large to be kept.
    Leaves(Vec<(Bytes, Option<Bytes>)>),
}

impl Image {
    /// Whether an effect has an image, and this can be it.
    fn fits(&self, effect: &Effect) -> bool {
        match self {
            Self::Absent | Self::Leaf(_) => matches!(effect, Effect::Put(..) | Effect::Delete(_)),
            Self::Leaves(_) => matches!(effect, Effect::Clear(_)),
            Self::Unknown => true,
        }
    }
}

/// The effects that have an image: those that change leaves.
pub(crate) fn imaged(effects: &[Effect]) -> impl Iterator<Item = &Effect> {
    let has_image =
        |effect: &&Effect| matches!(effect, Effect::Clear(_) | Effect::Put(..) | Effect::Delete(_));
    effects.iter().filter(has_image)
}

/// Whether there is an image for each effect that has one.
pub(crate) fn fit(images: &[Image], effects: &[Effect]) -> bool {
    let mut imaged = imaged(effects);
    images.iter().all(|image| imaged.next().is_some_and(|effect| image.fits(effect)))
        && imaged.next().is_none()
}

/// Leaves of the state that a commit writes over or removes one by one, while it is resolved; no
/// more of their bytes than its images may hold.
#[derive(Default)]
pub(crate) struct Before {
    leaves: BTreeMap<Bytes, Image>,
    bytes: usize,
}

impl Before {
    pub(crate) fn keep(&mut self, key: &Bytes, leaf: &Bytes) {
        if self.leaves.contains_key(key) {
            return;
        }
        let bytes = self.bytes + leaf.len();
        let fits = leaf.len() <= LEAF_BYTES_MAX && bytes <= IMAGES_BYTES_MAX;
        if fits {
            self.bytes = bytes;
        }
        let image = if fits { Image::Leaf(leaf.clone()) } else { Image::Unknown };
        self.leaves.insert(key.clone(), image);
    }

    /// What was at a key; nothing where nobody found a leaf.
    pub(crate) fn at(&self, key: &[u8]) -> Image {
        self.leaves.get(key).cloned().unwrap_or(Image::Absent)
    }
}

/// The images of a commit while they are gathered, in the order of its effects.
pub(crate) struct Images {
    all: Vec<Image>,
    bytes_left: usize,
    leaves_left: usize,
}

impl Images {
    pub(crate) fn new() -> Self {
        Self { all: Vec::new(), bytes_left: IMAGES_BYTES_MAX, leaves_left: CLEARED_LEAVES_MAX }
    }

    /// The image of a leaf that is stored or removed.
    pub(crate) fn leaf(&mut self, before: Image) {
        let bytes = if let Image::Leaf(leaf) = &before { leaf.len() } else { 0 };
        let fits = bytes <= self.bytes_left;
        if fits {
            self.bytes_left -= bytes;
        }
        self.all.push(if fits { before } else { Image::Unknown });
    }

    /// The image of a path that is cleared.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn clear(&mut self, state: &dyn LeafScan, key: &Bytes) -> Result<()> {
        let (mut bytes_left, mut leaves_left) = (self.bytes_left, self.leaves_left);
        let mut leaves = Vec::new();
        let mut is_whole = true;
        state.scan_leaves(&path::subtree(key), &mut |own, leaf| {
            let rest = own.get(key.len()..).unwrap_or_default();
            let is_kept = leaf.len() <= LEAF_BYTES_MAX;
            let bytes = rest.len() + if is_kept { leaf.len() } else { 0 };
            is_whole = bytes <= bytes_left && leaves_left > 0;
            if !is_whole {
                return ControlFlow::Break(());
            }
            bytes_left -= bytes;
            leaves_left -= 1;
            let leaf = is_kept.then(|| Bytes::copy_from_slice(leaf));
            leaves.push((Bytes::copy_from_slice(rest), leaf));
            ControlFlow::Continue(())
        })?;
        if is_whole {
            (self.bytes_left, self.leaves_left) = (bytes_left, leaves_left);
        }
        self.all.push(if is_whole { Image::Leaves(leaves) } else { Image::Unknown });
        Ok(())
    }

    pub(crate) fn into_all(self) -> Vec<Image> {
        self.all
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may panic")]

    use trellis_engine_traits::ErrorKind;

    use super::*;
    use crate::cause::ChangeCause;
    use crate::record::Record;

    fn record(images: Option<Vec<Image>>) -> Record {
        let key = |text: &'static str| Bytes::from_static(text.as_bytes());
        let effects = vec![
            Effect::Clear(key("a")),
            Effect::Put(key("b"), key("\u{2}")),
            Effect::Expire(key("b"), 5),
            Effect::Delete(key("c")),
        ];
        let (prev, cause) = ([7; 16], ChangeCause::Request);
        Record {
            rev: 3,
            epoch: 1,
            at_ms: 9,
            prev,
            cause,
            key: None,
            effects,
            images,
            authored: None,
        }
    }

    fn images() -> Vec<Image> {
        let leaf = Bytes::from_static(b"\x05x");
        let leaves = vec![(Bytes::from_static(b"\0d"), Some(leaf.clone())), (Bytes::new(), None)];
        vec![Image::Leaves(leaves), Image::Absent, Image::Leaf(leaf)]
    }

    #[test]
    fn a_record_reads_back_with_and_without_images() {
        for (images, format) in [(None, 1), (Some(images()), 2)] {
            let record = record(images);
            let bytes = record.encode().unwrap();
            assert_eq!(bytes[0], format);
            assert_eq!(Record::decode(&bytes).unwrap(), record);
        }
    }

    #[test]
    fn images_that_do_not_fit_their_effects_are_damage() {
        let mut too_many = images();
        too_many.push(Image::Unknown);
        let mut other_kind = images();
        other_kind.swap(0, 1);
        for images in [Vec::new(), images()[..2].to_vec(), too_many, other_kind] {
            let bytes = record(Some(images)).encode().unwrap();
            assert_eq!(Record::decode(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
