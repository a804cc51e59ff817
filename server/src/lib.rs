//! The Trellis server: WebSocket, REST and the trellis binary.
