//! Push ids: 20 characters, 8 of time and 12 of chance, strictly increasing within a process.
//!
//! The format and the alphabet are Firebase's, so that ids of both sort together.

use trellis_engine_traits::Result;
use trellis_runtime::Random;

const ALPHABET: &[u8; 64] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";

/// The last id that was given out, as digits.
#[derive(Debug, Default)]
pub(crate) struct PushIds {
    last_ms: u64,
    chance: [u8; 12],
}

impl PushIds {
    /// The next id. A clock that steps back does not make ids step back.
    pub(crate) fn next(&mut self, now_ms: u64, random: &dyn Random) -> Result<String> {
        if now_ms > self.last_ms {
            self.last_ms = now_ms;
            random.fill(&mut self.chance)?;
            for digit in &mut self.chance {
                *digit &= 63;
            }
        } else {
            self.increment();
        }
        let time = (0..8).rev().map(|place| (self.last_ms >> (6 * place)) & 63);
        let digits = time.chain(self.chance.iter().map(|digit| u64::from(*digit)));
        let letter = |digit: u64| {
            usize::try_from(digit)
                .ok()
                .and_then(|digit| ALPHABET.get(digit))
                .map(|b| char::from(*b))
        };
        Ok(digits.filter_map(letter).collect())
    }

    fn increment(&mut self) {
        for digit in self.chance.iter_mut().rev() {
            if *digit < 63 {
                *digit += 1;
                return;
            }
            *digit = 0;
        }
        self.last_ms += 1;
    }
}
