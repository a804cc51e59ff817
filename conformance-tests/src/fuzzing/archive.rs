//! Archives: the first byte says whether the bytes behind it are taken as they are (even) or get
//! tags that hold (odd), so that what stands in the chunks is believed.

use std::sync::Arc;

use trellis_archive::{ArchiveReader, Restore, Until, parse};
use trellis_engine_traits::{ErrorKind, KvBackend, Result, StreamLog};
use trellis_kv_memory::MemoryKv;
use trellis_log_memory::MemoryLog;
use trellis_runtime::Runtime;
use trellis_tree::{Path, Seeding, Tree, TreeOptions};

/// Bytes before the first chunk, of a chunk's kind and length, and of a tag.
const PREFIX_BYTES: usize = 12;
const CHUNK_HEADER_BYTES: usize = 5;
const TAG_BYTES: usize = 16;

/// An archive is refused as damaged or newer, or is whole; what was restored from one can be read,
/// or says that it is damaged.
pub(super) fn bytes(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let archive = if kind % 2 == 0 { rest.to_vec() } else { tagged(rest.to_vec()) };
    match parse(&archive) {
        Ok(summary) => {
            let longer = [&archive[..], b"\0"].concat();
            assert!(parse(&longer).is_err(), "an archive with something behind it is taken");
            for cut in [1, archive.len() / 2, archive.len() - 1] {
                assert!(parse(&archive[..cut]).is_err(), "an archive cut at {cut} is taken");
            }
            let restored = restore(&archive);
            let known = [
                ErrorKind::Corrupt,
                ErrorKind::InvalidInput,
                ErrorKind::NotFound,
                ErrorKind::Unsupported,
            ];
            if let Err(error) = restored {
                assert!(known.contains(&error.kind()), "{error} of {summary:?}");
            }
        }
        Err(error) => {
            let known = [ErrorKind::Corrupt, ErrorKind::Unsupported];
            assert!(known.contains(&error.kind()), "{error}");
        }
    }
}

/// Restores into memory, opens what came of it and reads it all.
fn restore(archive: &[u8]) -> Result<()> {
    let runtime = Runtime::system();
    let kv: Arc<dyn KvBackend> = Arc::new(MemoryKv::new());
    let log: Arc<dyn StreamLog> = Arc::new(MemoryLog::new());
    let mut reader = ArchiveReader::new(archive)?;
    let source = Restore::source(reader.header(), Until::Newest);
    let seeding = Seeding::begin(Arc::clone(&kv), Arc::clone(&log), &runtime, source)?;
    let mut restore = Restore::new(seeding, Until::Newest);
    restore.archive(&mut reader, &mut |_, _, _| {})?;
    restore.digest()?;
    restore.finish()?;
    let tree = Tree::open(kv, log, runtime, TreeOptions::default())?;
    let view = tree.view()?;
    view.digest()?;
    let read = view.get_json(&Path::root(), 1 << 20);
    drop(view);
    tree.close()?;
    if let Ok(json) = read {
        serde_json::from_slice::<serde_json::Value>(&json).expect("what is read is JSON");
    }
    Ok(())
}

/// Writes the tags anew, chunk after chunk, as far as the lengths lead.
fn tagged(mut archive: Vec<u8>) -> Vec<u8> {
    let short = |bytes: &[&[u8]]| -> [u8; TAG_BYTES] {
        let mut hasher = blake3::Hasher::new();
        for part in bytes {
            hasher.update(part);
        }
        *hasher.finalize().as_bytes().first_chunk().expect("32 bytes")
    };
    let Some(prefix) = archive.get(..PREFIX_BYTES) else { return archive };
    let mut tag = short(&[prefix]);
    let mut at = PREFIX_BYTES;
    while let Some(header) = archive.get(at..at + CHUNK_HEADER_BYTES) {
        let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let end = (at + CHUNK_HEADER_BYTES).saturating_add(length);
        let Some(chunk) = archive.get(at..end) else { break };
        tag = short(&[&tag, chunk]);
        archive.resize(archive.len().max(end + TAG_BYTES), 0);
        archive[end..end + TAG_BYTES].copy_from_slice(&tag);
        at = end + TAG_BYTES;
    }
    archive
}
