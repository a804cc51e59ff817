//! A page as it is taken in: keys and leaves are parts of the frame that brought them, which spares
//! two allocations for each leaf. Whoever keeps some of them for long copies them first.

use bytes::Bytes;
use serde::Deserialize;
use trellis_tree::{StampedChange, StampedOp, Version};

use crate::message::{Message, Page};
use crate::metered::{self, Undecoded};

/// What a message begins with that is a [`Message::Page`].
const PAGE: u8 = 8;

/// As [`Page`].
#[derive(Deserialize)]
struct PageIn<'a> {
    number: u64,
    part: u32,
    #[serde(borrow)]
    start: Option<&'a [u8]>,
    #[serde(borrow)]
    ops: Vec<OpIn<'a>>,
    #[serde(borrow)]
    next: Option<&'a [u8]>,
    head: u64,
}

/// As [`StampedOp`].
#[derive(Deserialize)]
struct OpIn<'a> {
    key: &'a [u8],
    version: Version,
    #[serde(borrow)]
    change: ChangeIn<'a>,
}

/// As [`StampedChange`].
#[derive(Deserialize)]
enum ChangeIn<'a> {
    Put(&'a [u8]),
    Tomb,
    Clear,
    Ending(Option<u64>),
}

/// Reads a message of so many values at most, and what is left over behind it.
///
/// # Errors
/// When it is none, or has more of them.
pub(crate) fn read(message: &Bytes, values_max: usize) -> Result<(Message, &[u8]), Undecoded> {
    let Some((&PAGE, body)) = message.split_first() else {
        return metered::take(message, values_max);
    };
    let (page, rest) = metered::take::<PageIn<'_>>(body, values_max)?;
    let part = |bytes: &[u8]| message.slice_ref(bytes);
    let op = |op: OpIn<'_>| StampedOp {
        key: part(op.key),
        version: op.version,
        change: match op.change {
            ChangeIn::Put(stored) => StampedChange::Put(part(stored)),
            ChangeIn::Tomb => StampedChange::Tomb,
            ChangeIn::Clear => StampedChange::Clear,
            ChangeIn::Ending(at) => StampedChange::Ending(at),
        },
    };
    let (start, next) = (page.start.map(Bytes::copy_from_slice), page.next);
    let next = next.map(Bytes::copy_from_slice);
    let PageIn { number, part: at, head, .. } = page;
    let ops = page.ops.into_iter().map(op).collect();
    Ok((Message::Page(Page { number, part: at, start, ops, next, head }), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops() -> Vec<StampedOp> {
        let changes = [
            StampedChange::Put(Bytes::from_static(b"\x05leaf")),
            StampedChange::Put(Bytes::new()),
            StampedChange::Tomb,
            StampedChange::Clear,
            StampedChange::Ending(Some(7)),
            StampedChange::Ending(None),
        ];
        let version = Version { hlc: 1 << 50, origin: u64::MAX };
        let op = |change| StampedOp { key: Bytes::from_static(b"a\0key"), version, change };
        changes.into_iter().map(op).collect()
    }

    /// Promise: a page reads as any message does, and takes nothing of its own for a leaf.
    #[test]
    fn a_page_is_parts_of_its_frame() {
        for bound in [None, Some(Bytes::from_static(b"key"))] {
            let (start, next) = (bound.clone(), bound);
            let page = Page { number: 1, part: 2, start, ops: ops(), next, head: 300 };
            let message = Message::Page(page);
            let mut frame = postcard::to_allocvec(&message).unwrap();
            frame.push(9);
            let frame = Bytes::from(frame);
            let (read, rest) = read(&frame, 1000).ok().unwrap();
            assert_eq!((&read, rest), (&message, &[9][..]));
            let Message::Page(page) = read else { panic!("a page") };
            let inside = frame.as_ptr_range();
            assert!(page.ops.iter().all(|op| inside.contains(&op.key.as_ptr())));
            for cut in 0..frame.len() - 1 {
                let cut = frame.slice(..cut);
                assert_eq!(
                    super::read(&cut, 1000).is_ok(),
                    postcard::take_from_bytes::<Message>(&cut).is_ok()
                );
            }
        }
    }
}
