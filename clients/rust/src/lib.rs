//! Async WebSocket client for Trellis.
