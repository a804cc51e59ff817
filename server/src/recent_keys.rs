//! The idempotency keys of a connection's own writes, whose events carry them.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Keys that are remembered.
const KEYS_MAX: usize = 1_024;

/// The newest keys of own writes, whose events carry them.
#[derive(Debug, Default)]
pub(crate) struct RecentKeys {
    known: HashSet<Arc<str>>,
    order: VecDeque<Arc<str>>,
}

impl RecentKeys {
    /// Remembers a key, and forgets the oldest beyond the bound.
    pub(crate) fn remember(&mut self, key: &str) {
        if self.known.contains(key) {
            return;
        }
        let key: Arc<str> = key.into();
        self.known.insert(Arc::clone(&key));
        self.order.push_back(key);
        if self.order.len() > KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether the key is remembered.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.known.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_keys_are_remembered_up_to_a_bound() {
        let mut keys = RecentKeys::default();
        for index in 0..KEYS_MAX + 10 {
            keys.remember(&index.to_string());
            keys.remember(&index.to_string());
        }
        assert_eq!((keys.known.len(), keys.order.len()), (KEYS_MAX, KEYS_MAX));
        assert!(!keys.has("9") && keys.has("10"));
    }
}
