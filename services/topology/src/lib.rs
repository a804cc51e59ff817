//! Replication whose ownership is set per path.
//!
//! What a node owns and follows, and where a write goes, is said by prefixes of the tree. The
//! parts: *zones* (which rule holds where), *sessions* (what two nodes say to each other, free of
//! I/O), the *store* (what a session asks of its tree) and the *node*, which drives sessions over
//! links.
//!
//! Deliberately absent: sockets, which are the links' business, and the merge itself, which the
//! tree does against exactly the state that it changes.
