//! Bounds of live subscriptions, and their figures.

/// Bounds of [`Live`](crate::Live).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveOptions {
    /// Subscriptions of one inbox.
    pub subscriptions_max: usize,
    /// Subscriptions of all inboxes.
    pub subscriptions_total_max: usize,
    /// Bytes of one snapshot, and of the events of one commit for one subscription.
    pub frame_bytes_max: usize,
    /// Bytes that wait in one inbox, before subscriptions coalesce or become stale.
    pub inbox_bytes_max: usize,
    /// Bytes of commits that wait to be told, before they are passed over and subscriptions
    /// coalesce or become stale.
    pub follow_bytes_max: usize,
    /// Bytes of the journal that are read again for subscriptions that resume.
    pub resume_bytes_max: usize,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            subscriptions_max: 500,
            subscriptions_total_max: 1_000_000,
            frame_bytes_max: 1 << 20,
            inbox_bytes_max: 4 << 20,
            follow_bytes_max: 64 << 20,
            resume_bytes_max: 64 << 20,
        }
    }
}

/// Where the subscriptions stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LiveStats {
    /// Open subscriptions.
    pub subscriptions: usize,
    /// Distinct things that are watched; each is evaluated once a commit.
    pub groups: usize,
    /// Open inboxes.
    pub inboxes: usize,
    /// Whether the tree is followed: while there are subscriptions.
    pub following: bool,
    /// Bytes that wait in all inboxes; events that are shared count for each.
    pub waiting_bytes: usize,
    /// Events made, each for one group.
    pub events: u64,
    /// Events put into inboxes.
    pub deliveries: u64,
    /// Events that took the place of older ones, because their receiver was slow.
    pub coalesced: u64,
    /// How often a subscription became stale.
    pub stale: u64,
    /// Subscriptions ended by the server.
    pub cancelled: u64,
    /// How often commits were passed over, because the publisher was slow.
    pub lagged: u64,
    /// Subscriptions that went on where they were left.
    pub resumed: u64,
    /// Places of the registry that were looked at to find who is touched.
    pub nodes_visited: u64,
}
