//! What can be set about a server, with the defaults of docs/protocol.md.

use std::time::Duration;

use trellis::ServerConfig;

/// Limits and time-outs of a server.
///
/// ```
/// use trellis_server::ServerOptions;
///
/// let options = ServerOptions { connections_max: 100, ..ServerOptions::default() };
/// assert_eq!(options.frame_bytes_max, 1 << 20);
/// assert!(!options.allow_unprotected_network);
/// ```
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// WebSocket connections at once; one more is refused with 503.
    pub connections_max: usize,
    /// Links of other nodes at once; one more is refused with 429. They take none of the places
    /// of `connections_max`. `None`: as many as the database's `replication.linksMax` allows, with
    /// room for those that are still being greeted, of which some may take the place of one that
    /// their node lost.
    pub peers_max: Option<usize>,
    /// Largest WebSocket frame and message, either way, in bytes.
    pub frame_bytes_max: usize,
    /// Requests of one connection that may be unanswered; beyond it the server reads no further.
    pub in_flight_requests_max: usize,
    /// Bytes of the unanswered requests of one connection; beyond it the server reads no further.
    pub in_flight_bytes_max: usize,
    /// Subtrees and archives that may be streamed over HTTP, and digests, checks and compactions
    /// that may be under way, at once and together, each on a thread of its own; one more waits a
    /// moment and is then answered with `busy`.
    pub streams_max: usize,
    /// How often the server pings a WebSocket.
    pub ping_interval: Duration,
    /// A WebSocket peer that sent nothing for this long, or took nothing, is dropped.
    pub silence_max: Duration,
    /// Time for the whole header of an HTTP request, from the end of the request before.
    pub header_timeout: Duration,
    /// Longest pause within an HTTP request body, and longest stall of a streamed answer. A body
    /// of more than 16 KiB has so long altogether, and a second more for each 64 KiB.
    pub body_idle_timeout: Duration,
    /// How long a stop waits for requests under way.
    pub drain_timeout: Duration,
    /// Serve without rules to others than this machine: listen on other addresses than loopback,
    /// and accept requests whose `Host` is not this machine's. Everybody who reaches the port can
    /// then read and write everything.
    pub allow_unprotected_network: bool,
    /// Web origins (`https://app.example`) that may use the server besides loopback ones and the
    /// server's own.
    pub origins: Vec<String>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            peers_max: None,
            frame_bytes_max: 1 << 20,
            in_flight_requests_max: 256,
            in_flight_bytes_max: 4 << 20,
            streams_max: 32,
            ping_interval: Duration::from_secs(20),
            silence_max: Duration::from_secs(45),
            header_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
            allow_unprotected_network: false,
            origins: Vec::new(),
        }
    }
}

impl From<&ServerConfig> for ServerOptions {
    /// The server's part of a configuration; where it listens is not part of the options.
    fn from(config: &ServerConfig) -> Self {
        Self {
            connections_max: config.connections_max,
            peers_max: None,
            frame_bytes_max: config.frame_bytes_max,
            in_flight_requests_max: config.in_flight_requests_max,
            in_flight_bytes_max: config.in_flight_bytes_max,
            streams_max: config.streams_max,
            ping_interval: config.ping_interval,
            silence_max: config.silence_max,
            header_timeout: config.header_timeout,
            body_idle_timeout: config.body_idle_timeout,
            drain_timeout: config.drain_timeout,
            allow_unprotected_network: config.allow_unprotected_network,
            origins: config.origins.clone(),
        }
    }
}
