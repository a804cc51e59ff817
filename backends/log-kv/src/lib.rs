//! StreamLog on any KvBackend.
