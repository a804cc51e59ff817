//! KvBackend on sled (experimental).
