//! The merge against its naive reference, in many random histories.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may panic")]

use bytes::Bytes;
use trellis_engine_traits::KeyRange;

use crate::here::{Held, ending_path};
use crate::merge_reference::told;
use crate::merge_reference::{
    Dice, Maps, Records, Reference, Zones, histories, not_hidden, sorted,
};
use crate::path;
use crate::planted::Planted;
use crate::stamp::{StampedChange, StampedOp};
use crate::zoning::{Tracking, Zoning};

/// Why a history does not end as it must, if so.
fn converges(dice: &mut Dice, planted: Planted) -> Verdict {
    let ops = dice.ops(14, 0);
    let mut reference = Reference::default();
    ops.iter().for_each(|op| reference.add(op));
    let expected = reference.outcome(&[]);
    for _ in 0..2 {
        let mut replica = Maps::default();
        for commit in dice.delivery(&ops) {
            replica.merge(&Zones::one(), &commit, planted);
            let again = replica.merge(&Zones::one(), &commit, planted);
            if !again.effects.is_empty() {
                return Err(format!("{commit:?} came twice, and changed {:?}", again.effects));
            }
        }
        let outcome = not_hidden(&replica.records());
        if outcome != expected {
            return Err(format!("{ops:?}\ncame to\n{outcome:?}\nand not\n{expected:?}"));
        }
    }
    Ok(())
}

#[test]
fn any_order_duplication_and_batching_ends_in_what_the_rules_say() {
    holds(converges);
}

#[test]
fn planted_mistakes_are_found() {
    type Property = fn(&mut Dice, Planted) -> Verdict;
    let planted: [(Planted, Property); 9] = [
        (Planted::VersionCheckLoose, converges),
        (Planted::ClearTakesNewer, converges),
        (Planted::AncestorsIgnored, converges),
        (Planted::LeafLeavesNothing, converges),
        (Planted::TombForgotten, converges),
        (Planted::EndingOverwrites, converges),
        (Planted::ClearNotClipped, leaves_carved_alone),
        (Planted::ReplaceKeepsAbsent, replaces),
        (Planted::FillTakesUnknown, fills),
    ];
    for (planted, property) in planted {
        let found = (1..500_u64).any(|seed| {
            let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
            let run = std::panic::AssertUnwindSafe(|| property(&mut dice, planted).is_err());
            std::panic::catch_unwind(run).unwrap_or(true)
        });
        assert!(found, "{planted:?} was not found");
    }
}

/// Why carved zones are not what they were, or the rest is not what it must be.
fn leaves_carved_alone(dice: &mut Dice, planted: Planted) -> Verdict {
    let zones = Zones(vec![Bytes::from_static(b"a\0b"), Bytes::from_static(b"c\0a\0a")]);
    let mut replica = Maps::default();
    let mut lives = Vec::new();
    for carved in &zones.0 {
        if dice.roll(3) > 0 {
            let key = Bytes::from([carved, &b"\0x"[..]].concat());
            replica.leaves.insert(key, Bytes::from_static(b"\x05own"));
            lives.push(carved.clone());
        }
    }
    let own = |replica: &Maps| -> Vec<Bytes> {
        let carved = |key: &&Bytes| zones.0.iter().any(|at| path::covers(at, key));
        replica.leaves.keys().filter(carved).cloned().collect()
    };
    let before = own(&replica);
    let ops = dice.ops(14, 0);
    let mut reference = Reference::default();
    let outside = |op: &&StampedOp| {
        zones.zone(ending_path(&op.key).unwrap_or(&op.key)).tracking == Tracking::Shared
    };
    ops.iter().filter(outside).for_each(|op| reference.add(op));
    for commit in dice.delivery(&ops) {
        let merged = replica.merge(&zones, &commit, planted);
        let named = sorted(&commit);
        let clipped = named.len() - named.iter().filter(|op| outside(op)).count();
        if merged.came.clipped < clipped {
            return Err("what is out of scope was not counted".into());
        }
    }
    if own(&replica) != before {
        return Err(format!("{ops:?}\ntouched a carved zone"));
    }
    let carved = |key: &Bytes| zones.0.iter().any(|at| path::covers(at, key));
    let mut outcome = not_hidden(&replica.records());
    outcome.retain(|key, _| !carved(key));
    let expected = reference.outcome(&lives);
    if outcome != expected {
        return Err(format!("{ops:?}\ncame to\n{outcome:?}\nand not\n{expected:?}"));
    }
    Ok(())
}

#[test]
fn what_is_carved_out_is_not_touched() {
    for (seed, mut dice) in histories() {
        if let Err(difference) = leaves_carved_alone(&mut dice, Planted::None) {
            panic!("TRELLIS_SEED={seed}: {difference}");
        }
    }
}

/// What a source hands out, in pages: intervals that are one after the other, and their ops.
fn pages(source: &Maps, dice: &mut Dice, tombs: bool) -> Vec<(Vec<StampedOp>, KeyRange)> {
    let mut pages = vec![(Vec::new(), KeyRange::all())];
    for (key, held) in not_hidden(&source.records()) {
        let live = matches!(held.change, StampedChange::Put(_) | StampedChange::Ending(Some(_)));
        if !live && !tombs {
            continue;
        }
        if dice.roll(3) == 0 {
            pages.last_mut().unwrap().1.end = Some(key.clone());
            pages.push((Vec::new(), KeyRange::new(key.clone(), None)));
        }
        let Held { version, change } = held;
        pages.last_mut().unwrap().0.push(StampedOp { key, version, change });
    }
    pages
}

