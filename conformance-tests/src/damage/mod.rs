//! The family of damage: a flipped bit or a cut anywhere in a file is an error or changes nothing
//! that is read; it is never a wrong record, a wrong leaf, or a silent end.
//!
//! Files of a log or store that was closed with known contents are damaged at positions that the
//! seed draws, one place at a time, opened and read to the end. What no checksum of ours can find
//! is counted apart and told: a key that an engine's index lost ([`tally::Tally::absent`]), and an
//! engine that fell back to an older state of itself ([`tally::Tally::older`]).

mod leaves;
mod log;
mod tally;

use crate::power::{Image, Medium, Place, Stand};
use crate::{Case, Need, Rng, World};

/// Every case of the family.
#[must_use]
pub(crate) fn cases() -> Vec<Case<World<Stand>>> {
    const LOG: &[&str] = &["log.recover.damage", "log.read.order"];
    const LEAVES: &[&str] = &["tree.value.exact"];
    vec![
        Case::new("damage.log.flipped_bits", LOG, log::flips)
            .needs(&[Need::Damage, Need::LogAlone]),
        Case::new("damage.log.shortened_files", LOG, log::cuts)
            .needs(&[Need::Damage, Need::LogAlone]),
        Case::new("damage.leaves.never_wrong", LEAVES, leaves::never_wrong)
            .needs(&[Need::Damage, Need::TreeAbove]),
    ]
}

/// As many places as `TRELLIS_DAMAGES` says, else `usual`.
///
/// # Panics
/// When `TRELLIS_DAMAGES` is no number above 0.
fn places(usual: usize) -> usize {
    let Ok(text) = std::env::var("TRELLIS_DAMAGES") else { return usual };
    let places = text.trim().parse().ok().filter(|places| *places > 0);
    places.expect("TRELLIS_DAMAGES is a number above 0")
}

/// A position in a file: mostly one that holds something.
fn position(bytes: &[u8], rng: &mut Rng) -> usize {
    let drawn = rng.below(bytes.len());
    if rng.one_in(8) {
        return drawn;
    }
    // From there on the first byte that is not zero, else the last one before.
    let after = bytes[drawn..].iter().position(|byte| *byte != 0).map(|skipped| drawn + skipped);
    after.or_else(|| bytes.iter().rposition(|byte| *byte != 0)).unwrap_or(drawn)
}

/// Turns one bit over; says which.
fn flip(bytes: &mut [u8], rng: &mut Rng) -> String {
    if bytes.is_empty() {
        return "nothing to flip".to_owned();
    }
    let (at, bit) = (position(bytes, rng), rng.below(8));
    bytes[at] ^= 1 << bit;
    format!("bit {bit} of byte {at}")
}

/// Takes the end away; says from where on.
fn cut(bytes: &mut Vec<u8>, rng: &mut Rng) -> String {
    let at = rng.below(bytes.len());
    bytes.truncate(at);
    format!("cut at {at}")
}
