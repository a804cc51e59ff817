//! `StreamLog` in append-only segment files.
//!
//! Purpose: the journal. The durability of everything above rests on this crate, at the speed of
//! one sequential write and one flush of preallocated blocks.
//!
//! ```text
//! <directory>/LOCK                                     held while the log is open
//! <directory>/FORMAT                                   `trellis-log-segment 1`
//! <directory>/streams/<stream>/<first offset>.segment  20 digits; tables in `frame` and `segment`
//! <directory>/streams/<stream>/durable                 how far the stream is proven durable
//! ```
//!
//! Invariants:
//! 1. An append is one frame: whole and checksummed, or not there.
//! 2. A segment exists under its name only after its header is on the medium, and only after
//!    everything in the segment before it is.
//! 3. What is not a valid frame is dropped only at the end of the last segment, and only if nothing
//!    proves that it was durable. Everything else is `Corrupt` and stays as it is.
//! 4. After a failed flush nothing more is written: the kernel may have dropped the pages.
//!
//! Deliberately absent: threads, compaction, caches of records, reuse of trimmed files.

mod backend;
mod error;
mod frame;
#[doc(hidden)]
pub mod layer;
mod mark;
mod open;
mod reader;
mod recover;
mod reserve;
mod segment;
mod stream;

pub use open::{SegmentLog, SegmentOptions};
