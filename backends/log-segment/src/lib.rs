//! StreamLog in append-only segment files.
