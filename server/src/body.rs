//! HTTP request bodies, bounded in bytes and in patience, each and all together.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use trellis_engine_traits::ErrorKind;

use crate::error::WireError;
use crate::state::{BODY_STEP_BYTES, State};

/// What every body may have without asking: most requests are smaller.
const FREE_BYTES: usize = 16 << 10;
/// What a body that takes room from others has to arrive at, on average, in bytes a second.
const RATE_MIN: usize = 64 << 10;

/// A body that has arrived. It gives its room back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    text: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Deref for Collected {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.text
    }
}

/// Collects a body of at most `bytes_max`, waiting a bounded time for each part of it. One that
/// takes room from others has, for all of it together, that time and what its bytes take at the
/// least rate: however slowly its parts come, others get the room again.
///
/// # Errors
/// `too_large`; `invalid` for one that breaks off or does not come; `busy` when the bodies of other
/// requests take all room.
pub(crate) async fn collect(
    state: &State,
    headers: &HeaderMap,
    mut body: Body,
    bytes_max: usize,
) -> Result<Collected, WireError> {
    let idle_max = state.options.body_idle_timeout;
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
    let mut room = None;
    let began = Instant::now();
    loop {
        let mut patience = idle_max;
        if room.is_some() {
            let due = idle_max + Duration::from_secs_f64(collected.len() as f64 / RATE_MIN as f64);
            patience = patience.min(due.saturating_sub(began.elapsed()));
        }
        let frame = match timeout(patience, body.frame()).await {
            Ok(frame) => frame,
            Err(_elapsed) => {
                return Err(WireError::invalid("the request body did not arrive in time")
                    .with_status(StatusCode::REQUEST_TIMEOUT));
            }
        };
        let Some(frame) = frame else {
            return Ok(Collected { text: collected.freeze(), _room: room });
        };
        let frame = frame.map_err(|_| WireError::invalid("the request body broke off"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if collected.len() + data.len() > bytes_max {
            return Err(too_large());
        }
        take_room(&state.bodies, &mut room, collected.len() + data.len())?;
        collected.extend_from_slice(&data);
    }
}

/// Takes what is missing for a body of so many bytes. Nobody waits here: of those who waited, each
/// with a part, none might get the rest.
fn take_room(
    all: &Arc<Semaphore>,
    room: &mut Option<OwnedSemaphorePermit>,
    bytes: usize,
) -> Result<(), WireError> {
    let steps = bytes.saturating_sub(FREE_BYTES).div_ceil(BODY_STEP_BYTES);
    let missing = steps.saturating_sub(room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
    if missing == 0 {
        return Ok(());
    }
    let missing = u32::try_from(missing).unwrap_or(u32::MAX);
    let more = Arc::clone(all).try_acquire_many_owned(missing).map_err(|_| {
        WireError::new(ErrorKind::Busy, "too many large bodies are being sent; try again shortly")
    })?;
    match room {
        Some(room) => room.merge(more),
        None => *room = Some(more),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{BODIES_BYTES_MAX, room_for_all};

    #[test]
    fn bodies_share_their_room_and_give_it_back() {
        let all = room_for_all(0);
        let (mut first, mut second, mut third) = (None, None, None);
        take_room(&all, &mut first, FREE_BYTES).expect("free");
        assert!(first.is_none());
        take_room(&all, &mut first, BODIES_BYTES_MAX / 2).expect("room");
        take_room(&all, &mut first, BODIES_BYTES_MAX - BODY_STEP_BYTES).expect("more room");
        take_room(&all, &mut second, BODY_STEP_BYTES).expect("the last room");
        let refused = take_room(&all, &mut third, FREE_BYTES + 1).expect_err("no room");
        assert_eq!(refused.code, "busy");
        take_room(&all, &mut third, FREE_BYTES).expect("always free");
        drop(first);
        take_room(&all, &mut third, 10 << 20).expect("room again");
    }

    #[test]
    fn a_body_of_the_largest_size_finds_room_if_it_is_alone() {
        for bytes_max in [BODIES_BYTES_MAX + 1, 1 << 30] {
            let mut room = None;
            take_room(&room_for_all(bytes_max), &mut room, bytes_max).expect("room");
        }
    }
}
