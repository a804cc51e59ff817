//! Cursors: where a page ended, as text that only this tree makes and only the same query takes.
//!
//! Base64 of: version (1 byte), a keyed check of what follows (16), the query's fingerprint (16),
//! the length of the path's key (2, big endian), the path's key, the encodings of the order's
//! fields. The place is a value, not a number: what is written meanwhile neither repeats an item
//! nor leaves one out that was there before and after.
//!
//! The key is derived from the journal's id. It finds mistakes and guesses; nothing is opened by
//! a forged cursor that the query itself does not open.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use trellis_engine_traits::Result;

use crate::encoding::encoded_len;
use crate::errors::bad_cursor;
use crate::position::Position;
use crate::spec::QuerySpec;

const VERSION: u8 = 1;
const CHECK_BYTES: usize = 16;
/// Longer than any cursor: four fields, a path, and what stands around them.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// Makes and reads the cursors of one tree.
#[derive(Debug, Clone)]
pub(crate) struct Cursors {
    key: [u8; 32],
}

impl Cursors {
    /// Those of the tree whose journal has this id.
    pub(crate) fn new(log_id: &str) -> Self {
        Self { key: blake3::derive_key("trellis 2026 query cursor v1", log_id.as_bytes()) }
    }

    pub(crate) fn write(&self, spec: &QuerySpec, position: &Position) -> String {
        let mut body = spec.page_fingerprint().to_vec();
        let len = u16::try_from(position.path.len()).unwrap_or(u16::MAX);
        body.extend_from_slice(&len.to_be_bytes());
        body.extend_from_slice(&position.path);
        body.extend_from_slice(position.values());
        let mut bytes = vec![VERSION];
        bytes.extend(self.check(&body));
        bytes.extend_from_slice(&body);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The place where the earlier page of this query ended.
    ///
    /// # Errors
    /// `InvalidInput` for what this tree did not hand out for this query.
    pub(crate) fn read(&self, spec: &QuerySpec, text: &str) -> Result<Position> {
        let damaged =
            || bad_cursor("the cursor is not one of this database; begin again without a cursor");
        if text.len() > TEXT_BYTES_MAX {
            return Err(damaged());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| damaged())?;
        let (version, rest) = bytes.split_first().ok_or_else(damaged)?;
        let (check, body) = rest.split_at_checked(CHECK_BYTES).ok_or_else(damaged)?;
        if *version != VERSION || self.check(body).as_slice() != check {
            return Err(damaged());
        }
        let (fingerprint, rest) = body.split_at_checked(CHECK_BYTES).ok_or_else(damaged)?;
        if fingerprint != spec.page_fingerprint() {
            return Err(bad_cursor(
                "the cursor is another query's: path, where and orderBy stay the same from page \
                 to page",
            ));
        }
        let (len, rest) = rest.split_first_chunk::<2>().ok_or_else(damaged)?;
        let len = usize::from(u16::from_be_bytes(*len));
        let (path, values) = rest.split_at_checked(len).ok_or_else(damaged)?;
        let mut left = values;
        for order in &spec.order {
            let own = encoded_len(left, order.descending).ok_or_else(damaged)?;
            left = left.get(own..).ok_or_else(damaged)?;
        }
        if !left.is_empty() || std::str::from_utf8(path).is_err() {
            return Err(damaged());
        }
        Ok(Position::at(spec, values.to_vec(), path))
    }

    fn check(&self, body: &[u8]) -> Vec<u8> {
        blake3::keyed_hash(&self.key, body).as_bytes().iter().take(CHECK_BYTES).copied().collect()
    }
}
