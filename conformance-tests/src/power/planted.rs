//! Do the checks bite? Each of these faults must be noticed within a thousand images.

use std::sync::Arc;

use bytes::Bytes;
use trellis_engine_traits::{
    Appended, Bounds, Durability, Expect, LogProfile, Offset, ReadBudget, ReadEnd, RecordVisitor,
    Result, StreamId, StreamLog,
};

use super::medium::Betrayal;
use super::points::Budget;
use super::{Stand, log_story, tree_story};
use crate::{Seed, World};

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
                Ok(Arc::new(EarlyLog(honest.open_log(place)?)))
            });
            log_story::run(&early, &mut budget, fault.betrayal, rng)
        }
        _ => tree_story::run(&stand, &mut budget, fault.betrayal, rng),
    };
    assert!(outcome.is_err(), "nobody noticed: {budget:?}");
}

/// A log that answers before it has synced, and believes itself.
#[derive(Debug)]
struct EarlyLog(Arc<dyn StreamLog>);

impl StreamLog for EarlyLog {
    fn profile(&self) -> &LogProfile {
        self.0.profile()
    }

    fn append(
        &self,
        stream: &StreamId,
        records: &[Bytes],
        expect: Expect,
        _durability: Durability,
    ) -> Result<Appended> {
        self.0.append(stream, records, expect, Durability::Buffered)
    }

    fn read(
        &self,
        stream: &StreamId,
        from: Offset,
        budget: ReadBudget,
        visit: &mut RecordVisitor<'_>,
    ) -> Result<ReadEnd> {
        self.0.read(stream, from, budget, visit)
    }

    fn bounds(&self, stream: &StreamId) -> Result<Bounds> {
        self.0.bounds(stream)
    }

    fn trim(&self, stream: &StreamId, before: Offset) -> Result<()> {
        self.0.trim(stream, before)
    }

    fn flush(&self, stream: &StreamId, up_to: Offset) -> Result<()> {
        self.0.flush(stream, up_to)
    }

    fn streams(&self, after: Option<&StreamId>, limit: usize) -> Result<Vec<StreamId>> {
        self.0.streams(after, limit)
    }

    fn close(&self) -> Result<()> {
        self.0.close()
    }
}
