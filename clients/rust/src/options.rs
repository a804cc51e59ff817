//! What can be set about a client.

use std::time::Duration;

/// Limits and time-outs of a client.
///
/// ```
/// use std::time::Duration;
/// use trellis_client::ClientOptions;
///
/// let options = ClientOptions { deadline: Duration::from_secs(5), ..ClientOptions::default() };
/// assert_eq!(options.in_flight_requests_max, 256);
/// ```
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Longest time from a call to its answer, reconnections included.
    pub deadline: Duration,
    /// Longest time for one attempt to connect.
    pub connect_timeout: Duration,
    /// Requests that may be unanswered; further calls wait.
    pub in_flight_requests_max: usize,
    /// Bytes of the unanswered requests; further calls wait.
    pub in_flight_bytes_max: usize,
    /// Upper bound of the first random pause before a reconnection; it doubles from try to try.
    pub backoff_min: Duration,
    /// The bound beyond which the pause does not grow.
    pub backoff_max: Duration,
    /// A server that sent nothing for this long, pings included, is taken for lost.
    pub silence_max: Duration,
    /// How long the client may be silent before what it stored with
    /// [`Client::on_disconnect`](crate::Client::on_disconnect) runs: 10 to 600 s; `None` leaves it
    /// to the server (45 s).
    pub lease_ttl: Option<Duration>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            in_flight_requests_max: 256,
            in_flight_bytes_max: 16 << 20,
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(30),
            silence_max: Duration::from_secs(45),
            lease_ttl: None,
        }
    }
}
