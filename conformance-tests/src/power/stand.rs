//! Where the cases of power loss and damage open their engines: on a recording medium, or in a
//! directory for engines that write through the operating system alone.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use trellis_engine_traits::{Result, StreamLog};

use super::medium::Medium;
use crate::Engine;
use crate::tree::Engines;

/// Where one open finds its files.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The files that are recorded.
    pub(crate) medium: Medium,
    /// The directory of engines that cannot be recorded.
    pub(crate) dir: PathBuf,
    /// Bytes of a segment, where the log has segments.
    pub(crate) segment_bytes: u64,
}

impl Place {
    pub(crate) fn on(medium: Medium, dir: &Path, segment_bytes: u64) -> Self {
        Self { medium, dir: dir.into(), segment_bytes }
    }
}

type OpenLog = Arc<dyn Fn(&Place) -> Result<Arc<dyn StreamLog>> + Send + Sync>;
type OpenTree = Arc<dyn Fn(&Place) -> Result<Engines> + Send + Sync>;

#[derive(Clone)]
enum Opens {
    Log(OpenLog),
    Tree(OpenTree),
}

/// A log alone, or a store and a journal, opened as often as a case wants, each time elsewhere.
#[derive(Clone)]
pub(crate) struct Stand {
    opens: Opens,
    dir: PathBuf,
}

impl Stand {
    /// A log alone.
    pub(crate) fn log(
        dir: &Path,
        open: impl Fn(&Place) -> Result<Arc<dyn StreamLog>> + Send + Sync + 'static,
    ) -> Self {
        Self { opens: Opens::Log(Arc::new(open)), dir: dir.into() }
    }

    /// A store and the log that holds its journal.
    pub(crate) fn tree(
        dir: &Path,
        open: impl Fn(&Place) -> Result<Engines> + Send + Sync + 'static,
    ) -> Self {
        Self { opens: Opens::Tree(Arc::new(open)), dir: dir.into() }
    }

    /// The directory that goes with the world.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Opens the log.
    pub(crate) fn open_log(&self, place: &Place) -> Result<Arc<dyn StreamLog>> {
        match &self.opens {
            Opens::Log(open) => open(place),
            Opens::Tree(_) => panic!("the planner gives logs to cases of logs"),
        }
    }

    /// Opens store and journal.
    pub(crate) fn open_engines(&self, place: &Place) -> Result<Engines> {
        match &self.opens {
            Opens::Tree(open) => open(place),
            Opens::Log(_) => panic!("the planner gives trees to cases of trees"),
        }
    }
}

impl Engine for Stand {
    fn close_engine(&self) -> Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Stand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stand").field("dir", &self.dir).finish_non_exhaustive()
    }
}
