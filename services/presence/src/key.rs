//! Ids of leases, which are secrets, and the keys that are stored for them.
//!
//! Whoever knows an id may take the lease over, so an id is 128 random bits, and what is stored and
//! read by anybody is its hash.

use std::fmt;
use std::fmt::Write as _;

use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_runtime::Random;
use trellis_tree::Path;

/// The system path below which leases are stored.
const ROOT: &str = "_leases";
/// The longest text that is looked at as an id.
const ID_BYTES_MAX: usize = 64;

/// Stands for a lease wherever its id need not be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key([u8; 16]);

/// A new id: 32 hexadecimal digits.
pub(crate) fn new_id(random: &dyn Random) -> Result<String> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes)?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

impl Key {
    /// The key of an id, whoever made it up.
    pub(crate) fn of(id: &str) -> Result<Self> {
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(Error::new(ErrorKind::NotFound, "there is no lease with this id")
                .operation("lease"));
        }
        let mut key = [0; 16];
        for (target, byte) in key.iter_mut().zip(blake3::hash(id.as_bytes()).as_bytes()) {
            *target = *byte;
        }
        Ok(Self(key))
    }

    /// The key that a stored name stands for.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut key = [0; 16];
        if name.len() != 32 || !name.is_ascii() {
            return None;
        }
        for (index, target) in key.iter_mut().enumerate() {
            *target = u8::from_str_radix(name.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Self(key))
    }

    /// Where the lease is stored.
    pub(crate) fn path(self) -> Result<Path> {
        Path::from_segments([ROOT, &self.to_string()])
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// The path of all leases.
pub(crate) fn root() -> Result<Path> {
    Path::from_segments([ROOT])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_its_name_and_tells_no_id() {
        let key = Key::of("0123").unwrap();
        assert_eq!(Key::parse(&key.to_string()), Some(key));
        assert!(!key.to_string().contains("0123"));
        assert_eq!(Key::parse("0g000000000000000000000000000000"), None);
        assert_eq!(Key::parse("ä0000000000000000000000000000000"), None);
        assert!(Key::of("").is_err() && Key::of(&"x".repeat(65)).is_err());
    }
}
