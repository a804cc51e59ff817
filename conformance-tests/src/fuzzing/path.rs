//! Paths, and the order of their keys.

use trellis_tree::fuzzing::path_key;
use trellis_tree::{DEPTH_MAX, PATH_BYTES_MAX, Path, SEGMENT_BYTES_MAX};

pub(super) const WORDS: &[&str] = &[
    "/",
    "//",
    "..",
    ".",
    "_auth",
    "\0",
    "\u{7f}",
    "\u{80}",
    "a/b",
    "\u{fffd}",
    "\u{10ffff}",
    "!",
];

/// A text is a path or is refused; two paths stand in the order of their segments' bytes.
pub(super) fn text(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (first, second) = text.split_once('\n').unwrap_or((text, ""));
    if let Ok(path) = Path::parse(first) {
        assert_eq!(path.to_string(), first, "a path is written as it was read");
        holds(&path);
    }
    if let (Ok(first), Ok(second)) = (Path::parse(first), Path::parse(second)) {
        ordered(&first, &second);
    }
}

/// A path is within the limits, can be written down and read again, and is made of its parts.
pub(super) fn holds(path: &Path) {
    assert_eq!(Path::parse(&path.to_string()).as_ref().ok(), Some(path), "not itself when read");
    assert!(path.depth() <= DEPTH_MAX && path_key(path).len() <= PATH_BYTES_MAX);
    assert_eq!(path.depth(), path.segments().count());
    for segment in path.segments() {
        assert!((1..=SEGMENT_BYTES_MAX).contains(&segment.len()));
        assert!(!segment.chars().any(|c| c == '/' || c.is_ascii_control()), "{segment:?}");
    }
    if let (Some(parent), Some(last)) = (path.parent(), path.last()) {
        assert_eq!(parent.child(last).as_ref().ok(), Some(path), "not the child of its parent");
        assert!(parent.covers(path) && !path.covers(&parent));
    } else {
        assert!(path.is_root());
    }
}

fn ordered(first: &Path, second: &Path) {
    let bytes = |path: &Path| -> Vec<Vec<u8>> {
        path.segments().map(|segment| segment.as_bytes().to_vec()).collect()
    };
    let (one, other) = (bytes(first), bytes(second));
    assert_eq!(path_key(first).cmp(&path_key(second)), one.cmp(&other), "not in their order");
    assert_eq!(first.covers(second), other.starts_with(&one), "covers something else");
}
