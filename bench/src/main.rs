//! Figures against the raw engines.
fn main() {}
