//! The tree path of a request URL.
//!
//! Doubled and trailing slashes collapse; each segment is percent-decoded by itself, so `%2F` is a
//! slash *inside* a segment (which the tree refuses) and never a separator. `.` and `..` are
//! ordinary names: nothing is resolved against anything.

use percent_encoding::percent_decode_str;
use trellis_tree::Path;

use crate::error::WireError;

/// The path after `prefix` of a URL's path.
pub(crate) fn path_after(url_path: &str, prefix: &str) -> Result<Path, WireError> {
    let rest = url_path.strip_prefix(prefix).unwrap_or(url_path);
    let mut segments = Vec::new();
    for raw in rest.split('/').filter(|segment| !segment.is_empty()) {
        if has_broken_escape(raw) {
            return Err(WireError::invalid("the URL holds a % that two hex digits do not follow"));
        }
        let segment = percent_decode_str(raw)
            .decode_utf8()
            .map_err(|_| WireError::invalid("the URL is not UTF-8 after percent-decoding"))?;
        segments.push(segment);
    }
    Path::from_segments(segments.iter().map(AsRef::as_ref)).map_err(WireError::from)
}

fn has_broken_escape(segment: &str) -> bool {
    segment.split('%').skip(1).any(|after| {
        let mut digits = after.bytes();
        !(digits.next().is_some_and(|byte| byte.is_ascii_hexdigit())
            && digits.next().is_some_and(|byte| byte.is_ascii_hexdigit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(url: &str) -> Option<String> {
        path_after(url, "/db").ok().map(|path| path.to_string())
    }

    #[test]
    fn slashes_collapse_and_segments_are_decoded_one_by_one() {
        assert_eq!(path("/db").as_deref(), Some(""));
        assert_eq!(path("/db//a///b/").as_deref(), Some("a/b"));
        assert_eq!(path("/db/a%20b/%C3%A4").as_deref(), Some("a b/ä"));
        assert_eq!(path("/db/../%2e%2e/a").as_deref(), Some("../../a"));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for url in ["/db/%FF", "/db/a%00b", "/db/a%2Fb", "/db/%zz", "/db/100%", "/db/%4"] {
            assert_eq!(path(url), None, "{url}");
        }
    }
}
