//! The parsers of what clients send, without a server around them.
//!
//! Not part of the stable interface: public only so that the fuzz targets reach what a socket
//! would otherwise stand in front of. Each function takes bytes as they may come from anybody, and
//! answers with what they mean or with the stable code of the refusal.

use axum::http::{Method, Uri};
use trellis_tree::{Commit, Operation, Path};

use crate::error::WireError;
use crate::location::path_after;
use crate::wire::{Command, Request};
use crate::{rest_read, rest_write};

/// What became of a WebSocket frame.
#[derive(Debug)]
pub struct Frame {
    /// The id, if one could be read.
    pub id: Option<String>,
    /// The commit that it asks for, or nothing for a read; or the code of the refusal.
    pub outcome: Result<Option<Commit>, &'static str>,
}

/// Reads a WebSocket frame.
#[must_use]
pub fn frame(text: &str) -> Frame {
    match Request::parse(text) {
        Ok(Request { id, command: Command::Write(commit, _), .. }) => {
            Frame { id: Some(id), outcome: Ok(Some(*commit)) }
        }
        Ok(request) => Frame { id: Some(request.id), outcome: Ok(None) },
        Err(refused) => Frame { id: refused.id, outcome: Err(refused.error.code) },
    }
}

/// The tree path of a URL's path behind `/db`.
///
/// # Errors
/// The code of the refusal.
pub fn location(url_path: &str) -> Result<Path, &'static str> {
    path_after(url_path, "/db").map_err(|error| error.code)
}

/// Reads a request to `/db/...`: nothing for a read, else the operation that it asks for.
///
/// # Errors
/// The code of the refusal; `invalid` for what is no URL or no method at all.
pub fn request(
    method: &[u8],
    uri: &[u8],
    body: &[u8],
) -> Result<(Path, Option<Operation>), &'static str> {
    let code = |error: WireError| error.code;
    let method = Method::from_bytes(method).map_err(|_| "invalid")?;
    let uri = Uri::try_from(uri).map_err(|_| "invalid")?;
    let path = path_after(uri.path(), "/db").map_err(code)?;
    if method == Method::GET {
        let query = rest_read::query_of(&uri).map_err(code)?;
        query.asked(&path).map_err(code)?;
        return Ok((path, None));
    }
    let expiry = rest_write::expiry_of(&uri).map_err(code)?;
    let operation = rest_write::operation_of(&method, path.clone(), body, expiry).map_err(code)?;
    Ok((path, Some(operation)))
}

/// Reads the body of `POST /v1/commit`.
///
/// # Errors
/// The code of the refusal.
pub fn commit(body: &[u8]) -> Result<Commit, &'static str> {
    rest_write::commit_of(body).map_err(|error| error.code)
}
