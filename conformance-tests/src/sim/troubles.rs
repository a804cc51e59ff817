//! Further troubles, of rough seeds only, so that what every other seed does stays what it was: a
//! disk that fills, another mode after a restart, and removals that are forgotten early.

use std::sync::Arc;
use std::time::Duration;

use super::engines::Ending;
use super::model::covers;
use super::plan::Tuning;
use super::wiring::Wiring;
use super::world::{Happening, World, note};
use crate::{Rng, Seed};

/// Seeds from here on have further troubles: full disks, and modes that change.
pub const ROUGH: u64 = 1_000_000;
/// Seeds from here on may forget removals after seconds.
pub const FORGETFUL: u64 = 2_000_000;
/// Modes between which a path changes at a node that may both follow and push it.
const MODES: [&str; 3] = ["sync", "replica", "readonly"];
/// No disk is full for longer.
const FULL_MS: u64 = 30_000;

/// What a rough seed draws from; it shares nothing with what the others draw from.
pub(super) fn chance(seed: u64) -> Option<Rng> {
    (seed >= ROUGH).then(|| Seed(seed).of("troubles").rng())
}

impl Tuning {
    /// Whether removals are forgotten while a run still goes on.
    pub(super) fn forgets_early(&self) -> bool {
        self.slots.collect_age < Duration::from_secs(60)
    }

    /// Half of the forgetful seeds forget removals after seconds, and wait for whoever is away.
    pub(super) fn forget_early(&mut self, seed: u64, rng: &mut Rng) {
        self.one_link = seed >= FORGETFUL;
        if rng.one_in(2) && seed >= FORGETFUL {
            let day = Duration::from_secs(86_400);
            self.slots.collect_age = Duration::from_secs([5, 20][rng.below(2)]);
            (self.slots.idle_max, self.slots.tail_age_max) = (day, 7 * day);
            self.slots.tail_bytes_max = 256 << 20;
        }
    }
}

impl World {
    /// The troubles of a rough seed begin.
    pub(super) fn beset(&mut self, troubles: Option<Rng>) {
        if troubles.is_some() {
            self.plan(1000, Happening::Trouble);
        }
        self.troubles = troubles;
    }

    pub(super) fn trouble(&mut self) {
        let Some(rng) = self.troubles.as_mut().filter(|_| !self.calm) else { return };
        let (node, kind) = (rng.below(self.nodes.len()), rng.below(2));
        let (choice, delay) = (rng.below(1000), 1 + rng.below(20_000) as u64);
        self.plan(delay, Happening::Trouble);
        match kind {
            0 => self.fill_disk(node, choice as u64 * FULL_MS / 1000),
            _ => self.change_mode(node, choice),
        }
    }

    fn fill_disk(&mut self, node: usize, ms: u64) {
        let Some(life) = &self.nodes[node].life else { return };
        life.machine.fill(true);
        note!(self, "the disk of {} is full", self.nodes[node].name);
        self.plan(ms, Happening::Room(node));
    }

    pub(super) fn make_room(&mut self, node: usize) {
        let Some(life) = &self.nodes[node].life else { return };
        life.machine.fill(false);
        life.rest();
        note!(self, "the disk of {} has room", self.nodes[node].name);
    }

    /// A node that nobody follows comes back with another mode for a path.
    fn change_mode(&mut self, node: usize, choice: usize) {
        let spec = &self.shape.nodes[node].spec;
        let Some(hub) = spec.upstream.filter(|_| spec.grants.is_empty()) else { return };
        let name = self.shape.nodes[node].name.clone();
        let grants = &self.shape.nodes[hub].spec.grants;
        let may_push = |path: &String| {
            let own = grants.iter().find(|grant| grant.peer == name);
            own.is_some_and(|grant| grant.push.contains(path) && grant.pull.contains(path))
        };
        let Some(at) = spec.paths.iter().position(|(path, _)| may_push(path)) else { return };
        let (path, before) = spec.paths[at].clone();
        let others: Vec<&str> = MODES.into_iter().filter(|mode| *mode != before).collect();
        let mode = others[choice % others.len()];
        self.crash(node, Ending::Kill);
        note!(self, "{name} is configured with {path} as {mode}, no longer {before}");
        self.shape.nodes[node].spec.paths[at].1 = mode;
        let wiring = Wiring::new(&self.shape.nodes[node].spec, &self.shape);
        self.wirings[node] = Arc::new(wiring);
        self.positions.retain(|(of, _), _| *of != node);
        if before == "sync" {
            // What the hub has not got by now is set aside.
            let key = path.replace('/', "\0").into_bytes();
            for deed in self.model.deeds.iter_mut().filter(|deed| deed.node == node) {
                let mut changes = deed.changes.iter();
                deed.maybe |= changes.any(|change| covers(&key, &change.key));
            }
        }
    }
}
