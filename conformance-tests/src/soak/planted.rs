//! Defects planted into what a subscriber got: the judge has to find each.

use std::sync::Arc;

use super::judge::Verdict;
use super::record::{Item, Recorded, Text};
use super::topics::{Mode, Topic};
use crate::Rng;

/// What is done to a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planted {
    /// A frame is gone.
    Dropped,
    /// The frame after a resumption is gone.
    DroppedAtResume,
    /// A frame came twice.
    Repeated,
    /// Two frames changed their places.
    Exchanged,
    /// A frame says something else.
    Altered,
    /// A frame came under the number of another commit.
    Renumbered,
    /// A snapshot says that it is newer than it is.
    AheadOfItself,
}

impl Planted {
    pub(super) const ALL: &'static [Self] = &[
        Self::Dropped,
        Self::DroppedAtResume,
        Self::Repeated,
        Self::Exchanged,
        Self::Altered,
        Self::Renumbered,
        Self::AheadOfItself,
    ];

    /// The recording with the defect; `None` when it has no place for it.
    pub(super) fn plant(
        self,
        of: &Recorded,
        topics: &[Topic],
        until: u64,
        rng: &mut Rng,
    ) -> Option<Recorded> {
        if topics[of.topic].mode == Mode::Notify {
            // Its snapshots are empty at every rev.
            return None;
        }
        let mut bent = of.clone();
        let items = &mut bent.items;
        let told: Vec<usize> = (0..items.len())
            .filter(|at| matches!(items[*at], Item::Told { rev, .. } if rev <= until))
            .collect();
        // Not the last one: what comes behind it shows the gap.
        let one = *told.get(rng.below(told.len().saturating_sub(1)))?;
        let next = *told.iter().find(|at| **at > one)?;
        match self {
            Self::Dropped => drop(items.remove(one)),
            Self::DroppedAtResume => {
                let is_first = |at: &&usize| matches!(items[**at - 1], Item::Resumed { .. });
                let first = *told.iter().find(is_first)?;
                drop(items.remove(first));
            }
            Self::Repeated => items.insert(one, items[one].clone()),
            Self::Exchanged => {
                if next != one + 1 {
                    return None;
                }
                items.swap(one, next);
            }
            Self::Altered => {
                let Item::Told { frame, .. } = &mut items[one] else { return None };
                let json = frame.json.replacen("\"type\":\"", "\"type\":\"x", 1);
                *frame = Arc::new(Text { cause: frame.cause.clone(), json: json.into() });
            }
            Self::Renumbered => {
                let (before, own, after) =
                    (items[one - 1].rev(), items[one].rev(), items[next].rev());
                let Item::Told { rev, .. } = &mut items[one] else { return None };
                *rev = if own + 1 < after { own + 1 } else { own - 1 };
                if *rev <= before {
                    return None;
                }
            }
            Self::AheadOfItself => {
                let first = items.iter().position(|item| matches!(item, Item::Told { .. }))?;
                let (earlier, later) = items.split_at_mut(first);
                let Some(Item::Snapshot { rev, .. }) = earlier.last_mut() else { return None };
                *rev = later[0].rev();
                items.remove(first);
            }
        }
        Some(bent)
    }

    /// Whether the judge found what was planted.
    pub(super) fn is_found(self, verdict: &Verdict) -> bool {
        match self {
            Self::Dropped | Self::DroppedAtResume => verdict.missing == 1,
            Self::Repeated => verdict.duplicated == 1,
            Self::Exchanged => verdict.disordered == 1,
            Self::Altered => verdict.wrong == 1,
            Self::Renumbered => verdict.missing == 1 && verdict.invented == 1,
            Self::AheadOfItself => verdict.wrong == 1,
        }
    }
}
