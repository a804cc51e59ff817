//! Trellis mounted in an axum application.
fn main() {}
