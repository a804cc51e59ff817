//! Trellis without an async runtime.
fn main() {}
