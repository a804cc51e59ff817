//! What changed after a rev: the overlay tells of what is not yet applied, the journal of the rest.

use std::ops::ControlFlow;

use trellis_engine_traits::{ReadBudget, Result};

use crate::core::Core;
use crate::effect::Effect;
use crate::path::{self, Path};
use crate::record::Record;
use crate::state::State;

impl Core {
    /// Of revs and paths each: whether anything at or below the path changed after the rev; `true`
    /// too where the journal no longer tells, or more than `records_max` of its records would have
    /// to be read. They are read once for all.
    ///
    /// # Errors
    /// Those of the log.
    pub(crate) fn changed_after(
        &self,
        state: &State,
        asked: &[(u64, &Path)],
        records_max: u64,
    ) -> Result<Vec<bool>> {
        // Every table of the overlay holds whole commits only, and all after `applied_rev`.
        let in_overlay = |(rev, path): &(u64, &Path)| {
            state.layers.tables().any(|table| table.read().changed_after(*rev, path.key()))
        };
        let mut changed: Vec<bool> = asked.iter().map(in_overlay).collect();
        let applied_rev = state.layers.applied_rev;
        let mut open = Vec::new();
        for ((rev, path), changed) in asked.iter().zip(&mut changed) {
            if !*changed && *rev < applied_rev {
                // Until the journal says otherwise.
                *changed = true;
                if applied_rev - rev <= records_max && *rev >= self.base {
                    open.push((*rev, path.key(), changed));
                }
            }
        }
        if open.is_empty() {
            return Ok(changed);
        }
        let bounds = self.log.bounds(&self.journal)?;
        open.retain(|(rev, ..)| rev + 1 - self.base >= bounds.first);
        let Some(from) = open.iter().map(|(rev, ..)| rev + 1 - self.base).min() else {
            return Ok(changed);
        };
        let mut touched = vec![false; open.len()];
        let (mut last, mut failure) = (0, None);
        let records_max = usize::try_from(records_max).unwrap_or(usize::MAX);
        let budget = ReadBudget { records_max, bytes_max: usize::MAX };
        self.log.read(&self.journal, from, budget, &mut |_, bytes| {
            match Record::decode(bytes) {
                Ok(record) => {
                    last = record.rev;
                    for ((rev, key, _), touched) in open.iter().zip(&mut touched) {
                        *touched = *touched
                            || *rev < last && record.effects.iter().any(|one| touches(one, key));
                    }
                }
                Err(error) => failure = Some(error),
            }
            let is_done = failure.is_some() || last >= applied_rev || !touched.contains(&false);
            if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        for ((_, _, changed), touched) in open.into_iter().zip(touched) {
            *changed = touched || last < applied_rev;
        }
        Ok(changed)
    }
}

fn touches(effect: &Effect, path: &[u8]) -> bool {
    match effect {
        Effect::Clear(key) => path::covers(key, path) || path::covers(path, key),
        // A path may also lead into an array, which is a leaf above it.
        Effect::Put(key, _) | Effect::Delete(key) => {
            path::covers(path, key) || path::covers(key, path)
        }
        Effect::Expire(key, _) | Effect::Unexpire(key) => path::covers(path, key),
        // What a mark's removal took is in other effects.
        Effect::Unindex(..) | Effect::Forget(..) | Effect::Mark(_) | Effect::Collect(_) => false,
    }
}
