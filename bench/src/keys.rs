//! Keys and values, the same bytes for Trellis and its rivals; and randomness that repeats.

/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 100;
/// Leaves of the subtree that is read whole.
pub(crate) const SUBTREE_LEAVES: usize = 10_000;
/// The subtree that is read whole.
pub(crate) const SUBTREE: &str = "teams";

/// The path of key `number`.
pub(crate) fn path_text(number: usize) -> String {
    format!("users/{number:010}/name")
}

/// The bytes under which Trellis stores that path.
pub(crate) fn raw_key(number: usize) -> Vec<u8> {
    stored(&path_text(number))
}

/// A path of the subtree that is read whole.
pub(crate) fn subtree_path_text(number: usize) -> String {
    format!("{SUBTREE}/{number:010}/name")
}

/// The bytes under which Trellis stores a path.
pub(crate) fn stored(path: &str) -> Vec<u8> {
    path.bytes().map(|byte| if byte == b'/' { 0 } else { byte }).collect()
}

/// Text of [`VALUE_BYTES`] letters and digits.
pub(crate) fn value_text(random: &mut Random) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(VALUE_BYTES);
    while text.len() < VALUE_BYTES {
        let mut bits = random.next();
        for _ in 0..10.min(VALUE_BYTES - text.len()) {
            let letter = LETTERS.get(usize::try_from(bits & 63).unwrap_or(0));
            text.push(char::from(letter.copied().unwrap_or(b'-')));
            bits >>= 6;
        }
    }
    text
}

/// The value as JSON.
pub(crate) fn value_json(random: &mut Random) -> Vec<u8> {
    format!("\"{}\"", value_text(random)).into_bytes()
}

/// The value as Trellis stores it: a tag and the text.
pub(crate) fn raw_value(random: &mut Random) -> Vec<u8> {
    let mut stored = vec![5];
    stored.extend_from_slice(value_text(random).as_bytes());
    stored
}

/// xorshift64*: fast, and the same in every run.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * bound as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }
}
