//! Writes leaves that arrive in key order as one JSON text, without an intermediate tree.

use trellis_engine_traits::Result;

use crate::input::is_reserved;
use crate::leaf;

/// Where the text stands.
#[derive(Debug, Default)]
pub(crate) struct JsonWriter {
    /// The segments of the objects that are open below the base, joined by 0x00.
    open: Vec<u8>,
    /// Whether the base itself was opened as an object.
    object: bool,
    /// Whether the base was a leaf.
    scalar: bool,
    comma: bool,
}

impl JsonWriter {
    /// Appends a leaf; `key` is its path below the base, empty for the base itself.
    pub(crate) fn leaf(&mut self, key: &[u8], stored: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if key.is_empty() {
            self.scalar = true;
            return leaf::write_json(stored, out);
        }
        if !self.object {
            self.object = true;
            out.push(b'{');
        }
        let (parent, name) = match key.iter().rposition(|byte| *byte == 0) {
            Some(at) => (key.get(..at).unwrap_or_default(), key.get(at + 1..).unwrap_or_default()),
            None => (&[][..], key),
        };
        let same = common_prefix(&self.open, parent);
        if same < parent.len() || same < self.open.len() {
            self.move_to(parent, same, out)?;
        }
        self.name(name, out)?;
        leaf::write_json(stored, out)?;
        self.comma = true;
        Ok(())
    }

    /// Closes what is open.
    ///
    /// # Errors
    /// As for [`JsonWriter::leaf`].
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        if self.object {
            self.move_to(&[], 0, out)?;
            out.push(b'}');
        } else if !self.scalar {
            out.extend_from_slice(b"null");
        }
        Ok(())
    }

    fn name(&mut self, name: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if self.comma {
            out.push(b',');
        }
        write_key(name, out)?;
        out.push(b':');
        Ok(())
    }

    /// Closes and opens objects; `same` bytes at the front are those that are open.
    fn move_to(&mut self, parent: &[u8], same: usize, out: &mut Vec<u8>) -> Result<()> {
        let shared = shared_segments(&self.open, parent, same);
        let closing = self.open.get(shared..).unwrap_or_default();
        for _ in segments(closing) {
            out.push(b'}');
            self.comma = true;
        }
        for segment in segments(parent.get(shared..).unwrap_or_default()) {
            self.name(segment, out)?;
            out.push(b'{');
            self.comma = false;
        }
        self.open.clear();
        self.open.extend_from_slice(parent);
        Ok(())
    }
}

/// Bytes at the front that are the same whole segments in both; `same` bytes are the same.
fn shared_segments(a: &[u8], b: &[u8], same: usize) -> usize {
    let ends = |key: &[u8]| key.get(same).is_none_or(|byte| *byte == 0);
    if ends(a) && ends(b) {
        return same;
    }
    a.iter().take(same).rposition(|byte| *byte == 0).unwrap_or(0)
}

/// Bytes at the front that are the same in both; names differ late as a rule.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let whole = 8 * words.take_while(|(a, b)| a == b).count();
    let rest = a.iter().zip(b).skip(whole);
    whole + rest.take_while(|(a, b)| a == b).count()
}

fn segments(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.split(|byte| *byte == 0).filter(|segment| !segment.is_empty())
}

/// Appends a key as JSON; one that would be taken for a wire sentinel gets one more dot.
///
/// # Errors
/// `Corrupt` when it is not UTF-8.
pub fn write_key(key: &[u8], out: &mut Vec<u8>) -> Result<()> {
    if key.first() != Some(&b'.') || !is_reserved(key) {
        return leaf::write_text(key, out);
    }
    let mut escaped = vec![b'.'];
    escaped.extend_from_slice(key);
    leaf::write_text(&escaped, out)
}
