//! Promises of queries: the answers of a plain reference, whichever way they are found.
#![allow(clippy::disallowed_methods, reason = "tests draw seeds")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails may panic"
)]

mod bad_input;
mod bed;
mod draw;
mod live;
mod pages;
mod random;
mod reference;
