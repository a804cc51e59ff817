//! Randomness: the system's, or a seeded sequence.

use std::fmt;

use parking_lot::Mutex;
use trellis_engine_traits::{Error, ErrorKind, Result};

/// Where randomness comes from.
pub trait Random: fmt::Debug + Send + Sync + 'static {
    /// Fills the buffer.
    ///
    /// # Errors
    /// `Unavailable` when the system has none to give.
    fn fill(&self, buffer: &mut [u8]) -> Result<()>;

    /// A uniform number; not for secrets.
    fn next_u64(&self) -> u64;
}

/// The system's randomness.
#[derive(Debug)]
pub struct SystemRandom {
    sequence: SeededRandom,
}

impl SystemRandom {
    /// Seeds the numbers that are not for secrets from the system, too.
    #[must_use]
    pub fn new() -> Self {
        let mut seed = [0u8; 8];
        // Without entropy the sequence is predictable, which only numbers not for secrets feel.
        let _no_entropy = getrandom::fill(&mut seed);
        Self { sequence: SeededRandom::new(u64::from_le_bytes(seed)) }
    }
}

impl Default for SystemRandom {
    fn default() -> Self {
        Self::new()
    }
}

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        getrandom::fill(buffer).map_err(|source| {
            Error::new(ErrorKind::Unavailable, "the system gives no random bytes")
                .operation("random")
                .source(source.to_string())
        })
    }

    fn next_u64(&self) -> u64 {
        self.sequence.next_u64()
    }
}

/// A sequence that its seed determines (splitmix64).
///
/// ```
/// use trellis_runtime::{Random, SeededRandom};
///
/// assert_eq!(SeededRandom::new(7).next_u64(), SeededRandom::new(7).next_u64());
/// ```
#[derive(Debug)]
pub struct SeededRandom(Mutex<u64>);

impl SeededRandom {
    /// The sequence of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            for (target, byte) in chunk.iter_mut().zip(bytes) {
                *target = byte;
            }
        }
        Ok(())
    }

    fn next_u64(&self) -> u64 {
        let mut state = self.0.lock();
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
