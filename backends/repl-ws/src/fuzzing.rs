//! The frames of links, without a socket around them.
//!
//! Not part of the stable interface: public only so that the fuzz targets reach it.

use bytes::Bytes;
use trellis_engine_traits::{LinkMessage, Result};

use crate::packing::{self, Packer};

/// The frame of a message.
///
/// # Errors
/// `TooLarge` beyond the largest message.
pub fn pack(body: &Bytes, compress: bool) -> Result<Bytes> {
    Packer::default().pack(&LinkMessage { body: body.clone(), compress })
}

/// The message in a frame.
///
/// # Errors
/// `Corrupt`, `TooLarge`.
pub fn unpack(frame: &Bytes) -> Result<Bytes> {
    packing::unpack(frame)
}
