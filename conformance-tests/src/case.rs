//! A case as data, and what it may need of an engine.

use std::fmt;

/// What a case needs beyond the mandatory contract. An engine that lacks it is not put through
/// the case; the ledger says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Need {
    /// The data is in files of the directory, so that it outlives the process.
    Disk,
    /// The data ends with the process.
    Volatile,
    /// The factory can simulate loss of power.
    PowerLoss,
    /// The factory can make the next flush fail.
    FlushFault,
    /// The factory can make the next write fail.
    WriteFault,
    /// A stored record can be damaged: by the factory, or in the files.
    Damage,
    /// The factory can start a child process on the same directory.
    Child,
    /// Every engine of the combination has its data in files.
    AllOnDisk,
    /// The combination is put behind a server too.
    Wire,
    /// The log is that of segment files, under each store: where stores differ and logs do not.
    SegmentLog,
    /// Store and log go on when others have filled the disk: the log keeps a reserve.
    Reserve,
    /// The log's files are behind a seam at which calls can be made to fail.
    FileFaults,
    /// A child can open the combination through the library that hosts use.
    Platform,
    /// The engine offers `Ability::ReclaimDisk`.
    ReclaimDisk,
    /// Every operation on its files is recorded.
    Recorded,
    /// Its nodes replicate as their configuration says.
    Replication,
    /// What carries messages are frames that can be forged.
    RawFrames,
    /// The combination is a log with nothing above it.
    LogAlone,
    /// The combination is a store and a journal under a tree.
    TreeAbove,
}

impl Need {
    /// Why an engine without this does not run the case.
    #[must_use]
    pub const fn missing(self) -> &'static str {
        match self {
            Self::Disk => "keeps nothing on disk",
            Self::Volatile => "keeps its data on disk",
            Self::PowerLoss => "no simulated loss of power; the crash cases kill a process",
            Self::FlushFault => "no switch that fails a flush; the engine's own tests do",
            Self::WriteFault => "no switch that fails a write; the fault cases cap the file size",
            Self::Damage => "nothing that could be damaged",
            Self::AllOnDisk => "a part of it keeps nothing on disk",
            Self::Wire => "not put behind a server",
            Self::SegmentLog => "every store is shown on one log",
            Self::FileFaults => "the log has no files of its own behind a seam",
            Self::Platform => "not opened through the library here",
            Self::Reserve => "keeps no reserve against a disk that others fill",
            Self::Child => "no child process can open it",
            Self::ReclaimDisk => "does not offer ReclaimDisk",
            Self::Recorded => "the engine writes past the recorder; the crash cases kill a process",
            Self::Replication => "its nodes do not replicate by their configuration yet",
            Self::RawFrames => "carries messages as they are: there are no frames to forge",
            Self::LogAlone => "shown on the log alone",
            Self::TreeAbove => "there is no tree above it",
        }
    }

    /// Whether `offers` has it.
    #[must_use]
    pub fn met_by(self, offers: &[Self]) -> bool {
        offers.contains(&self) || (self == Self::Damage && offers.contains(&Self::Disk))
    }
}

/// How much a case takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cost {
    /// Within a second or two: on every change.
    Quick,
    /// Longer, or much memory: before a release and at night.
    Full,
}

impl Cost {
    /// What `TRELLIS_COST` asks for; quick when it is not set.
    ///
    /// # Panics
    /// For a word other than `quick` and `full`: a run that silently proves less is worse.
    #[must_use]
    pub fn from_env() -> Self {
        match std::env::var("TRELLIS_COST").as_deref() {
            Ok("full") => Self::Full,
            Ok("quick") | Err(_) => Self::Quick,
            Ok(other) => panic!("TRELLIS_COST is `quick` or `full`, not {other:?}"),
        }
    }
}

/// One case: `W` is the world its body works in.
pub struct Case<W: 'static> {
    /// The name: family, topic, what is shown. Stable; the ledger lists it.
    pub id: &'static str,
    /// The ids of the promises that it proves, from the `# Contract` lists of the traits.
    pub promises: &'static [&'static str],
    /// What the engine needs for it.
    pub needs: &'static [Need],
    /// How much it takes.
    pub cost: Cost,
    /// Shows the promises; panics when one is broken.
    pub body: fn(&W),
    /// What is shown instead when a need is not met, if anything.
    pub negative: Option<fn(&W)>,
}

impl<W> Clone for Case<W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for Case<W> {}

impl<W> fmt::Debug for Case<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("id", &self.id)
            .field("promises", &self.promises)
            .field("needs", &self.needs)
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

impl<W> Case<W> {
    /// A quick case without needs.
    #[must_use]
    pub const fn new(id: &'static str, promises: &'static [&'static str], body: fn(&W)) -> Self {
        Self { id, promises, needs: &[], cost: Cost::Quick, body, negative: None }
    }

    /// The same case, for engines that have all of `needs`.
    #[must_use]
    pub const fn needs(self, needs: &'static [Need]) -> Self {
        Self { needs, ..self }
    }

    /// The same case, for full runs only.
    #[must_use]
    pub const fn full(self) -> Self {
        Self { cost: Cost::Full, ..self }
    }

    /// The same case, with what engines show that lack a need.
    #[must_use]
    pub const fn otherwise(self, negative: fn(&W)) -> Self {
        Self { negative: Some(negative), ..self }
    }
}
