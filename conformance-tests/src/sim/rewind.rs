//! Nodes that come back as they once were: restored from a backup, or with another configuration.
//!
//! A restored node is another one, with a history of its own. What it had acknowledged since the
//! backup may come back from its peers, and need not: of that the model knows nothing any more.

use std::sync::Arc;

use trellis_archive::{ArchiveReader, Backup, Restore, Until};
use trellis_runtime::{Runtime, RuntimeOptions, SeededRandom};
use trellis_tree::Seeding;

use super::clock::NodeClock;
use super::engines::{Disks, Ending, Machine};
use super::world::{World, note};

/// A backup, and when it was taken.
#[derive(Debug)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    taken_at: u64,
}

impl World {
    fn runtime(&self, node: usize, number: u64) -> Arc<Runtime> {
        Runtime::new(RuntimeOptions {
            clock: Arc::new(NodeClock::new(&self.time, &self.nodes[node].skew_ms)),
            random: Arc::new(SeededRandom::new(self.seed ^ (number << 20) ^ self.now())),
            pool_threads: 1,
            pool_queue_max: 16,
        })
    }

    /// Takes a backup of a node, or puts an earlier one in its place.
    pub(super) fn rewind(&mut self, node: usize) {
        match self.backups.remove(&node) {
            None => self.back_up(node),
            Some(archive) => self.restore(node, &archive),
        }
    }

    fn back_up(&mut self, node: usize) {
        let runtime = self.runtime(node, node as u64);
        let taken_at = self.now();
        let Some(life) = self.awake(node) else { return };
        let mut bytes = Vec::new();
        let written = Backup::full(&life.tree, &runtime)
            .and_then(|backup| backup.write_to(&mut bytes, &mut |_| {}));
        match written {
            Ok(_) => {
                note!(self, "{} is backed up", self.nodes[node].name);
                self.backups.insert(node, Archive { bytes, taken_at });
            }
            Err(error) => self.fail(format!("a backup failed: {error}")),
        }
    }

    fn restore(&mut self, node: usize, archive: &Archive) {
        if self.nodes[node].life.is_none() {
            return;
        }
        self.crash(node, Ending::Kill);
        let disks = Disks::default();
        let (machine, kv, log) = Machine::start(&disks);
        let runtime = self.runtime(node, node as u64 + 100);
        let restored = ArchiveReader::new(&archive.bytes[..]).and_then(|mut reader| {
            let source = Restore::source(reader.header(), Until::Newest);
            let seeding = Seeding::begin(kv, log, &runtime, source)?;
            let mut restore = Restore::new(seeding, Until::Newest);
            restore.archive(&mut reader, &mut |_, _, _| {})?;
            restore.finish()
        });
        machine.end(Ending::Kill);
        let seeded = match restored {
            Ok(seeded) => seeded,
            Err(error) => return self.fail(format!("a restore failed: {error}")),
        };
        let name = self.nodes[node].name.clone();
        let log_id = &seeded.log_id[..8];
        note!(self, "{name} is restored: now log {log_id} at {}", seeded.rev);
        self.restored += 1;
        self.nodes[node].disks = disks;
        self.nodes[node].in_doubt = None;
        let forgets = self.tuning.forgets_early();
        for deed in &mut self.model.deeds {
            // What all had seen go, and was forgotten since, comes back with the backup.
            deed.maybe |= deed.at >= archive.taken_at || forgets;
            deed.unversioned |= deed.node == node;
        }
    }
}
