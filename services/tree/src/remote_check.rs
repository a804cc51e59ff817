//! What another node sends, looked through before anything changes: keys, leaves, versions, sizes.
//!
//! Not by this node's limits for its own callers: what the other node took is taken here too, or
//! the two would never be the same. What is too large for any node is refused.

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};

use crate::here::ending_path;
use crate::input::{Input, Node};
use crate::leaf::Leaf;
use crate::options::LEAF_BYTES_UPMOST;
use crate::path::{self, Path};
use crate::refusal::over;
use crate::stamp::{RemoteCommit, RemoteRule, StampedChange, StampedOp, VIA_MAX};
use crate::zoning::{Tracking, Zoning};

/// How far another node's clock may be ahead of this one's before its versions are refused: a clock
/// that took one over would never be right again.
const AHEAD_MS_MAX: u64 = 24 * 3600 * 1000;

/// Refuses what no node writes.
///
/// # Errors
/// `InvalidInput`, `TooLarge` or `Corrupt`, with the place.
pub(crate) fn check(commit: &RemoteCommit, zoning: &dyn Zoning, now_ms: u64) -> Result<()> {
    if commit.author.via.len() > VIA_MAX {
        let message = "the remote commit was relayed too often";
        return Err(invalid(message).context("via_max", VIA_MAX));
    }
    let newest = commit.ops.iter().map(|op| op.version).chain([commit.author.version]).max();
    if newest.is_some_and(|newest| newest.ms() > now_ms.saturating_add(AHEAD_MS_MAX)) {
        let message = "the remote commit is from the future; set the clocks";
        return Err(invalid(message).context("ahead_ms_max", AHEAD_MS_MAX));
    }
    for op in &commit.ops {
        check_op(op).map_err(|error| at(&op.key, error))?;
    }
    let scope = commit.scope.within.iter().chain(&commit.scope.except);
    for key in scope.filter(|key| !key.is_empty()) {
        check_key(key).map_err(|error| at(key, error))?;
    }
    if let RemoteRule::Replace { from, until } | RemoteRule::Fill { from, until, .. } = &commit.rule
        && until.as_ref().is_some_and(|until| until < from)
    {
        return Err(invalid("the interval of the remote commit ends before it begins"));
    }
    for (path, _) in &commit.notes {
        let own = zoning.zone(path.key()).tracking == Tracking::None;
        if !path.is_system() || path.is_root() || !own {
            let message = "a note of a remote commit belongs at a system path nobody replicates";
            return Err(invalid(message).context("path", path));
        }
    }
    Ok(())
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, message).operation("apply_remote")
}

fn at(key: &Bytes, error: Error) -> Error {
    let path = String::from_utf8_lossy(key).replace('\0', "/");
    error.operation("apply_remote").context("path", path)
}

/// Checks an op.
fn check_op(op: &StampedOp) -> Result<()> {
    let path = match (&op.change, ending_path(&op.key)) {
        (StampedChange::Ending(_), Some(path)) => path,
        (StampedChange::Ending(_), None) => {
            return Err(invalid("the key of an ending is that of a path and 0x00 0x02"));
        }
        _ => &op.key,
    };
    check_key(path)?;
    let StampedChange::Put(stored) = &op.change else { return Ok(()) };
    // The first byte is the kind.
    if stored.len() > LEAF_BYTES_UPMOST + 1 {
        return Err(over("a value is too large", "leaf_bytes_max", LEAF_BYTES_UPMOST));
    }
    check_leaf(stored)
}

/// Checks that a key is one of a path, and not the root's.
fn check_key(key: &[u8]) -> Result<()> {
    let Ok(text) = std::str::from_utf8(key) else {
        return Err(invalid("a key is not UTF-8"));
    };
    if key.len() > path::PATH_BYTES_MAX {
        return Err(over("the path is too long", "path_bytes_max", path::PATH_BYTES_MAX));
    }
    let mut depth = 0;
    for segment in text.split('\0') {
        depth += 1;
        path::check_segment(segment)?;
    }
    if depth > path::DEPTH_MAX {
        return Err(over("the path has too many segments", "depth_max", path::DEPTH_MAX));
    }
    Ok(())
}

