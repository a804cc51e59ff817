//! KvBackend on redb.
