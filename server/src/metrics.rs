//! Counters for `/metrics`, in Prometheus' text format.
//!
//! The counters of an operation are looked up once, at start, so that counting is one atomic add.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use trellis::PresenceStats;
use trellis_subscribe::LiveStats;
use trellis_topology::NodeStatus;
use trellis_tree::TreeStats;

use crate::metrics_repl;
use crate::operation::OPERATIONS;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    method: &'static str,
    status: u16,
}

/// All that the server counts.
pub(crate) struct Metrics {
    registry: Registry,
    answered: Vec<[Counter; 2]>,
    http: Family<HttpLabels, Counter>,
    /// WebSocket frames that were no request.
    pub(crate) refused_frames: Counter,
    /// Open WebSocket connections.
    pub(crate) connections: Gauge,
    /// Connections refused because of the limit.
    pub(crate) connections_refused: Counter,
    /// Open links of other nodes.
    pub(crate) peers: Gauge,
    /// Links of other nodes that were refused.
    pub(crate) peers_refused: Counter,
    /// Open streams of server-sent events.
    pub(crate) event_streams: Gauge,
    /// Events written to WebSockets and event streams.
    pub(crate) event_frames: Counter,
    /// Subscriptions that lost events and were given everything anew.
    pub(crate) resets: Counter,
    live: Vec<(Gauge, LiveFigure)>,
    presence: Vec<(Gauge, PresenceFigure)>,
    tree: Vec<(Gauge, Figure)>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("trellis");
        let operations = Family::<OperationLabels, Counter>::default();
        registry.register("operations", "Operations answered over WebSocket", operations.clone());
        let answered = OPERATIONS
            .iter()
            .map(|operation| {
                ["error", "ok"].map(|outcome| {
                    operations.get_or_create(&OperationLabels { operation, outcome }).clone()
                })
            })
            .collect();
        let http = Family::default();
        registry.register("http_requests", "HTTP requests answered", http.clone());
        let refused_frames = Counter::default();
        registry.register("frames_refused", "Frames that were no request", refused_frames.clone());
        let connections = Gauge::default();
        registry.register("connections", "Open WebSocket connections", connections.clone());
        let connections_refused = Counter::default();
        registry.register(
            "connections_refused",
            "WebSocket connections refused at the limit",
            connections_refused.clone(),
        );
        let peers = Gauge::default();
        registry.register("peers", "Open links of other nodes", peers.clone());
        let peers_refused = Counter::default();
        registry.register(
            "peers_refused",
            "Links of other nodes refused: token, limit, or no replication",
            peers_refused.clone(),
        );
        let event_streams = Gauge::default();
        registry.register(
            "event_streams",
            "Open streams of server-sent events",
            event_streams.clone(),
        );
        let [event_frames, resets] = LIVE_COUNTERS.map(|(name, help)| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        });
        let live = gauges(&mut registry, &LIVE_FIGURES);
        let presence = gauges(&mut registry, &PRESENCE_FIGURES);
        let tree = gauges(&mut registry, &TREE_FIGURES);
        Self {
            registry,
            answered,
            http,
            refused_frames,
            connections,
            connections_refused,
            peers,
            peers_refused,
            event_streams,
            event_frames,
            resets,
            live,
            presence,
            tree,
        }
    }

    /// Counts the answer to the operation at this index of [`OPERATIONS`].
    pub(crate) fn count_operation(&self, operation: usize, is_ok: bool) {
        if let Some(counter) =
            self.answered.get(operation).map(|[error, ok]| if is_ok { ok } else { error })
        {
            counter.inc();
        }
    }

    /// Counts an HTTP answer.
    pub(crate) fn count_http(&self, method: &axum::http::Method, status: u16) {
        let method = match method.as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "PUT" => "PUT",
            "PATCH" => "PATCH",
            "POST" => "POST",
            "DELETE" => "DELETE",
            _ => "other",
        };
        self.http.get_or_create(&HttpLabels { method, status }).inc();
    }

    /// The exposition text, with the figures of tree, subscriptions, leases and, where
    /// there is one, the node as of these.
    pub(crate) fn render(
        &self,
        tree: &TreeStats,
        live: &LiveStats,
        presence: &PresenceStats,
        node: Option<&NodeStatus>,
    ) -> Result<String, fmt::Error> {
        for (gauge, figure) in &self.tree {
            gauge.set(i64::try_from(figure(tree)).unwrap_or(i64::MAX));
        }
        for (gauge, figure) in &self.live {
            gauge.set(i64::try_from(figure(live)).unwrap_or(i64::MAX));
        }
        for (gauge, figure) in &self.presence {
            gauge.set(i64::try_from(figure(presence)).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        text::encode_registry(&mut text, &self.registry)?;
        if let Some(node) = node {
            metrics_repl::append(node, &mut text)?;
        }
        text::encode_eof(&mut text)?;
        Ok(text)
    }
}

/// A gauge for each figure of a table.
fn gauges<F: Copy>(
    registry: &mut Registry,
    figures: &[(&'static str, &'static str, F)],
) -> Vec<(Gauge, F)> {
    let gauges = figures.iter().map(|(name, help, figure)| {
        let gauge = Gauge::default();
        registry.register(*name, *help, gauge.clone());
        (gauge, *figure)
    });
    gauges.collect()
}

const LIVE_COUNTERS: [(&str, &str); 2] = [
    ("event_frames", "Events of subscriptions written, each the changes of one commit"),
    ("subscription_resets", "Subscriptions that lost events and were given everything anew"),
];

type LiveFigure = fn(&LiveStats) -> u64;
type LiveFigureRow = (&'static str, &'static str, LiveFigure);

const LIVE_FIGURES: [LiveFigureRow; 11] = [
    ("subscriptions", "Open subscriptions", |stats| stats.subscriptions as u64),
    ("subscription_groups", "Distinct things that are watched", |stats| stats.groups as u64),
    ("inboxes", "Connections and hosts with subscriptions", |stats| stats.inboxes as u64),
    ("inbox_bytes", "Bytes of events that wait", |stats| stats.waiting_bytes as u64),
    ("subscription_events", "Events made since the start", |stats| stats.events),
    ("subscription_deliveries", "Events handed to inboxes since the start", |stats| {
        stats.deliveries
    }),
    ("subscription_coalesced", "Events that took the place of older ones", |stats| stats.coalesced),
    ("subscription_stale", "Times that a subscription lost events", |stats| stats.stale),
    ("subscription_cancelled", "Subscriptions that the server gave up", |stats| stats.cancelled),
    ("subscription_lagged", "Times that commits were passed over", |stats| stats.lagged),
    ("subscription_resumed", "Subscriptions that went on where they were left", |stats| {
        stats.resumed
    }),
];

type PresenceFigure = fn(&PresenceStats) -> u64;
type PresenceFigureRow = (&'static str, &'static str, PresenceFigure);

const PRESENCE_FIGURES: [PresenceFigureRow; 9] = [
    ("leases", "Leases", |stats| stats.leases as u64),
    ("leases_held", "Leases that a connection holds", |stats| stats.held as u64),
    ("leases_ending", "Leases whose writes wait to run", |stats| stats.ending as u64),
    ("lease_writes", "Paths of writes stored with leases", |stats| stats.writes as u64),
    ("lease_bytes", "Bytes of writes stored with leases", |stats| stats.bytes as u64),
    ("leases_ended", "Leases that ended since the start", |stats| stats.ended),
    ("lease_writes_run", "Paths of stored writes that ran", |stats| stats.writes_run),
    ("lease_writes_dropped", "Paths of stored writes that could not be applied", |stats| {
        stats.writes_dropped
    }),
    ("lease_retries", "Ends of leases that have to be tried again", |stats| stats.retries),
];

type Figure = fn(&TreeStats) -> u64;
type TreeFigure = (&'static str, &'static str, Figure);

const TREE_FIGURES: [TreeFigure; 16] = [
    ("rev", "Number of the newest commit", |stats| stats.rev),
    ("durable_rev", "Newest durable commit", |stats| stats.durable_rev),
    ("applied_rev", "Newest commit in the store", |stats| stats.applied_rev),
    ("journal_records", "Journal records since the start", |stats| stats.commits),
    ("journal_groups", "Journal appends since the start", |stats| stats.groups),
    ("journal_bytes", "Bytes appended to the journal since the start", |stats| stats.journal_bytes),
    ("store_batches", "Batches applied to the store since the start", |stats| stats.batches),
    ("overlay_bytes", "Bytes not yet in the store", |stats| stats.overlay_bytes as u64),
    ("views", "Views being read", |stats| stats.views as u64),
    ("indexes", "Indexes", |stats| stats.indexes as u64),
    ("indexes_ready", "Indexes that are built", |stats| stats.indexes_ready as u64),
    ("index_items_building", "Items taken in by indexes being built", |stats| {
        stats.index_items_building
    }),
    ("store_live_bytes", "Bytes of live keys and values in the store", |stats| stats.live_bytes),
    ("store_disk_bytes", "Bytes of the store's files", |stats| stats.disk_bytes),
    ("poisoned", "1 when writes are refused until a restart", |stats| {
        u64::from(stats.poisoned.is_some())
    }),
    ("storage_full", "1 when there is no room, so that writes that grow are refused", |stats| {
        u64::from(stats.storage_full)
    }),
];
