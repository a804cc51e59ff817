//! *Resolve* for another node's commit: the merge of its ops, and its notes, as one record.

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, KeyRange, Result};

use crate::answer::CommitError;
use crate::author::Ground;
use crate::core::Core;
use crate::draft::Draft;
use crate::effect::Effect;
use crate::here::{Held, Here};
use crate::image::{Image, LeafScan};
use crate::merge::Merge;
use crate::merged::Merged;
use crate::path::{self, Path};
use crate::planted::planted;
use crate::record::Authored;
use crate::remote_check::note_leaves;
use crate::resolver::{New, Resolver};
use crate::spared::Told;
use crate::stamp::{RemoteApplied, RemoteCommit, RemoteRule, StampedChange, StampedOp};
use crate::state::State;

impl Resolver {
    /// What a remote commit comes to; checked before.
    pub(crate) fn remote(
        &mut self,
        core: &Core,
        state: &State,
        commit: &RemoteCommit,
        applied: &mut RemoteApplied,
    ) -> Result<New, CommitError> {
        let Some(zoning) = core.options.zoning.as_deref() else {
            let message = "this database is not divided for replication";
            return Err(Error::new(ErrorKind::Unsupported, message).into());
        };
        let ground = Ground { state, any_ending: core.any_expiry() };
        let mut merge = Merge::new(&ground, zoning, &commit.scope, planted());
        let ops = in_order(&commit.ops);
        match &commit.rule {
            RemoteRule::Merge => merge.merge(&ops)?,
            RemoteRule::Settle => {
                merge.tells_again = true;
                merge.merge(&ops)?;
            }
            RemoteRule::Follow => {
                merge.merge(&ops)?;
                if merge.came.lost > 0 {
                    merge = Merge::new(&ground, zoning, &commit.scope, planted());
                    let nowhere = KeyRange::new(Bytes::new(), Some(Bytes::new()));
                    merge.replace(&ops, &nowhere)?;
                }
            }
            RemoteRule::Replace { from, until } => {
                let interval = KeyRange::new(from.clone(), until.clone());
                merge.replace(&ops, &interval)?;
            }
            RemoteRule::Fill { from, until, known_rev } => {
                let interval = KeyRange::new(from.clone(), until.clone());
                merge.fill(&ops, &interval, *known_rev)?;
            }
        }
        let mut merged = merge.finish()?;
        detach(&mut merged.effects, &commit.ops);
        *applied = merged.came;
        applied.known += commit.ops.len() - ops.len();
        let ops = commit.ops.iter().map(|op| op.version);
        let newest = ops.chain(merged.versions.iter().flatten().copied()).max();
        self.hybrid.see(newest.unwrap_or_default().max(commit.author.version).hlc);
        let (notes, note_images) = self.notes(core, state, &ground, &commit.notes)?;
        let changes = !merged.effects.is_empty();
        if matches!(commit.rule, RemoteRule::Replace { .. } | RemoteRule::Fill { .. }) && changes {
            core.layers.read().active.write().note_page();
        }
        add_notes(&mut merged, notes, note_images);
        let Merged { effects, versions, images, .. } = merged;
        let authored = changes.then(|| Authored::with(commit.author.clone(), &versions));
        let results = Vec::new();
        let (told, authored) = (Told::default(), Some(authored));
        let cause = commit.cause;
        Ok(New { effects, images, told, cause, results, key: None, authored })
    }

    /// The effects of notes that are not there already.
    fn notes(
        &self,
        core: &Core,
        state: &State,
        ground: &Ground<'_>,
        notes: &[(Path, crate::input::Input)],
    ) -> Result<(Vec<Effect>, Vec<Image>)> {
        let mut draft = Draft::new(state, core.any_expiry());
        for (path, value) in notes {
            let leaves = note_leaves(path, value)?;
            let mut held = Vec::new();
            ground.scan_leaves(&path::subtree(path.key()), &mut |key, leaf| {
                held.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(leaf)));
                match held.len() > leaves.len() {
                    true => std::ops::ControlFlow::Break(()),
                    false => std::ops::ControlFlow::Continue(()),
                }
            })?;
            if held == leaves && ground.ending(path.key())?.is_none() {
                continue;
            }
            if leaves.is_empty() {
                draft.remove(path.key())?;
            } else {
                draft.replace(path.key(), leaves)?;
            }
        }
        draft.finish().map(|(effects, images, _)| (effects, images))
    }
}