/// What can be seen: leaves and endings.
fn live(mut records: Records) -> Records {
    records.retain(|_, held| {
        matches!(held.change, StampedChange::Put(_) | StampedChange::Ending(Some(_)))
    });
    records
}

type Verdict = std::result::Result<(), String>;

/// Whether what can be seen is what is expected, also by the rules alone.
fn shows(replica: &Maps, expected: &Records, who: &str) -> Verdict {
    let shown = live(replica.records());
    if shown != *expected || live(not_hidden(&replica.records())) != *expected {
        return Err(format!("{who} shows\n{shown:?}\nand not\n{expected:?}"));
    }
    Ok(())
}

/// Gives each op a version of its own: no author gives one twice.
fn apart(ops: &mut [StampedOp], count: &mut u64) {
    for op in ops {
        *count += 1;
        op.version.hlc = op.version.hlc * 1000 + *count;
    }
}

fn replaces(dice: &mut Dice, planted: Planted) -> Verdict {
    let mut source = Maps::default();
    let mut replica = Maps::default();
    // Either both wrote what they liked, or the source went on from what the replica has.
    let goes_on = dice.roll(2) == 0;
    let mut count = 0;
    for commit in dice.ops(14, 1).chunks_mut(3) {
        apart(commit, &mut count);
        replica.merge(&Zones::one(), commit, Planted::None);
    }
    if goes_on {
        source = replica.clone();
    }
    for commit in dice.ops(14, if goes_on { 10 } else { 1 }).chunks_mut(3) {
        apart(commit, &mut count);
        source.merge(&Zones::one(), commit, Planted::None);
    }
    let mut follower = replica.clone();
    let tombs = dice.roll(2) == 0;
    let pages = pages(&source, dice, tombs);
    for (ops, interval) in &pages {
        let merged = replica.page(ops, interval, None, planted);
        follower.merge(&Zones::one(), &told(&merged), planted);
    }
    let expected = live(not_hidden(&source.records()));
    shows(&replica, &expected, "the replica")?;
    if goes_on {
        shows(&follower, &expected, "the replica's follower")?;
    }
    for (ops, interval) in &pages {
        let again = replica.page(ops, interval, None, planted);
        if !again.effects.is_empty() {
            return Err(format!("a page came twice, and changed {:?}", again.effects));
        }
    }
    Ok(())
}

fn fills(dice: &mut Dice, planted: Planted) -> Verdict {
    let mut replica = Maps::default();
    let mut reference = Reference::default();
    let mut count = 0;
    let mut add = |into: &mut Maps, mut ops: Vec<StampedOp>| {
        apart(&mut ops, &mut count);
        ops.iter().for_each(|op| reference.add(op));
        into.merge(&Zones::one(), &ops, Planted::None);
    };
    add(&mut replica, dice.ops(8, 1));
    let mut source = replica.clone();
    let known_rev = replica.rev;
    add(&mut source, dice.ops(8, 10));
    // What the source does not know of is newer than what it has collected since.
    add(&mut replica, dice.ops(8, 20));
    let mut follower = replica.clone();
    for (ops, interval) in pages(&source, dice, false) {
        let merged = replica.page(&ops, &interval, Some(known_rev), planted);
        follower.merge(&Zones::one(), &told(&merged), planted);
    }
    let expected = live(reference.outcome(&[]));
    shows(&replica, &expected, "the replica")?;
    shows(&follower, &expected, "the replica's follower")
}

fn holds(property: fn(&mut Dice, Planted) -> Verdict) {
    for (seed, mut dice) in histories() {
        if let Err(difference) = property(&mut dice, Planted::None) {
            panic!("TRELLIS_SEED={seed}: {difference}");
        }
    }
}

#[test]
fn replacing_all_intervals_makes_a_copy_and_again_changes_nothing() {
    holds(replaces);
}

#[test]
fn filling_removes_what_the_source_knew_and_keeps_what_it_did_not() {
    holds(fills);
}

/// Two that know different things compare what they show, and settle what differs.
fn settles(dice: &mut Dice, planted: Planted) -> Verdict {
    let (mut one, mut other) = (Maps::default(), Maps::default());
    let (mut reference, mut count) = (Reference::default(), 0);
    for replica in [&mut one, &mut other] {
        let mut ops = dice.ops(8, 1);
        apart(&mut ops, &mut count);
        ops.iter().for_each(|op| reference.add(op));
        replica.merge(&Zones::one(), &ops, Planted::None);
    }
    for _ in 0..4 {
        let theirs = live(other.records());
        let differ = |(key, held): &(&Bytes, &Held)| live(one.records()).get(*key) != Some(held);
        let found: Vec<_> = theirs.iter().filter(differ).collect();
        for (key, Held { version, change }) in found {
            let op = StampedOp { key: key.clone(), version: *version, change: change.clone() };
            let merged = one.settle(&op, planted);
            other.merge(&Zones::one(), &told(&merged), planted);
        }
        std::mem::swap(&mut one, &mut other);
    }
    let expected = live(reference.outcome(&[]));
    shows(&one, &expected, "one")?;
    shows(&other, &expected, "the other")
}

#[test]
fn two_that_compare_what_they_show_come_to_show_the_same() {
    holds(settles);
}
