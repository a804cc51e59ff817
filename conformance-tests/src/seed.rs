//! One seed a run, and chance drawn from it.
//!
//! Not for secrets: the generator is SplitMix64, chosen because it is ten lines and the same
//! everywhere.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

/// The seed of a run; every case derives its own from it and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seed(pub u64);

impl Seed {
    /// `TRELLIS_SEED` if set, else one seed for the whole run: the processes of one nextest run
    /// agree on it.
    ///
    /// # Panics
    /// When `TRELLIS_SEED` is not a number.
    #[must_use]
    pub fn of_run() -> Self {
        static SEED: OnceLock<u64> = OnceLock::new();
        Self(*SEED.get_or_init(|| {
            if let Ok(text) = std::env::var("TRELLIS_SEED") {
                return text.trim().parse().expect("TRELLIS_SEED is a number below 2^64");
            }
            match std::env::var("NEXTEST_RUN_ID") {
                Ok(run) => hash(run.as_bytes()),
                Err(_) => RandomState::new().build_hasher().finish(),
            }
        }))
    }

    /// The seed that belongs to a name.
    #[must_use]
    pub fn of(self, name: &str) -> Self {
        Self(Rng(self.0 ^ hash(name.as_bytes())).next_u64())
    }

    /// A generator that begins here.
    #[must_use]
    pub const fn rng(self) -> Rng {
        Rng(self.0)
    }
}

/// FNV-1a: a stable hash for names and traces.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A small deterministic generator (SplitMix64).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.next_u64() % bound as u64) as usize }
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// `len` random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        out.truncate(len);
        out
    }
}
