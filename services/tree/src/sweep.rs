//! [`Sweep`]: how far the removal of what large clears left behind has come.

use bytes::Bytes;
use trellis_engine_traits::{ErrorKind, Result};

use crate::seal::SealedSnapshot;
use crate::space::{META, STALE_KEY};

/// How far it has come.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    /// Where the pass goes on; `None`: nothing is left behind.
    pub(crate) next: Option<Bytes>,
    /// Whether more was left behind since the pass began.
    pub(crate) again: bool,
}

impl Sweep {
    /// What a store says that is opened.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn at_open(store: &SealedSnapshot) -> Result<Self> {
        let noted = match store.get(META, STALE_KEY) {
            Err(error) if error.kind() == ErrorKind::Corrupt => true,
            stored => stored?.is_some(),
        };
        Ok(Self { next: noted.then(Bytes::new), again: false })
    }

    /// Entries were left behind in the store.
    pub(crate) fn begin(&mut self) {
        self.again = self.next.is_some();
        self.next.get_or_insert_default();
    }

    #[cfg(test)]
    pub(crate) fn is_under_way(&self) -> bool {
        self.next.is_some()
    }
}
