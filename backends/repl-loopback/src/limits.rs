//! What a link may carry and hold.

/// Bytes of the largest message.
pub const MESSAGE_BYTES_MAX: usize = 512 << 10;
/// Bytes that one direction of a link holds, but for one message.
pub const BUFFERED_BYTES_MAX: usize = 1 << 20;
/// Bytes of the reason of a close.
pub const REASON_BYTES_MAX: usize = 120;
