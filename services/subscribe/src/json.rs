//! Writes events as JSON text: `{"type":...}` objects, serialised once for all who receive them.

use trellis_engine_traits::Result;
use trellis_tree::Path;

use crate::pattern::Pattern;

/// Appends text as a JSON string.
pub(crate) fn text(value: &str, out: &mut Vec<u8>) {
    // Writing text to memory does not fail.
    let _written = serde_json::to_writer(&mut *out, value);
}

/// Appends a path key as a JSON string `a/b`.
///
/// # Errors
/// `Corrupt` when it is not a path.
pub(crate) fn path_text(key: &[u8], out: &mut Vec<u8>) -> Result<()> {
    text(&Path::from_key(key)?.to_string(), out);
    Ok(())
}

/// The beginning of an event up to its type, and where it happened for a pattern with wildcards.
pub(crate) fn open_event(kind: &str, pattern: &Pattern, path: &Path, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.push(b'"');
    if pattern.is_wild() {
        out.extend_from_slice(b",\"path\":");
        text(&path.to_string(), out);
        out.extend_from_slice(b",\"captures\":[");
        for (index, name) in pattern.captures(path).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            text(name, out);
        }
        out.push(b']');
    }
}

/// Appends a member's name and its colon, with a comma before it.
pub(crate) fn member(name: &str, out: &mut Vec<u8>) {
    out.push(b',');
    text(name, out);
    out.push(b':');
}
