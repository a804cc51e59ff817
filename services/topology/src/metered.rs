//! Decodes a message within a bound on what it takes in memory.
//!
//! A value of one byte on the way may be tens of bytes in memory, so that bytes alone bound little.
//! Hence values are counted while they are decoded, and the message is given up at the first one
//! beyond the bound.

use std::cell::Cell;
use std::rc::Rc;

use postcard::de_flavors::Flavor;
use postcard::{Deserializer, Error, Result};
use serde::Deserialize;

use crate::message::{Message, Refusal, RefusalReason};

/// Values of a message at most: numbers, lengths and the words for what follows. A commit of
/// 200,000 leaves that all end by themselves has 2,200,000; more take a hundred bytes each at most,
/// so that a message takes no more than eight times what it may have on the way.
const VALUES_MAX: usize = 2_500_000;
/// Bytes on the way for each value at least, in small messages.
const VALUE_BYTES: usize = 4;
/// Stamped operations that a message is sent with at most: of six values each, the most there are.
const OPS_MAX: usize = 400_000;

/// Why a message is not decoded.
pub(crate) enum Undecoded {
    /// It has more values than this.
    TooMany(usize),
    /// It is not understood.
    Unknown(Error),
}

/// How many values a message of so many bytes may have.
pub(crate) fn values_max(bytes_max: usize) -> usize {
    VALUES_MAX.min(bytes_max / VALUE_BYTES)
}

/// Decodes what has so many values at most; what is left over behind it.
pub(crate) fn take<'b, T: Deserialize<'b>>(
    body: &'b [u8],
    values_max: usize,
) -> std::result::Result<(T, &'b [u8]), Undecoded> {
    let left = Rc::new(Cell::new(Some(values_max)));
    let metered = Metered { rest: body, left: Rc::clone(&left) };
    let mut deserializer = Deserializer::from_flavor(metered);
    let taken = T::deserialize(&mut deserializer);
    let taken = taken.and_then(|value| Ok((value, deserializer.finalize()?)));
    taken.map_err(|error| match left.get() {
        None => Undecoded::TooMany(values_max),
        Some(_) => Undecoded::Unknown(error),
    })
}

/// Bytes, and how many values may still be among them; `None` once there was one too many.
struct Metered<'b> {
    rest: &'b [u8],
    left: Rc<Cell<Option<usize>>>,
}

impl<'b> Flavor<'b> for Metered<'b> {
    type Remainder = &'b [u8];
    type Source = &'b [u8];

    fn pop(&mut self) -> Result<u8> {
        let (byte, rest) = self.rest.split_first().ok_or(Error::DeserializeUnexpectedEnd)?;
        self.rest = rest;
        // Each byte of a number but the last one has this bit.
        if byte & 0x80 == 0 {
            let left = self.left.get().and_then(|left| left.checked_sub(1));
            self.left.set(left);
            left.ok_or(Error::SerdeDeCustom)?;
        }
        Ok(*byte)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }

    fn try_take_n(&mut self, count: usize) -> Result<&'b [u8]> {
        let taken = self.rest.split_at_checked(count);
        let (taken, rest) = taken.ok_or(Error::DeserializeUnexpectedEnd)?;
        self.rest = rest;
        Ok(taken)
    }

    fn finalize(self) -> Result<&'b [u8]> {
        Ok(self.rest)
    }
}