/// Ops may be parts of one buffer with all others that came with them: where most of it is not
/// applied, the rest does not keep it in memory.
fn detach(effects: &mut [Effect], ops: &[StampedOp]) {
    let stored = |op: &StampedOp| match &op.change {
        StampedChange::Put(stored) => stored.len(),
        _ => 0,
    };
    let came: usize = ops.iter().map(|op| op.key.len() + stored(op)).sum();
    let kept = effects.iter().map(|effect| match effect {
        Effect::Put(key, stored) => key.len() + stored.len(),
        effect => effect.key().len(),
    });
    if 2 * kept.sum::<usize>() >= came {
        return;
    }
    for effect in effects {
        match effect {
            Effect::Put(key, stored) => {
                *key = Bytes::copy_from_slice(key);
                *stored = Bytes::copy_from_slice(stored);
            }
            Effect::Clear(key)
            | Effect::Delete(key)
            | Effect::Expire(key, _)
            | Effect::Unexpire(key)
            | Effect::Unindex(key, _)
            | Effect::Forget(key, _)
            | Effect::Mark(key)
            | Effect::Collect(key) => *key = Bytes::copy_from_slice(key),
        }
    }
}

/// Effects of notes among those of the merge, each kind in its place. No path is in both.
fn add_notes(merged: &mut Merged, notes: Vec<Effect>, images: Vec<Image>) {
    if notes.is_empty() {
        return;
    }
    let place = |effect: &Effect| match effect {
        Effect::Clear(_) => 0,
        Effect::Delete(_) => 1,
        Effect::Put(..) => 2,
        Effect::Mark(_) => 4,
        _ => 3,
    };
    let Merged { effects, versions, images: merged_images, .. } = std::mem::take(merged);
    let has_image = |effect: &Effect| place(effect) < 3;
    let with_images = |effects: Vec<Effect>, images: Vec<Image>| {
        let mut images = images.into_iter();
        let image = move |effect: &Effect| has_image(effect).then(|| images.next()).flatten();
        effects.into_iter().map({
            let mut image = image;
            move |effect| {
                let image = image(&effect);
                (effect, image)
            }
        })
    };
    let merged_ones = with_images(effects, merged_images).zip(versions);
    let note_ones = with_images(notes, images).map(|note| (note, None));
    let mut all: Vec<_> = merged_ones.chain(note_ones).collect();
    all.sort_by(|((one, _), _), ((other, _), _)| {
        place(one).cmp(&place(other)).then_with(|| one.key().cmp(other.key()))
    });
    for ((effect, image), version) in all {
        merged.effects.push(effect);
        merged.images.extend(image);
        merged.versions.push(version);
    }
}

/// Ops in the order in which they are merged: by key, and of a key the greatest last.
pub(crate) fn in_order(ops: &[StampedOp]) -> Vec<&StampedOp> {
    let mut sorted: Vec<&StampedOp> = ops.iter().collect();
    let held = |op: &StampedOp| Held { version: op.version, change: op.change.clone() };
    sorted
        .sort_by(|one, other| one.key.cmp(&other.key).then_with(|| held(one).order(&held(other))));
    // The greatest of a key speaks for it.
    sorted.dedup_by(|later, kept| {
        let same = later.key == kept.key;
        if same {
            *kept = *later;
        }
        same
    });
    sorted
}

#[cfg(test)]
mod tests {
    use crate::stamp::Version;

    use super::*;

    /// Promise: a few leaves of a page do not keep in memory what else came with them; most of it
    /// is not copied.
    #[test]
    fn a_few_leaves_do_not_keep_their_page() {
        let buffer = Bytes::from([b'k'; 100].repeat(10));
        let leaf = |at: usize| (buffer.slice(at..at + 10), buffer.slice(at + 10..at + 100));
        let ops = (0..10).map(|number| {
            let (key, stored) = leaf(100 * number);
            StampedOp { key, version: Version::ZERO, change: StampedChange::Put(stored) }
        });
        let ops: Vec<StampedOp> = ops.collect();
        let inside = buffer.as_ptr_range();
        for (applied, is_kept) in [(10, true), (5, true), (4, false), (1, false)] {
            let puts = ops.iter().take(applied).filter_map(|op| match &op.change {
                StampedChange::Put(stored) => Some(Effect::Put(op.key.clone(), stored.clone())),
                _ => None,
            });
            let mut effects: Vec<Effect> = puts.collect();
            let before = effects.clone();
            detach(&mut effects, &ops);
            assert_eq!(effects, before);
            let kept = effects.iter().any(|effect| match effect {
                Effect::Put(key, stored) => {
                    inside.contains(&key.as_ptr()) || inside.contains(&stored.as_ptr())
                }
                _ => true,
            });
            assert_eq!(kept, is_kept, "{applied} of 10");
        }
    }
}
