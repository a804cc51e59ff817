//! HTTP request bodies, bounded in bytes and in patience.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::error::WireError;

/// Collects a body of at most `bytes_max`, waiting at most `idle_max` for each part of it.
pub(crate) async fn collect(
    headers: &HeaderMap,
    mut body: Body,
    bytes_max: usize,
    idle_max: Duration,
) -> Result<Bytes, WireError> {
    let too_large = || {
        WireError::too_large(format!(
            "a request body has at most {bytes_max} bytes; write larger subtrees in parts"
        ))
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<usize>().ok());
    if announced.is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    // Never reserves what is only announced.
    let mut collected = BytesMut::new();
    loop {
        let frame = match timeout(idle_max, body.frame()).await {
            Ok(frame) => frame,
            Err(_elapsed) => {
                return Err(WireError::invalid("the request body did not arrive in time")
                    .with_status(StatusCode::REQUEST_TIMEOUT));
            }
        };
        let Some(frame) = frame else {
            return Ok(collected.freeze());
        };
        let frame = frame.map_err(|_| WireError::invalid("the request body broke off"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if collected.len() + data.len() > bytes_max {
            return Err(too_large());
        }
        collected.extend_from_slice(&data);
    }
}
