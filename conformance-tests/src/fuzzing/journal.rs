//! Journal records and the store's notes.

use bytes::Bytes;
use trellis_engine_traits::{ErrorKind, Result};
use trellis_tree::fuzzing::{applied, journal_record, opening, ordered_by_time};

/// Bytes are refused as damaged or newer, or are a record that is written as it was read.
pub(super) fn record(input: &[u8]) {
    type Read = fn(&[u8]) -> Result<Bytes>;
    let formats: [(Read, u8); 3] = [(journal_record, 3), (opening, 3), (applied, 2)];
    for (read, newest) in formats {
        match read(input) {
            Ok(written) => {
                let again = read(&written).expect("what was written can be read");
                assert_eq!(again, written, "another record when read again");
                assert!(written.len() <= input.len(), "bytes came from nowhere");
                let longer = [input, b"\0"].concat();
                assert!(read(&longer).is_err(), "a record with something left over is taken");
            }
            Err(error) => {
                let newer = input.first().is_some_and(|format| *format > newest);
                let expected = if newer { ErrorKind::Unsupported } else { ErrorKind::Corrupt };
                assert_eq!(error.kind(), expected, "{error}");
            }
        }
    }
    if let Some(again) = ordered_by_time(input) {
        assert_eq!(again, input);
    }
}
