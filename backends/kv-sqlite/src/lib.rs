//! KvBackend on SQLite.
