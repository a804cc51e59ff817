//! [`RawEngine`]: an engine as its own users use it.

use crate::Result;

/// A key with its value.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// An engine, used by one thread at a time.
pub(crate) trait RawEngine: Send {
    /// Writes the pairs in one transaction that survives loss of power.
    fn commit(&mut self, pairs: &[Pair]) -> Result<()>;

    /// Gets each key in a read transaction of its own; answers the bytes found.
    fn get_each(&self, keys: &[Vec<u8>], out: &mut Vec<u8>) -> Result<()>;

    /// Gets all keys in one read transaction.
    fn get_all(&self, keys: &[Vec<u8>], out: &mut Vec<u8>) -> Result<()>;

    /// Walks over a range; answers the number of pairs and their bytes.
    fn scan(&self, start: &[u8], end: &[u8]) -> Result<(usize, usize)>;
}
