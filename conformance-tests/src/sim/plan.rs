//! What a seed decides before anything happens: the shape, every constant, how rough it gets.

use std::time::Duration;

use trellis_topology::{SessionOptions, SlotOptions};
use trellis_tree::{DurabilityMode, DurabilityPolicy, TreeOptions};

use crate::{Rng, Seed};

/// How long nodes write, in simulated milliseconds.
const WORK_MS: u64 = 120_000;

/// The constants of a run, each ordinary or at an extreme.
#[derive(Debug, Clone)]
pub(super) struct Tuning {
    pub(super) session: SessionOptions,
    pub(super) slots: SlotOptions,
    durability: DurabilityMode,
    journal_bytes: u64,
    /// No message takes longer.
    pub(super) delay_ms: u64,
    /// No task waits longer.
    pub(super) task_ms: u64,
    /// Commits that callers ask for.
    pub(super) wishes: u64,
    pub(super) work_ms: u64,
    /// Mean time between faults; `None`: none happen.
    pub(super) fault_ms: Option<u64>,
    /// Mean time between upkeeps of a node.
    pub(super) upkeep_ms: u64,
    pub(super) endings: bool,
    /// How wrong a clock may be.
    pub(super) skew_ms: u64,
    /// One start in so many ends in its midst.
    fuse_one_in: usize,
    /// Whether a newer link ends the one before it, as at a real node; not for the first seeds,
    /// whose runs are kept.
    pub(super) one_link: bool,
}

fn one<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.below(of.len())]
}

impl Tuning {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let seconds = Duration::from_secs;
        let ordinary = SessionOptions::default();
        let session = SessionOptions {
            page_items: one(rng, &[1, 2, 7, 200]),
            page_bytes: one(rng, &[1, 300, 256 << 10]),
            page_bytes_min: one(rng, &[1, 16 << 10]),
            pages_in_flight: one(rng, &[1, 2, 32]),
            credit_bytes: one(rng, &[1, 400, 1 << 20]),
            batch_bytes: one(rng, &[1, 500, 256 << 10]),
            skips_unwritten_max: one(rng, &[60, 1000]),
            fills_max: one(rng, &[1, 8, 1000]),
            fills_window: one(rng, &[seconds(2), seconds(60)]),
            verify_every: one(rng, &[seconds(7), seconds(60)]),
            part_bytes: one(rng, &[64, 700, 256 << 10]),
            ..ordinary
        };
        let slots = SlotOptions {
            tail_bytes_max: one(rng, &[1500, 6000, 256 << 20]),
            tail_age_max: one(rng, &[seconds(20), seconds(7 * 86_400)]),
            idle_max: one(rng, &[seconds(15), seconds(86_400)]),
            collect_age: one(rng, &[seconds(300), seconds(300), seconds(86_400)]),
            persist_after: one(rng, &[seconds(1), seconds(5)]),
            persist_revs: one(rng, &[60, 10_000]),
            ..SlotOptions::default()
        };
        // A buffered journal is flushed by a thread of the tree, when that is woken: such a run
        // would not be as the one before.
        let _drawn = rng.one_in(4);
        let buffered = false;
        Self {
            session,
            slots,
            durability: if buffered {
                DurabilityMode::Interval(seconds(1))
            } else {
                DurabilityMode::Always
            },
            journal_bytes: one(rng, &[0, 1500, 64 << 20]),
            delay_ms: one(rng, &[0, 3, 50, 800, 4000]),
            task_ms: one(rng, &[0, 2, 40, 900]),
            wishes: one(rng, &[30, 80, 200]),
            work_ms: one(rng, &[10_000, 30_000, WORK_MS]),
            fault_ms: one(rng, &[None, Some(20_000), Some(6000), Some(2500)]),
            upkeep_ms: one(rng, &[300, 3000, 20_000]),
            endings: rng.one_in(3),
            skew_ms: one(rng, &[0, 50, 20_000, 200_000]),
            fuse_one_in: one(rng, &[usize::MAX, 8, 3]),
            one_link: false,
        }
    }

    pub(super) fn tree(&self) -> TreeOptions {
        TreeOptions {
            durability: DurabilityPolicy { default: self.durability, prefixes: Vec::new() },
            journal_retain_bytes: self.journal_bytes,
            // Nothing is forgotten in the background: no run would be as the one before.
            keys_retain_age: Duration::from_secs(400 * 86_400),
            ..TreeOptions::default()
        }
    }

    /// Whether what was acknowledged may be lost with power.
    pub(super) fn is_buffered(&self) -> bool {
        self.durability != DurabilityMode::Always
    }

    /// Links and tasks are as quick as they are on a good day.
    pub(super) fn calm_down(&mut self) {
        self.delay_ms = self.delay_ms.min(50);
        self.task_ms = self.task_ms.min(5);
    }

    /// From now on no start ends in its midst.
    pub(super) fn spare_starts(&mut self) {
        self.fuse_one_in = usize::MAX;
    }

    /// Some starts end in their midst, after so many calls that change something.
    pub(super) fn fuse_at_start(&self, seed: u64, start: u64) -> Option<(u32, bool)> {
        let mut rng = Seed(seed ^ start.wrapping_mul(0x9e37_79b9)).rng();
        if start == 1 || !rng.one_in(self.fuse_one_in) {
            return None;
        }
        Some((rng.below(6) as u32, rng.one_in(2)))
    }
}
