//! Which transports carry links: the other place that names backends, beside the registry.

use std::sync::Arc;

use trellis_engine_traits::{PeerDoor, Replicator, Result};

/// A transport for links: one object, seen from its two sides.
#[derive(Debug, Clone)]
pub struct Links {
    /// Dials, and answers who was let in.
    pub replicator: Arc<dyn Replicator>,
    /// Takes the connections that a server has upgraded.
    pub door: Arc<dyn PeerDoor>,
}

/// Opens the transport of this build: WebSockets. It starts one thread, and ends it when closed.
///
/// # Errors
/// `Unsupported` in a build without the feature `repl-ws`; `Unavailable` when no thread starts.
///
/// ```no_run
/// let links = trellis::open_links()?;
/// assert_eq!(links.replicator.profile().name, "ws");
/// # Ok::<(), trellis::Error>(())
/// ```
#[cfg(feature = "repl-ws")]
pub fn open_links() -> Result<Links> {
    let options = trellis_repl_ws::WsOptions::default();
    let both = Arc::new(trellis_repl_ws::WsReplicator::open(options)?);
    Ok(Links { replicator: Arc::clone(&both) as Arc<dyn Replicator>, door: both })
}

/// Opens the transport of this build; there is none.
///
/// # Errors
/// `Unsupported`, naming the feature.
#[cfg(not(feature = "repl-ws"))]
pub fn open_links() -> Result<Links> {
    let message = "this build carries no links between nodes; enable the feature `repl-ws`";
    Err(trellis_engine_traits::Error::new(trellis_engine_traits::ErrorKind::Unsupported, message)
        .operation("open"))
}
