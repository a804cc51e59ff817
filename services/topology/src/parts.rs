//! Messages as frames: postcard behind a checksum, cut into parts that no link finds too large.
//!
//! A frame is a version byte, a kind (whole, more, last) and its part. The parts of a message
//! follow each other; the message begins with the CRC-32 of the rest. What is received is bounded
//! in the frame, in the message and in the number of parts, before it is taken in, and in what it
//! takes in memory (`metered.rs`).

use bytes::{BufMut, Bytes, BytesMut};

use crate::message::{Message, Refusal, RefusalReason};
use crate::metered::{self, Undecoded};
use crate::page_in;

/// The version of frames and messages.
const FORMAT: u8 = 1;
/// A message in one frame.
const WHOLE: u8 = 0;
/// A part that others follow.
const MORE: u8 = 1;
/// The last part of a message.
const LAST: u8 = 2;
const HEADER_BYTES: usize = 2;
const CHECKSUM_BYTES: usize = 4;

/// Bytes of a frame at most, whatever a part may be.
pub(crate) const FRAME_BYTES_MAX: usize = 512 << 10;
/// Parts of a message at most.
const PARTS_MAX: usize = 1 << 16;

/// The frames of a message, in order.
///
/// # Errors
/// `unsupported` when it is larger than `bytes_max`, or of too many operations: the other node
/// would refuse it.
pub(crate) fn encode(
    message: &Message,
    part_bytes: usize,
    bytes_max: usize,
) -> Result<Vec<Bytes>, Refusal> {
    metered::check(message)?;
    let body = BytesMut::from(&[FORMAT, WHOLE, 0, 0, 0, 0][..]).writer();
    let body = postcard::to_io(message, body);
    let body = body.map_err(|error| failed(format!("a message cannot be encoded: {error}")))?;
    let mut body = body.into_inner();
    let checksum = crc32fast::hash(body.get(HEADER_BYTES + CHECKSUM_BYTES..).unwrap_or_default());
    if let Some(place) = body.get_mut(HEADER_BYTES..HEADER_BYTES + CHECKSUM_BYTES) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
    let mut body = body.freeze();
    if body.len() > bytes_max {
        return Err(Refusal::new(
            RefusalReason::Unsupported,
            format!(
                "a message of {} bytes is larger than {bytes_max}; split the commit",
                body.len()
            ),
        ));
    }
    let part_bytes = part_bytes.clamp(1, FRAME_BYTES_MAX - HEADER_BYTES);
    if body.len() <= HEADER_BYTES + part_bytes {
        return Ok(vec![body]);
    }
    let mut rest = body.split_off(HEADER_BYTES);
    let mut frames = Vec::with_capacity(rest.len() / part_bytes + 1);
    while !rest.is_empty() {
        let part = rest.split_to(part_bytes.min(rest.len()));
        let kind = if rest.is_empty() { LAST } else { MORE };
        let mut frame = BytesMut::with_capacity(HEADER_BYTES + part.len());
        frame.extend_from_slice(&[FORMAT, kind]);
        frame.extend_from_slice(&part);
        frames.push(frame.freeze());
    }
    Ok(frames)
}

/// A message's bytes as one frame.
pub(crate) fn framed(body: &[u8]) -> Bytes {
    let checksum = crc32fast::hash(body).to_le_bytes();
    [&[FORMAT, WHOLE][..], &checksum, body].concat().into()
}

fn failed(message: String) -> Refusal {
    Refusal::new(RefusalReason::Failed, message)
}

/// Puts messages together again.
#[derive(Debug)]
pub(crate) struct Parts {
    bytes_max: usize,
    body: BytesMut,
    parts: usize,
}

impl Parts {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, body: BytesMut::new(), parts: 0 }
    }

    /// Takes messages of so many bytes from now on.
    pub(crate) fn take_up_to(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Takes a frame; the message and its bytes, when it is the last one of it.
    ///
    /// # Errors
    /// What is wrong with it; nothing is to be received after that.
    pub(crate) fn take(&mut self, frame: &Bytes) -> Result<Option<(Message, usize)>, Refusal> {
        if frame.len() > FRAME_BYTES_MAX {
            let bytes = frame.len();
            return Err(Refusal::protocol(format!(
                "a frame of {bytes} bytes is larger than {FRAME_BYTES_MAX}"
            )));
        }
        let (Some(format), Some(kind)) = (frame.first(), frame.get(1)) else {
            return Err(Refusal::protocol("a frame is shorter than its header"));
        };
        if *format != FORMAT {
            return Err(Refusal::new(
                RefusalReason::Unsupported,
                format!("messages of format {format} are not understood, only those of {FORMAT}"),
            ));
        }
        let part = frame.slice(HEADER_BYTES..);
        match *kind {
            WHOLE if self.parts == 0 => decode(&part, self.bytes_max).map(Some),
            MORE | LAST => {
                self.add(&part)?;
                if *kind == MORE {
                    return Ok(None);
                }
                self.parts = 0;
                decode(&std::mem::take(&mut self.body).freeze(), self.bytes_max).map(Some)
            }
            _ => Err(Refusal::protocol("a frame is no part of the message that is under way")),
        }
    }

    fn add(&mut self, part: &Bytes) -> Result<(), Refusal> {
        self.parts += 1;
        if part.is_empty() || self.parts > PARTS_MAX {
            return Err(Refusal::protocol("a message comes in too many parts"));
        }
        if self.body.len() + part.len() > self.bytes_max {
            let bytes_max = self.bytes_max;
            return Err(Refusal::protocol(format!("a message is larger than {bytes_max} bytes")));
        }
        self.body.extend_from_slice(part);
        Ok(())
    }
}

