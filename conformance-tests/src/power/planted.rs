//! Do the checks bite? Each of these faults must be noticed within a few thousand images or places.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{
    Appended, Bounds, Durability, ErrorKind, Expect, LogProfile, Offset, ReadBudget, ReadEnd,
    ReadStop, RecordVisitor, Result, StreamId, StreamLog,
};

use super::medium::Betrayal;
use super::points::Budget;
use super::{Stand, log_story, tree_story};
use crate::{Factory, Seed, World};

/// Images within which a fault must be noticed.
const IMAGES: usize = 4000;

/// A fault: its name, the combination that it is planted in, how, and whether the log answers
/// before it syncs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planted {
    pub(crate) name: &'static str,
    pub(crate) combination: &'static str,
    betrayal: Betrayal,
    answers_early: bool,
}

const fn planted(
    name: &'static str,
    combination: &'static str,
    betrayal: Betrayal,
    answers_early: bool,
) -> Planted {
    Planted { name, combination, betrayal, answers_early }
}

/// Every planted fault.
pub(crate) const PLANTED: &[Planted] = &[
    planted("LayerIgnoresSync", "log-segment", Betrayal::SyncsNothing(".segment"), false),
    planted("LayerIgnoresDirectorySync", "log-segment", Betrayal::SyncsNoDirectory, false),
    planted("MarkBeforeData", "log-segment", Betrayal::MarkBeforeData, false),
    planted("LogAnswersBeforeSync", "log-segment", Betrayal::None, true),
    planted("StoreIgnoresSync", "kv-redb+log-segment", Betrayal::SyncsNothing("redb"), false),
    planted("JournalIgnoresSync", "kv-redb+log-segment", Betrayal::SyncsNothing("segment"), false),
];

/// Demands that a planted fault is noticed.
pub(crate) fn must_be_noticed(world: &World<Stand>, fault: Planted) {
    let stand = world.engine();
    let mut budget = Budget::of(IMAGES);
    let rng = Seed::of_run().of(fault.name).rng();
    let alone = !fault.combination.starts_with("kv-");
    let outcome = match (alone, fault.answers_early) {
        (true, false) => log_story::run(&stand, &mut budget, fault.betrayal, rng),
        (true, true) => {
            let honest = Stand::clone(&stand);
            let early = Stand::log(world.dir(), move |place| {
                Ok(Arc::new(BentLog {
                    honest: honest.open_log(place)?,
                    fault: Fault::AnswersEarly,
                }))
            });
            log_story::run(&early, &mut budget, fault.betrayal, rng)
        }
        _ => tree_story::run(&stand, &mut budget, fault.betrayal, rng),
    };
    assert!(outcome.is_err(), "nobody noticed: {budget:?}");
}

/// A stand whose log takes damage for its end; it has the name of the one that is held to all.
pub(crate) fn damage_is_the_end(honest: &Factory<Stand>) -> Factory<Stand> {
    let open = honest.clone();
    let factory = Factory::new(honest.name(), move |dir: &Path| {
        let stand = open.open(dir)?;
        Ok(Arc::new(Stand::log(dir, move |place| {
            let honest = stand.open_log(place)?;
            Ok(Arc::new(BentLog { honest, fault: Fault::EndsAtDamage }))
        })))
    });
    factory.offers(honest.offered())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Answers before it has synced.
    AnswersEarly,
    /// Takes a damaged record for the end.
    EndsAtDamage,
}

/// A log with one fault.
#[derive(Debug)]
struct BentLog {
    honest: Arc<dyn StreamLog>,
    fault: Fault,
}

impl StreamLog for BentLog {
    fn profile(&self) -> &LogProfile {
        self.honest.profile()
    }

    fn append(
        &self,
        stream: &StreamId,
        records: &[Bytes],
        expect: Expect,
        durability: Durability,
    ) -> Result<Appended> {
        let early = self.fault == Fault::AnswersEarly;
        let durability = if early { Durability::Buffered } else { durability };
        self.honest.append(stream, records, expect, durability)
    }

    fn read(
        &self,
        stream: &StreamId,
        from: Offset,
        budget: ReadBudget,
        visit: &mut RecordVisitor<'_>,
    ) -> Result<ReadEnd> {
        match self.honest.read(stream, from, budget, visit) {
            Err(error)
                if self.fault == Fault::EndsAtDamage && error.kind() == ErrorKind::Corrupt =>
            {
                Ok(ReadEnd { next: from, stop: ReadStop::End })
            }
            end => end,
        }
    }

    fn bounds(&self, stream: &StreamId) -> Result<Bounds> {
        self.honest.bounds(stream)
    }

    fn trim(&self, stream: &StreamId, before: Offset) -> Result<()> {
        self.honest.trim(stream, before)
    }

    fn flush(&self, stream: &StreamId, up_to: Offset) -> Result<()> {
        self.honest.flush(stream, up_to)
    }

    fn streams(&self, after: Option<&StreamId>, limit: usize) -> Result<Vec<StreamId>> {
        self.honest.streams(after, limit)
    }

    fn close(&self) -> Result<()> {
        self.honest.close()
    }
}
