//! An ordered store in memory: the strictest implementation of KvBackend.
