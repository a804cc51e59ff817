//! HTTP requests: method, URL and body, one line each, the body as the rest.

use trellis_server::fuzzing::{commit, location, request as read};

pub(super) const WORDS: &[&str] = &[
    "GET\n",
    "PUT\n",
    "PATCH\n",
    "POST\n",
    "DELETE\n",
    "/db/",
    "%00",
    "%2F",
    "%2e%2e",
    "%2E/",
    "%FF",
    "%C3%28",
    "%ED%A0%80",
    "%F4%90%80%80",
    "%",
    "%4",
    "//",
    "?ttl=",
    "?ttl=NaN",
    "ttl=inf",
    "&expiresAt=",
    "?children=1",
    "&limit=1000",
    "&limit=18446744073709551616",
    "&after=%00",
    "?shallow=true",
    "&values=1",
    "+",
    "#",
    "?",
    "{\"a/b\":1}",
    "null",
];
const CODES: [&str; 2] = ["invalid", "too_large"];

/// A request is understood or refused with a known code; what a URL names is always a path.
pub(super) fn request(input: &[u8]) {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let (method, uri) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let body = lines.next().unwrap_or_default();
    match read(method, uri, body) {
        Ok((path, operation)) => {
            super::path::holds(&path);
            operation.iter().for_each(super::wire::operation);
        }
        Err(code) => assert!(CODES.contains(&code), "refused with {code}"),
    }
    match commit(body) {
        Ok(commit) => super::wire::sensible(&commit),
        Err(code) => assert!(CODES.contains(&code), "refused with {code}"),
    }
    if let Ok(text) = std::str::from_utf8(uri) {
        located(text);
    }
}

/// What a URL names can be named again with everything escaped, and is the same place.
fn located(text: &str) {
    match location(text) {
        Ok(path) => {
            super::path::holds(&path);
            let escaped = |segment: &str| -> String {
                segment.bytes().map(|byte| format!("%{byte:02x}")).collect()
            };
            let segments: Vec<_> = path.segments().map(escaped).collect();
            let again = location(&format!("/db/{}", segments.join("/")));
            assert_eq!(again.as_ref(), Ok(&path), "another place when escaped");
        }
        Err(code) => assert!(CODES.contains(&code), "refused with {code}"),
    }
}
