//! The unanswered requests of a connection, bounded for each and for all connections together.
//!
//! Invariant: a connection that is kept from reading has requests under way, so that it looks anew
//! whenever one is answered: nobody has to be woken.
//!
//! Not here: a frame that has not arrived whole, which is the codec's, and waits in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::options::ServerOptions;

/// Bytes of the unanswered requests of all connections, beyond the first few of each.
pub(crate) const ALL_BYTES_MAX: usize = 256 << 20;
/// What every connection may have unanswered however much others have.
const FREE_BYTES: usize = 16 << 10;

/// What a connection has unanswered. It gives its part back when it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    requests: usize,
    bytes: usize,
    all_bytes: Arc<AtomicUsize>,
}

impl InFlight {
    /// Nothing yet; `all_bytes` is what all connections have.
    pub(crate) fn new(all_bytes: &Arc<AtomicUsize>) -> Self {
        Self { requests: 0, bytes: 0, all_bytes: Arc::clone(all_bytes) }
    }

    /// Whether a further frame may be read. The last one may go beyond a bound in bytes.
    pub(crate) fn has_room(&self, options: &ServerOptions) -> bool {
        let is_shared =
            self.bytes < FREE_BYTES || self.all_bytes.load(Ordering::Relaxed) < ALL_BYTES_MAX;
        is_shared
            && self.requests < options.in_flight_requests_max
            && self.bytes < options.in_flight_bytes_max
    }

    /// A request of so many bytes has come.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.requests += 1;
        self.bytes += bytes;
        self.all_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many requests of so many bytes are answered.
    pub(crate) fn give_back(&mut self, requests: usize, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.requests = self.requests.saturating_sub(requests);
        self.bytes -= bytes;
        self.all_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.give_back(self.requests, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_connections_share_a_bound_and_each_has_a_little_of_its_own() {
        let options = ServerOptions::default();
        let all = Arc::new(AtomicUsize::new(0));
        let mut others: Vec<_> = (0..64).map(|_| InFlight::new(&all)).collect();
        let mut last = InFlight::new(&all);
        last.take(FREE_BYTES);
        for other in &mut others {
            assert!(other.has_room(&options) && last.has_room(&options));
            other.take(ALL_BYTES_MAX / 64);
        }
        // They have all room; what is a connection's own it has nevertheless.
        assert!(!last.has_room(&options));
        last.give_back(1, 1);
        assert!(last.has_room(&options));
        last.take(1);
        others.pop();
        assert!(last.has_room(&options), "a connection that ended keeps its part");
        drop((last, others));
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn each_connection_has_bounds_of_its_own() {
        let options = ServerOptions { in_flight_requests_max: 2, ..ServerOptions::default() };
        let mut own = InFlight::new(&Arc::default());
        own.take(1);
        assert!(own.has_room(&options));
        own.take(1);
        assert!(!own.has_room(&options));
        own.give_back(2, 2);
        own.take(options.in_flight_bytes_max);
        assert!(!own.has_room(&options));
    }
}
