//! Nodes as processes, and the weather between them.

pub(crate) mod proxy;