fn decode(body: &Bytes, bytes_max: usize) -> Result<(Message, usize), Refusal> {
    let Some(checksum) = body.first_chunk() else {
        return Err(Refusal::protocol("a message is shorter than its checksum"));
    };
    let message = body.slice(CHECKSUM_BYTES..);
    if crc32fast::hash(&message) != u32::from_le_bytes(*checksum) {
        return Err(Refusal::protocol("a message does not have its checksum"));
    }
    match page_in::read(&message, metered::values_max(bytes_max)) {
        Ok((message, [])) => Ok((message, body.len())),
        Ok(_) => Err(Refusal::protocol("bytes are left over behind a message")),
        Err(Undecoded::TooMany(values_max)) => {
            Err(Refusal::protocol(format!("a message has more than {values_max} values")))
        }
        Err(Undecoded::Unknown(error)) => Err(Refusal::new(
            RefusalReason::Unsupported,
            format!("a message is not understood, so that nothing after it can be: {error}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Heartbeat, Message};

    const MAX: usize = 1 << 20;

    fn message(bytes: usize) -> Message {
        Message::Refuse(Refusal::protocol("x".repeat(bytes)))
    }

    fn frames(message: &Message, part_bytes: usize) -> Vec<Bytes> {
        encode(message, part_bytes, MAX).unwrap()
    }

    #[test]
    fn a_message_arrives_whole_however_it_is_cut() {
        for part_bytes in [1, 7, 100, 1 << 20] {
            let mut parts = Parts::new(MAX);
            for bytes in [0, 6, 100, 2000] {
                let sent = message(bytes);
                let mut arrived = Vec::new();
                for frame in frames(&sent, part_bytes) {
                    arrived.extend(parts.take(&frame).unwrap());
                }
                assert_eq!(arrived.len(), 1);
                assert_eq!(arrived[0].0, sent);
            }
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let beat = Heartbeat { head: 7, wall_ms: 8, digest: None };
        let frame = frames(&Message::Heartbeat(beat), MAX).remove(0);
        for at in 0..frame.len() {
            let mut changed = frame.to_vec();
            changed[at] ^= 0x10;
            assert!(Parts::new(MAX).take(&changed.into()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_taken_in() {
        assert!(encode(&message(2000), 100, 1000).is_err());
        let mut parts = Parts::new(1000);
        let refused =
            frames(&message(2000), 100).iter().position(|frame| parts.take(frame).is_err());
        assert_eq!(refused, Some(10));
        let huge = Bytes::from(vec![FORMAT; FRAME_BYTES_MAX + 1]);
        assert!(Parts::new(MAX).take(&huge).is_err());
    }

    #[test]
    fn what_is_not_known_is_told_apart_from_what_is_damaged() {
        let reason =
            |frame: &[u8]| Parts::new(MAX).take(&Bytes::copy_from_slice(frame)).unwrap_err().reason;
        let unknown = [200, 1];
        let framed = [&[FORMAT, WHOLE][..], &crc32fast::hash(&unknown).to_le_bytes(), &unknown];
        assert_eq!(reason(&framed.concat()), RefusalReason::Unsupported);
        assert_eq!(reason(&[9, WHOLE, 0, 0, 0, 0]), RefusalReason::Unsupported);
        assert_eq!(reason(&[FORMAT, 7, 0, 0, 0, 0]), RefusalReason::Protocol);
        assert_eq!(reason(&[FORMAT]), RefusalReason::Protocol);
        let mut parts = Parts::new(MAX);
        assert_eq!(parts.take(&Bytes::from_static(&[FORMAT, MORE, 1])), Ok(None));
        assert!(parts.take(&Bytes::from_static(&[FORMAT, WHOLE, 1])).is_err(), "in the middle");
    }
}
