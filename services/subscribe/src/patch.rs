//! What a commit changed below a path, as `{"rel/path": value | null}`.
//!
//! A patch can be applied in any order, and given to `update` as it is: no path of it lies at or
//! below another. `null` removes; whoever applies it removes an object with its last member, as the
//! tree does. The path `""` is the whole.
//!
//! Invariant: a patch is at most about as large as the commit: where more was removed than stored,
//! the whole of what is there now stands for it.

use std::ops::ControlFlow;

use bytes::Bytes;
use trellis_engine_traits::Result;
use trellis_tree::{Leaf, Path};

use crate::json;
use crate::moment::{ChangedLeaf, Moment, covers, is_system, relative};

/// What is at a key now.
#[derive(Debug)]
enum Now {
    Gone,
    Leaf(Bytes),
    /// Whatever the state after the commit holds there.
    Whole,
}

type Item = (Bytes, Now);

/// Appends the patch of what changed at and below `base`; `false`, and nothing written, when
/// nothing did.
///
/// # Errors
/// `TooLarge` when it is longer than `bytes_max`; those of reads.
pub(crate) fn append(
    moment: &Moment<'_>,
    base: &[u8],
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<bool> {
    let items = without_overlaps(items(moment, base)?);
    if items.is_empty() {
        return Ok(false);
    }
    let start = out.len();
    out.push(b'{');
    for (key, now) in items {
        if out.len() > start + 1 {
            out.push(b',');
        }
        json::path_text(relative(base, &key), out)?;
        out.push(b':');
        match now {
            Now::Gone => out.extend_from_slice(b"null"),
            Now::Leaf(stored) => Leaf::append_json(&stored, out)?,
            Now::Whole => moment.after()?.append_json(&Path::from_key(&key)?, bytes_max, out)?,
        }
        if out.len() - start > bytes_max {
            return Err(crate::moment::too_large(bytes_max));
        }
    }
    out.push(b'}');
    Ok(true)
}

/// What changed, in the order of keys.
fn items(moment: &Moment<'_>, base: &[u8]) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut from = base.to_vec();
    for region in moment.regions(base, base) {
        if base.is_empty() && is_system(region) {
            continue;
        }
        leaves(moment, base, &from, Some(region), &mut items)?;
        emptied(moment, region, &mut items)?;
        from = region.to_vec();
        from.push(1);
    }
    leaves(moment, base, &from, None, &mut items)?;
    Ok(items)
}

/// Single leaves outside of what was emptied, up to the next such region.
fn leaves(
    moment: &Moment<'_>,
    base: &[u8],
    from: &[u8],
    until: Option<&[u8]>,
    items: &mut Vec<Item>,
) -> Result<()> {
    if until.is_some_and(|until| from >= until) {
        return Ok(());
    }
    moment.changes(base, from, &mut |leaf| {
        if until.is_some_and(|until| *leaf.key >= *until) {
            return ControlFlow::Break(());
        }
        items.push(item(leaf));
        ControlFlow::Continue(())
    })
}

/// A subtree that was emptied: its removal, or what differs, or the whole where that is shorter.
fn emptied(moment: &Moment<'_>, region: &[u8], items: &mut Vec<Item>) -> Result<()> {
    let puts = moment.entries_in(region).iter().filter(|(_, new)| new.is_some()).count();
    let key = Bytes::copy_from_slice(region);
    if puts == 0 {
        if moment.first_change(region, region)?.is_some() {
            items.push((key, Now::Gone));
        }
        return Ok(());
    }
    let mut own = Vec::new();
    let mut removed = 0;
    moment.changes(region, region, &mut |leaf| {
        removed += usize::from(leaf.new.is_none());
        own.push(item(leaf));
        if removed > puts { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if removed > puts {
        items.push((key, Now::Whole));
    } else {
        items.append(&mut own);
    }
    Ok(())
}

fn item(leaf: ChangedLeaf) -> Item {
    (leaf.key, leaf.new.map_or(Now::Gone, Now::Leaf))
}

/// Drops the removal of a leaf that gave way to an object, and of what lay below a new leaf.
fn without_overlaps(items: Vec<Item>) -> Vec<Item> {
    let mut kept: Vec<Item> = Vec::with_capacity(items.len());
    for (key, now) in items {
        match kept.last() {
            Some((above, Now::Leaf(_) | Now::Whole)) if covers(above, &key) => continue,
            Some((above, Now::Gone)) if covers(above, &key) => {
                // Something is stored below, so that this is an object now.
                kept.pop();
            }
            _ => {}
        }
        kept.push((key, now));
    }
    kept
}
