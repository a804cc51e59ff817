//! Messages as frames: one byte that says how the body is packed, then the body.
//!
//! | byte | then |
//! |---|---|
//! | 0 | the body |
//! | 1 | its length, u32 little endian, and the body as one zstd frame |
//!
//! Invariant: unpacking allocates at most [`MESSAGE_BYTES_MAX`], whatever came in.

use bytes::{BufMut as _, Bytes, BytesMut};
use trellis_engine_traits::{Error, ErrorKind, LinkMessage, Result};
use zstd::bulk::{Compressor, Decompressor};

use crate::limits::MESSAGE_BYTES_MAX;

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// Bytes before a compressed body.
const ZSTD_HEAD_BYTES: usize = 5;
/// Smaller bodies gain nothing that pays for the work.
const COMPRESSED_BYTES_MIN: usize = 256;
/// The fastest level: a link should be limited by its network.
const LEVEL: i32 = 1;

/// Packs messages; keeps the compressor's memory.
#[derive(Default)]
pub(crate) struct Packer(Option<Compressor<'static>>);

impl Packer {
    /// The frame of a message.
    ///
    /// # Errors
    /// `TooLarge` beyond the largest message.
    pub(crate) fn pack(&mut self, message: &LinkMessage) -> Result<Bytes> {
        let body = &message.body;
        if body.len() > MESSAGE_BYTES_MAX {
            return Err(too_large("the message is longer than a link takes").operation("send"));
        }
        let may_shrink = message.compress && body.len() >= COMPRESSED_BYTES_MIN;
        if may_shrink && let Some(frame) = self.compressed(body) {
            return Ok(frame);
        }
        let mut frame = BytesMut::with_capacity(body.len() + 1);
        frame.put_u8(PLAIN);
        frame.put_slice(body);
        Ok(frame.freeze())
    }

    /// The compressed frame, where that is the smaller one.
    fn compressed(&mut self, body: &[u8]) -> Option<Bytes> {
        let length = u32::try_from(body.len()).ok()?;
        if self.0.is_none() {
            self.0 = Compressor::new(LEVEL).ok();
        }
        // Without memory for a compressor the message goes as it is.
        let packed = self.0.as_mut()?.compress(body).ok()?;
        if packed.len() + ZSTD_HEAD_BYTES > body.len() {
            return None;
        }
        let mut frame = BytesMut::with_capacity(packed.len() + ZSTD_HEAD_BYTES);
        frame.put_u8(ZSTD);
        frame.put_u32_le(length);
        frame.put_slice(&packed);
        Some(frame.freeze())
    }
}

/// The body in a frame.
///
/// # Errors
/// `TooLarge` for a body beyond the largest message, whatever its frame takes; `Corrupt` for what
/// is no frame of ours.
pub(crate) fn unpack(frame: &Bytes) -> Result<Bytes> {
    match frame.split_first() {
        Some((&PLAIN, body)) if body.len() <= MESSAGE_BYTES_MAX => Ok(frame.slice(1..)),
        Some((&PLAIN, _)) => Err(too_large("the peer sent a message beyond the limit")),
        Some((&ZSTD, rest)) => inflate(rest),
        Some((other, _)) => {
            Err(corrupt("the peer packs its messages in an unknown way").context("packing", other))
        }
        None => Err(corrupt("the peer sent an empty frame")),
    }
}

fn inflate(rest: &[u8]) -> Result<Bytes> {
    let Some((length, packed)) = rest.split_first_chunk::<4>() else {
        return Err(corrupt("the peer sent a frame that is cut short"));
    };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > MESSAGE_BYTES_MAX {
        return Err(too_large("the peer sent a message that inflates beyond the limit"));
    }
    let inflated = Decompressor::new().and_then(|mut inflater| inflater.decompress(packed, length));
    match inflated {
        Ok(body) if body.len() == length => Ok(Bytes::from(body)),
        Ok(_) => Err(corrupt("the peer sent a message of another length than it says")),
        Err(error) => Err(corrupt("the peer sent a message that does not inflate").source(error)),
    }
}

fn too_large(message: &str) -> Error {
    Error::new(ErrorKind::TooLarge, message)
        .backend("ws")
        .context("message_bytes_max", MESSAGE_BYTES_MAX)
}

fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message).backend("ws")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: Vec<u8>, compress: bool) -> LinkMessage {
        LinkMessage { body: body.into(), compress }
    }

    /// Bytes without any order, from a seed.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 7_u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        };
        (0..length).map(next).collect()
    }

    #[test]
    fn what_is_packed_is_unpacked_and_shrinks_only_where_that_pays() {
        let mut packer = Packer::default();
        for length in [0, 1, 255, 256, 70_000, MESSAGE_BYTES_MAX] {
            for body in [vec![7; length], noise(length)] {
                for compress in [false, true] {
                    let frame = packer.pack(&message(body.clone(), compress)).expect("a frame");
                    assert!(frame.len() <= body.len() + 1, "{length} bytes grew");
                    let pays = compress && length >= 256 && body.first() == body.get(1);
                    assert_eq!(frame.first(), Some(&u8::from(pays)), "{length} {compress}");
                    assert_eq!(unpack(&frame).expect("a body"), body);
                }
            }
        }
        let over = packer.pack(&message(vec![0; MESSAGE_BYTES_MAX + 1], true));
        assert_eq!(over.expect_err("beyond").kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn a_frame_that_lies_is_refused_before_memory_is_taken() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).expect("a bomb");
        let says = |length: u32, packed: &[u8]| {
            let mut frame = vec![ZSTD];
            frame.extend_from_slice(&length.to_le_bytes());
            frame.extend_from_slice(packed);
            unpack(&Bytes::from(frame)).expect_err("a lie").kind()
        };
        assert_eq!(says(64 << 20, &bomb), ErrorKind::TooLarge);
        assert_eq!(says(u32::MAX, &bomb), ErrorKind::TooLarge);
        assert_eq!(says(1_000, &bomb), ErrorKind::Corrupt);
        let honest = zstd::bulk::compress(&[5; 1_000], 3).expect("a frame");
        assert_eq!(says(999, &honest), ErrorKind::Corrupt);
        assert_eq!(says(1_001, &honest), ErrorKind::Corrupt);
        assert_eq!(says(1_000, honest.get(..9).expect("longer")), ErrorKind::Corrupt);
        for frame in [&[][..], &[ZSTD], &[ZSTD, 1, 0], &[2, 1], &[255]] {
            let error = unpack(&Bytes::copy_from_slice(frame)).expect_err("no frame");
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        let over = Bytes::from(vec![PLAIN; MESSAGE_BYTES_MAX + 2]);
        assert_eq!(unpack(&over).expect_err("beyond").kind(), ErrorKind::TooLarge);
    }
}
