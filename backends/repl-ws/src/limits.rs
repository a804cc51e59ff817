//! What a link may carry and hold.

/// The WebSocket subprotocol of links.
pub const SUBPROTOCOL: &str = "trellis-repl";
/// Bytes of the largest message.
pub const MESSAGE_BYTES_MAX: usize = 512 << 10;
/// Bytes of the largest frame: a message and how it is packed.
pub const FRAME_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 8;
/// Bytes that one direction of a link holds, but for one message.
pub const BUFFERED_BYTES_MAX: usize = 1 << 20;
/// Bytes of the reason of a close: what a WebSocket's close frame has room for.
pub const REASON_BYTES_MAX: usize = 120;