/// Checks that stored bytes are those of a leaf; an array has to be one that could be written here.
fn check_leaf(stored: &Bytes) -> Result<()> {
    match stored.split_first() {
        Some((5, text)) if std::str::from_utf8(text).is_ok() => Ok(()),
        Some((6, _)) => Ok(()),
        Some((7, json)) => match Input::parse(json)?.0 {
            Node::Leaf(Leaf::Array(_)) => Ok(()),
            _ => Err(Error::new(ErrorKind::Corrupt, "a stored array is none")),
        },
        _ => Leaf::decode(stored).map(|_| ()),
    }
}

/// The leaves that a note comes to, in the order of their keys.
pub(crate) fn note_leaves(path: &Path, value: &Input) -> Result<Vec<(Bytes, Bytes)>> {
    let mut leaves = Vec::new();
    crate::input::flatten(&value.0, path.key().to_vec(), &mut |key, node| {
        match node {
            Node::Leaf(leaf) => leaves.push((key.into(), leaf.encode())),
            Node::Transform(_) => return Err(invalid("a note is a plain value")),
            Node::Null | Node::Object(_) => {}
        }
        Ok(())
    })?;
    leaves.sort_unstable();
    Ok(leaves)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;
    use crate::stamp::Version;

    fn put(key: &'static [u8], stored: &'static [u8]) -> StampedOp {
        let change = StampedChange::Put(Bytes::from_static(stored));
        StampedOp { key: Bytes::from_static(key), version: Version::ZERO, change }
    }

    #[test]
    fn what_no_node_writes_is_refused() {
        let refused: [(&[u8], &[u8]); 14] = [
            (b"", b"\x01"),
            (b"a\0", b"\x01"),
            (b"\0a", b"\x01"),
            (b"a\0\0b", b"\x01"),
            (b"a/b", b"\x01"),
            (b"a\x07", b"\x01"),
            (b"a\0\x02", b"\x01"),
            (b"\xff", b"\x01"),
            (b"a", b""),
            (b"a", b"\x01\x01"),
            (b"a", b"\x04\0\0\0\0\0\0\xf0\x7f"),
            (b"a", b"\x05\xff"),
            (b"a", b"\x07{}"),
            (b"a", b"\x07[1,"),
        ];
        for (key, stored) in refused {
            let error = check_op(&put(key, stored)).unwrap_err();
            let kind = error.kind();
            let typed = matches!(kind, ErrorKind::InvalidInput | ErrorKind::Corrupt);
            assert!(typed, "{key:?} {stored:?}: {error}");
        }
        let ending = StampedOp { change: StampedChange::Ending(None), ..put(b"a", b"") };
        assert!(check_op(&ending).is_err());
        for (key, stored) in [
            (&b"a"[..], &b"\x08"[..]),
            (b"a\0b c", b"\x05x"),
            (b"a", b"\x07[1,{\"a\":null}]"),
            (b"_auth\0x", b"\x06\xff"),
        ] {
            check_op(&put(key, stored)).unwrap();
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let text = |bytes: usize| [&b"\x05"[..], &vec![b'x'; bytes]].concat().into();
        let large = |bytes| StampedOp { change: StampedChange::Put(text(bytes)), ..put(b"a", b"") };
        check_op(&large(LEAF_BYTES_UPMOST)).unwrap();
        let error = check_op(&large(LEAF_BYTES_UPMOST + 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let long = Bytes::from(vec![b'a'; path::SEGMENT_BYTES_MAX + 1]);
        assert_eq!(check_key(&long).unwrap_err().kind(), ErrorKind::TooLarge);
        let deep = ["a"; path::DEPTH_MAX + 1].join("\0");
        assert_eq!(check_key(deep.as_bytes()).unwrap_err().kind(), ErrorKind::TooLarge);
    }
}
