//! [`Restore`]: archives become a tree, as it is now or was at a rev or a time.
//!
//! Invariant: a target becomes a tree only after every archive was read to its end and found sound.

use std::io::Read;

use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{JournalRecord, SeedPoint, Seeded, Seeding, SeedingSource};

use crate::decode::{ArchiveReader, Chunk};
use crate::format::{ArchiveKind, Header, Summary};

/// How far a restore goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Until {
    /// To the end of what is there.
    #[default]
    Newest,
    /// To the state at exactly this rev.
    Rev(u64),
    /// To the state at this time, in milliseconds since 1970: the last commit made until then.
    Time(u64),
}

impl Until {
    fn is_beyond(self, record: &JournalRecord) -> bool {
        match self {
            Self::Newest => false,
            Self::Rev(rev) => record.rev > rev,
            Self::Time(at_ms) => record.at_ms > at_ms,
        }
    }
}

/// Takes archives in, a full one and what follows it, and makes a tree of them.
#[derive(Debug)]
pub struct Restore {
    seeding: Seeding,
    until: Until,
    /// The oldest rev that entries and records give; known after the entries.
    first_rev: u64,
    log_id: Option<u128>,
    /// Everything committed up to this time was given.
    covered_ms: u64,
    /// A record was passed over that is beyond what was asked for.
    beyond: bool,
}

fn too_early(until: Until) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "the full archive was taken after this point; take an earlier one",
    )
    .operation("restore")
    .context("until", format!("{until:?}"))
}

impl Restore {
    /// What a seeding from this archive calls its source, so that it is gone on with if it is cut
    /// off.
    #[must_use]
    pub fn source(header: &Header, until: Until) -> SeedingSource {
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        bytes.extend_from_slice(format!("{until:?}").as_bytes());
        SeedingSource { token: *blake3::hash(&bytes).as_bytes(), epoch: header.epoch }
    }

    /// As [`Restore::source`] for archives that are made as they are read: another one from the
    /// same position continues an earlier one. Not for stored archives, of which the later one
    /// could be taken in first.
    #[must_use]
    pub fn live_source(header: &Header) -> SeedingSource {
        let unchanged = Header { created_ms: 0, epoch: 0, ..*header };
        let SeedingSource { token, .. } = Self::source(&unchanged, Until::Newest);
        SeedingSource { token, epoch: header.epoch }
    }

    /// Refuses what an archive that begins like this can never give.
    ///
    /// # Errors
    /// `InvalidInput` for an incremental archive, `NotFound` for a point before it was begun.
    pub fn check(header: &Header, until: Until) -> Result<()> {
        if header.kind == ArchiveKind::Incremental {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "this is an incremental archive: a restore begins with a full one",
            )
            .operation("restore"));
        }
        let early = match until {
            Until::Newest => false,
            Until::Rev(rev) => rev < header.from.rev,
            Until::Time(at_ms) => at_ms < header.created_ms,
        };
        if early { Err(too_early(until)) } else { Ok(()) }
    }

    /// Begins with a seeding that was begun, or is gone on with, from [`Restore::source`].
    #[must_use]
    pub fn new(seeding: Seeding, until: Until) -> Self {
        Self { seeding, until, first_rev: 0, log_id: None, covered_ms: 0, beyond: false }
    }

    /// Takes an archive in, the full one first, and reads it to its end. `progress` is told after
    /// each chunk: entries and records so far of this archive, and its bytes.
    ///
    /// # Errors
    /// `Corrupt` for a damaged archive, one of another history, or one that leaves a gap after the
    /// one before; `NotFound` when the full archive was taken after the point asked for; those of
    /// the target.
    pub fn archive<R: Read>(
        &mut self,
        reader: &mut ArchiveReader<R>,
        progress: &mut dyn FnMut(u64, u64, u64),
    ) -> Result<Summary> {
        let header = *reader.header();
        match self.log_id {
            None => Self::check(&header, self.until)?,
            Some(log_id) => self.check_next(&header, log_id)?,
        }
        self.log_id = Some(header.log_id);
        let (mut entries, mut records) = (0, 0);
        while let Some(chunk) = reader.next_chunk()? {
            match chunk {
                Chunk::Entries(page) => {
                    entries += u64::try_from(page.count()).unwrap_or(0);
                    let seeding = &mut self.seeding;
                    page.for_each(|space, key, value| seeding.entry(space, key, value))?;
                }
                Chunk::EntriesEnd { rev } => {
                    self.first_rev = rev;
                    if matches!(self.until, Until::Rev(until) if until < rev) {
                        return Err(too_early(self.until));
                    }
                    self.seeding.entries_end(header.from)?;
                }
                Chunk::Records(page) => {
                    records += u64::try_from(page.len()).unwrap_or(0);
                    self.records(&page)?;
                }
                Chunk::End(_) => {}
            }
            progress(entries, records, reader.position());
        }
        self.covered_ms = self.covered_ms.max(header.created_ms);
        reader.read_to_end()
    }

    /// The content's digest so far.
    ///
    /// # Errors
    /// Those of the target.
    ///
    /// # Cost
    /// Reads everything.
    pub fn digest(&mut self) -> Result<String> {
        self.seeding.digest()
    }

    /// The rev that was reached.
    #[must_use]
    pub fn rev(&self) -> u64 {
        match self.seeding.point() {
            SeedPoint::Records(position) => position.rev,
            SeedPoint::Entries(_) => 0,
        }
    }

    /// Makes the target a tree that can be opened.
    ///
    /// # Errors
    /// `NotFound` when the archives do not reach to the point asked for; those of the target.
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn finish(self) -> Result<Seeded> {
        let reached = match self.until {
            Until::Newest => true,
            Until::Rev(rev) => self.rev() == rev,
            Until::Time(at_ms) => self.beyond || at_ms <= self.covered_ms,
        };
        if !reached {
            return Err(Error::new(
                ErrorKind::NotFound,
                "the archives end before this point; restore to their end, or add later ones",
            )
            .operation("restore")
            .context("until", format!("{:?}", self.until))
            .context("end_rev", self.rev())
            .context("end_ms", self.covered_ms));
        }
        self.seeding.finish()
    }

    fn records(&mut self, page: &[JournalRecord]) -> Result<()> {
        for record in page {
            if self.beyond || self.until.is_beyond(record) {
                self.beyond = true;
                // What was read of the entries may already be later than the point asked for.
                if self.rev() < self.first_rev {
                    return Err(too_early(self.until));
                }
                continue;
            }
            self.seeding.record(record)?;
        }
        Ok(())
    }

    fn check_next(&self, header: &Header, log_id: u128) -> Result<()> {
        let refuse = |message: &'static str| {
            Err(Error::new(ErrorKind::Corrupt, message)
                .operation("restore")
                .context("from_rev", header.from.rev)
                .context("end_rev", self.rev()))
        };
        if header.log_id != log_id {
            return refuse("the archives belong to different histories");
        }
        if header.kind == ArchiveKind::Full {
            return refuse("a full archive follows another; restore from one of them");
        }
        if header.from.rev > self.rev() && !self.beyond {
            return refuse("an archive is missing: what was committed in between is nowhere");
        }
        Ok(())
    }
}
