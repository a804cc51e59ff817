//! Frames of links between nodes.

use bytes::Bytes;
use trellis_repl_ws::MESSAGE_BYTES_MAX;
use trellis_repl_ws::fuzzing::{pack, unpack};

/// The codes that end a link.
const CODES: [&str; 2] = ["corrupt", "too_large"];

/// A frame is refused, or holds a message within the limit, which survives the way once more.
pub(super) fn frame(input: &[u8]) {
    match unpack(&Bytes::copy_from_slice(input)) {
        Ok(body) => {
            assert!(body.len() <= MESSAGE_BYTES_MAX, "{} bytes came out", body.len());
            for compress in [false, true] {
                let frame = pack(&body, compress).expect("it is within the limit");
                assert!(frame.len() <= body.len() + 1, "it grew");
                assert!(unpack(&frame).expect("our own frame") == body, "it came back changed");
            }
        }
        Err(error) => {
            let code = error.kind().code();
            assert!(CODES.contains(&code), "refused with {code}");
        }
    }
}
