//! What nodes say to each other, without a session around it.
//!
//! Not part of the stable interface: public only so that fuzz targets, and cases in which a peer
//! says what no session would, reach it.

use bytes::Bytes;

use crate::message::{Message, Refusal};
use crate::parts::{self, Parts};

/// Bytes of a part and of a message, as sessions have them.
const PART_BYTES: usize = 256 << 10;
const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// The frames of a message.
///
/// # Errors
/// `unsupported` for one that is too large.
pub fn frames(message: &Message) -> Result<Vec<Bytes>, Refusal> {
    parts::encode(message, PART_BYTES, MESSAGE_BYTES_MAX)
}

/// A message's bytes as one frame, with the checksum that belongs to them.
#[must_use]
pub fn frame(body: &[u8]) -> Bytes {
    parts::framed(body)
}

/// Puts messages together.
#[derive(Debug)]
pub struct Frames(Parts);

impl Default for Frames {
    fn default() -> Self {
        Self(Parts::new(MESSAGE_BYTES_MAX))
    }
}

impl Frames {
    /// Takes a frame; the message that it ends.
    ///
    /// # Errors
    /// As a session refuses it.
    pub fn take(&mut self, frame: &Bytes) -> Result<Option<Message>, Refusal> {
        Ok(self.0.take(frame)?.map(|(message, _)| message))
    }
}

/// Ops, as they stand in messages.
#[must_use]
pub fn ops(bytes: &[u8]) -> Option<Vec<trellis_tree::StampedOp>> {
    postcard::from_bytes(bytes).ok()
}

/// The same as bytes.
#[must_use]
pub fn ops_bytes(ops: &[trellis_tree::StampedOp]) -> Vec<u8> {
    postcard::to_stdvec(ops).unwrap_or_default()
}
