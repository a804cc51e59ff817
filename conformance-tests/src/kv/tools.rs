//! Short names for what the cases of this family do all the time.

use bytes::Bytes;
use trellis_engine_traits::{
    At, CommitSeq, Durability, ErrorKind, KeyRange, KvBackend, KvSnapshot, KvSnapshotExt, Result,
    Scan, SpaceId, WriteBatch,
};

/// The space that most cases use, and one beside it that must stay as it is.
pub(super) const SPACE: SpaceId = SpaceId(7);
pub(super) const OTHER: SpaceId = SpaceId(8);

pub(super) type Pairs = Vec<(Bytes, Bytes)>;

pub(super) const fn batch() -> WriteBatch {
    WriteBatch::new()
}

pub(super) fn at(key: impl AsRef<[u8]>) -> At {
    At::new(SPACE, Bytes::copy_from_slice(key.as_ref()))
}

pub(super) fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref())
}

/// A batch that puts each pair into [`SPACE`].
pub(super) fn puts<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    pairs: impl IntoIterator<Item = (K, V)>,
) -> WriteBatch {
    pairs
        .into_iter()
        .fold(batch(), |batch, (key, value)| batch.put(SPACE, bytes(key), bytes(value)))
}

pub(super) fn commit(kv: &dyn KvBackend, batch: &WriteBatch) -> CommitSeq {
    kv.commit(batch, Durability::Buffered).expect("the batch is accepted")
}

pub(super) fn put(kv: &dyn KvBackend, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> CommitSeq {
    commit(kv, &puts([(key, value)]))
}

pub(super) fn get(kv: &dyn KvBackend, key: impl AsRef<[u8]>) -> Option<Bytes> {
    get_of(&*kv.snapshot().unwrap(), key)
}

pub(super) fn get_of(snapshot: &dyn KvSnapshot, key: impl AsRef<[u8]>) -> Option<Bytes> {
    snapshot.get(SPACE, key.as_ref()).expect("the key can be read")
}

/// Every pair of a space, read forwards; shows as well that backwards is the same.
pub(super) fn dump_of(snapshot: &dyn KvSnapshot, space: SpaceId) -> Pairs {
    let forward = snapshot.collect(&Scan::forward(space, KeyRange::all()), usize::MAX).unwrap();
    let mut reverse = snapshot.collect(&Scan::reverse(space, KeyRange::all()), usize::MAX).unwrap();
    reverse.reverse();
    assert_eq!(keys(&forward), keys(&reverse), "forwards and backwards differ");
    assert_eq!(forward, reverse, "forwards and backwards differ in a value");
    forward
}

pub(super) fn dump(kv: &dyn KvBackend) -> Pairs {
    dump_of(&*kv.snapshot().unwrap(), SPACE)
}

pub(super) fn keys(pairs: &[(Bytes, Bytes)]) -> Vec<Bytes> {
    pairs.iter().map(|(key, _)| key.clone()).collect()
}

/// The keys of a space as text, for short expectations.
pub(super) fn names(kv: &dyn KvBackend) -> Vec<String> {
    dump(kv).iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
}

pub(super) fn range(start: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> KeyRange {
    KeyRange::new(bytes(start), Some(bytes(end)))
}

#[track_caller]
pub(super) fn refused<T>(result: Result<T>, kind: ErrorKind, what: &str) {
    match result {
        Ok(_) => panic!("{what} is {kind}, but it succeeded"),
        Err(error) => assert_eq!(error.kind(), kind, "{what} is {kind}, not {error:?}"),
    }
}