/// Refuses to send what the other node would refuse to decode.
pub(crate) fn check(message: &Message) -> std::result::Result<(), Refusal> {
    let ops = match message {
        Message::Batch(batch) => batch.commits.iter().map(|commit| commit.ops.len()).sum(),
        Message::Page(page) => page.ops.len(),
        Message::BucketPage { ops, .. } => ops.len(),
        _ => 0,
    };
    if ops <= OPS_MAX {
        return Ok(());
    }
    let message =
        format!("a message of {ops} operations, and {OPS_MAX} are the most; split the commit");
    Err(Refusal::new(RefusalReason::Unsupported, message))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use trellis_tree::{StampedChange, StampedOp, Version};

    use super::*;
    use crate::message::{Batch, Open, Page, WireRecord};

    const MESSAGE_BYTES: usize = 32 << 20;

    fn decode(body: &[u8], bytes_max: usize) -> std::result::Result<(Message, &[u8]), Undecoded> {
        take(body, values_max(bytes_max))
    }

    fn encoded(message: &Message) -> Vec<u8> {
        postcard::to_stdvec(message).unwrap()
    }

    /// The largest numbers there are take the most bytes, and are one value each.
    fn ops(count: usize, version: Version) -> Vec<StampedOp> {
        let key = |number: usize| Bytes::from(format!("k{number}"));
        let op = |number: usize| StampedOp {
            key: key(number / 2),
            version,
            change: match number % 2 {
                0 => StampedChange::Put(vec![1].into()),
                _ => StampedChange::Ending(Some(u64::MAX)),
            },
        };
        (0..count).map(op).collect()
    }

    fn page(ops: Vec<StampedOp>) -> Message {
        Message::Page(Page { number: 1, part: 0, start: None, ops, next: None, head: 1 })
    }

    /// Promise: what may be sent is decoded: no operation has more than six values.
    #[test]
    fn what_a_node_sends_is_never_too_much_for_another() {
        const OPS: usize = 2_000;
        let version = Version { hlc: u64::MAX, origin: u64::MAX };
        let record = WireRecord {
            rev: 1,
            hash: [1; 16],
            at_ms: u64::MAX,
            cause: 0,
            author: trellis_tree::Author::default(),
            ops: ops(OPS, version),
        };
        let commits = vec![record];
        let batch = Message::Batch(Batch { after: 0, through: 1, hash: [1; 16], head: 1, commits });
        let body = encoded(&batch);
        let (message, rest) = take::<Message>(&body, 6 * OPS + 100).ok().unwrap();
        assert!(rest.is_empty() && message == batch);
        assert!(6 * OPS_MAX + 100 <= values_max(MESSAGE_BYTES));
        assert!(check(&page(vec![ops(1, version).remove(0); OPS_MAX])).is_ok());
        let refused = check(&page(vec![ops(1, version).remove(0); OPS_MAX + 1])).unwrap_err();
        assert_eq!(refused.reason, RefusalReason::Unsupported, "and more of it is not sent");
    }

    /// Promise: what a message takes in memory stays within eight times its largest size.
    #[test]
    fn what_would_take_much_memory_is_given_up_before_it_does() {
        const BYTES: usize = 1 << 16;
        const VALUES: usize = BYTES / VALUE_BYTES;
        let refused = |message: &Message| {
            let refused = decode(&encoded(message), BYTES).err();
            matches!(refused, Some(Undecoded::TooMany(VALUES)))
        };
        assert!(refused(&page(ops(VALUES / 5, Version::ZERO))));
        let open = |count: usize| {
            let prefixes = vec![Bytes::from_static(b"a"); count];
            Message::Open(Open { feed: "f".into(), prefixes, except: Vec::new(), at: None })
        };
        assert!(refused(&open(VALUES)) && !refused(&open(VALUES - 10)));
        assert_eq!(values_max(MESSAGE_BYTES), VALUES_MAX);
        // What takes most: an element, room for as many again, and a byte of its own.
        const ALLOCATED: usize = 32;
        for (values, bytes) in
            [(1, size_of::<Bytes>() * 2 + ALLOCATED), (5, (size_of::<StampedOp>() + ALLOCATED) * 2)]
        {
            assert!(VALUES_MAX / values * bytes <= 8 * MESSAGE_BYTES, "{values} values: {bytes}");
        }
    }

    #[test]
    fn bytes_that_are_no_message_are_told_apart() {
        let body = encoded(&Message::Reopen);
        let (_, rest) = decode(&[&body[..], &[7]].concat(), 1 << 10)
            .ok()
            .map(|(m, r)| (m, r.to_vec()))
            .unwrap();
        assert_eq!(rest, [7]);
        for body in [&[200, 1][..], &[], &[5, 200]] {
            assert!(matches!(decode(body, 1 << 10), Err(Undecoded::Unknown(_))));
        }
    }
}
