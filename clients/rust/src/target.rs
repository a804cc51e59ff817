//! The address of a server, as WebSocket and as HTTP.

use hyper::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::{ClientError, ClientErrorKind};

/// What needs no escape within a segment.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'!');

/// Where a server is.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) websocket: String,
    /// `host:port`, for the socket and the `Host` header.
    pub(crate) authority: String,
    /// The path of the tree, usually `/db`.
    tree: String,
}

impl Target {
    /// Reads `ws://host:port/db`; a missing path means `/db`, a missing port 4400.
    pub(crate) fn parse(url: &str) -> Result<Self, ClientError> {
        let invalid = |message: &str| {
            let message = format!("{message}; an address is like ws://127.0.0.1:4400/db");
            Err(ClientError::new(ClientErrorKind::Invalid, message))
        };
        let Ok(uri) = url.parse::<Uri>() else {
            return invalid("this is no URL");
        };
        match uri.scheme_str() {
            Some("ws" | "http") => {}
            Some("wss" | "https") => {
                return invalid("this client speaks no TLS: put a proxy or a tunnel in front");
            }
            _ => return invalid("the URL does not begin with ws://"),
        }
        let Some(host) = uri.host() else {
            return invalid("the URL names no host");
        };
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(4400));
        let tree = match uri.path().trim_end_matches('/') {
            "" => "/db".to_owned(),
            path => path.to_owned(),
        };
        Ok(Self { websocket: format!("ws://{authority}{tree}"), authority, tree })
    }

    /// The URL path of something for operators; it lies beside the tree.
    pub(crate) fn admin(&self, path: &str) -> String {
        let prefix = self.tree.strip_suffix("/db").unwrap_or(&self.tree);
        format!("{prefix}/admin/{path}")
    }

    /// The URL path of a path of the tree.
    pub(crate) fn location(&self, path: &str) -> String {
        let mut location = self.tree.clone();
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            location.push('/');
            location.extend(utf8_percent_encode(segment, SEGMENT));
        }
        location
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gives_both_protocols() {
        let target = Target::parse("ws://127.0.0.1:4400/db").expect("an address");
        assert_eq!(target.authority, "127.0.0.1:4400");
        assert_eq!(target.location("a b/ä%"), "/db/a%20b/%C3%A4%25");
        assert_eq!(target.location(""), "/db");
        assert_eq!(Target::parse("ws://h").expect("defaults").websocket, "ws://h:4400/db");
        assert_eq!(target.admin("check"), "/admin/check");
        let nested = Target::parse("http://h:1/trellis/db").expect("an address");
        assert_eq!(nested.admin("archive?since=7"), "/trellis/admin/archive?since=7");
        assert!(Target::parse("wss://h/db").is_err());
        assert!(Target::parse("h:1/db").is_err());
    }
}
